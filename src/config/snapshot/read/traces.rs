//! `[traces]` of the file as a field of the snapshot. Owns nothing. `None` means that something was reported.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::config::problem::Report;
use crate::config::section::{FilePath, Placed, Section};
use crate::config::snapshot::{ParentDecision, Sampling, Tls, TraceProtocol, Traces};
use crate::config::value::{Url, decoded};

/// Where OTLP/HTTP takes spans (OTLP 1.x, "OTLP/HTTP Request").
const HTTP_PATH: &str = "/v1/traces";
/// Where OTLP/gRPC does.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// `Some(None)` without an endpoint.
pub(in crate::config) fn traces(section: &mut Section, report: &mut Report<'_>) -> Option<Option<Traces>> {
    let (url_at, headers_at) = (section.place("endpoint"), section.place("headers"));
    let url: Option<Option<Url>> = section.take_optional("endpoint");
    let protocol = section.take_choice("protocol");
    let ratio = section.take("sample_ratio");
    let trusts = section.take("trust_parent");
    let headers = section.take_optional::<SecretString>("headers");
    let timeout_ms = section.take("timeout");
    let tls_ca = section.take_optional::<Placed<FilePath>>("tls_ca");
    let service_name = section.take("service_name");
    let headers = match headers? {
        None => Vec::new(),
        Some(text) => match fields(text.expose_secret()) {
            Ok(fields) => fields,
            Err(what) => {
                let remedy = "write name=value, separated by commas, such as \"x-api-key=${OTLP_KEY}\"";
                report.add(headers_at, "traces.headers", what, remedy);
                return None;
            }
        },
    };
    let (url, ca) = (url?, tls_ca?);
    let is_secure = url.as_ref().is_some_and(|url| url.secure_host.is_some());
    if let Some(ca) = ca.as_ref().filter(|_| url.is_some() && !is_secure) {
        let remedy = "write https:// in endpoint, or take the key out";
        report.add(ca.at, "traces.tls_ca", "the endpoint is not https", remedy);
        return None;
    }
    let (protocol, timeout_ms, service_name): (TraceProtocol, u64, String) = (protocol?, timeout_ms?, service_name?);
    let parent = if trusts? { ParentDecision::Followed } else { ParentDecision::Ignored };
    let sampling = Sampling::new(ratio?, parent);
    let Some(Url { address, authority, base_path, secure_host }) = url else { return Some(None) };
    let path = match protocol {
        TraceProtocol::Http if base_path.ends_with(HTTP_PATH) => base_path,
        TraceProtocol::Http => base_path + HTTP_PATH,
        TraceProtocol::Grpc if base_path.is_empty() => GRPC_PATH.to_owned(),
        TraceProtocol::Grpc => {
            let remedy = "write https://host:port, or protocol = \"http\"";
            report.add(url_at, "traces.endpoint", "has a path, which gRPC does not", remedy);
            return None;
        }
    };
    let ca = ca.map(|file| PathBuf::from(file.value.path));
    let tls = secure_host.map(|server_name| Tls { server_name, ca, client: None });
    Some(Some(Traces { address, authority, path, tls, protocol, sampling, headers, timeout_ms, service_name }))
}

/// Fields that frame the requests or say what they hold.
const OWN: [&str; 8] = [
    "host",
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "te",
    "user-agent",
];

fn fields(text: &str) -> Result<Vec<(String, SecretString)>, &'static str> {
    let mut fields = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or("has a part without \"=\"")?;
        let name = name.trim().to_ascii_lowercase();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err("has a name that is no name of a header field");
        }
        if OWN.contains(&name.as_str()) || name.starts_with("grpc-") {
            return Err("has a field that the protocol sets itself");
        }
        let value = decoded(value.trim().as_bytes());
        if !value.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err("has a value with characters that a header field cannot have");
        }
        let value = String::from_utf8(value).map_err(|_| "has a value that is not text")?;
        fields.push((name, SecretString::from(value)));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_are_read_as_opentelemetry_spells_them() {
        let read = |text: &str| {
            let fields = fields(text)?;
            Ok(fields.into_iter().map(|(name, value)| format!("{name}: {}", value.expose_secret())).collect::<Vec<_>>())
        };
        assert_eq!(read(""), Ok::<_, &str>(vec![]));
        assert_eq!(
            read("Authorization=Bearer%20a%2Cb, x-tenant = one ,"),
            Ok(vec!["authorization: Bearer a,b".into(), "x-tenant: one".into()])
        );
        for bad in ["a", "=b", "a b=c", "host=x", "grpc-timeout=1", "a=%0d%0ab", "Content-Type=text"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
