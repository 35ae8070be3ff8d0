//! A `[[backend]]` of the file as a field of the snapshot: how it is reached, secured, asked and given up.
//! Owns nothing. `None` means that something was reported, never that a value is absent.

use std::path::Path;

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::config::extra::is_own;
use crate::config::pem::{Flaw, Look, PemFile, PemFiles, PemKey, Trusted};
use crate::config::problem::Report;
use crate::config::section::{self, FilePath, Placed, Section};
use crate::config::snapshot::{
    Api, ApiPath, Backend, CertificateFiles, ConcurrencyRule, Connections, CredentialField, Extra, FastOpen, Health,
    HealthCheck, IncludeUsage, Tls,
};
use crate::config::value::{self, Url};

pub(in crate::config) fn backend(section: &mut Section, look: &Look<'_>, report: &mut Report<'_>) -> Option<Backend> {
    // Looked at before anything is given up, so that one problem hides no other.
    let connections = bounds(section, ["connections_min", "connections_max"], report);
    let http2_connections = bounds(section, ["http2_connections_min", "http2_connections_max"], report);
    let health = health(section, report);
    let extra = extra(section, report);
    let url_at = section.place("url");
    let url: Option<Url> = section.take("url");
    let tls = match &url {
        Some(url) => tls(section, url.secure_host.as_deref(), url_at, look, report),
        None => None,
    };
    let Url { address, authority, base_path, .. } = url?;
    Some(Backend {
        name: section.take("name")?,
        address,
        authority,
        paths: api_path(section, base_path, report)?,
        api_key: section.take_optional("api_key")?,
        credential_field: credential_field(section)?,
        tls: tls?,
        protocol: section.take_choice("protocol")?,
        api: section.take_choice("api")?,
        max_tokens_default: section.take("max_tokens_default")?,
        count_tokens: section.take_choice("count_tokens")?,
        weight: section.take("weight")?,
        region: section.take_optional("region")?,
        priority: section.take("priority")?,
        connections: connections?,
        http2_connections: http2_connections?,
        http2_streams: section.take("http2_streams_max")?,
        timeout_connect_ms: section.take("timeout_connect")?,
        timeout_idle_ms: section.take("timeout_idle")?,
        timeout_attempt_ms: section.take_optional("timeout_attempt")?,
        timeout_head_ms: section.take("timeout_head")?,
        timeout_first_token_ms: section.take("timeout_first_token")?,
        timeout_request_ms: section.take("timeout_request")?,
        timeout_stream_idle_ms: section.take("timeout_stream_idle")?,
        timeout_stream_content_ms: section.take("timeout_stream_content")?,
        timeout_stream_ms: section.take_optional("timeout_stream")?,
        concurrency: match (section.take("adaptive_concurrency")?, section.take("concurrency_min")?) {
            (true, least) => ConcurrencyRule::Adaptive { least },
            (false, _) => ConcurrencyRule::AsConnected,
        },
        fast_open: if section.take("fast_open")? { FastOpen::On } else { FastOpen::Off },
        include_usage: if section.take("include_usage")? { IncludeUsage::Ask } else { IncludeUsage::Leave },
        extra: extra?,
        health: health?,
    })
}

fn api_path(section: &mut Section, base_path: String, report: &mut Report<'_>) -> Option<ApiPath> {
    let (at, path) = (section.place("api_path"), section.take::<String>("api_path")?);
    if path.contains('?') {
        let remedy = "write the path alone, such as \"/v1beta/openai\"";
        report.add(at, "backend.api_path", "a query would stand in the middle of each path", remedy);
        return None;
    }
    Some(ApiPath::new(base_path, &path))
}

/// Where nothing is said of it, the field is that of the backend's API.
fn credential_field(section: &mut Section) -> Option<CredentialField> {
    let is_written = section.is_written("api_key_field");
    let field = section.take_choice("api_key_field")?;
    let api = section.value("api");
    let is_anthropic = matches!(api, Some(section::Value::Choice(word)) if word.parse() == Ok(Api::Anthropic));
    Some(if is_anthropic && !is_written { CredentialField::XApiKey } else { field })
}

/// What requests have besides what their clients said.
fn extra(section: &mut Section, report: &mut Report<'_>) -> Option<Extra> {
    type Headers = Vec<(Placed<String>, SecretString)>;
    let headers: Option<Option<Headers>> = section.take_optional("headers");
    let members: Option<Option<Map<String, Value>>> = section.take_optional("body");
    let forward: Option<Option<Vec<Placed<String>>>> = section.take_optional("forward_headers");
    for name in forward.iter().flatten().flatten() {
        let lower = name.value.to_ascii_lowercase();
        if is_own(lower.as_bytes()) {
            let what = format!("{lower} is never forwarded");
            let remedy = "take it out; credentials of backends are their api_key";
            report.add(name.at, "backend.forward_headers", what, remedy);
        }
    }
    let headers = headers?.into_iter().flatten().map(|(name, value)| (name.value, value)).collect();
    let members = members?.into_iter().flatten().map(|(name, value)| {
        let name = Value::String(name).to_string();
        let whole = format!("{name}:{value},").into_bytes();
        (name, whole)
    });
    let forward = forward?.into_iter().flatten().map(|name| name.value.to_ascii_lowercase());
    Some(Extra::new(headers, members.collect(), forward.collect()))
}

/// The bounds that the two keys set.
fn bounds(section: &mut Section, [least, most]: [&'static str; 2], report: &mut Report<'_>) -> Option<Connections> {
    let written_at = section.is_written(least).then(|| section.place(least));
    let (min, max) = (section.take(least)?, section.take(most)?);
    if min <= max {
        return Some(Connections { min, max });
    }
    match written_at {
        // Whoever wants few connections need not know how many would have been opened ahead.
        None => Some(Connections { min: max, max }),
        Some(at) => {
            let what = format!("is larger than {most}");
            report.add(at, &format!("backend.{least}"), what, format!("make {most} larger, or {least} smaller"));
            None
        }
    }
}

/// `host` is the URL's, which stands at `url_at`, if its scheme is https.
fn tls(
    section: &mut Section,
    host: Option<&str>,
    url_at: usize,
    look: &Look<'_>,
    report: &mut Report<'_>,
) -> Option<Option<Tls>> {
    const FILES: [PemKey; 3] = [PemKey::Ca, PemKey::Chain, PemKey::PrivateKey];
    let places = FILES.map(|key| section.place(key.name()));
    let name = section.take_optional::<Placed<String>>("tls_server_name");
    let files = FILES.map(|key| section.take_optional::<Placed<FilePath>>(key.name()));
    let Some(host) = host else {
        let name_at = name.flatten().map(|name| ("tls_server_name", name.at));
        let files_at = FILES.iter().zip(files).filter_map(|(key, file)| Some((key.name(), file??.at)));
        for (key, at) in name_at.into_iter().chain(files_at) {
            let remedy = "write https:// in url, or take the key out";
            report.add(at, &format!("backend.{key}"), "the backend's url is not https", remedy);
        }
        return Some(None);
    };
    // Those that could be read, whatever else is wrong.
    let [ca, chain, private_key] = files.each_ref().map(|file| {
        let file = &file.as_ref()?.as_ref()?.value;
        Some(PemFile { path: Path::new(&file.path), called: &file.spelled })
    });
    let trusted = match (ca, &files[0]) {
        (Some(ca), _) => Trusted::File(ca),
        (None, Some(_)) => Trusted::System,
        (None, None) => Trusted::Unreadable,
    };
    for Flaw { key, what, remedy } in look(&PemFiles { trusted, chain, private_key, staple: None }) {
        report.add(places[key as usize], &format!("backend.{}", key.name()), what, remedy);
    }
    let [ca, chain, private_key] = files;
    let client = client(chain?, private_key?, report);
    let server_name = match name? {
        Some(name) => name.value,
        None => match value::host(host) {
            Ok(name) => name,
            Err(_) => {
                let what = "its host is no name that a certificate can be for";
                report.add(
                    url_at,
                    "backend.url",
                    what,
                    "add tls_server_name with the name that its certificate is for",
                );
                return None;
            }
        },
    };
    Some(Some(Tls { server_name, ca: ca?.map(|ca| ca.value.path.into()), client: client? }))
}

fn client(
    chain: Option<Placed<FilePath>>,
    private_key: Option<Placed<FilePath>>,
    report: &mut Report<'_>,
) -> Option<Option<CertificateFiles>> {
    match (chain, private_key) {
        (None, None) => Some(None),
        (Some(chain), Some(private_key)) => {
            Some(Some(CertificateFiles { chain: chain.value.path.into(), private_key: private_key.value.path.into() }))
        }
        (Some(chain), None) => {
            let remedy = "add tls_key, the file of the certificate's private key";
            report.add(chain.at, "backend.tls_cert", "there is no tls_key beside it", remedy);
            None
        }
        (None, Some(private_key)) => {
            let remedy = "add tls_cert, the file of the key's certificate chain";
            report.add(private_key.at, "backend.tls_key", "there is no tls_cert beside it", remedy);
            None
        }
    }
}

fn health(section: &mut Section, report: &mut Report<'_>) -> Option<Health> {
    let timeout_at = section.is_written("health_timeout").then(|| section.place("health_timeout"));
    let (path, interval_ms): (_, u64) = (section.take("health_path")?, section.take("health_interval")?);
    let mut timeout_ms = section.take("health_timeout")?;
    if interval_ms > 0 && timeout_ms > interval_ms {
        if let Some(at) = timeout_at {
            let remedy = "make health_interval longer, or health_timeout shorter";
            report.add(at, "backend.health_timeout", "is longer than health_interval", remedy);
        }
        timeout_ms = interval_ms;
    }
    Some(Health {
        check: (interval_ms > 0).then_some(HealthCheck { path, interval_ms, timeout_ms }),
        errors_in_row: section.take("eject_errors")?,
        error_percent: section.take("eject_error_percent")?,
        eject_ms: section.take("eject_time")?,
        probes: section.take("eject_probes")?,
        slow_start_ms: section.take("slow_start")?,
    })
}
