//! Checks over real sockets: which results are healthy, the message of each failure, and that nothing outlives a check.
//! Timeouts are short where a check has to time out; elsewhere so long that needless waiting would show.

mod server; // the servers

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use self::server::{Authority, PATIENT_MS, SHORT_MS, absent, answering, run, secure_server, server, target};
use super::*;

async fn verdict(target: Target, addresses: &[Dial]) -> Result<(), String> {
    ask(&Rc::new(target), addresses).await
}

#[test]
fn any_status_below_500_is_good() {
    run(async {
        for (status, good) in
            [(200, true), (204, true), (302, true), (401, true), (404, true), (429, true), (499, true)]
                .into_iter()
                .chain([(500, false), (502, false), (503, false), (599, false)])
        {
            let told = verdict(target(), &[answering(status).await]).await;
            let expected = if good { Ok(()) } else { Err(format!("/base/health answers {status}")) };
            assert_eq!(told, expected);
        }
    });
}

#[test]
fn the_request_is_a_whole_one_and_its_connection_ends_in_order() {
    run(async {
        let (seen, mut requests) = mpsc::unbounded_channel();
        let address = server(move |mut stream| {
            let seen = seen.clone();
            async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
                let end = stream.read(&mut [0; 1]).await.map_err(|error| error.kind());
                seen.send((String::from_utf8(request).unwrap(), end)).unwrap();
            }
        })
        .await;
        let credential = Some(("x-api-key", HeaderValue::from_static("secret")));
        for credential in [None, credential] {
            let fields = if credential.is_some() { "x-api-key: secret\r\n" } else { "" };
            verdict(Target { credential, ..target() }, std::slice::from_ref(&address)).await.unwrap();
            let (request, end) = requests.recv().await.unwrap();
            let expected = format!(
                "GET /base/health HTTP/1.1\r\nhost: backend.test:8000\r\nconnection: close\r\nuser-agent: ringway/{} \
                 (health)\r\naccept: */*\r\n{fields}\r\n",
                env!("CARGO_PKG_VERSION")
            );
            assert_eq!(request, expected);
            assert_eq!(end, Ok(0), "a server must see an end, not a reset");
        }
    });
}

#[test]
fn whatever_is_no_answer_is_told() {
    type Case = (&'static [u8], &'static str);
    let cases: [Case; 6] = [
        (b"", "it closes the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\ncontent", "it closes the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "its answer is not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "its answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "its answer is not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "its answer is not HTTP"),
    ];
    run(async {
        for (bytes, expected) in cases {
            let address = server(move |mut stream| async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(bytes).await;
            })
            .await;
            let why = verdict(target(), &[address]).await.unwrap_err();
            assert!(why.starts_with(expected), "{:?}: {why}", bytes.escape_ascii().to_string());
        }
        let why = verdict(target(), &[absent()]).await.unwrap_err();
        assert_eq!(why, "it cannot be reached: connection refused");
        assert_eq!(verdict(target(), &[]).await.unwrap_err(), "its name has no addresses");
    });
}

#[test]
fn a_server_that_hangs_is_left_in_time() {
    run(async {
        for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 100 Continue\r\n\r\n"] {
            let (left, mut leaves) = mpsc::unbounded_channel();
            let address = server(move |mut stream| {
                let left = left.clone();
                async move {
                    let _ = stream.write_all(bytes).await;
                    // The request, then the end or a reset.
                    while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {}
                    left.send(()).unwrap();
                }
            })
            .await;
            let why = verdict(Target { timeout_ms: SHORT_MS, ..target() }, &[address]).await.unwrap_err();
            assert_eq!(why, format!("/base/health is not answered within {SHORT_MS} ms"));
            leaves.recv().await.unwrap();
        }
    });
}

#[test]
fn endless_answers_are_cut() {
    let flood = |start: &'static [u8], more: &'static [u8]| async move {
        let (left, mut leaves) = mpsc::unbounded_channel();
        let address = server(move |mut stream| {
            let left = left.clone();
            async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(start).await;
                while stream.write_all(more).await.is_ok() {}
                left.send(()).unwrap();
            }
        })
        .await;
        let told = verdict(target(), &[address]).await;
        leaves.recv().await.unwrap();
        told
    };
    run(async {
        let body = flood(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]).await;
        assert_eq!(body, Ok(()), "the head has told it");
        let head = flood(b"HTTP/1.1 200 OK\r\n", b"x-more: and-more\r\n").await.unwrap_err();
        assert!(head.starts_with("its answer is not HTTP"), "{head}");
    });
}

#[test]
fn a_body_that_does_not_come_does_not_matter() {
    run(async {
        let address = server(|mut stream| async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await;
            while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {}
        })
        .await;
        assert_eq!(verdict(Target { timeout_ms: PATIENT_MS, ..target() }, &[address]).await, Ok(()));
    });
}

#[test]
fn one_good_address_is_enough() {
    run(async {
        let hanging = server(|mut stream| async move { while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {} });
        let (hanging, good, sick) = (hanging.await, answering(200).await, answering(503).await);
        assert_eq!(verdict(target(), &[absent(), sick.clone(), good.clone()]).await, Ok(()));
        // An address that hangs has only its share of the time.
        let limited = Target { timeout_ms: PATIENT_MS, ..target() };
        assert_eq!(verdict(limited, &[hanging.clone(), good]).await, Ok(()));
        let why = verdict(target(), &[absent(), sick]).await.unwrap_err();
        assert_eq!(why, "/base/health answers 503");
        let limited = Target { timeout_ms: SHORT_MS, ..target() };
        let why = verdict(limited, &[hanging, absent()]).await.unwrap_err();
        assert!(why.contains("is not answered within"), "{why}");
    });
}

#[test]
fn unix_sockets_are_asked_too() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backend");
        let missing = verdict(target(), &[Dial::Unix(path.clone())]).await.unwrap_err();
        assert_eq!(missing, "it cannot be reached: entity not found");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        });
        assert_eq!(verdict(target(), &[Dial::Unix(path)]).await, Ok(()));
    });
}

/// Answers HTTP/2 with `status`, over any `stream`.
async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, status: u16) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        assert_eq!(request.uri().authority().unwrap(), "backend.test:8000");
        assert_eq!(request.uri().path(), "/base/health");
        let mut response = Response::new(Full::new(Bytes::from_static(b"hello")));
        *response.status_mut() = status.try_into().unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

#[test]
fn http2_is_spoken_by_prior_knowledge() {
    run(async {
        for (status, good) in [(200, true), (404, true), (503, false)] {
            let (left, mut leaves) = mpsc::unbounded_channel();
            let address = server(move |stream| {
                let left = left.clone();
                async move {
                    http2(stream, status).await;
                    left.send(()).unwrap();
                }
            })
            .await;
            let told = verdict(Target { http: Http::Two, ..target() }, &[address]).await;
            assert_eq!(told.is_ok(), good, "{told:?}");
            leaves.recv().await.unwrap();
        }
        let why = verdict(Target { http: Http::Two, ..target() }, &[answering(200).await]).await.unwrap_err();
        assert!(why.contains("HTTP"), "{why}");
    });
}

#[test]
fn an_http2_server_that_stalls_is_left_in_time() {
    run(async {
        // Silent at once, and after its SETTINGS.
        for bytes in [&b""[..], b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"] {
            let (left, mut leaves) = mpsc::unbounded_channel();
            let address = server(move |mut stream| {
                let left = left.clone();
                async move {
                    let _ = stream.write_all(bytes).await;
                    while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {}
                    left.send(()).unwrap();
                }
            })
            .await;
            let limited = Target { timeout_ms: SHORT_MS, http: Http::Two, ..target() };
            let why = verdict(limited, &[address]).await.unwrap_err();
            assert!(why.contains("is not answered within"), "{why}");
            leaves.recv().await.unwrap();
        }
    });
}

#[test]
fn tls_is_checked_as_requests_would_have_it() {
    let authority = Authority::new();
    let other = Authority::new();
    run(async {
        let secure = authority.secure("backend.test", None);
        let over = |secure: &Secure| Target { tls: Some(secure.clone()), ..target() };
        let (both, old) = (&["h2", "http/1.1"][..], &["http/1.1"][..]);
        for alpn in [both, old, &[]] {
            let address = secure_server(authority.server("backend.test", alpn, None)).await;
            assert_eq!(verdict(over(&secure), std::slice::from_ref(&address)).await, Ok(()), "{alpn:?}");
            let told = verdict(Target { http: Http::Two, ..over(&secure) }, &[address]).await;
            let no_http2 =
                "no secure connection: the backend does not speak HTTP/2 over TLS, and nothing else is allowed";
            assert_eq!(told, if alpn == both { Ok(()) } else { Err(no_http2.to_owned()) }, "{alpn:?}");
        }
        let address = secure_server(authority.server("backend.test", both, None)).await;
        let stranger = other.secure("backend.test", None);
        let why = verdict(over(&stranger), std::slice::from_ref(&address)).await.unwrap_err();
        assert!(why.starts_with("no secure connection: the backend's certificate"), "{why}");
        let misnamed = authority.secure("other.test", None);
        let why = verdict(over(&misnamed), &[address]).await.unwrap_err();
        assert!(why.contains("is not for `other.test` but for backend.test"), "{why}");
        let why = verdict(over(&secure), &[answering(400).await]).await.unwrap_err();
        assert!(why.starts_with("no secure connection: the backend sent something that is not TLS"), "{why}");
        let closing = server(|mut stream| async move { _ = stream.read(&mut [0; 1024]).await }).await;
        let why = verdict(over(&secure), &[closing]).await.unwrap_err();
        assert!(why.starts_with("no secure connection: ") && why.contains("clos"), "{why}");
        let hanging = server(|mut stream| async move { while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {} });
        let limited = Target { timeout_ms: SHORT_MS, ..over(&secure) };
        let why = verdict(limited, &[hanging.await]).await.unwrap_err();
        assert_eq!(why, "no secure connection: the TLS handshake took too long");
    });
}

#[test]
fn a_client_certificate_is_shown() {
    let authority = Authority::new();
    run(async {
        for alpn in [&["h2"][..], &["http/1.1"]] {
            let address = secure_server(authority.server("backend.test", alpn, Some(&authority))).await;
            let with = Target { tls: Some(authority.secure("backend.test", Some("client.test"))), ..target() };
            assert_eq!(verdict(with, std::slice::from_ref(&address)).await, Ok(()), "{alpn:?}");
            let without = Target { tls: Some(authority.secure("backend.test", None)), ..target() };
            let why = verdict(without, &[address]).await.unwrap_err();
            let told = if alpn == ["h2"] { "CertificateRequired" } else { "wants a client certificate" };
            assert!(why.contains(told), "{alpn:?}: {why}");
        }
    });
}
