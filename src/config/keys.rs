//! Every configuration key, one row each: the only place that knows its name, type, default and documentation.
//! The check for unknown keys, the annotated sample and the printed reference all come from these rows; a row that
//! `snapshot/read.rs` does not use, or a use without a row, fails every load. Nothing here reads a file.

mod backend; // the rows of [[backend]]
mod cache; // the rows of [cache] and [redis]
mod config;
mod cores; // those of [cores]
mod observe; // those of [metrics], [traces] and [log]
mod price; // those of [[model]] that are prices
mod table; // what each table is called, how often it stands, what it is for
mod template; // those of [[template]]
mod tenant;
mod translation; // those of [[backend]] that have to do with other APIs

use strum::VariantNames;

use super::snapshot::{BalanceWord, CachePolicy, OnClientDisconnect, Protocol};
use crate::limits;

/// A table of the file, in the order of the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Server,
    Log,
    Admin,
    Metrics,
    Traces,
    Config,
    Cores,
    Cache,
    Redis,
    Listener,
    Limits,
    Cors,
    Backend,
    Model,
    /// An inline table inside `backends` of a model.
    Target,
    Template,
    Tenant,
    /// An inline table inside `keys` of a tenant.
    Credential,
    /// An inline table inside `model_limits` of a tenant.
    ModelLimits,
    /// An inline table that is a `budget`.
    Budget,
    /// An inline table inside `service_tiers` of the limits.
    ServiceTier,
}

/// How often a table may occur in the file.
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
    /// As one of these.
    Address,
    /// As one of these, or `off`.
    ListenOrOff,
    /// Bytes: an integer, or text such as `"4GiB"`.
    Size { least: u64, most: u64 },
    /// Milliseconds, written as text such as `"300s"`.
    Duration { least_ms: u64, most_ms: u64 },
    /// As `Duration`, or `"0s"`, which disables the feature.
    DurationOrZero { least_ms: u64, most_ms: u64 },
    /// An integer.
    Count { least: u64, most: u64 },
    /// A number from 0 to 1 of at most six digits behind the point, kept in millionths.
    Ratio,
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// 1 to `most_bytes` bytes of text without control characters, quotes and backslashes.
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
    /// The text of a template; may be kept in a file of its own.
    Template,
    /// `sha256:` and 64 hexadecimal digits.
    Digest,
    /// A non-empty array of digests or tables with the keys of `Table::Credential`.
    Credentials,
    /// A date or a time in the format of RFC 3339.
    Moment,
    /// A non-empty array of names of 1 to `most_bytes` bytes.
    Names { most_bytes: usize },
    /// The absolute path of a file that can be read.
    File,
    /// As `File`, or a non-empty array of them.
    Files,
    /// The absolute path of a directory.
    Directory,
    /// A table of header fields: a name and a secret each.
    Headers,
    /// A table of members of a JSON object.
    Members,
    /// A DNS name or an IP address, as in a certificate.
    Host,
    /// The path of a request, from its first slash, optionally with a query.
    RequestPath,
    /// The name of a header field; kept in lower case.
    FieldName,
    /// A non-empty array of backend names or tables with the keys of `Table::Target`.
    Targets,
    /// A decimal number of at most six digits behind the point, kept in millionths.
    Money { least: u64, most: u64 },
    /// A table with the keys of `Table::Budget`, or a non-empty array of them.
    Budgets,
    /// A non-empty array of tables with the keys of `Table::ModelLimits`.
    ModelLimits,
    /// A non-empty array of tables with the keys of `Table::ServiceTier`.
    ServiceTiers,
    /// A non-empty array of origins as browsers spell them.
    Origins,
    /// A non-empty array of the addresses of servers, with schemes.
    Endpoints,
}

/// What applies when the key is not in the file.
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
use Table::{Listener, Model, Server, Target};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Names of backends and tenants are log fields, so they are kept short.
const NAME: Kind = Kind::Name { most_bytes: 64 };
const MODEL_NAME: Kind = Kind::Name { most_bytes: limits::MODEL_BYTES };
const MODEL_NAMES: Kind = Kind::Names { most_bytes: limits::MODEL_BYTES };

/// A timeout: below 1 ms every request would fail, above a day it would bound nothing.
const TIMEOUT: Kind = Kind::Duration { least_ms: 1, most_ms: 24 * HOUR };

/// The rows, table by table.
pub static KEYS: &[Key] = &joined();

const GROUPS: [&[Key]; 10] = [
    ROWS,
    backend::ROWS,
    translation::ROWS,
    price::ROWS,
    cores::ROWS,
    observe::ROWS,
    config::ROWS,
    cache::ROWS,
    template::ROWS,
    tenant::ROWS,
];

const ALL: usize = {
    let (mut all, mut group) = (0, 0);
    while group < GROUPS.len() {
        all += GROUPS[group].len();
        group += 1;
    }
    all
};

const fn joined() -> [Key; ALL] {
    let mut keys = [ROWS[0]; ALL];
    let (mut at, mut group, mut row) = (0, 0, 0);
    while at < keys.len() {
        if row == GROUPS[group].len() {
            (group, row) = (group + 1, 0);
            continue;
        }
        keys[at] = GROUPS[group][row];
        at += 1;
        row += 1;
    }
    keys
}

/// Those of what serves requests; [`tenant`] has those of who sends them, [`observe`] of what is told of them, [`config`] those of where
/// all of it comes from.
#[rustfmt::skip]
const ROWS: &[Key] = &[
    // ---- [server]
    Key { table: Server, name: "listen", kind: Kind::Listen, absent: Default(r#"["127.0.0.1:8080"]"#),
        doc: "Addresses to accept connections on: IP address and port, or unix:/path for a Unix socket. \
              0.0.0.0 means every IPv4 address, [::] every IPv6 and IPv4 address; both need at least one [[tenant]]. \
              Port 0 asks the system for a free port.", example: r#"["0.0.0.0:8080", "unix:/run/ringway/ringway.sock"]"# },
    Key { table: Server, name: "fast_open", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether clients may send their first bytes with the SYN (TCP Fast Open, RFC 7413): it saves those that come back a \
              round trip. Networks may deliver such bytes twice; without TLS, a request with them then runs twice. It takes bit 2 \
              of net.ipv4.tcp_fastopen, which ringway tune --profile base sets.",
        example: "true" },
    Key { table: Server, name: "body_max", kind: Kind::Size { least: KIB, most: GIB }, absent: Default(r#""10MiB""#),
        doc: "Largest request body that is held, counted after decompression; a larger one gets 413. Uploads that are passed \
              through, forms and files, may be larger: then they flow to the backend as they come.",
        example: r#""32MiB""# },
    Key { table: Server, name: "request_memory", kind: Kind::Size { least: MIB, most: 64 * TIB }, absent: Default(r#""1GiB""#),
        doc: "Memory of this node for the bodies of requests in progress, from their first byte to the end of the \
              answer, over all data cores; at least body_max. Requests beyond it get 503 with Retry-After.",
        example: r#""256MiB""# },
    Key { table: Server, name: "timeout_head", kind: TIMEOUT, absent: Default(r#""10s""#),
        doc: "Longest time from the first byte of a request head to its last. Limits slow clients.", example: r#""5s""# },
    Key { table: Server, name: "timeout_body", kind: TIMEOUT, absent: Default(r#""30s""#),
        doc: "Longest pause while a request body arrives. The whole body may take this long plus the time its size \
              takes at rate_min.", example: r#""60s""# },
    Key { table: Server, name: "timeout_write", kind: TIMEOUT, absent: Default(r#""30s""#),
        doc: "A client that reads nothing of its answer for this long is disconnected; see also rate_min.",
        example: r#""60s""# },
    Key { table: Server, name: "rate_min", kind: Kind::Size { least: 1, most: GIB }, absent: Default(r#""1KiB""#),
        doc: "Lowest average rate, in bytes per second, at which a client must send a request body and read its answer \
              after the first timeout_body or timeout_write; slower clients are disconnected. Only time in which data \
              is waiting counts: a stream that is silent is not slow. 1 KiB is below the slowest mobile links.",
        example: "500" },
    Key { table: Server, name: "timeout_idle", kind: TIMEOUT, absent: Default(r#""650s""#),
        doc: "Longest idle time between two requests on a connection. Keep it longer than the idle timeout of the load \
              balancer in front: if this side closes first, a request may meet a closing connection. 650 s is above \
              the common 600 s.", example: r#""75s""# },
    Key { table: Server, name: "drain_delay", kind: Kind::DurationOrZero { least_ms: 10, most_ms: HOUR }, absent: Default(r#""0s""#),
        doc: "How long a drain goes on accepting while /readyz answers 503, so that whoever balances over nodes finds \
              out first: at least two intervals of its checks. timeout_drain begins afterwards; a service manager has to wait for the \
              sum of both (systemd: TimeoutStopSec, 45 s as shipped).",
        example: r#""10s""# },
    Key { table: Server, name: "timeout_drain", kind: TIMEOUT, absent: Default(r#""30s""#),
        doc: "How long running requests may take to finish after SIGTERM or SIGINT; those still running then are \
              aborted.", example: r#""300s""# },
    Key { table: Server, name: "control_socket", kind: Kind::Name { most_bytes: 107 }, absent: Optional,
        doc: "Absolute path of a Unix socket through which ringway serve --take-over gets the listening sockets. Only this \
              user and root may use it. Without the key it is control.sock in RUNTIME_DIRECTORY, which systemd sets.",
        example: r#""/run/ringway/control.sock""# },
    Key { table: Server, name: "timeout_takeover", kind: TIMEOUT, absent: Default(r#""10m""#),
        doc: "How long running requests may take to finish after another process has taken over; those still running then \
              are aborted. Both processes use memory for so long at most.", example: r#""1h""# },
    Key { table: Server, name: "max_connections", kind: Kind::Count { least: 1, most: 10_000_000 }, absent: Optional,
        doc: "Most connections of clients to this node; further ones are closed at once, before any handshake. Without the \
              key, the limit on open files is the bound.", example: "20000" },
    Key { table: Server, name: "max_connections_per_client", kind: Kind::Count { least: 1, most: 1_000_000 }, absent: Optional,
        doc: "Most connections of one client, by its address (IPv6: by its /64, as one client has that many addresses); \
              further ones are closed at once. Trusted proxies have no such limit.", example: "100" },
    Key { table: Server, name: "max_pipelined_requests", kind: Kind::Count { least: 1, most: 1_000 }, absent: Default("8"),
        doc: "Most requests of one HTTP/1.1 connection that are answered at the same time where a client sends further ones \
              before it has its answers (pipelining); answers come in order. 1: one after the other.", example: "32" },
    Key { table: Server, name: "trusted_proxies", kind: Kind::Names { most_bytes: 64 }, absent: Optional,
        doc: "Addresses and networks of the proxies in front, or unix for those on Unix sockets. What they say of their \
              clients' addresses in trusted_header is believed, and written to the access log; from anybody else it is \
              ignored.", example: r#"["10.0.0.0/8", "fd00::/8"]"# },
    Key { table: Server, name: "trusted_header", kind: Kind::Choice(crate::config::snapshot::ForwardedField::VARIANTS), absent: Default(r#""x-forwarded-for""#),
        doc: "The field that the trusted proxies write. Only one: a proxy passes on the other one as clients send it.",
        example: r#""forwarded""# },
    Key { table: Server, name: "default_model", kind: MODEL_NAME, absent: Optional,
        doc: "The [[model]] whose backends get requests to /v1/* paths that name no model. \
              Without it such requests get 400.", example: r#""gpt-4o-mini""# },
    Key { table: Server, name: "passthrough_paths", kind: Kind::Names { most_bytes: 256 }, absent: Optional,
        doc: "Paths outside /v1/ that are forwarded to the model servers, each in full. Requests to them need a key \
              like all others, and use the model named in their JSON body, or default_model.",
        example: r#"["/tokenize", "/detokenize", "/rerank", "/score", "/pooling", "/classify"]"# },
    Key { table: Server, name: "region", kind: NAME, absent: Optional,
        doc: "The region of this node, named as in the backends' region. Backends in the same region are preferred.",
        example: r#""eu-west""# },
    Key { table: Server, name: "regions_near", kind: Kind::Names { most_bytes: 64 }, absent: Optional,
        doc: "The next nearest regions, nearest first; requires region. Backends in regions not listed come last.",
        example: r#"["eu-central", "us-east"]"# },
    Key { table: Server, name: "show_backend", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether answers say who gave them: x-ringway-backend has the name of the [[backend]] (answers from the cache have none), \
              x-ringway-model that of the [[model]], which is a fallback's if one answered. Clients then see these names.",
        example: "true" },
    Key { table: Server, name: "health_paths", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether GET /livez, /readyz and /healthz are also answered here, without a key, for load balancers: \
              /readyz with 503 while the node drains, the others with 200.", example: "false" },
    Key { table: Server, name: "state_dir", kind: Kind::Directory, absent: Optional,
        doc: "Directory for what outlives a restart. Without it, the one that systemd provides (StateDirectory=); without \
              that, nothing is kept.", example: r#""/var/lib/ringway""# },

    // ---- [[listener]]
    Key { table: Listener, name: "address", kind: Kind::Address, absent: Required,
        doc: "The address to accept connections on, as in server.listen: IP address and port, or unix:/path.",
        example: r#""127.0.0.1:8443""# },
    Key { table: Listener, name: "tls_cert", kind: Kind::Files, absent: Optional,
        doc: "PEM file of the server's certificate chain, leaf first; requires tls_key. An array of files serves several \
              certificates: the first whose names include the one that the client asks for (SNI), otherwise the first of \
              all. Without it the listener speaks plain text.",
        example: r#""/etc/ringway/cert.pem""# },
    Key { table: Listener, name: "tls_key", kind: Kind::Files, absent: Optional,
        doc: "PEM file of the private key of tls_cert, not encrypted; an array in the order of tls_cert's.",
        example: r#""/etc/ringway/key.pem""# },
    Key { table: Listener, name: "tls_ocsp", kind: Kind::Files, absent: Optional,
        doc: "File of an OCSP response about tls_cert, in DER as `openssl ocsp -respout` writes it, which is stapled to handshakes \
              until it is out of date; an array in the order of tls_cert's. Write a new one over it in time.",
        example: r#""/etc/ringway/cert.ocsp""# },
    Key { table: Listener, name: "tls_client_ca", kind: Kind::File, absent: Optional,
        doc: "PEM file of certificate authorities: clients must present a certificate signed by one of them (mutual TLS). \
              It comes in addition to the keys of tenants, or in their place: see tenant.client_certificates.",
        example: r#""/etc/ringway/ca.pem""# },
    Key { table: Listener, name: "protocol", kind: Kind::Choice(Protocol::VARIANTS), absent: Default(r#""auto""#),
        doc: "HTTP version to speak. \"auto\" is what the client prefers: by ALPN with TLS, and in plain text HTTP/2 if the \
              connection begins with its preface (prior knowledge). The addresses of server.listen are \"auto\".",
        example: r#""http1""# },
    Key { table: Listener, name: "proxy_protocol", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether every connection begins with a PROXY header (version 1 or 2), from which the client's address is taken. \
              Only a proxy may be able to reach the address then: whoever connects can claim any client.",
        example: "true" },
    Key { table: Listener, name: "timeout_handshake", kind: TIMEOUT, absent: Default(r#""10s""#),
        doc: "Longest time from the acceptance of a connection to the end of its PROXY header and TLS handshake.",
        example: r#""3s""# },

    // ---- [[model]]
    Key { table: Model, name: "name", kind: MODEL_NAME, absent: Required,
        doc: "The name that clients request. One * in it stands for any characters, at least one: requests whose model no other \
              [[model]] names exactly go to the one with the longest name that matches. Limits, metrics and purges know such a model \
              by this name; the access log has the client's.",
        example: r#""gpt-4o-mini""# },
    Key { table: Model, name: "version", kind: Kind::Label { most_bytes: 64 }, absent: Default(r#""""#),
        doc: "Any tag; part of the cache key. Change it when the model changes but keeps its name, so that no old \
              answer is served.",
        example: r#""2026-01""# },
    Key { table: Model, name: "cache", kind: Kind::Choice(CachePolicy::VARIANTS), absent: Default(r#""all""#),
        doc: "Which of its answers are stored: \"all\"; \"deterministic\", those to requests with temperature 0 or a \
              seed, and embeddings; or \"off\". Requests whose answers are not stored are not coalesced with identical \
              ones either, so that each gets an answer of its own.",
        example: r#""deterministic""# },
    Key { table: Model, name: "cache_ttl", kind: Kind::Duration { least_ms: 1, most_ms: 30 * 24 * HOUR }, absent: Optional,
        doc: "How long a stored answer of this model may be served; without it, cache.ttl.",
        example: r#""1h""# },
    Key { table: Model, name: "batch_window", kind: Kind::Duration { least_ms: 1, most_ms: 10 * SECOND }, absent: Optional,
        doc: "Micro-batching: how long a request for embeddings, or for completions (not of a chat), waits for others that differ \
              from it in nothing but their inputs. All of them go to a backend as one; each gets its own part of the answer, and of \
              the tokens by length. 10 to 50 ms suit model servers. Without it every request goes by itself.",
        example: r#""20ms""# },
    Key { table: Model, name: "batch_max_inputs", kind: Kind::Count { least: 2, most: 2048 }, absent: Default("32"),
        doc: "Most inputs that go to a backend together. A window that is full waits no longer. Only with batch_window; what the \
              server accepts: 32 is the least default among them.",
        example: "256" },
    Key { table: Model, name: "replay_rate", kind: Kind::Count { least: 1, most: 10_000 }, absent: Optional,
        doc: "Events a second at which an answer from the cache is sent to a client that asked for a stream: most models send a \
              token in each. Without it the whole stream is sent at once.",
        example: "50" },
    Key { table: Model, name: "balance",
        kind: Kind::Choice(BalanceWord::VARIANTS),
        absent: Default(r#""least-connections""#),
        doc: "How requests are distributed over the backends in service. \"round-robin\" is weighted; \
              \"least-connections\" prefers the backend with the fewest requests in flight relative to its weight, \
              over all cores; \"p2c\" picks two at random and uses the faster; \"sticky\" keeps the requests of a \
              session on one backend; \"prefix\" keeps requests whose prompts begin alike on one backend, for its \
              prefix cache, unless it is overloaded.",
        example: r#""sticky""# },
    Key { table: Model, name: "session_header", kind: Kind::FieldName, absent: Default(r#""x-session-id""#),
        doc: "The request header field that identifies the session; only with balance = \"sticky\". Requests without \
              it are distributed by the beginning of their prompts.",
        example: r#""x-conversation""# },
    Key { table: Model, name: "fallback", kind: MODEL_NAMES, absent: Optional,
        doc: "Names of [[model]] tables to try, in order, when this one cannot answer: its backends are out of \
              service, too late or overloaded, its queue is full, or the request exceeds its context window. Fallbacks \
              of fallbacks are not used. A tenant's list of models does not restrict fallbacks. Their answers are not \
              cached.",
        example: r#"["claude-haiku"]"# },
    Key { table: Model, name: "max_concurrent_requests", kind: Kind::Count { least: 1, most: 1_000_000 }, absent: Default("100"),
        doc: "Most concurrent requests of this node to its backends, whichever of its data cores they are on. Requests \
              that share an answer count once.",
        example: "1000" },
    Key { table: Model, name: "max_pending_requests", kind: Kind::Count { least: 0, most: 1_000_000 }, absent: Default("1_000"),
        doc: "Most queued requests of this node, divided over its data cores. Beyond that one gets 503: the last of the least \
              urgent tenant with the longest queue for its weight, or the newcomer if that is none.",
        example: "0" },
    Key { table: Model, name: "timeout_queue", kind: TIMEOUT, absent: Default(r#""10s""#),
        doc: "Longest wait in the queue; then 503.",
        example: r#""2s""# },
    Key { table: Model, name: "retries", kind: Kind::Count { least: 0, most: 10 }, absent: Default("2"),
        doc: "Attempts after the first one, as long as nothing of an answer was sent to the client.",
        example: "0" },
    Key { table: Model, name: "retry_budget_percent", kind: Kind::Count { least: 0, most: 100 }, absent: Default("20"),
        doc: "Retries as a percentage of requests, beyond a reserve of 100 per node, to avoid retry storms.",
        example: "10" },
    Key { table: Model, name: "retry_after_max", kind: Kind::DurationOrZero { least_ms: 1, most_ms: HOUR },
        absent: Default(r#""2s""#),
        doc: "Longest time a request waits, over all its attempts, because backends ask for it (Retry-After). If a \
              backend asks for more, a fallback is tried, or the answer is passed on with its Retry-After. \"0s\" = \
              never wait.",
        example: r#""10s""# },
    Key { table: Model, name: "hedge_percent", kind: Kind::Count { least: 0, most: 50 }, absent: Default("0"),
        doc: "A request whose first content takes longer than that of 95 % of earlier requests is also sent to a \
              second backend, and the first content wins; this is the highest percentage of requests that may be \
              hedged. 0 = off. Requests that may have side effects are not hedged.",
        example: "5" },
    Key { table: Model, name: "on_client_disconnect", kind: Kind::Choice(OnClientDisconnect::VARIANTS), absent: Default(r#""cancel""#),
        doc: "When every client of an upstream call has gone: \"cancel\" ends it at once; \"drain\" reads its answer to the end, for its \
              usage and for the cache, within bounds (see clients.md).", example: r#""drain""# },
    Key { table: Model, name: "panic_threshold", kind: Kind::Count { least: 0, most: 100 }, absent: Default("0"),
        doc: "When less than this percentage of its backends is in service, all of them are used. With 0, that happens \
              only when no backend of the model or of a fallback is in service.",
        example: "30" },
    Key { table: Model, name: "backends", kind: Kind::Targets, absent: Required,
        doc: "The backends that answer it: names of [[backend]] tables, or tables with the keys below.",
        example: r#"[{ backend = "vllm-a", model = "Qwen/Qwen2.5-7B-Instruct" }]"# },
    // ---- an element of a model's backends
    Key { table: Target, name: "backend", kind: NAME, absent: Required,
        doc: "Name of a [[backend]].",
        example: r#""vllm-a""# },
    Key { table: Target, name: "model", kind: MODEL_NAME, absent: Optional,
        doc: "The model's name at that backend; without it, the client's name is forwarded. Where the name of the [[model]] has a *, \
              a * here stands for the same characters: \"*\" under \"openai/*\" takes the prefix off. Answers keep the name the backend \
              gives.",
        example: r#""Qwen/Qwen2.5-7B-Instruct""# },
    Key { table: Target, name: "weight", kind: Kind::Count { least: 1, most: 1_000 }, absent: Optional,
        doc: "Its share for this model; without it, the backend's weight.",
        example: "3" },
];
