//! Keys and tables of other programs, and of what this one does not do: what was meant by each, so that it is not only
//! called unknown. Owns nothing; every row that names a key of ours is checked by a test.

use super::keys::Table;

/// What somebody who writes a foreign key is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meant {
    /// Ours, as `table.key`.
    Key(&'static str),
    /// There is nothing of the kind; what there is instead.
    Nothing(&'static str),
}

/// One row: these words, in this table or (`None`) at the top of the file.
struct Foreign {
    table: Option<Table>,
    words: &'static [&'static str],
    meant: Meant,
}

use Meant::{Key, Nothing};

const TLS: Meant = Key("listener.tls_cert");
const LIMITS: Meant = Nothing(
    "limits are those of a [[tenant]]: requests_per_minute, tokens_per_minute, concurrent_requests, budget; model_limits there are at single models",
);

const fn row(table: Table, words: &'static [&'static str], meant: Meant) -> Foreign {
    Foreign { table: Some(table), words, meant }
}

const fn top(words: &'static [&'static str], meant: Meant) -> Foreign {
    Foreign { table: None, words, meant }
}

#[rustfmt::skip]
static FOREIGN: &[Foreign] = &[
    row(Table::Server, &["tls_cert", "tls_key", "tls_client_ca", "ssl_certificate", "ssl_cert", "certificate", "cert", "tls"], TLS),
    row(Table::Server, &["port", "host", "bind", "address", "addr", "bind_address"], Key("server.listen")),
    row(Table::Server, &["client_max_body_size", "max_body_size", "max_request_size", "body_limit"], Key("server.body_max")),
    row(Table::Server, &["keepalive_timeout", "keep_alive", "idle_timeout"], Key("server.timeout_idle")),
    row(Table::Server, &["shutdown_timeout", "grace_period", "drain_timeout"], Key("server.timeout_drain")),
    row(Table::Server, &["access_log", "log_file"], Key("log.access")),
    row(Table::Server, &["log_level"], Key("log.level")),
    row(Table::Server, &["workers", "threads", "worker_processes"], Key("cores.data")),
    row(Table::Server, &["master_key", "api_key", "api_keys"], Key("tenant.keys")),
    row(Table::Log, &["file", "path", "access_log"], Key("log.access")),
    row(Table::Cache, &["size", "max_memory", "maxmemory", "max_size"], Key("cache.memory")),
    row(Table::Cache, &["expire", "max_age"], Key("cache.ttl")),
    row(Table::Cache, &["redis", "url"], Key("redis.url")),
    row(Table::Backend, &["base_url", "api_base", "endpoint", "address", "host", "server", "uri"], Key("backend.url")),
    row(Table::Backend, &["key", "token", "secret", "bearer", "password"], Key("backend.api_key")),
    row(Table::Backend, &["timeout", "request_timeout", "read_timeout", "timeout_total"], Key("backend.timeout_request")),
    row(Table::Backend, &["connect_timeout"], Key("backend.timeout_connect")),
    row(Table::Backend, &["timeout_gap", "stream_timeout"], Key("backend.timeout_stream_idle")),
    row(Table::Backend, &["max_connections", "pool_size"], Key("backend.connections_max")),
    row(Table::Backend, &["health_check", "healthcheck"], Key("backend.health_path")),
    row(Table::Backend, &["tls_name", "sni"], Key("backend.tls_server_name")),
    row(Table::Backend, &["max_concurrent_requests", "max_parallel_requests"], Key("model.max_concurrent_requests")),
    row(Table::Backend, &["tls_verify", "verify", "insecure", "skip_verify", "insecure_skip_verify"],
        Nothing("a certificate is always checked; name its authority in tls_ca, and its name in tls_server_name")),
    row(Table::Backend, &["rpm", "tpm", "rate_limit", "requests_per_minute", "tokens_per_minute"], LIMITS),
    row(Table::Backend, &["dialect", "type", "provider", "kind"], Key("backend.api")),
    row(Table::Backend, &["extra_headers", "header"], Key("backend.headers")),
    row(Table::Backend, &["extra_body", "params"], Key("backend.body")),
    row(Table::Model, &["model_name", "id", "alias"], Key("model.name")),
    row(Table::Model, &["backend", "upstreams", "servers", "targets", "deployments"], Key("model.backends")),
    row(Table::Model, &["fallbacks"], Key("model.fallback")),
    row(Table::Model, &["strategy", "lb", "routing", "routing_strategy", "load_balancing"], Key("model.balance")),
    row(Table::Model, &["in_flight_max", "max_parallel_requests", "concurrency"], Key("model.max_concurrent_requests")),
    row(Table::Model, &["queue_max", "queue_size"], Key("model.max_pending_requests")),
    row(Table::Model, &["num_retries", "max_retries"], Key("model.retries")),
    row(Table::Model, &["caching", "cache_mode", "cache_policy"], Key("model.cache")),
    row(Table::Model, &["ttl"], Key("model.cache_ttl")),
    row(Table::Model, &["rpm", "tpm", "rate_limit", "requests_per_minute", "tokens_per_minute"], LIMITS),
    row(Table::Model, &["input_cost_per_token", "price_prompt", "price_in", "input_price"], Key("model.price_input")),
    row(Table::Model, &["cache_read_input_token_cost", "price_cached", "price_cache_read", "cached_input_price"], Key("model.price_cached_input")),
    row(Table::Model, &["cache_creation_input_token_cost", "price_cache_creation"], Key("model.price_cache_write")),
    row(Table::Model, &["output_cost_per_token", "price_completion", "price_out", "output_price"], Key("model.price_output")),
    row(Table::Template, &["id", "prompt_id"], Key("template.name")),
    row(Table::Template, &["content", "prompt", "template", "text"], Key("template.user")),
    row(Table::Template, &["instructions", "developer"], Key("template.system")),
    row(Table::Template, &["variables"], Nothing("variables are those that the texts use; defaults has values of those that may be left out")),
    row(Table::Tenant, &["key", "api_key", "token", "hash"], Key("tenant.keys")),
    row(Table::Tenant, &["model", "allowed_models"], Key("tenant.models")),
    row(Table::Tenant, &["rpm", "rpm_limit", "rate_limit"], Key("tenant.requests_per_minute")),
    row(Table::Tenant, &["tpm", "tpm_limit"], Key("tenant.tokens_per_minute")),
    row(Table::Tenant, &["rpd"], Key("tenant.requests_per_day")),
    row(Table::Tenant, &["tpd"], Key("tenant.tokens_per_day")),
    row(Table::Tenant, &["max_budget", "budgets", "budget_duration"], Key("tenant.budget")),
    row(Table::Tenant, &["max_parallel_requests", "max_concurrent_requests", "concurrency"], Key("tenant.concurrent_requests")),
    row(Table::Credential, &["rpm", "rpm_limit", "rate_limit"], Key("tenant.keys.requests_per_minute")),
    row(Table::Credential, &["tpm", "tpm_limit"], Key("tenant.keys.tokens_per_minute")),
    row(Table::Credential, &["max_budget", "budgets", "budget_duration"], Key("tenant.keys.budget")),
    row(Table::Cors, &["allow_origins", "allowed_origins", "origin", "allow_origin"], Key("cors.origins")),
    top(&["listen", "port", "host", "bind"], Key("server.listen")),
    top(&["access_log"], Key("log.access")),
    top(&["logging", "logs"], Key("log.access")),
    top(&["upstream", "upstreams", "provider", "providers", "endpoint", "endpoints"], Key("backend.name")),
    top(&["route", "routes", "model_list", "deployment"], Key("model.name")),
    top(&["prompt", "prompts", "prompt_template", "prompt_templates", "templates"], Key("template.name")),
    top(&["user", "users", "team", "teams", "key", "keys", "client", "clients"], Key("tenant.name")),
    top(&["worker", "workers", "threads"], Key("cores.data")),
    top(&["tls", "ssl", "https"], TLS),
    top(&["rate_limit", "rate_limits", "budget"], LIMITS),
    top(&["prometheus"], Key("admin.listen")),
    top(&["tracing", "otel", "opentelemetry", "otlp"], Key("traces.endpoint")),
];

/// What `name` stands for, written in `table`, or at the top of the file.
pub fn meant(table: Option<Table>, name: &str) -> Option<Meant> {
    FOREIGN.iter().find(|row| row.table == table && row.words.contains(&name)).map(|row| row.meant)
}

impl Meant {
    /// As a remedy.
    pub fn remedy(self) -> String {
        match self {
            Key(key) => format!("it is {key} here"),
            Nothing(what) => what.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KEYS;

    #[test]
    fn what_is_called_ours_is_and_what_is_called_foreign_is_not() {
        let ours = |path: &str| KEYS.iter().any(|key| format!("{}.{}", key.table.name(), key.name) == path);
        for row in FOREIGN {
            if let Key(path) = row.meant {
                assert!(ours(path), "{path}");
            }
            for word in row.words {
                match row.table {
                    Some(table) => assert!(table.key(word).is_none(), "{}.{word} is a key", table.name()),
                    None => assert!(Table::ALL.iter().all(|table| table.name() != *word), "{word} is a table"),
                }
                let same =
                    FOREIGN.iter().filter(|other| other.table == row.table && other.words.contains(word)).count();
                assert_eq!(same, 1, "{word}");
            }
        }
    }
}
