//! Where every row of `config/keys.rs` becomes a field of the snapshot: one function a table.
//! Owns nothing. `None` means that something was reported, never that a value is absent.

mod backend;
mod config;
mod listener;
mod template;
mod tenant;
mod traces;

use std::collections::BTreeSet;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

pub(in crate::config) use self::tenant::{Pricing, cors, limit_rules, tenant};
pub(in crate::config) use self::{
    backend::backend, config::config, listener::listener, template::templates, traces::traces,
};
use super::{
    Admin, Backend, BackendShown, Balance, BalanceWord, Cache, CacheMode, Choice, CoreChoice, Cores, FastOpen, GenAi,
    HealthPaths, KeyShown, Listen, Log, Metrics, Model, Price, REDIS_FORMS, Rebalance, Redis, RedisLayout, Server,
    SnapshotMode, Target, TrustedProxies,
};
use crate::config::check::{self, Names, Tenants};
use crate::config::problem::Report;
use crate::config::section::{FilePath, Placed, Section};

pub(in crate::config) fn server(
    section: &mut Section,
    models: &Names,
    tenants: Tenants,
    report: &mut Report<'_>,
) -> Option<Server> {
    let listen: Option<Vec<Placed<Listen>>> = section.take("listen");
    if let Some(listen) = &listen {
        check::listeners("server.listen", &[], listen, tenants, report);
    }
    let default_model = match section.take_optional::<Placed<String>>("default_model") {
        Some(Some(name)) => {
            check::one_model("server.default_model", &name, report);
            models.find("server.default_model", &name, report).map(Some)
        }
        Some(None) => Some(None),
        None => None,
    };
    let paths: Option<Vec<Placed<String>>> = section.take_optional("passthrough_paths")?;
    for (index, path) in paths.iter().flatten().enumerate() {
        check::passthrough_path(path, &paths.as_deref().unwrap_or_default()[..index], report);
    }
    let region: Option<Placed<String>> = section.take_optional("region")?;
    let near: Option<Vec<Placed<String>>> = section.take_optional("regions_near")?;
    if let Some(near) = &near {
        check::regions(region.as_ref(), near, report);
    }
    // The one that stands in the file, or the later one.
    let place = section.place("body_max").max(section.place("request_memory"));
    let body_max_bytes: Option<u64> = section.take("body_max");
    let request_memory_bytes: Option<u64> = section.take("request_memory");
    if body_max_bytes.zip(request_memory_bytes).is_some_and(|(body, all)| body > all) {
        let remedy = "make request_memory larger, or body_max smaller";
        report.add(place, "server.body_max", "is larger than server.request_memory", remedy);
    }
    let control_socket: Option<Placed<String>> = section.take_optional("control_socket")?;
    if let Some(path) = control_socket.as_ref().filter(|path| !path.value.starts_with('/')) {
        report.add(path.at, "server.control_socket", "is no absolute path", "begin it with /");
    }
    let trusted: Option<Vec<Placed<String>>> = section.take_optional("trusted_proxies")?;
    let networks = trusted.map(|names| check::networks(&names, report));
    let field = section.take_choice("trusted_header")?;
    Some(Server {
        listen: listen?.into_iter().map(|placed| placed.value).collect(),
        listeners: Vec::new(), // of tables of their own
        fast_open: if section.take("fast_open")? { FastOpen::On } else { FastOpen::Off },
        body_max_bytes: body_max_bytes?,
        request_memory_bytes: request_memory_bytes?,
        timeout_head_ms: section.take("timeout_head")?,
        timeout_body_ms: section.take("timeout_body")?,
        timeout_write_ms: section.take("timeout_write")?,
        rate_min_bytes: section.take("rate_min")?,
        timeout_idle_ms: section.take("timeout_idle")?,
        drain_delay_ms: section.take("drain_delay")?,
        timeout_drain_ms: section.take("timeout_drain")?,
        connections_max: section.take_optional("max_connections")?,
        connections_per_client_max: section.take_optional("max_connections_per_client")?,
        pipelined_max: section.take("max_pipelined_requests")?,
        trusted_proxies: networks.map(|networks| TrustedProxies { networks, field }),
        control_socket: control_socket.map(|path| path.value.into()),
        timeout_takeover_ms: section.take("timeout_takeover")?,
        default_model: default_model?,
        passthrough_paths: paths.into_iter().flatten().map(|path| path.value).collect(),
        region: region.map(|region| region.value),
        regions_near: near.into_iter().flatten().map(|name| name.value).collect(),
        backend_shown: if section.take("show_backend")? { BackendShown::Shown } else { BackendShown::Hidden },
        health_paths: if section.take("health_paths")? { HealthPaths::Answered } else { HealthPaths::Unknown },
        state_dir: section.take_optional::<String>("state_dir")?.map(PathBuf::from),
    })
}

pub(in crate::config) fn admin(section: &mut Section, listen: &[Listen], report: &mut Report<'_>) -> Option<Admin> {
    let choice = if section.is_written("listen") { Choice::Written } else { Choice::Default };
    let own: Option<Placed<Option<Listen>>> = section.take("listen");
    let token = section.take_optional("token");
    if let (Some(own), Some(token)) = (&own, &token) {
        check::admin(own, choice, token.as_ref(), listen, report);
    }
    Some(Admin { listen: own?.value, choice, token: token? })
}

pub(in crate::config) fn metrics(section: &mut Section) -> Option<Metrics> {
    let genai = match (section.take("genai")?, section.take("genai_old_names")?) {
        (false, false) => GenAi::Off,
        (true, false) => GenAi::Current,
        (false, true) => GenAi::Old,
        (true, true) => GenAi::Both,
    };
    Some(Metrics { genai })
}

pub(in crate::config) fn log(section: &mut Section) -> Option<Log> {
    Some(Log {
        access: section.take("access")?,
        level: section.take_choice("level")?,
        format: section.take_choice("format")?,
    })
}

pub(in crate::config) fn cores(section: &mut Section, report: &mut Report<'_>) -> Option<Cores> {
    let io = one_thread(section, "io", report);
    let background = one_thread(section, "background", report);
    let steering = section.take_choice("steering");
    let rebalance = if section.take("rebalance")? { Rebalance::On } else { Rebalance::Off };
    Some(Cores { data: section.take("data")?, io: io?, background: background?, steering: steering?, rebalance })
}

/// Of a kind of core of which there is one.
fn one_thread(section: &mut Section, name: &'static str, report: &mut Report<'_>) -> Option<CoreChoice> {
    let at = section.place(name);
    let choice: CoreChoice = section.take(name)?;
    let count = match &choice {
        CoreChoice::Auto => 1,
        CoreChoice::Count(count) => *count,
        CoreChoice::List(list) => list.len(),
    };
    if count != 1 {
        let what = format!("{count} CPUs for one thread");
        report.add(at, &format!("cores.{name}"), what, "write \"auto\", 1, or the number of one CPU, such as \"0\"");
    }
    Some(choice)
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
        scope: section.take_choice("scope")?,
        timeout_follow_ms: section.take("timeout_follow")?,
        stale_if_error_ms: section.take("stale_if_error")?,
        key: if section.take("show_key")? { KeyShown::Shown } else { KeyShown::Hidden },
        snapshot: if section.take("snapshot")? { SnapshotMode::On } else { SnapshotMode::Off },
        snapshot_interval_ms: section.take("snapshot_interval")?,
    })
}

/// The second level of the cache; `Some(None)` without one.
pub(in crate::config) fn redis(section: &mut Section, report: &mut Report<'_>) -> Option<Option<Redis>> {
    let at = section.place("url");
    let url = section.take_optional::<SecretString>("url");
    let tls_ca = section.take_optional::<Placed<FilePath>>("tls_ca");
    let timeout_ms = section.take("timeout");
    let of_sentinels_at = ["sentinel_user", "sentinel_password"].map(|key| (key, section.place(key)));
    let of_sentinels =
        (section.take_optional::<String>("sentinel_user"), section.take_optional::<SecretString>("sentinel_password"));
    let Some(url) = url? else { return Some(None) };
    let mut redis = match Redis::of_url(url.expose_secret()) {
        Ok(redis) => redis,
        Err(what) => {
            report.add(at, "redis.url", what, REDIS_FORMS);
            return None;
        }
    };
    let of_sentinels = (of_sentinels.0?, of_sentinels.1?);
    let written = [of_sentinels.0.is_some(), of_sentinels.1.is_some()];
    let wrong = match &mut redis.layout {
        RedisLayout::Sentinel { user, password, .. } => {
            (*user, *password) = of_sentinels;
            let lacks = user.is_some() && password.is_none();
            lacks.then_some((0, "is a user without a password", "add sentinel_password"))
        }
        RedisLayout::Single | RedisLayout::Cluster => written.iter().position(|is_written| *is_written).map(|place| {
            (place, "is used with redis+sentinel:// alone", "take the key out, or write user and password into the URL")
        }),
    };
    if let Some((place, what, remedy)) = wrong {
        let (key, at) = of_sentinels_at[place];
        report.add(at, &format!("redis.{key}"), what, remedy);
        return None;
    }
    let tls_ca = tls_ca?.map(|file| PathBuf::from(file.value.path));
    Some(Some(Redis { tls_ca, timeout_ms: timeout_ms?, ..redis }))
}

/// `known` are the backends, in order; none stands for one that was reported. `cache_ttl_ms` is that of all models.
pub(in crate::config) fn model(
    section: &mut Section,
    backends: &Names,
    known: &[Option<Backend>],
    models: &Names,
    cache_ttl_ms: u64,
    report: &mut Report<'_>,
) -> Option<Model> {
    let header_at = section.is_written("session_header").then(|| section.place("session_header"));
    let session_header = section.take("session_header");
    let balance = section.take_choice("balance");
    if let Some(at) = header_at.filter(|_| balance.is_some_and(|word| word != BalanceWord::Sticky)) {
        let remedy = "write balance = \"sticky\", or take session_header out";
        report.add(at, "model.session_header", "the balance is not \"sticky\"", remedy);
    }
    let own = section.name().map(|name| name.value.clone());
    let stars = own.as_ref().map_or(0, |name| name.matches('*').count());
    if stars > 1 {
        let at = section.place("name");
        report.add(at, "model.name", "has more than one *", "leave one, which stands for any characters");
    }
    let mut fallback = Vec::new();
    for name in section.take_optional::<Vec<Placed<String>>>("fallback")?.into_iter().flatten() {
        let Some(model) = models.find("model.fallback", &name, report) else { continue };
        check::one_model("model.fallback", &name, report);
        if own.as_ref() == Some(&name.value) {
            report.add(name.at, "model.fallback", "a model cannot stand in for itself", "take its own name out");
        } else if fallback.contains(&model) {
            let what = format!("\"{}\" stands twice in the list", name.value);
            report.add(name.at, "model.fallback", what, "name each model once");
        }
        fallback.push(model);
    }
    let mut targets = Vec::new();
    for mut part in section.take::<Vec<Section>>("backends")? {
        // All of them are looked at though one is wrong: the report is what counts then.
        let Some(target) = target(&mut part, backends, known, report) else { continue };
        let stars_there = target.model.as_ref().map_or(0, |name| name.matches('*').count());
        if stars_there > stars.min(1) {
            let (what, remedy) = match stars {
                0 => ("has a *, and the model's name has none", "write the name that the backend knows"),
                _ => ("has more than one *", "leave one: it stands for what the * in the model's name stands for"),
            };
            report.add(part.place("model"), "model.backends.model", what, remedy);
        }
        if targets.iter().any(|other: &Target| (other.backend, &other.model) == (target.backend, &target.model)) {
            let what = "the same backend with the same model stands twice in the list";
            report.add(part.at, "model.backends", what, "name it once, with the weight it shall have");
        }
        targets.push(target);
    }
    let name: String = section.take("name")?;
    Some(Model {
        upstream_identity: upstream_identity(&name, &targets, known),
        name,
        version: section.take("version")?,
        cache: section.take_choice("cache")?,
        replay_rate: section.take_optional("replay_rate")?,
        batch_window_ms: section.take_optional("batch_window")?.unwrap_or(0),
        batch_max_inputs: section.take::<u32>("batch_max_inputs")? as usize,
        cache_ttl_ms: section.take_optional("cache_ttl")?.unwrap_or(cache_ttl_ms),
        balance: match balance? {
            BalanceWord::RoundRobin => Balance::RoundRobin,
            BalanceWord::LeastConnections => Balance::LeastConnections,
            BalanceWord::P2c => Balance::P2c,
            BalanceWord::Sticky => Balance::Sticky(session_header?),
            BalanceWord::Prefix => Balance::Prefix,
        },
        targets,
        fallback,
        max_concurrent_requests: section.take("max_concurrent_requests")?,
        max_pending_requests: section.take("max_pending_requests")?,
        timeout_queue_ms: section.take("timeout_queue")?,
        retries: section.take("retries")?,
        retry_budget_percent: section.take("retry_budget_percent")?,
        retry_after_max_ms: section.take("retry_after_max")?,
        hedge_percent: section.take("hedge_percent")?,
        panic_percent: section.take("panic_threshold")?,
        on_client_disconnect: section.take_choice("on_client_disconnect")?,
        price: price(section)?,
    })
}

fn price(section: &mut Section) -> Option<Price> {
    let input = section.take_optional("price_input")?.unwrap_or(0);
    Some(Price {
        input,
        cached_input: section.take_optional("price_cached_input")?.unwrap_or(input),
        cache_write: section.take_optional("price_cache_write")?.unwrap_or(input),
        output: section.take_optional("price_output")?.unwrap_or(0),
    })
}

/// See [`Model::upstream_identity`].
fn upstream_identity(name: &str, targets: &[Target], known: &[Option<Backend>]) -> Vec<u8> {
    let text = |(_, member): &(String, Vec<u8>)| String::from_utf8_lossy(member).into_owned();
    let of = |target: &Target| {
        let backend = known.get(target.backend).and_then(Option::as_ref);
        let members: Vec<String> = backend.map_or(&[][..], |backend| &backend.extra.members).iter().map(text).collect();
        (target.model.as_deref().unwrap_or(name).to_owned(), members)
    };
    // Neither their order nor how many backends have the same counts.
    let all: BTreeSet<_> = targets.iter().map(of).collect();
    if all == BTreeSet::from([(name.to_owned(), Vec::new())]) {
        Vec::new()
    } else {
        json!(all).to_string().into_bytes()
    }
}

fn target(
    section: &mut Section,
    backends: &Names,
    known: &[Option<Backend>],
    report: &mut Report<'_>,
) -> Option<Target> {
    let name = section.take("backend")?;
    let backend = backends.find("model.backends.backend", &name, report)?;
    let weight = section.take_optional("weight")?;
    let target = Target {
        backend,
        model: section.take_optional("model")?,
        weight: weight.or_else(|| Some(known.get(backend)?.as_ref()?.weight)).unwrap_or(1),
    };
    section.report_fault(report);
    Some(target)
}
