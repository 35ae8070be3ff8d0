//! Every configuration key, one row each: the only place that knows its name, type, default and documentation.
//! The check for unknown keys, the annotated sample and the printed reference all come from these rows; a row that
//! `snapshot/read.rs` does not use, or a use without a row, fails every load. Nothing here reads a file.

use strum::VariantNames;

use super::snapshot::{BalanceWord, CredentialField, Level, LogFormat, Protocol, Scope};
use crate::limits;

/// A table of the file, in the order of the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Server,
    Log,
    Admin,
    Metrics,
    Cores,
    Cache,
    Backend,
    Model,
    /// An inline table inside `backends` of a model.
    Target,
    Tenant,
}

/// How often a table may stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[name]`, at most once; all its keys have defaults.
    Single,
    /// `[[name]]`, any number.
    Repeated,
    /// Only inside a value of another table.
    Nested,
}

/// What a key's value may be, with its bounds. The unit follows from the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A non-empty array of `host:port` or `unix:/path`.
    Listen,
    /// As one of these, or `off`.
    ListenOrOff,
    /// Bytes: an integer, or text such as `"4GiB"`.
    Size { least: u64, most: u64 },
    /// Milliseconds, written as text such as `"300s"`.
    Duration { least_ms: u64, most_ms: u64 },
    /// As `Duration`, or `"0s"`, which switches off what the key is about.
    DurationOrZero { least_ms: u64, most_ms: u64 },
    /// An integer.
    Count { least: u64, most: u64 },
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// 1 to so many bytes of text without control characters, quotes and backslashes.
    Name { most_bytes: usize },
    /// As `Name`, or empty.
    Label { most_bytes: usize },
    /// `"auto"`, a count, or a CPU list.
    Cores,
    /// `"off"`, `"stdout"` or an absolute path.
    AccessLog,
    /// `http://host:port[/base]` or `unix:/path`.
    Url,
    /// Text that is never shown; may be kept outside the file.
    Secret,
    /// A non-empty array of `sha256:` and 64 hexadecimal digits.
    Digests,
    /// A non-empty array of names of 1 to so many bytes.
    Names { most_bytes: usize },
    /// The absolute path of a file that can be read.
    File,
    /// A name or an IP address that a certificate can be for.
    Host,
    /// The path of a request, from its first slash, perhaps with a query.
    RequestPath,
    /// The name of a header field; kept in lower case.
    FieldName,
    /// A non-empty array of backend names or tables with the keys of `Table::Target`.
    Targets,
}

/// What holds when the key is not in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// An error.
    Required,
    /// Nothing; the documentation says what that means.
    Optional,
    /// This value, spelled as in the file.
    Default(&'static str),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub table: Table,
    pub name: &'static str,
    pub kind: Kind,
    pub absent: Absent,
    /// What it does and why the default is what it is; full sentences.
    pub doc: &'static str,
    /// A value as the file spells it, shown where there is no default.
    pub example: &'static str,
}

use Absent::{Default, Optional, Required};
use Table::{Admin, Backend, Cache, Cores, Log, Metrics, Model, Server, Target, Tenant};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Names of backends and tenants become log fields, where long ones hurt.
const NAME: Kind = Kind::Name { most_bytes: 64 };
const MODEL_NAME: Kind = Kind::Name { most_bytes: limits::MODEL_BYTES };
const MODEL_NAMES: Kind = Kind::Names { most_bytes: limits::MODEL_BYTES };

/// A time-out: below 1 ms it would cut everything, above a day it would bound nothing.
const TIMEOUT: Kind = Kind::Duration { least_ms: 1, most_ms: 24 * HOUR };

/// The rows, table by table, in the order of the sample.
#[rustfmt::skip]
pub static KEYS: &[Key] = &[
    // ---- [server]
    Key { table: Server, name: "listen", kind: Kind::Listen, absent: Default(r#"["127.0.0.1:8080"]"#),
        doc: "Addresses to accept connections on: IP address and port, or unix:/path for a Unix socket. \
              0.0.0.0 means every IPv4 address, [::] every IPv6 and IPv4 address; both need at least one [[tenant]]. \
              Port 0 asks the system for a free port.",
        example: r#"["0.0.0.0:8080", "unix:/run/ringway/ringway.sock"]"# },
    Key { table: Server, name: "body_max", kind: Kind::Size { least: KIB, most: GIB }, absent: Default(r#""10MiB""#),
        doc: "Largest request body, counted after decompression; a larger one gets 413.",
        example: r#""32MiB""# },
    Key { table: Server, name: "request_memory", kind: Kind::Size { least: MIB, most: 64 * TIB }, absent: Default(r#""1GiB""#),
        doc: "Memory of this node for the bodies of requests in hand, from their first byte to the end of the answer, over all \
              data cores; at least body_max. Requests beyond it get 503 with Retry-After.",
        example: r#""256MiB""# },
    Key { table: Server, name: "timeout_head", kind: TIMEOUT, absent: Default(r#""10s""#),
        doc: "Time from the first byte of a request's head to its end. Bounds what a slow client can hold.",
        example: r#""5s""# },
    Key { table: Server, name: "timeout_body", kind: TIMEOUT, absent: Default(r#""30s""#),
        doc: "Longest silence while a request body arrives, and what the whole of it may take beyond its bytes at rate_min.",
        example: r#""60s""# },
    Key { table: Server, name: "timeout_write", kind: TIMEOUT, absent: Default(r#""30s""#),
        doc: "A client that takes no byte of its answer for so long is cut; see rate_min, too.",
        example: r#""60s""# },
    Key { table: Server, name: "rate_min", kind: Kind::Size { least: 1, most: GIB }, absent: Default(r#""1KiB""#),
        doc: "Least bytes a second, on average, at which a client sends a request body and takes its answer, beyond the first \
              timeout_body or timeout_write; slower ones are cut. Only time in which something waits to be moved counts: a \
              stream that says nothing is not slow. 1 KiB is below the slowest mobile links.",
        example: "500" },
    Key { table: Server, name: "timeout_idle", kind: TIMEOUT, absent: Default(r#""650s""#),
        doc: "Longest silence between two requests of a connection. Keep it longer than the idle time-out of the load \
              balancer in front: the side that closes first must not be this one, or a request may meet a closing \
              connection. 650 s is above the common 600 s.",
        example: r#""75s""# },
    Key { table: Server, name: "timeout_drain", kind: TIMEOUT, absent: Default(r#""30s""#),
        doc: "How long running requests may take to finish after SIGTERM or SIGINT; what is left then is cut.",
        example: r#""300s""# },
    Key { table: Server, name: "default_model", kind: MODEL_NAME, absent: Optional,
        doc: "The [[model]] whose backends get requests to /v1/* paths that name no model. \
              Without it such requests get 400.",
        example: r#""gpt-4o-mini""# },
    Key { table: Server, name: "passthrough_paths", kind: Kind::Names { most_bytes: 256 }, absent: Optional,
        doc: "Paths outside of /v1/ that the model servers have and that are passed to them, each in full. A request to one \
              needs a key as all others do, and is for the model that its JSON body names, or for default_model.",
        example: r#"["/tokenize", "/detokenize", "/rerank", "/score", "/pooling", "/classify"]"# },
    Key { table: Server, name: "region", kind: NAME, absent: Optional,
        doc: "Where this node stands, in the words of the backends' region. Backends of the same region are asked first.",
        example: r#""eu-west""# },
    Key { table: Server, name: "regions_near", kind: Kind::Names { most_bytes: 64 }, absent: Optional,
        doc: "The next nearest regions, nearest first; with region. Backends of regions that stand nowhere are asked last.",
        example: r#"["eu-central", "us-east"]"# },
    Key { table: Server, name: "health_paths", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether GET /livez, /readyz and /healthz are answered here too, without a key, for load balancers: /readyz with \
              503 while the node drains, the others with 200.",
        example: "false" },

    // ---- [admin]
    Key { table: Admin, name: "listen", kind: Kind::ListenOrOff, absent: Default(r#""127.0.0.1:9901""#),
        doc: "Address of the admin listener: one IP address and port, unix:/path for a socket that only this user can open, or \
              \"off\". It has /metrics, /livez, /readyz, /v1/status, /v1/config and /v1/drain. Where this key is not written \
              and the port is taken, there is a warning and no admin listener.",
        example: r#""unix:/run/ringway/admin.sock""# },
    Key { table: Admin, name: "token", kind: Kind::Secret, absent: Optional,
        doc: "Asked for as a bearer credential by everything there but /livez, /readyz and /healthz. Beyond loopback it is \
              required.",
        example: r#""${ADMIN_TOKEN}""# },

    // ---- [metrics]
    Key { table: Metrics, name: "genai", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether OpenTelemetry's names (gen_ai.client.inference.*, gen_ai.server.*, as Prometheus writes them) stand \
              beside Ringway's own in a scrape.",
        example: "true" },

    // ---- [log]
    Key { table: Log, name: "access", kind: Kind::AccessLog, absent: Default(r#""off""#),
        doc: "One JSON line a request: \"stdout\", or an absolute path of a file to append to; SIGUSR1 opens it by its name \
              again. Off by default: at thousands of requests a second a log nobody asked for fills a disk or floods the \
              journal, and its lines say who asked for what and when. Lines that the disk or the reader does not take in \
              time are dropped, and their number is told.",
        example: r#""/var/log/ringway/access.log""# },
    Key { table: Log, name: "level", kind: Kind::Choice(Level::VARIANTS), absent: Default(r#""info""#),
        doc: "Which messages about the process itself go to standard error: of this level and the graver ones.",
        example: r#""warn""# },
    Key { table: Log, name: "format", kind: Kind::Choice(LogFormat::VARIANTS), absent: Default(r#""text""#),
        doc: "How those messages look: a line of text, or a line of JSON, for programs.",
        example: r#""json""# },

    // ---- [cores]
    Key { table: Cores, name: "data", kind: Kind::Cores, absent: Default(r#""auto""#),
        doc: "CPUs that serve requests, one pinned thread each. An integer is a count, text is a list of CPU numbers: \
              2 means two CPUs, \"2\" means CPU number 2.",
        example: r#""2-5,8""# },
    Key { table: Cores, name: "io", kind: Kind::Cores, absent: Default(r#""auto""#),
        doc: "CPU for disk work; there is one such thread. On machines with up to 3 CPUs \"auto\" lets the thread float.",
        example: r#""1""# },
    Key { table: Cores, name: "background", kind: Kind::Cores, absent: Default(r#""auto""#),
        doc: "CPU for health checks, names of backends and signals; there is one such thread. On machines with up to 3 CPUs \"auto\" lets the thread \
              float.",
        example: r#""0""# },

    // ---- [cache]
    Key { table: Cache, name: "enabled", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether answers are stored and identical requests in flight are joined.",
        example: "false" },
    Key { table: Cache, name: "memory", kind: Kind::Size { least: MIB, most: 64 * TIB }, absent: Default(r#""4GiB""#),
        doc: "Memory for stored answers on this node, divided over its data cores. Entries are evicted beyond it.",
        example: r#""512MiB""# },
    Key { table: Cache, name: "ttl", kind: Kind::Duration { least_ms: 1, most_ms: 30 * 24 * HOUR },
        absent: Default(r#""300s""#),
        doc: "How long a stored answer may be served.",
        example: r#""1h""# },
    Key { table: Cache, name: "max_entry", kind: Kind::Size { least: KIB, most: GIB }, absent: Default(r#""2MiB""#),
        doc: "Largest answer that is stored; a larger one is relayed only. It may not exceed memory.",
        example: r#""512KiB""# },
    Key { table: Cache, name: "scope", kind: Kind::Choice(Scope::VARIANTS),
        absent: Default(r#""tenant""#),
        doc: "Who may get an answer that another request paid for: requests of the same tenant, requests with the same \
              key, or everybody. \"shared\" lets a tenant learn by timing what others asked.",
        example: r#""key""# },
    Key { table: Cache, name: "timeout_follow", kind: TIMEOUT, absent: Default(r#""10s""#),
        doc: "How long a request that joined an identical one waits without a sign of life before it goes to a backend \
              on its own.",
        example: r#""2s""# },
    Key { table: Cache, name: "stale_if_error",
        kind: Kind::DurationOrZero { least_ms: 1, most_ms: 30 * 24 * HOUR }, absent: Default(r#""1h""#),
        doc: "How long past its ttl an answer may still be served when every backend fails (RFC 5861 4). Such an answer is \
              marked in Cache-Status. \"0s\" = never.",
        example: r#""0s""# },

    // ---- [[backend]]
    Key { table: Backend, name: "name", kind: NAME, absent: Required,
        doc: "What models call it; also in logs.",
        example: r#""vllm-a""# },
    Key { table: Backend, name: "url", kind: Kind::Url, absent: Required,
        doc: "Where it is: http://host:port or https://host:port, perhaps with a base path, or unix:/path. The paths of the \
              API (/v1/...) are put behind it, so it does not end in /v1 itself. A name is looked up again when its time to \
              live is over.",
        example: r#""http://127.0.0.1:8000""# },
    Key { table: Backend, name: "protocol", kind: Kind::Choice(Protocol::VARIANTS), absent: Default(r#""auto""#),
        doc: "What is spoken to it. \"auto\" is what both sides agree on over TLS, and HTTP/1.1 in plain text; \"http2\" in \
              plain text is by prior knowledge.",
        example: r#""http2""# },
    Key { table: Backend, name: "tls_server_name", kind: Kind::Host, absent: Optional,
        doc: "The name or IP address its certificate must be for, and that is asked for (SNI); without it the host of the \
              url. For a server that is reached by an address its certificate does not hold.",
        example: r#""llm.internal""# },
    Key { table: Backend, name: "tls_ca", kind: Kind::File, absent: Optional,
        doc: "PEM file of the authorities its certificate may come from, and nobody else; without it the system's. This and \
              the files below are read once, at start.",
        example: r#""/etc/ringway/ca.pem""# },
    Key { table: Backend, name: "tls_cert", kind: Kind::File, absent: Optional,
        doc: "PEM file of the certificate chain this gateway shows to it, its own certificate first; with tls_key.",
        example: r#""/etc/ringway/client.pem""# },
    Key { table: Backend, name: "tls_key", kind: Kind::File, absent: Optional,
        doc: "PEM file of the private key of tls_cert, not encrypted; with tls_cert.",
        example: r#""/etc/ringway/client.key""# },
    Key { table: Backend, name: "api_key", kind: Kind::Secret, absent: Optional,
        doc: "Sent as its credential; without it none is sent. Keep it out of this file: \"${NAME}\" takes it from \
              the environment, \"file:/path\" from a file, \"credential:name\" from systemd.",
        example: r#""${VLLM_KEY}""# },
    Key { table: Backend, name: "api_key_field", kind: Kind::Choice(CredentialField::VARIANTS),
        absent: Default(r#""authorization""#),
        doc: "The header field of api_key: \"authorization\" (as a bearer credential), \"x-api-key\" (Anthropic) or \
              \"api-key\" (Azure).",
        example: r#""x-api-key""# },
    Key { table: Backend, name: "weight", kind: Kind::Count { least: 1, most: 1_000 }, absent: Default("1"),
        doc: "Its share of a model's requests against the model's other backends.",
        example: "3" },
    Key { table: Backend, name: "region", kind: NAME, absent: Optional,
        doc: "Where it stands; see server.region. Without it, it is as near as the node's own region.",
        example: r#""eu-west""# },
    Key { table: Backend, name: "priority", kind: Kind::Count { least: 0, most: 15 }, absent: Default("0"),
        doc: "Backends of a higher number are asked only while no backend of a lower one is in service.",
        example: "1" },
    Key { table: Backend, name: "connections_min", kind: Kind::Count { least: 0, most: 65_536 }, absent: Default("5"),
        doc: "HTTP/1.1 connections this node opens ahead of need and keeps open, divided over its data cores. Where it is not \
              written, no more than connections_max.",
        example: "0" },
    Key { table: Backend, name: "connections_max", kind: Kind::Count { least: 1, most: 65_536 }, absent: Default("50"),
        doc: "Most HTTP/1.1 connections to it by this node, idle ones included, divided over its data cores (at least one \
              each). Requests beyond wait for one; a model server that batches hundreds of streams wants as many here.",
        example: "200" },
    Key { table: Backend, name: "http2_connections_min", kind: Kind::Count { least: 0, most: 65_536 },
        absent: Default("10"),
        doc: "HTTP/2 connections kept open by this node once they were needed, divided over its data cores. Where it is not \
              written, no more than http2_connections_max.",
        example: "0" },
    Key { table: Backend, name: "http2_connections_max", kind: Kind::Count { least: 1, most: 65_536 },
        absent: Default("100"),
        doc: "Most HTTP/2 connections to it by this node, divided over its data cores (at least one each).",
        example: "20" },
    Key { table: Backend, name: "http2_streams_max", kind: Kind::Count { least: 1, most: 10_000 }, absent: Default("100"),
        doc: "Most requests at a time on one HTTP/2 connection. The server's own limit holds too.",
        example: "250" },
    Key { table: Backend, name: "fast_open", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether connecting carries the first bytes along (TCP Fast Open, RFC 7413). Some networks drop such packets.",
        example: "true" },
    Key { table: Backend, name: "timeout_connect", kind: TIMEOUT, absent: Default(r#""5s""#),
        doc: "Longest wait for a connection.",
        example: r#""500ms""# },
    Key { table: Backend, name: "timeout_idle", kind: TIMEOUT, absent: Default(r#""300s""#),
        doc: "How long an idle connection is kept. Keep it shorter than the backend's own idle time-out.",
        example: r#""4s""# },
    Key { table: Backend, name: "timeout_request", kind: TIMEOUT, absent: Default(r#""10m""#),
        doc: "Longest wait for a whole answer, and for the first content of a stream; all attempts at the backends of a model \
              share it. The default is what the OpenAI and Anthropic SDKs wait. A body that has begun to flow to the client \
              is bounded by timeout_stream_idle instead.",
        example: r#""120s""# },
    Key { table: Backend, name: "timeout_head", kind: TIMEOUT, absent: Default(r#""5m""#),
        doc: "Longest wait for the head of a stream. When it passes, another backend is tried. Some servers send the head \
              only after they have read the prompt, which takes minutes for a long one on a slow machine. Lower it where \
              there are other backends to try; dead ones are found by the health checks.",
        example: r#""5s""# },
    Key { table: Backend, name: "timeout_first_token", kind: TIMEOUT, absent: Default(r#""10m""#),
        doc: "Longest wait for the first content of a stream, its head included, however many comments come. When it passes, \
              another backend is tried. Providers send comments for up to ten minutes while a request is queued.",
        example: r#""20s""# },
    Key { table: Backend, name: "timeout_stream_idle", kind: TIMEOUT, absent: Default(r#""5m""#),
        doc: "Longest silence inside an answer: between two reads of a stream or of any other body that flows, and before a \
              stream's first content. Reasoning models may be silent for minutes.",
        example: r#""60s""# },
    Key { table: Backend, name: "timeout_stream_content", kind: TIMEOUT, absent: Default(r#""10m""#),
        doc: "Longest time that a stream which has begun may go without content, however many comments and empty events come. \
              Comments show that a server is up, not that it is working on the answer.",
        example: r#""5m""# },
    Key { table: Backend, name: "timeout_stream", kind: TIMEOUT, absent: Optional,
        doc: "Longest time for a whole stream or other body that flows; without it there is no limit.",
        example: r#""30m""# },
    Key { table: Backend, name: "include_usage", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether streams are asked for their token usage (stream_options.include_usage) when the client did not; the \
              usage is then hidden from that client. Turn it off for a server that refuses the field.",
        example: "false" },
    Key { table: Backend, name: "health_path", kind: Kind::RequestPath, absent: Default(r#""/health""#),
        doc: "What is asked for to see whether it lives. Any answer below 500 is good, so that the default suits servers \
              that do not have this path too. It must cost no tokens. The api_key goes along only below /v1/. The base path of the url is put in front; the \
              api_key goes along only below /v1/.",
        example: r#""/v1/models""# },
    Key { table: Backend, name: "health_interval",
        kind: Kind::DurationOrZero { least_ms: 10, most_ms: 24 * HOUR }, absent: Default(r#""5s""#),
        doc: "How often that is asked. Two bad answers in a row take it out of service, two good ones put it back. \
              \"0s\" = never: then only what requests meet counts.",
        example: r#""0s""# },
    Key { table: Backend, name: "health_timeout", kind: TIMEOUT, absent: Default(r#""2s""#),
        doc: "Longest wait for such an answer; at most health_interval, also where it is not written.",
        example: r#""500ms""# },
    Key { table: Backend, name: "eject_errors", kind: Kind::Count { least: 1, most: 1_000 }, absent: Default("5"),
        doc: "So many failed requests in a row take it out of service. Failed is: not reached, broken off, too late while it \
              answered no other request, or a status of 500 and above. A 500 that another backend gave to the same request, \
              too, says nothing of either, and one request counts once.",
        example: "3" },
    Key { table: Backend, name: "eject_error_percent", kind: Kind::Count { least: 0, most: 100 }, absent: Default("50"),
        doc: "Failed requests in percent of at least 20 within 10 s that take it out of service; 0 = off.",
        example: "0" },
    Key { table: Backend, name: "eject_time", kind: Kind::Duration { least_ms: 1, most_ms: HOUR },
        absent: Default(r#""5s""#),
        doc: "How long it then gets no request. Afterwards it gets one at a time as a probe; each failed probe doubles the \
              time, up to sixteen times.",
        example: r#""10s""# },
    Key { table: Backend, name: "eject_probes", kind: Kind::Count { least: 1, most: 100 }, absent: Default("2"),
        doc: "Good probes in a row that put it back into service.",
        example: "1" },
    Key { table: Backend, name: "slow_start", kind: Kind::DurationOrZero { least_ms: 1, most_ms: HOUR },
        absent: Default(r#""10s""#),
        doc: "How long its share grows, from a tenth, once it is back in service. \"0s\" = it gets its whole share at once.",
        example: r#""60s""# },

    // ---- [[model]]
    Key { table: Model, name: "name", kind: MODEL_NAME, absent: Required,
        doc: "What clients ask for.",
        example: r#""gpt-4o-mini""# },
    Key { table: Model, name: "version", kind: Kind::Label { most_bytes: 64 }, absent: Default(r#""""#),
        doc: "Any tag; part of the cache's key. Change it when the model changes behind its name, and no old answer is \
              served again.",
        example: r#""2026-01""# },
    Key { table: Model, name: "balance",
        kind: Kind::Choice(BalanceWord::VARIANTS),
        absent: Default(r#""least-connections""#),
        doc: "How requests are spread over the backends in service. \"round-robin\" takes turns by weight; \
              \"least-connections\" prefers the one with the fewest requests in flight for its weight, over all cores; \
              \"p2c\" draws two and takes the faster; \"sticky\" keeps the requests of a session, \"prefix\" those \
              whose prompts begin alike, at one backend, whose prefix cache then helps, as long as it is not overloaded.",
        example: r#""sticky""# },
    Key { table: Model, name: "session_header", kind: Kind::FieldName, absent: Default(r#""x-session-id""#),
        doc: "The request's header field that names its session; only with balance = \"sticky\". Requests without it are \
              spread by how their prompts begin.",
        example: r#""x-conversation""# },
    Key { table: Model, name: "fallback", kind: MODEL_NAMES, absent: Optional,
        doc: "Names of [[model]] tables to ask, in order, when this one cannot answer: its backends are out of service, too \
              late or overloaded, its queue is full, or the request exceeds its context window. Their own fallbacks are not \
              followed. Tenants reach them this way whatever their models. Their answers are not cached.",
        example: r#"["claude-haiku"]"# },
    Key { table: Model, name: "max_concurrent_requests", kind: Kind::Count { least: 1, most: 1_000_000 }, absent: Default("100"),
        doc: "Most requests of this node with its backends at a time, divided over its data cores (at least one each). \
              Requests that share an answer count once.",
        example: "1000" },
    Key { table: Model, name: "max_pending_requests", kind: Kind::Count { least: 0, most: 1_000_000 }, absent: Default("1_000"),
        doc: "Most requests of this node that wait for their turn, divided over its data cores; beyond, 503.",
        example: "0" },
    Key { table: Model, name: "timeout_queue", kind: TIMEOUT, absent: Default(r#""10s""#),
        doc: "Longest wait for a turn; then 503.",
        example: r#""2s""# },
    Key { table: Model, name: "retries", kind: Kind::Count { least: 0, most: 10 }, absent: Default("2"),
        doc: "Attempts after the first one, as long as the client has seen nothing of an answer.",
        example: "0" },
    Key { table: Model, name: "retry_budget_percent", kind: Kind::Count { least: 0, most: 100 }, absent: Default("20"),
        doc: "Retries in percent of requests, beyond a reserve of 100 a node: what is overloaded is not buried.",
        example: "10" },
    Key { table: Model, name: "retry_after_max", kind: Kind::DurationOrZero { least_ms: 1, most_ms: HOUR },
        absent: Default(r#""2s""#),
        doc: "Longest wait, over all attempts of a request, because backends ask for it (Retry-After). A longer one is not \
              waited out: a fallback is asked, or the answer is passed on with its Retry-After. \"0s\" = never wait.",
        example: r#""10s""# },
    Key { table: Model, name: "hedge_percent", kind: Kind::Count { least: 0, most: 50 }, absent: Default("0"),
        doc: "A request slower to its first content than 95 % of those before is sent to a second backend too, and the \
              first content wins: at most in so many percent of requests; 0 = off. Beyond that a request waits until \
              others have earned it a hedge. Requests that may have effects are not hedged.",
        example: "5" },
    Key { table: Model, name: "panic_threshold", kind: Kind::Count { least: 0, most: 100 }, absent: Default("0"),
        doc: "When less than this percentage of its backends is in service, all of them are asked. At 0 that is so only when \
              none is left, nor one of a fallback, where there is nothing to lose.",
        example: "30" },
    Key { table: Model, name: "backends", kind: Kind::Targets, absent: Required,
        doc: "Who answers: names of [[backend]] tables, or tables with the keys below.",
        example: r#"[{ backend = "vllm-a", model = "Qwen/Qwen2.5-7B-Instruct" }]"# },

    // ---- an element of a model's backends
    Key { table: Target, name: "backend", kind: NAME, absent: Required,
        doc: "Name of a [[backend]].",
        example: r#""vllm-a""# },
    Key { table: Target, name: "model", kind: MODEL_NAME, absent: Optional,
        doc: "The model's name at that backend; without it the client's name is forwarded.",
        example: r#""Qwen/Qwen2.5-7B-Instruct""# },
    Key { table: Target, name: "weight", kind: Kind::Count { least: 1, most: 1_000 }, absent: Optional,
        doc: "Its share for this model; without it the backend's weight.",
        example: "3" },

    // ---- [[tenant]]
    Key { table: Tenant, name: "name", kind: NAME, absent: Required,
        doc: "Who it is; in logs.",
        example: r#""search""# },
    Key { table: Tenant, name: "keys", kind: Kind::Digests, absent: Required,
        doc: "SHA-256 of each key its clients may send as a bearer credential: `ringway key hash` makes the line from a \
              key. The keys themselves never stand in this file. Two keys at a time allow a change without a gap.",
        example: r#"["sha256:0000000000000000000000000000000000000000000000000000000000000000"]"# },
    Key { table: Tenant, name: "models", kind: MODEL_NAMES, absent: Optional,
        doc: "Names of the [[model]] tables it may ask for; without it all. With it, a body in which no model can be seen, \
              such as plain text, is refused: what the gateway does not read, a backend might.",
        example: r#"["gpt-4o-mini"]"# },
];

impl Table {
    /// Every table, in the order of the sample.
    pub const ALL: [Table; 10] = [Server, Admin, Metrics, Log, Cores, Cache, Backend, Model, Target, Tenant];

    /// As the file spells it (`Target` stands inside `model.backends`).
    pub fn name(self) -> &'static str {
        match self {
            Server => "server",
            Log => "log",
            Admin => "admin",
            Metrics => "metrics",
            Cores => "cores",
            Cache => "cache",
            Backend => "backend",
            Model => "model",
            Target => "model.backends",
            Tenant => "tenant",
        }
    }

    pub fn shape(self) -> Shape {
        match self {
            Server | Admin | Metrics | Log | Cores | Cache => Shape::Single,
            Backend | Model | Tenant => Shape::Repeated,
            Target => Shape::Nested,
        }
    }

    /// What the table is for; full sentences.
    pub fn doc(self) -> &'static str {
        match self {
            Server => "What clients connect to.",
            Log => "What is written down: requests, and messages about the process itself.",
            Admin => "What operators, probes and scrapers connect to, on the background core.",
            Metrics => "What a scrape of the admin listener says.",
            Cores => {
                "Which CPUs do what: \"auto\", a count such as 2, or a list of CPU numbers such as \"2-5,8\". \
                 The plan is printed at start."
            }
            Cache => "Stored answers, and requests that wait for an identical one in flight.",
            Backend => "A server that answers requests. Repeat the table for each.",
            Model => "A name clients ask for, and the backends that answer it. Repeat the table for each.",
            Target => "An element of `backends` of a model, when it is a table.",
            Tenant => {
                "Who may ask. Without any tenant no key is asked for, which is allowed only while every listen address \
                 is loopback or a Unix socket. Repeat the table for each."
            }
        }
    }

    /// The rows of this table, in order.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.table == self)
    }

    /// The row with this name.
    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}
