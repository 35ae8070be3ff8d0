//! What backends and models say of TLS, files, pools, checks, balance and fallbacks, and what it becomes.

use ringway::config::load::load_file;
use ringway::config::pem::no_look;
use ringway::config::snapshot::{Address, Balance, CertificateFiles, Connections, CredentialField, Protocol, Tls};

use super::{LEAST, good};

/// `LEAST` with `lines` in its backend.
fn with_backend(lines: &str) -> String {
    LEAST.replace("[[model]]", &format!("{lines}\n[[model]]"))
}

/// `LEAST` with another `url`, and `lines` beside it.
fn at_url(url: &str, lines: &str) -> String {
    with_backend(lines).replace("http://127.0.0.1:8000", url)
}

#[test]
fn https_fills_in_what_tls_needs() {
    let (chain, private_key) = ("/etc/ringway/client.pem".into(), "/etc/ringway/client.key".into());
    let client = CertificateFiles { chain, private_key };
    let all = "tls_server_name = \"LLM.internal.\"\ntls_ca = \"/etc/ringway/ca.pem\"\ntls_cert = \"/etc/ringway/client.pem\"\n\
               tls_key = \"/etc/ringway/client.key\"";
    let plain = |server_name: &str| Tls { server_name: server_name.to_owned(), ca: None, client: None };
    let full = Tls { ca: Some("/etc/ringway/ca.pem".into()), client: Some(client), ..plain("llm.internal") };
    let latin1 = Tls { ca: Some("/etc/ringway/latin1.pem".into()), ..plain("h.example") };
    for (url, lines, host, port, authority, tls) in [
        ("https://API.example.com", "", "api.example.com", 443, "API.example.com", plain("api.example.com")),
        ("https://api.example.com./base", "", "api.example.com.", 443, "api.example.com.", plain("api.example.com")),
        ("https://[::1]", "", "::1", 443, "[::1]", plain("::1")),
        ("HTTPS://10.0.0.1:8443", "", "10.0.0.1", 8443, "10.0.0.1:8443", plain("10.0.0.1")),
        ("https://10.0.0.1", all, "10.0.0.1", 443, "10.0.0.1", full),
        // A host that no certificate can be for is no trouble when the certificate's name is told.
        ("https://-odd", "tls_server_name = \"h.example\"", "-odd", 443, "-odd", plain("h.example")),
        // The text around the certificates may be in any encoding.
        ("https://h.example", "tls_ca = \"/etc/ringway/latin1.pem\"", "h.example", 443, "h.example", latin1),
    ] {
        let snapshot = good(&at_url(url, lines));
        let backend = &snapshot.backends[0];
        assert_eq!(backend.address, Address::Tcp { host: host.to_owned(), port }, "{url}");
        assert_eq!((backend.authority.as_str(), backend.tls.as_ref()), (authority, Some(&tls)), "{url}");
    }
    let plain_text = good(&at_url("http://h.example", ""));
    assert_eq!(plain_text.backends[0].address, Address::Tcp { host: "h.example".to_owned(), port: 80 });
}

#[test]
fn files_that_are_named_are_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: u64| {
        let path = directory.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path.display().to_string()
    };
    let told = |ca: &str| {
        let path = directory.path().join("ringway.toml");
        std::fs::write(&path, at_url("https://h.example", &format!("tls_ca = \"{ca}\""))).unwrap();
        let problems = load_file(&path, &no_look).err()?;
        assert_eq!(problems.len(), 1, "{problems}");
        problems.iter().next().map(|problem| (problem.line, problem.key.clone(), problem.what.clone()))
    };
    // A system's whole bundle is larger than a secret may be.
    assert_eq!(told(&file("bundle.pem", 1 << 20)), None);
    let endless = file("log.pem", 1 << 30);
    let missing = directory.path().join("missing.pem").display().to_string();
    for (ca, why) in [(&missing, "there is no such file"), (&endless, "it is far too large")] {
        let (line, key, what) = told(ca).unwrap();
        assert_eq!((line, key.as_str()), (5, "backend.tls_ca"));
        assert!(what.starts_with("cannot read ") && what.ends_with(why), "{what}");
    }
    let (_, _, what) = told(&directory.path().display().to_string()).unwrap();
    assert!(what.starts_with("cannot read "), "{what}");
}

#[test]
fn words_of_backends_and_models_are_what_they_say() {
    let backend = |lines: &str| good(&with_backend(lines)).backends.remove(0);
    for (word, protocol) in [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)] {
        assert_eq!(backend(&format!("protocol = \"{word}\"")).protocol, protocol);
    }
    for (word, field) in [
        ("authorization", CredentialField::Authorization),
        ("x-api-key", CredentialField::XApiKey),
        ("api-key", CredentialField::ApiKey),
    ] {
        assert_eq!(backend(&format!("api_key_field = \"{word}\"")).credential_field, field);
    }
    let model = |lines: &str| good(&format!("{LEAST}{lines}")).models.remove(0);
    let sticky = |name: &str| Balance::Sticky(name.to_owned());
    for (lines, balance) in [
        ("balance = \"round-robin\"", Balance::RoundRobin),
        ("balance = \"least-connections\"", Balance::LeastConnections),
        ("balance = \"p2c\"", Balance::P2c),
        ("balance = \"prefix\"", Balance::Prefix),
        ("balance = \"sticky\"", sticky("x-session-id")),
        ("balance = \"sticky\"\nsession_header = \"X-Conversation\"", sticky("x-conversation")),
    ] {
        assert_eq!(model(lines).balance, balance, "{lines}");
    }
}

#[test]
fn zero_seconds_switch_off() {
    let snapshot = good(&format!(
        "[cache]\nstale_if_error = \"0s\"\n{}",
        with_backend("health_interval = \"0ms\"\nhealth_timeout = \"9s\"\nslow_start = \"0h\"")
    ));
    let health = &snapshot.backends[0].health;
    assert_eq!((snapshot.cache.stale_if_error_ms, &health.check, health.slow_start_ms), (0, &None, 0));
}

#[test]
fn defaults_give_way_to_what_is_written() {
    let few = good(&with_backend("connections_max = 2\nhttp2_connections_max = 1\nhealth_interval = \"500ms\""));
    let backend = &few.backends[0];
    assert_eq!(backend.connections, Connections { min: 2, max: 2 });
    assert_eq!(backend.http2_connections, Connections { min: 1, max: 1 });
    let check = backend.health.check.as_ref().unwrap();
    assert_eq!((check.interval_ms, check.timeout_ms), (500, 500));
    let equal = good(&with_backend("connections_min = 7\nconnections_max = 7"));
    assert_eq!(equal.backends[0].connections, Connections { min: 7, max: 7 });
}

#[test]
fn fallbacks_may_lead_in_a_circle() {
    let second = "[[model]]\nname = \"n\"\nbackends = [\"a\"]\nfallback = [\"m\"]\n";
    let snapshot = good(&format!("{LEAST}fallback = [\"n\"]\n{second}"));
    assert_eq!((&snapshot.models[0].fallback, &snapshot.models[1].fallback), (&vec![1], &vec![0]));
}
