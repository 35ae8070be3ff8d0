//! The rows of what is told of requests and of the process: `[admin]`, `[metrics]`, `[traces]` and `[log]`.

use strum::VariantNames;

use super::Absent::{Default, Optional};
use super::Table::{Admin, Log, Metrics, Traces};
use super::{Key, Kind, NAME, SECOND};
use crate::config::snapshot::{Level, LogFormat, TraceProtocol};

#[rustfmt::skip]
pub(super) const ROWS: &[Key] = &[
    // ---- [admin]
    Key { table: Admin, name: "listen", kind: Kind::ListenOrOff, absent: Default(r#""127.0.0.1:9901""#),
        doc: "Address of the admin listener: one IP address and port, unix:/path for a socket that only this user can \
              open, or \"off\". It serves /metrics, /livez, /readyz, /v1/status, /v1/config, /v1/purge and /v1/drain. If this key \
              is absent and the port is taken, Ringway warns and runs without an admin listener.",
        example: r#""unix:/run/ringway/admin.sock""# },
    Key { table: Admin, name: "token", kind: Kind::Secret, absent: Optional,
        doc: "Bearer token that every path there except /livez, /readyz and /healthz requires. Required unless the \
              address is loopback or a Unix socket.",
        example: r#""${ADMIN_TOKEN}""# },

    // ---- [metrics]
    Key { table: Metrics, name: "genai", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether a scrape also has the OpenTelemetry metrics (gen_ai.client.inference.*, gen_ai.server.*, in \
              Prometheus spelling) besides Ringway's own.",
        example: "true" },
    Key { table: Metrics, name: "genai_old_names", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether a scrape also has the names that these metrics had before 2026, gen_ai.client.operation.duration and \
              gen_ai.client.token.usage, for dashboards that expect them.",
        example: "true" },

    // ---- [traces]
    Key { table: Traces, name: "endpoint", kind: Kind::Url, absent: Optional,
        doc: "Where spans are sent by OTLP: http://host:port, https://host:port, or unix:/path. With protocol \"http\", the path \
              /v1/traces is appended unless the address ends in it. Without it there are no spans, and the trace context of \
              clients is passed on as it came.",
        example: r#""https://collector.example:4318""# },
    Key { table: Traces, name: "protocol", kind: Kind::Choice(TraceProtocol::VARIANTS), absent: Default(r#""http""#),
        doc: "How: \"http\" (OTLP/HTTP with Protocol Buffers, port 4318 of a collector) or \"grpc\" (port 4317).",
        example: r#""grpc""# },
    Key { table: Traces, name: "sample_ratio", kind: Kind::Ratio, absent: Default("0.01"),
        doc: "The part of the traces that are begun here which is recorded, from 0 to 1, decided by the trace id. A request that \
              belongs to a trace follows its caller's decision; see trust_parent.",
        example: "0.1" },
    Key { table: Traces, name: "trust_parent", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether the sampled flag of a client's traceparent decides, recorded or not. With false the trace is continued all \
              the same, and sample_ratio decides: for gateways whose clients are strangers.",
        example: "false" },
    Key { table: Traces, name: "headers", kind: Kind::Secret, absent: Optional,
        doc: "Header fields of the requests to the receiver, as OpenTelemetry spells them: name=value, separated by commas, \
              values percent-encoded where they have a comma or a space.",
        example: r#""authorization=${OTLP_TOKEN}""# },
    Key { table: Traces, name: "timeout", kind: Kind::Duration { least_ms: 1, most_ms: 60 * SECOND }, absent: Default(r#""10s""#),
        doc: "Longest time to deliver one batch. Spans that wait meanwhile are bounded in number; beyond it they are dropped and \
              counted.",
        example: r#""3s""# },
    Key { table: Traces, name: "tls_ca", kind: Kind::File, absent: Optional,
        doc: "PEM file of the only certificate authorities trusted for an https:// endpoint; without it, the system's.",
        example: r#""/etc/ringway/otlp-ca.pem""# },
    Key { table: Traces, name: "service_name", kind: NAME, absent: Default(r#""ringway""#),
        doc: "The service.name that all spans carry.",
        example: r#""llm-gateway""# },

    // ---- [log]
    Key { table: Log, name: "access", kind: Kind::AccessLog, absent: Default(r#""off""#),
        doc: "One JSON line per request: \"stdout\", or the absolute path of a file to append to; SIGUSR1 reopens it. \
              Off by default: at thousands of requests per second the log fills a disk or floods the journal, and its \
              lines show who sent what and when. Lines that the disk or the reader does not accept in time are \
              dropped, and the number of dropped lines is reported.",
        example: r#""/var/log/ringway/access.log""# },
    Key { table: Log, name: "level", kind: Kind::Choice(Level::VARIANTS), absent: Default(r#""info""#),
        doc: "Least severe level of messages about the process itself that are written to standard error.",
        example: r#""warn""# },
    Key { table: Log, name: "format", kind: Kind::Choice(LogFormat::VARIANTS), absent: Default(r#""text""#),
        doc: "Format of those messages: a line of text, or a line of JSON, for programs.",
        example: r#""json""# },
];
