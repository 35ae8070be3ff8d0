//! The gateway's configuration for the demo, as the text a user could have written, and the commands to try.
//! Text only: reading it is the configuration's work, so that the demo proves the same path as a file does.

use std::fmt::Display;
use std::net::SocketAddr;

/// A configuration with the embedded backend at `backend` behind a gateway on `listen`, open to loopback; `cores` data
/// cores, or what the core plan gives.
pub fn configuration(listen: SocketAddr, backend: SocketAddr, cores: Option<u16>) -> String {
    let cores = cores.map_or_else(|| "\"auto\"".to_owned(), |count| count.to_string());
    format!(
        r#"[server]
listen = ["{listen}"]

[cores]
data = {cores}

[[backend]]
name = "demo-backend"
url = "http://{backend}"

[[model]]
name = "demo"
backends = [{{ backend = "demo-backend" }}]

[[model]]
name = "demo-fast"
backends = [{{ backend = "demo-backend" }}]
"#
    )
}

/// What `ringway demo` prints once the gateway on `listen` answers, and the admin listener on `admin` if there is one.
pub fn invitation(listen: SocketAddr, admin: Option<&dyn Display>) -> String {
    let admin = admin.map_or_else(String::new, |admin| {
        format!("\nSee what it does:\n  curl http://{admin}/v1/status\n  curl http://{admin}/metrics\n")
    });
    format!(
        r#"Ringway listens on http://{listen} and has a small model server of its own behind it.

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
        let table: toml::Table = configuration(listen, backend, None).parse().unwrap();
        assert_eq!(table["cores"]["data"].as_str(), Some("auto"));
        let table: toml::Table = configuration(listen, backend, Some(3)).parse().unwrap();
        assert_eq!(table["cores"]["data"].as_integer(), Some(3));
        assert_eq!(table["server"]["listen"][0].as_str(), Some("127.0.0.1:8080"));
        assert_eq!(table["backend"][0]["url"].as_str(), Some("http://127.0.0.1:4567"));
        assert!(invitation(listen, None).contains("http://127.0.0.1:8080/v1/chat/completions"));
        assert!(invitation(listen, Some(&backend)).contains("curl http://127.0.0.1:4567/v1/status"));
    }
}
