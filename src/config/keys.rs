//! Every configuration key, one row each: the only place that knows its name, type, default and documentation.
//! The check for unknown keys, the annotated sample and the printed reference all come from these rows; a row that
//! `snapshot/read.rs` does not use, or a use without a row, fails every load. Nothing here reads a file.

use crate::limits;

/// A table of the file, in the order of the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Server,
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
    /// Bytes: an integer, or text such as `"4GiB"`.
    Size { least: u64, most: u64 },
    /// Milliseconds, written as text such as `"300s"`.
    Duration { least_ms: u64, most_ms: u64 },
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
    /// A non-empty array of names.
    Names,
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
use Table::{Backend, Cache, Cores, Model, Server, Target, Tenant};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Names of backends and tenants become metric labels and log fields, where long ones hurt.
const NAME: Kind = Kind::Name { most_bytes: 64 };
const MODEL_NAME: Kind = Kind::Name { most_bytes: limits::MODEL_BYTES };

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
    Key { table: Server, name: "timeout_head", kind: TIMEOUT, absent: Default(r#""10s""#),
        doc: "Time from the first byte of a request's head to its end. Bounds what a slow client can hold.",
        example: r#""5s""# },
    Key { table: Server, name: "timeout_body", kind: TIMEOUT, absent: Default(r#""30s""#),
        doc: "Longest silence while a request body arrives.",
        example: r#""60s""# },
    Key { table: Server, name: "timeout_write", kind: TIMEOUT, absent: Default(r#""30s""#),
        doc: "A client that takes no byte of its answer for so long is cut.",
        example: r#""60s""# },
    Key { table: Server, name: "timeout_idle", kind: TIMEOUT, absent: Default(r#""650s""#),
        doc: "Longest silence between two requests of a connection. Keep it longer than the idle time-out of the load \
              balancer in front: the side that closes first must not be this one, or a request may meet a closing \
              connection. 650 s is above the common 600 s.",
        example: r#""75s""# },
    Key { table: Server, name: "timeout_drain", kind: TIMEOUT, absent: Default(r#""30s""#),
        doc: "How long running requests may take to finish after SIGTERM or SIGINT; what is left then is cut.",
        example: r#""300s""# },
    Key { table: Server, name: "passthrough_model", kind: MODEL_NAME, absent: Optional,
        doc: "The [[model]] whose backends get requests to /v1/* paths that name no model. \
              Without it such requests get 404.",
        example: r#""gpt-4o-mini""# },
    Key { table: Server, name: "access_log", kind: Kind::AccessLog, absent: Default(r#""off""#),
        doc: "One JSON line a request: \"stdout\", or an absolute path of a file to append to. Off by default: at \
              thousands of requests a second a log nobody asked for fills a disk or floods the journal, and its lines \
              say who asked for what and when.",
        example: r#""/var/log/ringway/access.log""# },

    // ---- [cores]
    Key { table: Cores, name: "data", kind: Kind::Cores, absent: Default(r#""auto""#),
        doc: "CPUs that serve requests, one pinned thread each. An integer is a count, text is a list of CPU numbers: \
              2 means two CPUs, \"2\" means CPU number 2.",
        example: r#""2-5,8""# },
    Key { table: Cores, name: "io", kind: Kind::Cores, absent: Default(r#""auto""#),
        doc: "CPUs for disk work. On machines with up to 3 CPUs \"auto\" lets the thread float.",
        example: r#""1""# },
    Key { table: Cores, name: "background", kind: Kind::Cores, absent: Default(r#""auto""#),
        doc: "CPU for health checks, metrics and configuration. On machines with up to 3 CPUs \"auto\" lets the thread \
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
    Key { table: Cache, name: "scope", kind: Kind::Choice(&["tenant", "key", "shared"]),
        absent: Default(r#""tenant""#),
        doc: "Who may get an answer that another request paid for: requests of the same tenant, requests with the same \
              key, or everybody. \"shared\" lets a tenant learn by timing what others asked.",
        example: r#""key""# },
    Key { table: Cache, name: "timeout_follow", kind: TIMEOUT, absent: Default(r#""10s""#),
        doc: "How long a request that joined an identical one waits without a sign of life before it goes to a backend \
              on its own.",
        example: r#""2s""# },

    // ---- [[backend]]
    Key { table: Backend, name: "name", kind: NAME, absent: Required,
        doc: "What models call it; also in logs and metrics.",
        example: r#""vllm-a""# },
    Key { table: Backend, name: "url", kind: Kind::Url, absent: Required,
        doc: "Where it is: http://host:port, perhaps with a base path, or unix:/path. The paths of the API (/v1/...) are \
              put behind it, so it does not end in /v1 itself.",
        example: r#""http://127.0.0.1:8000""# },
    Key { table: Backend, name: "api_key", kind: Kind::Secret, absent: Optional,
        doc: "Sent as a bearer credential; without it none is sent. Keep it out of this file: \"${NAME}\" takes it from \
              the environment, \"file:/path\" from a file, \"credential:name\" from systemd.",
        example: r#""${VLLM_KEY}""# },
    Key { table: Backend, name: "weight", kind: Kind::Count { least: 1, most: 1_000 }, absent: Default("1"),
        doc: "Its share of a model's requests against the model's other backends.",
        example: "3" },
    Key { table: Backend, name: "idle_connections", kind: Kind::Count { least: 1, most: 65_536 }, absent: Default("50"),
        doc: "Most idle connections kept to it by this node, divided over its data cores (at least one each).",
        example: "200" },
    Key { table: Backend, name: "timeout_connect", kind: TIMEOUT, absent: Default(r#""5s""#),
        doc: "Longest wait for a connection.",
        example: r#""500ms""# },
    Key { table: Backend, name: "timeout_idle", kind: TIMEOUT, absent: Default(r#""300s""#),
        doc: "How long an idle connection is kept. Keep it shorter than the backend's own idle time-out.",
        example: r#""4s""# },
    Key { table: Backend, name: "timeout_total", kind: TIMEOUT, absent: Default(r#""30s""#),
        doc: "Longest wait for a whole answer that is not a stream.",
        example: r#""120s""# },
    Key { table: Backend, name: "timeout_gap", kind: TIMEOUT, absent: Default(r#""60s""#),
        doc: "Longest silence between two events of a stream, and before the first.",
        example: r#""5m""# },
    Key { table: Backend, name: "include_usage", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether streams are asked for their token usage (stream_options.include_usage) when the client did not; the \
              usage is then hidden from that client. Turn it off for a server that refuses the field.",
        example: "false" },

    // ---- [[model]]
    Key { table: Model, name: "name", kind: MODEL_NAME, absent: Required,
        doc: "What clients ask for.",
        example: r#""gpt-4o-mini""# },
    Key { table: Model, name: "version", kind: Kind::Label { most_bytes: 64 }, absent: Default(r#""""#),
        doc: "Any tag; part of the cache's key. Change it when the model changes behind its name, and no old answer is \
              served again.",
        example: r#""2026-01""# },
    Key { table: Model, name: "balance", kind: Kind::Choice(&["round-robin", "least-connections"]),
        absent: Default(r#""least-connections""#),
        doc: "How requests are spread over its backends: in turn by weight, or to the one with the fewest running \
              requests for its weight. Answers of language models take very unequal times, so the second is the default.",
        example: r#""round-robin""# },
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
        doc: "Who it is; in logs and metrics.",
        example: r#""search""# },
    Key { table: Tenant, name: "keys", kind: Kind::Digests, absent: Required,
        doc: "SHA-256 of each key its clients may send as a bearer credential: `ringway key hash` makes the line from a \
              key. The keys themselves never stand in this file. Two keys at a time allow a change without a gap.",
        example: r#"["sha256:0000000000000000000000000000000000000000000000000000000000000000"]"# },
    Key { table: Tenant, name: "models", kind: Kind::Names, absent: Optional,
        doc: "Names of the [[model]] tables it may ask for; without it all.",
        example: r#"["gpt-4o-mini"]"# },
];

impl Table {
    /// Every table, in the order of the sample.
    pub const ALL: [Table; 7] = [Server, Cores, Cache, Backend, Model, Target, Tenant];

    /// As the file spells it (`Target` stands inside `model.backends`).
    pub fn name(self) -> &'static str {
        match self {
            Server => "server",
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
            Server | Cores | Cache => Shape::Single,
            Backend | Model | Tenant => Shape::Repeated,
            Target => Shape::Nested,
        }
    }

    /// What the table is for; full sentences.
    pub fn doc(self) -> &'static str {
        match self {
            Server => "What clients connect to.",
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
