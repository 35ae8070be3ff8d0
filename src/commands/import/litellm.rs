//! Converts a configuration of LiteLLM's proxy, section by section, to a plan and a list of what cannot be converted.
//! Pure: reads no file and no environment.

use crate::commands::key;
use crate::limits;

use super::additions;
use super::deployment::{Common, DROPPED, deployment, milliseconds, variable};
use super::plan::{Model, Plan, Prices, Target, Tenant};
use super::yaml::{Fields, Leftovers, Node, Yaml};

/// Most models; with more, the result would exceed the largest configuration.
const MODELS: usize = 4_000;

/// A hash that nobody has a key for, where one is wanted for a check.
const NO_HASH: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// Below this a key can be guessed from its hash.
const SHORT_KEY_BYTES: usize = 16;

/// Reads the whole file.
///
/// # Errors
/// When it is no mapping, or has no model that Ringway can serve; the plan then has nothing to offer, and what was
/// left out is in `left`.
pub fn read(root: &Node, source: &str, left: &mut Leftovers) -> Result<Plan, String> {
    let mut plan = Plan { source: source.to_owned(), ..Plan::default() };
    let mut top = Fields::of(root, "", left).ok_or("the file is not a LiteLLM configuration: it is no mapping")?;
    let Some(models) = top.take("model_list") else {
        return Err("the file is not a LiteLLM configuration: it has no model_list".to_owned());
    };
    let models = models.list().ok_or("model_list is not a list")?;
    if models.len() > MODELS {
        return Err(format!("model_list has over {MODELS} entries"));
    }
    let empty = Node { line: 0, value: Yaml::Null };
    let mut section = |name: &str| top.take(name).unwrap_or(&empty);
    let (router, settings) = (section("router_settings"), section("litellm_settings"));
    let (general, variables) = (section("general_settings"), section("environment_variables"));
    let routing = routing(router, settings, &mut plan, left);
    for (number, entry) in models.iter().enumerate() {
        model(entry, &format!("model_list[{number}]"), &routing, &mut plan, left);
    }
    if plan.models.is_empty() {
        return Err("no model could be carried over".to_owned());
    }
    aliases(&routing, &mut plan, left);
    fallbacks(&routing, &mut plan, left);
    access(general, &mut plan, left);
    for (name, node) in variables.map().unwrap_or_default() {
        let place = format!("environment_variables.{name}");
        left.add(node.line, &place, "is not set by Ringway: put it into its environment");
    }
    top.finish(left, |key| match key {
        "include" => Some("other files are not read: import each; left out"),
        "credential_list" => Some("put the credentials into the deployments; left out"),
        "guardrails" => Some("requests and answers are no longer checked: there are no guardrails here; left out"),
        "mcp_servers" | "vector_store_registry" | "search_tools" => Some("only models are served; left out"),
        _ => None,
    });
    Ok(plan)
}

/// What router_settings and litellm_settings say about all models.
struct Routing<'n> {
    balance: &'static str,
    retries: Option<u32>,
    common: Common,
    aliases: Option<&'n Node>,
    /// Section and entries, in the order in which LiteLLM tries them.
    fallbacks: Vec<(String, &'n Node)>,
    default_fallbacks: Option<&'n Node>,
}

fn routing<'n>(router: &'n Node, settings: &'n Node, plan: &mut Plan, left: &mut Leftovers) -> Routing<'n> {
    let mut routing = Routing {
        balance: "round-robin",
        retries: None,
        common: Common::default(),
        aliases: None,
        fallbacks: Vec::new(),
        default_fallbacks: None,
    };
    // router_settings takes precedence over litellm_settings.
    for (name, node) in [("router_settings", router), ("litellm_settings", settings)] {
        let Some(mut fields) = Fields::of(node, name, left) else { continue };
        if let Some(strategy) = fields.take("routing_strategy") {
            let place = fields.place("routing_strategy");
            routing.balance = balance(strategy, &place, left);
        }
        let retries = fields.read("num_retries", "a whole number from 0 to 10", left, |node| {
            node.number().filter(|count| *count <= 10.0 && count.fract() == 0.0).map(|count| count as u32)
        });
        routing.retries = routing.retries.or(retries);
        for key in ["timeout", "request_timeout"] {
            let timeout = milliseconds(&mut fields, key, left);
            routing.common.timeout_request_ms = routing.common.timeout_request_ms.or(timeout);
        }
        let errors = fields.read("allowed_fails", "a number from 0 to 999", left, |node| {
            // LiteLLM's number is the failures that it allows, ours is the one that counts.
            node.number().filter(|count| *count < 1000.0).map(|count| count as u32 + 1)
        });
        routing.common.eject_errors = routing.common.eject_errors.or(errors);
        let cooldown = fields.read("cooldown_time", "seconds from 0.001 to 3600", left, |node| {
            node.number().map(|seconds| (seconds * 1000.0).round() as u64).filter(|ms| (1..=3_600_000).contains(ms))
        });
        routing.common.eject_time_ms = routing.common.eject_time_ms.or(cooldown);
        for key in ["fallbacks", "context_window_fallbacks"] {
            if let Some(node) = fields.take(key) {
                routing.fallbacks.push((fields.place(key), node));
            }
        }
        routing.default_fallbacks = routing.default_fallbacks.or(fields.take("default_fallbacks"));
        routing.aliases = routing.aliases.or(fields.take("model_group_alias"));
        if name == "litellm_settings" {
            cache(&mut fields, plan, left);
        }
        fields.finish(left, |key| match key {
            "callbacks" | "success_callback" | "failure_callback" => {
                Some("has no counterpart: see the access log and the metrics; left out")
            }
            "drop_params" | "additional_drop_params" | "modify_params" => Some(DROPPED),
            "max_budget" | "budget_duration" => Some("budgets belong to tenants: see tenant.budget; left out"),
            "json_logs" => Some("see log.format; left out"),
            "set_verbose" | "debug_level" => Some("see log.level; left out"),
            "content_policy_fallbacks" => Some("fallbacks on content filters are not supported yet; left out"),
            "routing_strategy_args" | "enable_pre_call_checks" | "retry_policy" | "model_group_retry_policy" => {
                Some("routing has keys of its own: see `ringway config keys`; left out")
            }
            _ if key.starts_with("redis_") => {
                Some("is for counters that LiteLLM shares over nodes; here limits are shared through [redis]; left out")
            }
            _ => None,
        });
    }
    // A list may be in both sections; a model's general fallbacks come before those for long prompts.
    routing.fallbacks.sort_by_key(|(place, _)| place.contains("context_window"));
    routing
}

fn balance(strategy: &Node, place: &str, left: &mut Leftovers) -> &'static str {
    match strategy.text().as_deref() {
        Some("simple-shuffle") => "round-robin",
        Some("least-busy") => "least-connections",
        Some("latency-based-routing") => "p2c",
        _ => {
            left.add(strategy.line, place, "has no counterpart; least-connections comes nearest");
            "least-connections"
        }
    }
}

fn cache(fields: &mut Fields<'_>, plan: &mut Plan, left: &mut Leftovers) {
    plan.cache.enabled = fields.read("cache", "a switch", left, Node::switch).unwrap_or(false);
    let place = fields.place("cache_params");
    let Some(params) = fields.take("cache_params") else { return };
    let Some(mut params_of) = Fields::of(params, &place, left) else { return };
    let kind = params_of.text("type", left).unwrap_or_else(|| "local".to_owned());
    match kind.as_str() {
        "local" => {}
        "redis" if plan.cache.enabled => additions::redis(&mut params_of, params.line, plan, left),
        _ => {
            let what = if kind.contains("semantic") {
                "answers to similar prompts are not served: the cache here is for identical requests".to_owned()
            } else {
                format!("a cache of type {kind} becomes one in each node's memory; [redis] can stand behind it")
            };
            left.add(params.line, &params_of.place("type"), what);
        }
    }
    plan.cache.ttl_ms = params_of.read("ttl", "seconds from 0.001 to 2592000", left, |node| {
        node.number().map(|seconds| (seconds * 1000.0).round() as u64).filter(|ms| (1..=2_592_000_000).contains(ms))
    });
    params_of.finish(left, |key| match key {
        "namespace" => Some("keys in Redis have a prefix of their own; left out"),
        "supported_call_types" | "mode" => Some("see model.cache, and no-store of requests; left out"),
        "redis_startup_nodes" => Some("write them as redis.url = \"redis+cluster://...\"; left out"),
        "sentinel_nodes" | "service_name" => Some("write them as redis.url = \"redis+sentinel://...\"; left out"),
        _ => None,
    });
}

fn model(entry: &Node, place: &str, routing: &Routing<'_>, plan: &mut Plan, left: &mut Leftovers) {
    let Some(mut fields) = Fields::of(entry, place, left) else { return };
    let name = fields.text("model_name", left);
    let params = fields.take("litellm_params");
    let info = fields.take("model_info");
    fields.finish(left, |_| None);
    let (Some(name), Some(params)) = (name, params) else {
        left.add(entry.line, place, "has no model_name or no litellm_params; left out");
        return;
    };
    let mut prices = Prices::default();
    let about = format!("{place}.model_info");
    if let Some(mut info) = info.and_then(|info| Fields::of(info, &about, left)) {
        prices = additions::prices(&mut info, left);
        info.finish(left, |_| Some("is not used; left out"));
    }
    let place = format!("{place}.litellm_params");
    let Some(mut target) = deployment(params, &place, &routing.common, plan, left) else { return };
    let stars = name.matches('*').count();
    if stars > 1 || target.model.matches('*').count() > stars {
        let what = format!("\"{name}\" may have one *, and \"{}\" no more than that; left out", target.model);
        left.add(entry.line, &place, what);
        return;
    }
    if let Some(wrong) = [&name, &target.model].into_iter().find(|name| !is_name(name)) {
        let what = format!("\"{wrong}\" is not a name a model can have; left out");
        left.add(entry.line, &place, what);
        return;
    }
    // As there, what model_info says counts last.
    target.prices = target.prices.or(prices);
    match plan.models.iter_mut().find(|known| known.name == name) {
        Some(known) if known.prices != target.prices && target.prices != Prices::default() => {
            left.add(entry.line, &place, "has other prices than the model's first deployment, which count for all");
            known.targets.push(target);
        }
        Some(known) if known.targets.iter().any(|other| same(other, &target)) => {
            left.add(entry.line, &place, "is the same as another deployment of this model; left out");
        }
        Some(known) => known.targets.push(target),
        None => plan.models.push(Model {
            name,
            line: entry.line,
            prices: target.prices.clone(),
            targets: vec![target],
            balance: routing.balance,
            retries: routing.retries,
            fallback: Vec::new(),
        }),
    }
}

fn same(one: &Target, other: &Target) -> bool {
    one.backend == other.backend && one.model == other.model
}

/// What `config/value.rs` accepts as the name of a model.
fn is_name(name: &str) -> bool {
    (1..=limits::MODEL_BYTES).contains(&name.len())
        && !name.chars().any(|letter| letter.is_control() || letter == '"' || letter == '\\')
}

/// An alias of a model becomes a model with the same targets.
fn aliases(routing: &Routing<'_>, plan: &mut Plan, left: &mut Leftovers) {
    let Some(node) = routing.aliases else { return };
    for (alias, meant) in node.map().unwrap_or_default() {
        let place = format!("model_group_alias.{alias}");
        let name = match meant.map() {
            Some(fields) => fields.iter().find(|(key, _)| key == "model").and_then(|(_, node)| node.text()),
            None => meant.text(),
        };
        let known = plan.models.iter().find(|model| Some(&model.name) == name.as_ref());
        match known {
            None => left.add(meant.line, &place, "leads to a model that is not carried over; left out"),
            Some(model) if model.is_pattern() => {
                left.add(meant.line, &place, "leads to a name that stands for many models; left out");
            }
            Some(_) if !is_name(alias) || plan.models.iter().any(|model| model.name == *alias) => {
                left.add(meant.line, &place, "is the name of a model, or none that one can have; left out");
            }
            Some(model) => {
                let model = Model { name: alias.clone(), line: meant.line, ..model.clone() };
                plan.models.push(model);
            }
        }
    }
}

fn fallbacks(routing: &Routing<'_>, plan: &mut Plan, left: &mut Leftovers) {
    let one = plan.models.iter().filter(|model| !model.is_pattern());
    let names: Vec<String> = one.map(|model| model.name.clone()).collect();
    let known = |node: &Node, place: &str, left: &mut Leftovers| -> Vec<String> {
        let mut found = Vec::new();
        for entry in node.list().unwrap_or_default() {
            match entry.text().filter(|name| names.contains(name)) {
                Some(name) => found.push(name),
                None => left.add(entry.line, place, "leads to a model that is not carried over; left out"),
            }
        }
        found
    };
    let mut default = Vec::new();
    if let Some(node) = routing.default_fallbacks {
        default = known(node, "default_fallbacks", left);
    }
    for (place, node) in &routing.fallbacks {
        for entry in node.list().unwrap_or_default() {
            for (name, list) in entry.map().unwrap_or_default() {
                let place = format!("{place}.{name}");
                let found = known(list, &place, left);
                if name == "*" {
                    default.extend(found);
                    continue;
                }
                let Some(model) = plan.models.iter_mut().find(|model| model.name == *name) else {
                    left.add(list.line, &place, "is of a model that is not carried over; left out");
                    continue;
                };
                if place.contains("context_window") && !model.fallback.is_empty() {
                    let what = "are asked after the model's other fallbacks, whatever the reason: Ringway has one list";
                    left.add(list.line, &place, what);
                }
                extend(model, &found);
            }
        }
    }
    for model in plan.models.iter_mut().filter(|model| model.fallback.is_empty()) {
        extend(model, &default);
    }
}

/// Adds each name once, and never the model itself.
fn extend(model: &mut Model, names: &[String]) {
    for name in names {
        if *name != model.name && !model.fallback.contains(name) {
            model.fallback.push(name.clone());
        }
    }
}

fn access(general: &Node, plan: &mut Plan, left: &mut Leftovers) {
    let Some(mut fields) = Fields::of(general, "general_settings", left) else { return };
    if let Some(node) = fields.take("master_key") {
        let place = fields.place("master_key");
        match node.text() {
            Some(text) => {
                plan.tenants.extend(master(&text, node.line, &place, left));
                if let Some(name) = variable(&text) {
                    let what = format!("$(printf %s \"${name}\" | ringway key hash)");
                    plan.variable(&format!("{name}_SHA256"), what, NO_HASH);
                }
            }
            None => left.add(node.line, &place, "is not text; left out"),
        }
    }
    if let Some(node) = fields.take("database_url") {
        let what = "virtual keys, teams and budgets stand in LiteLLM's database, which is not read: make a [[tenant]] for each \
                    with `ringway key hash`";
        left.add(node.line, &fields.place("database_url"), what);
    }
    fields.finish(left, |key| match key {
        "pass_through_endpoints" => Some(
            "paths below /v1/ go to the backends of the model they name, others see server.passthrough_paths; left out",
        ),
        "max_parallel_requests" | "global_max_parallel_requests" => {
            Some("see tenant.concurrent_requests and model.max_concurrent_requests; left out")
        }
        "alerting" | "alerting_threshold" => Some("see the alert rules in deploy/prometheus; left out"),
        _ if key.starts_with("custom_auth") || key.contains("jwt") => {
            Some("clients are known by keys and by certificates: see tenant.keys; left out")
        }
        _ => None,
    });
}

fn master(text: &str, line: u64, place: &str, left: &mut Leftovers) -> Option<Tenant> {
    let tenant = |key| {
        let comment = "LiteLLM's master key; it may ask for every model, and administers nothing here.".to_owned();
        Some(Tenant { name: "master".to_owned(), key, comment })
    };
    if let Some(name) = variable(text) {
        return tenant(format!("${{{name}_SHA256}}"));
    }
    if text.is_empty() || text.len() > 4096 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        left.add(line, place, "is not a key that a request could carry; left out");
        return None;
    }
    if text.len() < SHORT_KEY_BYTES {
        left.add(line, place, "is short enough to be guessed from its hash: make another one");
    }
    left.add(line, place, "is in clear text in LiteLLM's file; only its hash is copied");
    tenant(key::hash(text))
}
