//! Clients of a story that speak HTTP/2: several requests at a time on one connection, small windows, slow and stalled reading of one
//! stream, resets in the middle. All of a connection is polled by its client's task, so that a client that is killed is gone.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use ringway::net::sim::between;
use ringway::net::{Duplex, sleep_ms};

use crate::client::{Asked, Client, Version, ask};
use crate::judge::judge;
use crate::ledger::Outcome;
use crate::message::{Ended, Head, Missing};
use crate::scenario::{chance, pick};

type Driver = RefCell<Connection<Duplex, Bytes>>;

/// Makes the wishes of `client` on one connection, as many at a time as it has a habit of.
pub async fn connection(client: &mut Client, socket: Duplex) {
    let habit = client.habit;
    let opened = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(habit.window_bytes)
        .initial_connection_window_size(habit.window_bytes.max(64 << 10))
        // The library ends a connection on which many small frames are unread. Clients that read slowly are what is told of here.
        .data_frame_budget(64 << 20)
        .handshake::<_, Bytes>(socket)
        .await;
    let Ok((mut requests, connection)) = opened else {
        return client.give_up();
    };
    let driver = RefCell::new(connection);
    while !client.wishes.is_empty() {
        let count = habit.pipelined.clamp(1, client.wishes.len());
        let batch: Vec<Asked> = client
            .wishes
            .drain(..count)
            .map(|wish| ask(&client.ledger, client.tenant, client.key.as_deref(), habit, wish))
            .collect();
        let client = &*client;
        let exchanges: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = batch
            .iter()
            .map(|asked| Box::pin(exchange(client, requests.clone(), asked)) as Pin<Box<dyn Future<Output = ()> + '_>>)
            .collect();
        drive(&driver, all(exchanges)).await;
        let rest = drive(&driver, sleep_ms(between(0, habit.rest_ms))).await;
        // RFC 9113 6.8: what comes next goes by another connection.
        let is_told_to_go = poll_fn(|context| {
            let has_ended = Pin::new(&mut *driver.borrow_mut()).poll(context).is_ready();
            Poll::Ready(has_ended || matches!(requests.poll_ready(context), Poll::Ready(Err(_))))
        });
        if rest == Way::Ended || is_told_to_go.await {
            return;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// The gateway has ended the connection.
    Ended,
}

/// Waits for `what`, and moves the connection meanwhile.
async fn drive(driver: &Driver, what: impl Future<Output = ()>) -> Way {
    let (mut what, mut way) = (pin!(what), Way::Open);
    poll_fn(|context| {
        // First: what is to be asked on a connection that is open is asked before the end of it can be read.
        if what.as_mut().poll(context).is_ready() {
            return Poll::Ready(way);
        }
        if way == Way::Open && Pin::new(&mut *driver.borrow_mut()).poll(context).is_ready() {
            way = Way::Ended;
        }
        Poll::Pending
    })
    .await
}

/// Waits for all of them.
async fn all(futures: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) {
    let mut futures: Vec<Option<Pin<Box<dyn Future<Output = ()> + '_>>>> = futures.into_iter().map(Some).collect();
    poll_fn(|context| {
        for place in &mut futures {
            if place.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *place = None;
            }
        }
        if futures.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await
}

/// One request and its answer.
async fn exchange(client: &Client, mut requests: SendRequest<Bytes>, asked: &Asked) {
    let nothing = || client.ledger.close(&asked.id, Outcome::Nothing, None);
    if poll_fn(|context| requests.poll_ready(context)).await.is_err() {
        return nothing();
    }
    let is_all = asked.body.is_empty();
    let Ok((mut response, mut upload)) = requests.send_request(request(asked), is_all) else { return nothing() };
    if !is_all && send(client, &mut upload, &asked.body).await.is_err() {
        // It may have been answered before it was read whole.
        upload.send_reset(Reason::CANCEL);
    }
    let resets = client.habit.resets && chance(20);
    if resets && chance(50) {
        // Before there is an answer: what becomes of it, nobody learns.
        sleep_ms(between(0, 300)).await;
        return upload.send_reset(Reason::CANCEL);
    }
    let response = loop {
        match poll_fn(|context| poll_head(&mut response, context)).await {
            Ok(Some(response)) => break response,
            Ok(None) => {}
            Err(_) => return nothing(),
        }
    };
    let (parts, body) = response.into_parts();
    let fields = parts.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), value.to_str().expect("the gateway's fields are text").to_owned())
    });
    let head = Head { start: format!("HTTP/2 {}", parts.status.as_str()), fields: fields.collect() };
    for name in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
        assert_eq!(head.field(name), None, "RFC 9113 8.2.2: {head:?}");
    }
    if client.habit.stall_ms > 0 && chance(30) {
        sleep_ms(client.habit.stall_ms).await;
    }
    let Some((bytes, ended)) = read(client, body, resets).await else {
        return upload.send_reset(Reason::CANCEL);
    };
    if let Some(length) = head.field("content-length").filter(|_| !matches!(ended, Ended::Broken(_))) {
        assert_eq!(length.parse(), Ok(bytes.len()), "the length is as said: {head:?}");
    }
    let outcome = judge(&client.ledger, asked, &head, &bytes, ended, Version::Http2);
    client.ledger.close(&asked.id, outcome, head.field("x-cache"));
}

/// Interim responses are passed over.
fn poll_head(
    response: &mut h2::client::ResponseFuture,
    context: &mut Context<'_>,
) -> Poll<Result<Option<http::Response<RecvStream>>, h2::Error>> {
    match response.poll_informational(context) {
        Poll::Ready(Some(interim)) => return Poll::Ready(interim.map(|_| None)),
        Poll::Ready(None) | Poll::Pending => {}
    }
    Pin::new(response).poll(context).map(|result| result.map(Some))
}

/// The body and how it ended; none if this client had enough of it.
async fn read(client: &Client, mut body: RecvStream, resets: bool) -> Option<(Vec<u8>, Ended)> {
    let (pace, mut bytes, mut since_rest) = (client.habit.pace, Vec::new(), 0);
    let enough = if resets { between(0, 3000) as usize } else { usize::MAX };
    loop {
        if bytes.len() >= enough {
            return None;
        }
        match body.data().await {
            Some(Ok(part)) => {
                bytes.extend_from_slice(&part);
                since_rest += part.len();
                if pace.rest_ms > 0 && since_rest >= pace.bytes {
                    since_rest = 0;
                    sleep_ms(pace.rest_ms).await;
                }
                let _ = body.flow_control().release_capacity(part.len());
            }
            Some(Err(_)) => return Some((bytes, Ended::Broken(Missing::Reset))),
            None => return Some((bytes, Ended::ByLength)),
        }
    }
}

async fn send(client: &Client, upload: &mut SendStream<Bytes>, body: &[u8]) -> Result<(), h2::Error> {
    let pieces = client.habit.pieces.max(1);
    let mut parts = body.chunks(body.len().div_ceil(pieces).max(1)).peekable();
    while let Some(part) = parts.next() {
        if pieces > 1 {
            sleep_ms(between(0, 20)).await;
        }
        upload.send_data(Bytes::copy_from_slice(part), parts.peek().is_none())?;
    }
    Ok(())
}

/// The request that HTTP/1.1 would have as `asked.head`.
fn request(asked: &Asked) -> Request<()> {
    let text = std::str::from_utf8(&asked.head).expect("a head is text");
    let mut lines = text.trim_end().split("\r\n");
    let mut words = lines.next().expect("a request line").split(' ');
    let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
    let mut request = Request::builder().method(method).uri(format!("http://gateway{path}"));
    for line in lines {
        let (name, value) = line.split_once(':').expect("a field");
        let is_said_otherwise =
            name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case("content-length") && pick(&[true, false]);
        if !is_said_otherwise {
            request = request.header(name, value.trim());
        }
    }
    request.body(()).expect("a request")
}
