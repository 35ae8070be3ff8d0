//! Where every row of `config/keys.rs` becomes a field of the snapshot: one function a table.
//! Owns nothing. `None` means that something was reported, never that a value is absent.

use hashbrown::HashSet;

use super::{
    Allowed, Backend, Balance, Cache, CacheMode, ClientCertificate, Connections, Cores, CredentialField, FastOpen,
    Health, HealthCheck, IncludeUsage, Listen, Model, Protocol, Scope, Server, Target, Tenant, Tls,
};
use crate::config::check::{self, Credentials, Names, Tenants};
use crate::config::problem::Report;
use crate::config::section::{Placed, Section};
use crate::config::value::Url;

pub(in crate::config) fn server(
    section: &mut Section,
    models: &Names,
    tenants: Tenants,
    report: &mut Report<'_>,
) -> Option<Server> {
    let listen: Option<Vec<Placed<Listen>>> = section.take("listen");
    if let Some(listen) = &listen {
        check::listeners(listen, tenants, report);
    }
    let passthrough_model = match section.take_optional::<Placed<String>>("passthrough_model") {
        Some(Some(name)) => models.find("server.passthrough_model", &name, report).map(Some),
        Some(None) => Some(None),
        None => None,
    };
    Some(Server {
        listen: listen?.into_iter().map(|placed| placed.value).collect(),
        body_max_bytes: section.take("body_max")?,
        timeout_head_ms: section.take("timeout_head")?,
        timeout_body_ms: section.take("timeout_body")?,
        timeout_write_ms: section.take("timeout_write")?,
        timeout_idle_ms: section.take("timeout_idle")?,
        timeout_drain_ms: section.take("timeout_drain")?,
        passthrough_model: passthrough_model?,
        access_log: section.take("access_log")?,
        region: section.take_optional("region")?,
        regions_near: names(section.take_optional("regions_near")?),
    })
}

pub(in crate::config) fn cores(section: &mut Section) -> Option<Cores> {
    Some(Cores { data: section.take("data")?, io: section.take("io")?, background: section.take("background")? })
}

pub(in crate::config) fn cache(section: &mut Section, report: &mut Report<'_>) -> Option<Cache> {
    // The one that stands in the file, or the later one.
    let place = section.place("memory").max(section.place("max_entry"));
    let memory_bytes = section.take("memory")?;
    let max_entry_bytes = section.take("max_entry")?;
    if max_entry_bytes > memory_bytes {
        let remedy = "make memory larger, or max_entry smaller";
        report.add(place, "cache.max_entry", "is larger than cache.memory", remedy);
    }
    Some(Cache {
        mode: if section.take("enabled")? { CacheMode::On } else { CacheMode::Off },
        memory_bytes,
        ttl_ms: section.take("ttl")?,
        max_entry_bytes,
        scope: match section.take("scope")? {
            "key" => Scope::Key,
            "shared" => Scope::Shared,
            // The narrow one of the three words a choice can be.
            _ => Scope::Tenant,
        },
        timeout_follow_ms: section.take("timeout_follow")?,
        stale_if_error_ms: section.take("stale_if_error")?,
    })
}

pub(in crate::config) fn backend(section: &mut Section, report: &mut Report<'_>) -> Option<Backend> {
    let connections = connections(section, ["connections_min", "connections_max"], report);
    let http2_connections = self::connections(section, ["http2_connections_min", "http2_connections_max"], report);
    let health = health(section, report);
    let Url { address, authority, base_path, secure_host } = section.take("url")?;
    let tls = tls(section, secure_host, report);
    Some(Backend {
        name: section.take("name")?,
        address,
        authority,
        base_path,
        api_key: section.take_optional("api_key")?,
        credential_field: match section.take("api_key_field")? {
            "x-api-key" => CredentialField::XApiKey,
            "api-key" => CredentialField::ApiKey,
            _ => CredentialField::Authorization,
        },
        tls: tls?,
        protocol: match section.take("protocol")? {
            "http1" => Protocol::Http1,
            "http2" => Protocol::Http2,
            _ => Protocol::Auto,
        },
        weight: section.take("weight")?,
        region: section.take_optional("region")?,
        priority: section.take("priority")?,
        connections: connections?,
        http2_connections: http2_connections?,
        http2_streams: section.take("http2_streams_max")?,
        timeout_connect_ms: section.take("timeout_connect")?,
        timeout_idle_ms: section.take("timeout_idle")?,
        timeout_head_ms: section.take("timeout_head")?,
        timeout_first_ms: section.take("timeout_first")?,
        timeout_total_ms: section.take("timeout_total")?,
        timeout_gap_ms: section.take("timeout_gap")?,
        timeout_stream_ms: section.take_optional("timeout_stream")?,
        fast_open: if section.take("fast_open")? { FastOpen::On } else { FastOpen::Off },
        include_usage: if section.take("include_usage")? { IncludeUsage::Ask } else { IncludeUsage::Leave },
        health: health?,
    })
}

/// The bounds that the two keys `names` set.
fn connections(
    section: &mut Section,
    [least, most]: [&'static str; 2],
    report: &mut Report<'_>,
) -> Option<Connections> {
    let place = section.place(least).max(section.place(most));
    let found = Connections { min: section.take(least)?, max: section.take(most)? };
    if found.min > found.max {
        let what = format!("is {}, above {most}, which is {}", found.min, found.max);
        report.add(place, &format!("backend.{least}"), what, format!("make {most} larger, or {least} smaller"));
        return None;
    }
    Some(found)
}

fn tls(section: &mut Section, secure_host: Option<String>, report: &mut Report<'_>) -> Option<Option<Tls>> {
    let place = |section: &Section, name| section.place(name);
    let (at_cert, at_key) = (place(section, "tls_cert"), place(section, "tls_key"));
    let name = section.take_optional::<Placed<String>>("tls_name");
    let ca = section.take_optional::<Placed<String>>("tls_ca");
    let chain = section.take_optional::<Placed<String>>("tls_cert");
    let private_key = section.take_optional::<Placed<String>>("tls_key");
    let (name, ca, chain, private_key) = (name?, ca?, chain?, private_key?);
    let Some(host) = secure_host else {
        let given = [("tls_name", &name), ("tls_ca", &ca), ("tls_cert", &chain), ("tls_key", &private_key)];
        for (key, value) in given {
            if let Some(value) = value {
                let remedy = "write https:// in url, or take the key out";
                report.add(value.at, &format!("backend.{key}"), "the backend's url is not https", remedy);
            }
        }
        return Some(None);
    };
    let client = match (chain, private_key) {
        (None, None) => None,
        (Some(chain), Some(private_key)) => {
            Some(ClientCertificate { chain: chain.value.into(), private_key: private_key.value.into() })
        }
        (Some(_), None) => {
            report.add(
                at_cert,
                "backend.tls_cert",
                "there is no tls_key beside it",
                "name the file of its private key",
            );
            return None;
        }
        (None, Some(_)) => {
            report.add(at_key, "backend.tls_key", "there is no tls_cert beside it", "name the file of its certificate");
            return None;
        }
    };
    let server_name = name.map_or(host, |name| name.value);
    Some(Some(Tls { server_name, ca: ca.map(|ca| ca.value.into()), client }))
}

fn health(section: &mut Section, report: &mut Report<'_>) -> Option<Health> {
    let place = section.place("health_timeout");
    let (path, interval_ms) = (section.take("health_path")?, section.take("health_interval")?);
    let timeout_ms = section.take("health_timeout")?;
    if interval_ms > 0 && timeout_ms > interval_ms {
        let remedy = "make health_interval longer, or health_timeout shorter";
        report.add(place, "backend.health_timeout", "is longer than health_interval", remedy);
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

fn names(placed: Option<Vec<Placed<String>>>) -> Vec<String> {
    placed.into_iter().flatten().map(|name| name.value).collect()
}

/// `weights` are those of the backends, in order; 1 stands for one that was reported.
pub(in crate::config) fn model(
    section: &mut Section,
    backends: &Names,
    weights: &[u32],
    models: &Names,
    report: &mut Report<'_>,
) -> Option<Model> {
    let own = section.name().map(|name| name.value.clone());
    let mut fallback = Vec::new();
    for name in section.take_optional::<Vec<Placed<String>>>("fallback")?.into_iter().flatten() {
        let Some(model) = models.find("model.fallback", &name, report) else { continue };
        if own.as_ref() == Some(&name.value) {
            report.add(name.at, "model.fallback", "a model cannot stand in for itself", "take its own name out");
        } else if fallback.contains(&model) {
            let what = format!("\"{}\" stands twice in the list", name.value);
            report.add(name.at, "model.fallback", what, "name each model once");
        }
        fallback.push(model);
    }
    let session_header = section.take("session_header")?;
    let mut targets = Vec::new();
    for mut part in section.take::<Vec<Section>>("backends")? {
        // All of them are looked at though one is wrong: the report is what counts then.
        let Some(target) = target(&mut part, backends, weights, report) else { continue };
        if targets.iter().any(|other: &Target| (other.backend, &other.model) == (target.backend, &target.model)) {
            let what = "the same backend with the same model stands twice in the list";
            report.add(part.at, "model.backends", what, "name it once, with the weight it shall have");
        }
        targets.push(target);
    }
    Some(Model {
        name: section.take("name")?,
        version: section.take("version")?,
        balance: match section.take("balance")? {
            "round-robin" => Balance::RoundRobin,
            "two-choices" => Balance::TwoChoices,
            "session" => Balance::Session(session_header),
            "prompt" => Balance::Prompt,
            _ => Balance::LeastConnections,
        },
        targets,
        fallback,
        in_flight_max: section.take("in_flight_max")?,
        queue_max: section.take("queue_max")?,
        timeout_queue_ms: section.take("timeout_queue")?,
        retries: section.take("retries")?,
        retry_budget_percent: section.take("retry_budget")?,
        hedge_percent: section.take("hedge")?,
        panic_percent: section.take("panic_threshold")?,
    })
}

fn target(section: &mut Section, backends: &Names, weights: &[u32], report: &mut Report<'_>) -> Option<Target> {
    let name = section.take("backend")?;
    let backend = backends.find("model.backends.backend", &name, report)?;
    let weight = section.take_optional("weight")?;
    let target = Target {
        backend,
        model: section.take_optional("model")?,
        weight: weight.or_else(|| weights.get(backend).copied()).unwrap_or(1),
    };
    section.report_fault(report);
    Some(target)
}

pub(in crate::config) fn tenant(
    section: &mut Section,
    models: &Names,
    credentials: &mut Credentials,
    report: &mut Report<'_>,
) -> Option<Tenant> {
    let keys: Option<Vec<Placed<[u8; 32]>>> = section.take("keys");
    for key in keys.iter().flatten() {
        credentials.add(key, report);
    }
    let allowed = match section.take_optional::<Vec<Placed<String>>>("models")? {
        None => Allowed::All,
        Some(names) => {
            let mut allowed = HashSet::new();
            for name in &names {
                let found = models.find("tenant.models", name, report);
                if found.is_some_and(|model| !allowed.insert(model)) {
                    let what = format!("\"{}\" stands twice in the list", name.value);
                    report.add(name.at, "tenant.models", what, "name each model once");
                }
            }
            Allowed::Some(allowed)
        }
    };
    Some(Tenant {
        name: section.take("name")?,
        models: allowed,
        credentials: keys?.into_iter().map(|placed| placed.value).collect(),
    })
}
