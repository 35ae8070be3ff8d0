//! Web pages of other origins: what their browsers are told.

use super::kit::*;

const ALLOWED: &str = "Origin: https://chat.example\r\n";

fn preflight(fields: &str) -> Vec<u8> {
    format!(
        "OPTIONS {CHAT} HTTP/1.1\r\nHost: h\r\n{fields}Access-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: authorization, content-type, x-stainless-os\r\n\r\n"
    )
    .into_bytes()
}

fn gateway(origins: &str, backend: &Backend) -> Gateway {
    Setup::with(backend).single("cors", &format!("origins = {origins}")).tenant("t", "key", "").start()
}

#[test]
fn a_browser_may_ask_without_a_key_and_page_may_read_answers_and_errors() {
    let backend = Backend::answering(echo);
    let gateway = gateway("[\"https://other.example\", \"https://chat.example\"]", &backend);
    let mut client = gateway.client();
    client.send(preflight(ALLOWED));
    let told = client.bodiless().expect(204);
    assert_eq!(told.field("access-control-allow-origin"), Some("https://chat.example"));
    assert_eq!(told.field("access-control-allow-headers"), Some("authorization, content-type, x-stainless-os"));
    assert!(told.field("access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!((told.field("vary"), told.field("access-control-max-age")), (Some("origin"), Some("7200")));
    assert_eq!(told.field("content-length"), None);
    // On the same connection.
    for (key, status) in [("key", 200), ("wrong", 401)] {
        client.send(post_with(CHAT, &format!("{ALLOWED}Authorization: Bearer {key}\r\n"), &question("x")));
        let response = client.response().expect(status);
        assert_eq!(response.field("access-control-allow-origin"), Some("https://chat.example"));
        assert!(response.field("access-control-expose-headers").unwrap().contains("x-ratelimit-remaining-tokens"));
        assert_eq!(response.field("access-control-allow-methods"), None);
    }
    client.send(post_with(CHAT, &format!("{ALLOWED}Authorization: Bearer key\r\n"), &streamed_question("s")));
    assert_eq!(client.response().expect(200).field("access-control-allow-origin"), Some("https://chat.example"));
    // What is malformed is refused as ever, and of what is no preflight nothing is assumed.
    client.send(format!("OPTIONS {CHAT} HTTP/1.1\r\nHost: h\r\n{ALLOWED}\r\n"));
    client.response().expect(405);
}

#[test]
fn other_pages_are_told_nothing() {
    let backend = Backend::answering(echo);
    let gateway = gateway("[\"https://chat.example\"]", &backend);
    for origin in ["https://chat.example.evil", "http://chat.example", "https://chat.example:444", "null", ""] {
        let field = format!("Origin: {origin}\r\n");
        let refused = gateway.ask(preflight(&field)).expect(405);
        assert_eq!(refused.field("access-control-allow-origin"), None, "{origin}");
        let served = gateway.ask(post_with(CHAT, &format!("{field}Authorization: Bearer key\r\n"), &question("x")));
        assert_eq!(served.expect(200).field("access-control-allow-origin"), None, "{origin}");
    }
}

#[test]
fn without_a_list_nothing_changes_and_a_star_is_every_page() {
    let backend = Backend::answering(echo);
    let closed = Setup::with(&backend).tenant("t", "key", "").start();
    let refused = closed.ask(preflight(ALLOWED)).expect(405);
    assert_eq!((refused.field("access-control-allow-origin"), refused.field("vary")), (None, None));
    let open = gateway("[\"*\"]", &backend);
    let mut client = open.client();
    client.send(preflight("Origin: null\r\n"));
    assert_eq!(client.bodiless().expect(204).field("access-control-allow-origin"), Some("*"));
    client.send(post_with(CHAT, "Authorization: Bearer key\r\n", &question("x")));
    assert_eq!(client.response().expect(200).field("access-control-allow-origin"), None, "no page asks");
}
