//! One entry of LiteLLM's `model_list`: its URL, credential and share. Pure.

use std::io;
use std::path::Path;

use crate::commands::key;
use crate::config::load::load;

use super::additions;
use super::plan::{Backend, Plan, Target};
use super::provider::{Reach, provider};
use super::yaml::{Fields, Leftovers, Node};

/// Placeholders in LiteLLM's examples for servers that require no key.
const NO_KEYS: [&str; 9] = ["", "none", "null", "empty", "fake", "fake-key", "dummy", "anything", "not-needed"];

/// Of fields that LiteLLM takes out of requests.
pub const DROPPED: &str = "requests keep all their fields: what a backend does not accept, it refuses; left out";

/// A day in milliseconds: the longest timeout.
const DAY_MS: f64 = 86_400_000.0;

/// Settings common to all backends.
#[derive(Debug, Default)]
pub struct Common {
    pub timeout_request_ms: Option<u64>,
    pub eject_errors: Option<u32>,
    pub eject_time_ms: Option<u64>,
}

/// Reads `litellm_params`. If Ringway cannot reach the deployment, reports that and returns `None`.
pub fn deployment(
    params: &Node,
    place: &str,
    common: &Common,
    plan: &mut Plan,
    left: &mut Leftovers,
) -> Option<Target> {
    let mut fields = Fields::of(params, place, left)?;
    let Some(model) = fields.text("model", left) else {
        left.add(params.line, place, "has no model; left out");
        return None;
    };
    let named = fields.text("custom_llm_provider", left);
    let (provider, model, reach) = provider(&model, named.as_deref());
    if let Reach::No(why) = reach {
        left.add(params.line, place, format!("the provider \"{provider}\" {why}"));
        return None;
    }
    let mut backend = Backend {
        provider: provider.to_owned(),
        line: params.line,
        timeout_request_ms: common.timeout_request_ms,
        eject_errors: common.eject_errors,
        eject_time_ms: common.eject_time_ms,
        azure: reach == Reach::Azure,
        ..Backend::default()
    };
    (backend.url, backend.api_path) = url(&mut fields, provider, &reach, params.line, plan, left)?;
    if let Some(fault) = url_fault(&backend.url) {
        left.add(params.line, &fields.place("api_base"), format!("{fault}; the deployment is left out"));
        return None;
    }
    if let Some(ms) = milliseconds(&mut fields, "timeout", left) {
        backend.timeout_request_ms = Some(ms);
    }
    backend.timeout_first_token_ms = milliseconds(&mut fields, "stream_timeout", left);
    if let Some(order) = fields.number("order", left) {
        // LiteLLM counts from 1, and tries the lowest order first.
        backend.priority = (order - 1.0).clamp(0.0, 15.0) as u32;
    }
    let target = Target {
        model: model.to_owned(),
        share: share(&mut fields, left),
        max_concurrent: fields.number("max_parallel_requests", left),
        backend: String::new(),
        prices: additions::prices(&mut fields, left),
    };
    additions::headers(&mut fields, &mut backend, plan, left);
    additions::body(&mut fields, &mut backend, left);
    let written = fields.take("api_key");
    let name = fields.place("api_key");
    credential(&mut backend, written, &name, &reach, plan, left);
    if reach == Reach::Azure {
        // Azure's v1 API has no versions.
        fields.take("api_version");
    }
    fields.finish(left, |key| match key {
        "max_retries" | "num_retries" => {
            Some("retries are counted by model: see router_settings.num_retries; left out")
        }
        _ if key.starts_with("aws_") || key.starts_with("vertex_") => {
            Some("belongs to requests that are signed; left out")
        }
        "azure_ad_token" | "tenant_id" | "client_id" | "client_secret" => {
            Some("credentials of Entra ID are not supported yet: use an api_key; left out")
        }
        "litellm_credential_name" => Some("put the credential into the deployment; left out"),
        "drop_params" | "additional_drop_params" => Some(DROPPED),
        "tags" => Some("deployments are not chosen by tags: write a [[model]] for them; left out"),
        _ => None,
    });
    let backend = plan.backend(backend);
    Some(Target { backend, ..target })
}

/// The backend's URL, and what it has in place of `/v1`, if that is another path. If there is none, reports that and returns
/// `None`.
fn url(
    fields: &mut Fields<'_>,
    provider: &str,
    reach: &Reach,
    line: u64,
    plan: &mut Plan,
    left: &mut Leftovers,
) -> Option<(String, Option<String>)> {
    let node = fields.take("api_base").or_else(|| fields.take("base_url"));
    let place = fields.place("api_base");
    let Some(node) = node else {
        if let Reach::OpenAi { url: Some(url), .. } = reach {
            return Some(split(url));
        }
        left.add(line, &place, "is missing, and this provider has no address of its own; left out");
        return None;
    };
    let Some(written) = node.text() else {
        left.add(node.line, &place, "is not text; the deployment is left out");
        return None;
    };
    if let Some(name) = variable(&written) {
        plan.variable(name, "a URL of a backend, without /v1 at its end", "http://127.0.0.1:1");
        let what = format!("take /v1 off the end of the value of {name}, if it has one");
        left.add(node.line, &place, what);
        let tail = if *reach == Reach::Azure { "/openai" } else { "" };
        return Some((format!("${{{name}}}{tail}"), None));
    }
    // Text before an @ may be a password, so nothing of it is repeated.
    if written.contains('@') || written.contains("${") {
        left.add(node.line, &place, "is not a URL that a backend can have; the deployment is left out");
        return None;
    }
    let base = written.trim().split(['?', '#']).next().unwrap_or("").trim_end_matches('/');
    if *reach == Reach::Azure {
        let resource = base.find("/openai").map_or(base, |at| &base[..at]);
        return Some((format!("{resource}/openai"), None));
    }
    if base.len() < written.trim().trim_end_matches('/').len() {
        left.add(node.line, &place, "the query of the URL is left out");
    }
    // These are written without /v1, which LiteLLM puts there.
    if provider.starts_with("ollama") || provider == "anthropic" {
        return Some((base.strip_suffix("/v1").unwrap_or(base).to_owned(), None));
    }
    Some(split(base))
}

/// A URL with the path that is its `/v1`, taken apart.
fn split(base: &str) -> (String, Option<String>) {
    if let Some(short) = base.strip_suffix("/v1") {
        return (short.to_owned(), None);
    }
    let begin = base.find("://").map_or(0, |at| at + "://".len());
    let (origin, path) = base.split_at(base[begin..].find('/').map_or(base.len(), |at| begin + at));
    (origin.to_owned(), Some(if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
}

/// What is wrong with a URL by the configuration's own rules; one from the environment cannot be checked.
fn url_fault(url: &str) -> Option<String> {
    if url.starts_with("${") {
        return None;
    }
    fault(&format!("url = {}\n", toml::Value::String(url.to_owned())))
}

/// What is wrong with a backend that has these rows, by the configuration's own rules.
pub fn fault(rows: &str) -> Option<String> {
    let url = if rows.starts_with("url") { "" } else { "url = \"http://127.0.0.1:1\"\n" };
    let text = format!("[[backend]]\nname = \"b\"\n{url}{rows}[[model]]\nname = \"m\"\nbackends = [\"b\"]\n");
    let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let problems = load(&text, Path::new("rows"), &|_| Some("x".to_owned()), &nothing).err()?;
    problems.iter().next().map(|problem| format!("{}; {}", problem.what, problem.remedy))
}

/// A reference to the variable of the key; with a made-up name if the file has the key itself.
fn credential(
    backend: &mut Backend,
    written: Option<&Node>,
    place: &str,
    reach: &Reach,
    plan: &mut Plan,
    left: &mut Leftovers,
) {
    let Some(node) = written else {
        let usual = match reach {
            Reach::OpenAi { key, .. } => *key,
            Reach::Azure => Some("AZURE_API_KEY"),
            Reach::No(_) => None,
        };
        if let Some(name) = usual {
            plan.variable(name, "the key of a backend", "key");
            backend.api_key = Some(format!("${{{name}}}"));
        }
        return;
    };
    let Some(text) = node.text() else {
        left.add(node.line, place, "is not text; left out");
        return;
    };
    if let Some(name) = variable(&text) {
        plan.variable(name, "the key of a backend", "key");
        backend.api_key = Some(format!("${{{name}}}"));
    } else if !NO_KEYS.contains(&text.to_ascii_lowercase().as_str()) {
        let hash = key::hash(&text);
        let known = plan.backends.iter().find(|known| known.key_hash.as_ref() == Some(&hash));
        let reference = known.and_then(|known| known.api_key.clone()).unwrap_or_else(|| {
            let name = format!("RINGWAY_BACKEND_KEY_{}", node.line);
            plan.variable(&name, format!("the key of the backend in line {}", node.line), "key");
            left.add(
                node.line,
                place,
                format!("the key is there in clear text: put it into the environment as {name}"),
            );
            format!("${{{name}}}")
        });
        backend.api_key = Some(reference);
        backend.key_hash = Some(hash);
    }
}

/// The share that LiteLLM uses for a deployment: its weight, or else its rates.
fn share(fields: &mut Fields<'_>, left: &mut Leftovers) -> Option<f64> {
    let weight = fields.number("weight", left);
    let mut share = weight;
    for key in ["rpm", "tpm"] {
        let Some(node) = fields.take(key) else { continue };
        let place = fields.place(key);
        let what = match (node.number(), weight) {
            (None, _) => "is not a number from 0; left out",
            (Some(rate), None) => {
                share = share.or(Some(rate));
                "weighs the deployment, and no longer limits it: limits of a backend are not supported yet"
            }
            (Some(_), Some(_)) => "limits of a backend are not supported yet; left out",
        };
        left.add(node.line, &place, what);
    }
    share
}

/// The name in `os.environ/NAME`.
pub fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix("os.environ/")?;
    let first = name.bytes().next()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (!first.is_ascii_digit() && name.bytes().all(fits)).then_some(name)
}

/// A duration in seconds, limited to the range of timeouts.
pub fn milliseconds(fields: &mut Fields<'_>, key: &str, left: &mut Leftovers) -> Option<u64> {
    let read = |node: &Node| node.number().map(|seconds| seconds * 1000.0).filter(|ms| (1.0..=DAY_MS).contains(ms));
    fields.read(key, "seconds from 0.001 to 86400", left, read).map(|ms| ms.round() as u64)
}
