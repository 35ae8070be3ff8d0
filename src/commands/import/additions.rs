//! What LiteLLM adds to the requests of a deployment, what its tokens cost, and the Redis behind its cache. Pure. No secret
//! is copied: a value that may be one becomes a reference to the environment.

use super::deployment::{fault, variable};
use super::plan::{Backend, Plan, Prices};
use super::yaml::{Fields, Leftovers, Node, Yaml};

/// Fields of `litellm_params` that go into the bodies of requests (LiteLLM's documentation of its `completion()`).
const MEMBERS: [&str; 14] = [
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "response_format",
    "reasoning_effort",
    "parallel_tool_calls",
    "service_tier",
    "user",
];

/// Prices per token become prices of a million.
pub fn prices(fields: &mut Fields<'_>, left: &mut Leftovers) -> Prices {
    let mut price = |key: &str| {
        fields.read(key, "a price from 0 to 1 with six digits of a million tokens' one", left, |node| {
            let million = node.number()? * 1e6;
            let text = format!("{million:.6}");
            let text = text.trim_end_matches('0').trim_end_matches('.');
            (million <= 1e6).then(|| text.to_owned())
        })
    };
    Prices {
        input: price("input_cost_per_token"),
        cached_input: price("cache_read_input_token_cost"),
        cache_write: price("cache_creation_input_token_cost"),
        output: price("output_cost_per_token"),
    }
}

/// `extra_headers` and `organization`.
pub fn headers(fields: &mut Fields<'_>, backend: &mut Backend, plan: &mut Plan, left: &mut Leftovers) {
    let organization = fields.take("organization").map(|node| ("openai-organization".to_owned(), node));
    let place = fields.place("extra_headers");
    let given = fields.take("extra_headers").or_else(|| fields.take("headers"));
    let mut found: Vec<(String, &Node)> = Vec::new();
    match given.map(|node| (node.line, node.map())) {
        Some((line, None)) => left.add(line, &place, "is not a mapping; left out"),
        Some((_, Some(entries))) => found.extend(entries.iter().map(|(name, node)| (name.to_ascii_lowercase(), node))),
        None => {}
    }
    for (name, node) in found.into_iter().chain(organization) {
        let place = format!("{place}.{name}");
        let Some(text) = node.text() else {
            left.add(node.line, &place, "is not text; left out");
            continue;
        };
        let value = match variable(&text) {
            Some(variable) => {
                plan.variable(variable, "a header field of a backend's requests", "x");
                format!("${{{variable}}}")
            }
            None if may_be_secret(&name) => {
                let spelled =
                    |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_uppercase() as char } else { '_' };
                let variable =
                    format!("RINGWAY_HEADER_{}_{}", node.line, name.bytes().map(spelled).collect::<String>());
                plan.variable(&variable, format!("the header field {name} in line {}", node.line), "x");
                left.add(node.line, &place, format!("may be a secret: put it into the environment as {variable}"));
                format!("${{{variable}}}")
            }
            None => text.replace("${", "$${"),
        };
        let one = Backend { headers: vec![(name.clone(), value.clone())], ..Backend::default() };
        match fault(&one.additions()) {
            Some(why) => left.add(node.line, &place, format!("{why}; left out")),
            None if backend.headers.iter().any(|(known, _)| *known == name) => {}
            None => backend.headers.push((name, value)),
        }
    }
}

fn may_be_secret(name: &str) -> bool {
    ["auth", "key", "token", "secret", "cookie", "password"].iter().any(|word| name.contains(word))
}

/// Fields that LiteLLM adds to requests which do not have them, and `extra_body`.
pub fn body(fields: &mut Fields<'_>, backend: &mut Backend, left: &mut Leftovers) {
    let mut found: Vec<(String, String, &Node)> = Vec::new();
    for name in MEMBERS {
        if let Some(node) = fields.take(name) {
            found.push((fields.place(name), name.to_owned(), node));
        }
    }
    let place = fields.place("extra_body");
    match fields.take("extra_body").map(|node| (node.line, node.map())) {
        Some((line, None)) => left.add(line, &place, "is not a mapping; left out"),
        Some((_, Some(entries))) => {
            found.extend(entries.iter().map(|(name, node)| (format!("{place}.{name}"), name.clone(), node)));
        }
        None => {}
    }
    for (place, name, node) in found {
        if backend.provider == "anthropic" && name == "max_tokens" {
            backend.max_tokens_default = node.number().filter(|count| *count >= 1.0).map(|count| count as u64);
            continue;
        }
        let Some(value) = value(node) else {
            left.add(node.line, &place, "has a null or a variable of the environment in it; left out");
            continue;
        };
        let one = Backend { body: vec![(name.clone(), value.clone())], ..Backend::default() };
        match fault(&one.additions()) {
            Some(why) => left.add(node.line, &place, format!("{why}; left out")),
            None if backend.body.iter().any(|(known, _)| *known == name) => {}
            None => backend.body.push((name, value)),
        }
    }
}

/// The same in TOML, which has no null.
fn value(node: &Node) -> Option<toml::Value> {
    Some(match &node.value {
        Yaml::Null => return None,
        Yaml::Switch(on) => toml::Value::Boolean(*on),
        Yaml::Integer(number) => toml::Value::Integer(*number),
        Yaml::Fraction(number) => toml::Value::Float(*number),
        Yaml::Text(text) if variable(text).is_some() => return None,
        Yaml::Text(text) => toml::Value::String(text.clone()),
        Yaml::List(nodes) => toml::Value::Array(nodes.iter().map(value).collect::<Option<_>>()?),
        Yaml::Map(entries) => {
            let members = entries.iter().map(|(name, node)| Some((name.clone(), value(node)?)));
            toml::Value::Table(members.collect::<Option<_>>()?)
        }
    })
}

/// The Redis of `cache_params`. What is not there LiteLLM takes from REDIS_HOST, REDIS_PORT and REDIS_PASSWORD.
pub fn redis(fields: &mut Fields<'_>, line: u64, plan: &mut Plan, left: &mut Leftovers) {
    let place = fields.place("type");
    let mut part = |key: &str, what: &str, example: &'static str, left: &mut Leftovers| {
        let text = fields.text(key, left)?;
        Some(match variable(&text) {
            Some(name) => {
                plan.variable(name, what, example);
                format!("${{{name}}}")
            }
            None => text,
        })
    };
    let host = part("host", "the host of Redis", "127.0.0.1", left);
    let port = part("port", "the port of Redis", "6379", left);
    let user = part("username", "the user of Redis", "x", left);
    let mut password = part("password", "the password of Redis", "x", left);
    let database = fields.number("db", left);
    let secure = fields.read("ssl", "a switch", left, Node::switch).unwrap_or(false);
    if password.as_ref().is_some_and(|password| !password.starts_with("${")) {
        let name = "RINGWAY_REDIS_PASSWORD";
        left.add(line, &place, format!("the password is there in clear text: put it into the environment as {name}"));
        plan.variable(name, "the password of Redis, percent-encoded", "x");
        password = Some(format!("${{{name}}}"));
    }
    let (host, port) = match host {
        Some(host) => (host, port),
        None => {
            left.add(
                line,
                &place,
                "names no host: REDIS_HOST, REDIS_PORT and REDIS_PASSWORD are those of the environment",
            );
            plan.variable("REDIS_HOST", "the host of Redis", "127.0.0.1");
            plan.variable("REDIS_PORT", "the port of Redis", "6379");
            if password.is_none() {
                plan.variable("REDIS_PASSWORD", "the password of Redis; take it out of redis.url if it has none", "x");
                password = Some("${REDIS_PASSWORD}".to_owned());
            }
            ("${REDIS_HOST}".to_owned(), port.or_else(|| Some("${REDIS_PORT}".to_owned())))
        }
    };
    let mut url = format!("redis{}://", if secure { "s" } else { "" });
    if user.is_some() || password.is_some() {
        url += &format!("{}:{}@", user.unwrap_or_default(), password.unwrap_or_default());
    }
    url += &host;
    if let Some(port) = port {
        url += &format!(":{port}");
    }
    if let Some(database) = database.filter(|number| *number >= 1.0) {
        url += &format!("/{database}");
    }
    plan.redis = Some(url);
}
