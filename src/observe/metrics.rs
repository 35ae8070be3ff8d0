//! Every metric, one row each: name, kind, labels and help. Scrapes and the reference docs/metrics.md are generated
//! from these rows; `scrape/encode.rs` computes each one's values, in a match without wildcard.

use crate::config::snapshot::GenAi;

/// The source of a row's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    Requests,
    RequestDuration,
    Overhead,
    FirstToken,
    InterToken,
    Tokens,
    Cost,
    Templates,
    Failures,
    InFlight,
    ClientConnections,
    TlsHandshakes,
    ProxyErrors,
    ConnectionsMoved,
    ConnectionsRefused,
    WebSockets,
    WebSocketBytes,
    CacheRequests,
    CacheBytes,
    CacheBudget,
    CacheEntries,
    CachePurged,
    Snapshots,
    SnapshotTime,
    SnapshotEntries,
    SnapshotBytes,
    CacheRestored,
    SecondLookups,
    SecondWrites,
    SecondDisconnects,
    LimitsStoreUp,
    Coalesced,
    UpstreamCalls,
    DrainedCalls,
    Combined,
    BackendRequests,
    BackendAttempts,
    BackendInFlight,
    BackendConnections,
    BackendConcurrency,
    BackendConnect,
    BackendState,
    BackendTransitions,
    QueueDepth,
    QueueRejections,
    Retries,
    Fallbacks,
    Hedges,
    HedgeWins,
    CoreBusy,
    CoreCpu,
    CoreMessages,
    MessagesDropped,
    LogDropped,
    LogDroppedBytes,
    SpansSent,
    SpansDropped,
    ConfigGeneration,
    ConfigReload,
    ConfigReloads,
    ConfigSourceUp,
    ConfigSourceWatched,
    ConfigSourceErrors,
    ConfigKeptCopy,
    BuildInfo,
    ProcessCpu,
    ProcessResident,
    ProcessVirtual,
    ProcessDescriptors,
    ProcessDescriptorsMax,
    ProcessThreads,
    ProcessStart,
    GenAiServerDuration,
    GenAiServerFirstToken,
    GenAiServerTokenTime,
    GenAiClientDuration,
    GenAiClientFirstChunk,
    GenAiClientInputTokens,
    GenAiClientOutputTokens,
    OldGenAiDuration,
    OldGenAiTokens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn label(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub id: Id,
    /// As in PromQL; a counter ends in `_total`.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

use Kind::{Counter, Gauge, Histogram};

const OPERATION: &[&str] = &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"];
const OLD_OPERATION: &[&str] = &["gen_ai_operation_name", "gen_ai_system", "gen_ai_request_model"];
const OLD_USAGE: &[&str] = &["gen_ai_operation_name", "gen_ai_system", "gen_ai_request_model", "gen_ai_token_type"];
const USAGE: &[&str] =
    &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_modality"];

#[rustfmt::skip]
pub static METRICS: &[Metric] = &[
    Metric { id: Id::Requests, name: "ringway_requests_total", kind: Counter,
        labels: &["endpoint", "model", "tenant", "status"],
        help: "Requests that have ended, by the status the client saw (none: the client left before an answer started)." },
    Metric { id: Id::RequestDuration, name: "ringway_request_duration_seconds", kind: Histogram, labels: &["endpoint"],
        help: "From a request's head to the end of its answer." },
    Metric { id: Id::Overhead, name: "ringway_overhead_seconds", kind: Histogram, labels: &["result"],
        help: "The gateway's own time to the first byte of a successful answer: the whole time for hits; for misses, without \
               waits for queues, connections and backends." },
    Metric { id: Id::FirstToken, name: "ringway_time_to_first_token_seconds", kind: Histogram, labels: &["model"],
        help: "From a request's head to the first byte of a streamed answer that did not come from the cache." },
    Metric { id: Id::InterToken, name: "ringway_inter_token_seconds", kind: Histogram, labels: &[],
        help: "Between two tokens of a stream from a backend, averaged over the stream." },
    Metric { id: Id::Tokens, name: "ringway_tokens_total", kind: Counter, labels: &["model", "tenant", "kind"],
        help: "Tokens of answers. Kinds prompt and completion: spent at backends; cached_prompt and reasoning are parts of \
               these, where backends report them; estimated is the part of both that no backend reported, because the answer broke off \
               or said nothing of it. Kinds prompt_saved and \
               completion_saved: answered from the cache or another request's upstream call." },
    Metric { id: Id::Cost, name: "ringway_cost_total", kind: Counter, labels: &["model", "tenant", "kind"],
        help: "Money for answers, by the prices in the configuration. Kind spent: for upstream calls, at the price of the \
               model that answered. Kind estimated: the part of it that follows from estimated tokens. Kind saved: what answers from the cache or another request's upstream call would have cost." },
    Metric { id: Id::Templates, name: "ringway_prompt_template_requests_total", kind: Counter, labels: &["template", "version"],
        help: "Requests that were rendered from a prompt template of the configuration." },
    Metric { id: Id::Failures, name: "ringway_failures_total", kind: Counter, labels: &[],
        help: "Requests that ended in an error, whoever is to blame; includes clients that left." },
    Metric { id: Id::InFlight, name: "ringway_requests_in_flight", kind: Gauge, labels: &[],
        help: "Requests in progress." },
    Metric { id: Id::ClientConnections, name: "ringway_client_connections", kind: Gauge, labels: &[],
        help: "Open client connections." },
    Metric { id: Id::ProxyErrors, name: "ringway_proxy_header_errors_total", kind: Counter, labels: &[],
        help: "Connections closed because they did not begin with a PROXY header (listener.proxy_protocol)." },
    Metric { id: Id::ConnectionsMoved, name: "ringway_client_connections_moved_total", kind: Counter, labels: &[],
        help: "Connections of clients that went from a busy core to one with less to do (cores.rebalance)." },
    Metric { id: Id::ConnectionsRefused, name: "ringway_client_connections_refused_total", kind: Counter, labels: &["limit"],
        help: "Connections of clients that were closed at once: the node has too many (server.max_connections), or the client \
               (server.max_connections_per_client)." },
    Metric { id: Id::WebSockets, name: "ringway_websockets", kind: Gauge, labels: &[],
        help: "Open WebSockets between clients and backends." },
    Metric { id: Id::WebSocketBytes, name: "ringway_websocket_bytes_total", kind: Counter, labels: &["from"],
        help: "Bytes relayed on WebSockets, from client or backend." },
    Metric { id: Id::TlsHandshakes, name: "ringway_tls_handshakes_total", kind: Counter, labels: &["result"],
        help: "TLS handshakes with clients: full, resumed, or by why they failed." },

    Metric { id: Id::CacheRequests, name: "ringway_cache_requests_total", kind: Counter, labels: &["result"],
        help: "Cache result of requests: hit, miss, joined (another request's upstream call), stale (served because \
               every backend failed), bypass (not looked up)." },
    Metric { id: Id::CacheBytes, name: "ringway_cache_bytes", kind: Gauge, labels: &[],
        help: "Memory used by stored answers." },
    Metric { id: Id::CacheBudget, name: "ringway_cache_budget_bytes", kind: Gauge, labels: &[],
        help: "Memory that stored answers may take (cache.memory)." },
    Metric { id: Id::CacheEntries, name: "ringway_cache_entries", kind: Gauge, labels: &[],
        help: "Stored answers." },
    Metric { id: Id::CachePurged, name: "ringway_cache_purged_entries_total", kind: Counter, labels: &[],
        help: "Stored answers removed by purges." },
    Metric { id: Id::Snapshots, name: "ringway_cache_snapshots_total", kind: Counter, labels: &["result"],
        help: "Snapshots of the cache: written, or failed." },
    Metric { id: Id::SnapshotTime, name: "ringway_cache_snapshot_timestamp_seconds", kind: Gauge, labels: &[],
        help: "When the last snapshot was begun that was written, in seconds since 1970; 0 before the first one." },
    Metric { id: Id::SnapshotEntries, name: "ringway_cache_snapshot_entries", kind: Gauge, labels: &[],
        help: "Answers in it." },
    Metric { id: Id::SnapshotBytes, name: "ringway_cache_snapshot_bytes", kind: Gauge, labels: &[],
        help: "Size of its file." },
    Metric { id: Id::CacheRestored, name: "ringway_cache_restored_total", kind: Counter, labels: &["result"],
        help: "What became of the snapshot of the process before. Answers: restored, expired, purged, newer (there was one \
               already), no_room, unusable; and damaged_block, refused_file." },
    Metric { id: Id::SecondLookups, name: "ringway_cache_redis_lookups_total", kind: Counter, labels: &["result"],
        help: "Look-ups in the second level of the cache: hit, miss, damaged (a value that is not understood), timeout, error, \
               skipped (no connection, look-ups had failed before, or Redis lacks purges)." },
    Metric { id: Id::SecondWrites, name: "ringway_cache_redis_writes_total", kind: Counter, labels: &["result"],
        help: "Answers for the second level of the cache: sent, or dropped because there was no connection or no room." },
    Metric { id: Id::SecondDisconnects, name: "ringway_cache_redis_disconnects_total", kind: Counter, labels: &[],
        help: "Connections to Redis that ended or could not be made." },
    Metric { id: Id::LimitsStoreUp, name: "ringway_limits_store_up", kind: Gauge, labels: &["store"],
        help: "Whether limits are shared with other nodes. 0 while Redis is down, silent, or refuses the commands that this takes: \
               meanwhile this node grants its share of each limit. Only with [redis] and limits.shared." },
    Metric { id: Id::Coalesced, name: "ringway_coalesced_requests_total", kind: Counter, labels: &[],
        help: "Requests answered by the upstream call of an identical one." },

    Metric { id: Id::UpstreamCalls, name: "ringway_upstream_calls_total", kind: Counter, labels: &[],
        help: "Upstream calls started. Each has one or more attempts." },
    Metric { id: Id::DrainedCalls, name: "ringway_upstream_calls_drained_total", kind: Counter, labels: &["result"],
        help: "Upstream calls that went on after their last client had gone (`on_client_disconnect = \"drain\"`), by how that ended: \
               finished, failed, joined (by an identical request), cut (by a bound or the end of the process); or refused: too many of them." },
    Metric { id: Id::Combined, name: "ringway_combined_requests_total", kind: Counter, labels: &[],
        help: "Requests for embeddings or completions that went upstream together with others (`batch_window`). One call has two or more of them." },
    Metric { id: Id::BackendRequests, name: "ringway_backend_requests_total", kind: Counter, labels: &["backend", "result"],
        help: "Attempts at a backend that reached their first content or failed before it, by result." },
    Metric { id: Id::BackendAttempts, name: "ringway_backend_attempts_total", kind: Counter, labels: &["backend"],
        help: "Attempts at a backend that were started, retries and hedges included." },
    Metric { id: Id::BackendInFlight, name: "ringway_backend_requests_in_flight", kind: Gauge, labels: &["backend"],
        help: "Requests in flight to a backend." },
    Metric { id: Id::BackendConnections, name: "ringway_backend_connections", kind: Gauge, labels: &["backend", "state"],
        help: "Open connections to a backend: idle and busy ones of HTTP/1.1, and all of HTTP/2 (http2)." },
    Metric { id: Id::BackendConcurrency, name: "ringway_backend_concurrency_limit", kind: Gauge, labels: &["backend"],
        help: "How many requests a backend with adaptive_concurrency gets at a time." },
    Metric { id: Id::BackendConnect, name: "ringway_backend_connect_seconds", kind: Histogram, labels: &["backend"],
        help: "From the start of a dial to a usable connection, TLS included." },
    Metric { id: Id::BackendState, name: "ringway_backend_state", kind: Gauge, labels: &["backend"],
        help: "The worst over all cores: 0 serving, 1 probing, 2 tripped." },
    Metric { id: Id::BackendTransitions, name: "ringway_backend_transitions_total", kind: Counter,
        labels: &["backend", "state", "reason"],
        help: "How often a backend came out of service (tripped: errors_in_row, error_ratio, probe_failed, check_failed) or back into \
               it (serving: probes_passed, check_passed), by the reason that the log and the status have: once for the core \
               whose requests showed it, and once for a check." },
    Metric { id: Id::QueueDepth, name: "ringway_queue_depth", kind: Gauge, labels: &["model"],
        help: "Requests queued for a model." },
    Metric { id: Id::QueueRejections, name: "ringway_queue_rejections_total", kind: Counter, labels: &["reason"],
        help: "Requests rejected by the queue: it was full, the wait was too long (timeout), would have \
               been longer than the time-out of the request (deadline), or was (expired)." },
    Metric { id: Id::Retries, name: "ringway_retries_total", kind: Counter, labels: &[],
        help: "Attempts after the first one at a model." },
    Metric { id: Id::Fallbacks, name: "ringway_fallbacks_total", kind: Counter, labels: &[],
        help: "Requests passed on to a fallback model." },
    Metric { id: Id::Hedges, name: "ringway_hedges_total", kind: Counter, labels: &[],
        help: "Hedged attempts, started while a slow one was running." },
    Metric { id: Id::HedgeWins, name: "ringway_hedge_wins_total", kind: Counter, labels: &[],
        help: "Hedged attempts whose first content arrived first." },

    Metric { id: Id::CoreBusy, name: "ringway_core_busy_ratio", kind: Gauge, labels: &["core"],
        help: "Recent CPU utilization of a data core's thread." },
    Metric { id: Id::CoreCpu, name: "ringway_core_cpu_seconds_total", kind: Counter, labels: &["core"],
        help: "CPU time of a data core's thread." },
    Metric { id: Id::CoreMessages, name: "ringway_core_messages_total", kind: Counter, labels: &["core"],
        help: "Messages that a data core received from other cores." },
    Metric { id: Id::MessagesDropped, name: "ringway_messages_dropped_total", kind: Counter, labels: &[],
        help: "Messages dropped because the receiving core was stalled." },
    Metric { id: Id::LogDropped, name: "ringway_log_dropped_lines_total", kind: Counter, labels: &[],
        help: "Access log lines that were not written: the disk was full, or the disk or the reader too slow." },
    Metric { id: Id::LogDroppedBytes, name: "ringway_log_dropped_bytes_total", kind: Counter, labels: &[],
        help: "Bytes of these lines." },
    Metric { id: Id::SpansSent, name: "ringway_spans_sent_total", kind: Counter, labels: &[],
        help: "Spans that the receiver of traces took." },
    Metric { id: Id::SpansDropped, name: "ringway_spans_dropped_total", kind: Counter, labels: &["reason"],
        help: "Spans that were not delivered. Reason full: more waited than there is room for; failed: the receiver could not be \
               reached, was too slow, or refused them; rejected: it took the rest of their batch." },
    Metric { id: Id::ConfigGeneration, name: "ringway_config_generation", kind: Gauge, labels: &[],
        help: "Number of the configuration in force, counted from 1 at the start." },
    Metric { id: Id::ConfigReload, name: "ringway_config_last_reload_success", kind: Gauge, labels: &[],
        help: "Whether the configuration that was read last is in force." },
    Metric { id: Id::ConfigReloads, name: "ringway_config_reloads_total", kind: Counter, labels: &["result"],
        help: "How often the configuration was read again, by result, as in the log, the status and the answer of /v1/reload: in_force, \
               unchanged, refused, unavailable." },
    Metric { id: Id::ConfigSourceUp, name: "ringway_config_source_up", kind: Gauge, labels: &["source"],
        help: "Whether the store that the configuration is in could be used when it was last asked; not with a file." },
    Metric { id: Id::ConfigSourceWatched, name: "ringway_config_source_watched", kind: Gauge, labels: &["source"],
        help: "Whether changes in that store are watched." },
    Metric { id: Id::ConfigSourceErrors, name: "ringway_config_source_errors_total", kind: Counter, labels: &["source"],
        help: "How often that store could not be read or watched, or what it had could not be used." },
    Metric { id: Id::ConfigKeptCopy, name: "ringway_config_kept_copy", kind: Gauge, labels: &["source"],
        help: "Whether the configuration in force is the copy kept in the state directory, since that store could not be used." },
    Metric { id: Id::BuildInfo, name: "ringway_build_info", kind: Gauge, labels: &["version"],
        help: "Always 1." },

    Metric { id: Id::ProcessCpu, name: "process_cpu_seconds_total", kind: Counter, labels: &[],
        help: "CPU time of the process." },
    Metric { id: Id::ProcessResident, name: "process_resident_memory_bytes", kind: Gauge, labels: &[],
        help: "Resident memory." },
    Metric { id: Id::ProcessVirtual, name: "process_virtual_memory_bytes", kind: Gauge, labels: &[],
        help: "Virtual memory." },
    Metric { id: Id::ProcessDescriptors, name: "process_open_fds", kind: Gauge, labels: &[],
        help: "Open descriptors." },
    Metric { id: Id::ProcessDescriptorsMax, name: "process_max_fds", kind: Gauge, labels: &[],
        help: "Maximum number of descriptors." },
    Metric { id: Id::ProcessThreads, name: "process_threads", kind: Gauge, labels: &[],
        help: "Threads of the process." },
    Metric { id: Id::ProcessStart, name: "process_start_time_seconds", kind: Gauge, labels: &[],
        help: "Start time of the process since 1970-01-01 UTC." },

    Metric { id: Id::GenAiServerDuration, name: "gen_ai_server_request_duration_seconds", kind: Histogram,
        labels: OPERATION,
        help: "From a request's head to the end of its answer (gen_ai.server.request.duration)." },
    Metric { id: Id::GenAiServerFirstToken, name: "gen_ai_server_time_to_first_token_seconds", kind: Histogram,
        labels: OPERATION,
        help: "As ringway_time_to_first_token_seconds (gen_ai.server.time_to_first_token)." },
    Metric { id: Id::GenAiServerTokenTime, name: "gen_ai_server_time_per_output_token_seconds", kind: Histogram,
        labels: OPERATION,
        help: "As ringway_inter_token_seconds (gen_ai.server.time_per_output_token)." },
    Metric { id: Id::GenAiClientDuration, name: "gen_ai_client_inference_duration_seconds", kind: Histogram,
        labels: OPERATION,
        help: "Upstream calls, all attempts included (gen_ai.client.inference.duration)." },
    Metric { id: Id::GenAiClientFirstChunk, name: "gen_ai_client_inference_time_to_first_chunk_seconds", kind: Histogram,
        labels: OPERATION,
        help: "From the start of an upstream call to its stream's first content \
               (gen_ai.client.inference.time_to_first_chunk)." },
    Metric { id: Id::GenAiClientInputTokens, name: "gen_ai_client_inference_usage_input_tokens_total", kind: Counter,
        labels: USAGE,
        help: "Prompt tokens spent at backends (gen_ai.client.inference.usage.input_tokens)." },
    Metric { id: Id::GenAiClientOutputTokens, name: "gen_ai_client_inference_usage_output_tokens_total", kind: Counter,
        labels: USAGE,
        help: "Completion tokens spent at backends (gen_ai.client.inference.usage.output_tokens)." },
    Metric { id: Id::OldGenAiDuration, name: "gen_ai_client_operation_duration_seconds", kind: Histogram,
        labels: OLD_OPERATION,
        help: "Upstream calls, all attempts included, as named before 2026 (gen_ai.client.operation.duration)." },
    Metric { id: Id::OldGenAiTokens, name: "gen_ai_client_token_usage", kind: Histogram,
        labels: OLD_USAGE,
        help: "Tokens spent at backends, as sum and count alone: its one bucket has all requests (gen_ai.client.token.usage)." },
];

impl Metric {
    /// Whether it is included with `genai`.
    pub fn is_shown(&self, genai: GenAi) -> bool {
        match self.id {
            Id::OldGenAiDuration | Id::OldGenAiTokens => matches!(genai, GenAi::Old | GenAi::Both),
            _ if self.name.starts_with("gen_ai_") => matches!(genai, GenAi::Current | GenAi::Both),
            _ => true,
        }
    }
}

/// docs/metrics.md.
pub fn reference() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         Generated from `src/observe/metrics.rs`; `UPDATE=1 cargo test --lib observe::metrics` writes it.\n\n\
         `GET /metrics` on the admin listener returns all metrics as Prometheus text, or as OpenMetrics text if `Accept` requests it. Numbers are sums over all data cores. Labels hold configured names only: a model or tenant that is not \
         configured counts as `other`, a request without a tenant as `none`. Requests, tokens and attempts that have not occurred have no series. Gauges of backends, caches and queues are up to a second old.\n\n\
         The names that begin with `gen_ai_` are OpenTelemetry's, as Prometheus writes them; `[metrics] genai = true` enables them, and `genai_old_names = true` the two that they had before 2026: `gen_ai_client_operation_duration_seconds` and `gen_ai_client_token_usage`.\n\n\
         | Name | Kind | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = metric.kind.label();
        out.push_str(&format!("| `{}` | {kind} | {} | {} |\n", metric.name, labels.join(", "), metric.help));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_current() {
        crate::golden::check("docs/metrics.md", reference());
    }

    #[test]
    fn names_follow_the_conventions_and_stand_once() {
        for (place, metric) in METRICS.iter().enumerate() {
            let Metric { name, kind, labels, .. } = metric;
            assert!(!METRICS[..place].iter().any(|other| other.name == *name || other.id == metric.id), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            let is_name = |text: &str| text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
            assert!(is_name(name) && labels.iter().all(|label| is_name(label)), "{name}");
            assert!(["ringway_", "process_", "gen_ai_"].iter().any(|prefix| name.starts_with(prefix)), "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\', '|']), "{name}");
        }
    }
}
