//! The gateway's configuration for the demo, as the text a user could have written, and the commands to try.
//! Text only: reading it is the configuration's work, so that the demo proves the same path as a file does.

use std::fmt::Display;
use std::net::SocketAddr;

/// A configuration with the embedded backends behind a gateway on `listen`, open to loopback, with its admin listener on
/// `admin`; `cores` data cores, or what the core plan gives.
pub fn configuration(listen: SocketAddr, admin: SocketAddr, backends: [SocketAddr; 2], cores: Option<u16>) -> String {
    let [one, two] = backends;
    let cores = cores.map_or_else(|| "\"auto\"".to_owned(), |count| count.to_string());
    format!(
        r#"[server]
listen = ["{listen}"]

[admin]
listen = "{admin}"

[cores]
data = {cores}

[[backend]]
name = "demo-one"
url = "http://{one}"
health_interval = "1s"

[[backend]]
name = "demo-two"
url = "http://{two}"
health_interval = "1s"

[[model]]
name = "demo"
backends = [{{ backend = "demo-one" }}, {{ backend = "demo-two" }}]

[[model]]
name = "demo-fast"
backends = [{{ backend = "demo-one" }}, {{ backend = "demo-two" }}]
"#
    )
}

/// What `ringway demo` prints once the gateway on `listen` answers, and the admin listener on `admin` if there is one;
/// `second` is the backend to switch off.
pub fn invitation(listen: SocketAddr, admin: Option<&dyn Display>, second: SocketAddr) -> String {
    let admin = admin.map_or_else(String::new, |admin| {
        format!(
            r#"
See what it does: open http://{admin}/ in a browser, or in a terminal
  ringway top --admin http://{admin}

Switch one of the two model servers off, watch it turn red while requests go on, and switch it on again:
  curl -X POST http://{second}/demo/off
  curl -X POST http://{second}/demo/on
"#
        )
    });
    format!(
        r#"Ringway listens on http://{listen} and has two small model servers of its own behind it.

Ask something:
  curl -i http://{listen}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model":"demo","messages":[{{"role":"user","content":"What did Ringway just do?"}}]}}'

Send it again: the same answer, at once, and the header says x-cache: HIT.

Watch it stream (from the cache as well, if you have asked above):
  curl -N http://{listen}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model":"demo","stream":true,"messages":[{{"role":"user","content":"Tell me about flights."}}]}}'

Or point any OpenAI client at it:
  export OPENAI_BASE_URL=http://{listen}/v1 OPENAI_API_KEY=none
{admin}
Stop with Ctrl-C.
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_toml_and_names_both_addresses() {
        let listen: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let backend: SocketAddr = "127.0.0.1:4567".parse().unwrap();
        let (admin, other): (SocketAddr, SocketAddr) =
            ("127.0.0.1:9901".parse().unwrap(), "127.0.0.1:5678".parse().unwrap());
        let table: toml::Table = configuration(listen, admin, [backend, other], None).parse().unwrap();
        assert_eq!(table["cores"]["data"].as_str(), Some("auto"));
        assert_eq!(table["admin"]["listen"].as_str(), Some("127.0.0.1:9901"));
        let table: toml::Table = configuration(listen, admin, [backend, other], Some(3)).parse().unwrap();
        assert_eq!(table["cores"]["data"].as_integer(), Some(3));
        assert_eq!(table["server"]["listen"][0].as_str(), Some("127.0.0.1:8080"));
        assert_eq!(table["backend"][0]["url"].as_str(), Some("http://127.0.0.1:4567"));
        assert_eq!(table["backend"][1]["url"].as_str(), Some("http://127.0.0.1:5678"));
        assert!(invitation(listen, None, other).contains("http://127.0.0.1:8080/v1/chat/completions"));
        let text = invitation(listen, Some(&admin), other);
        assert!(text.contains("http://127.0.0.1:9901/") && text.contains("http://127.0.0.1:5678/demo/off"));
    }
}
