//! The configuration in force as the cores read it: immutable, shared behind an `Arc`, in plain units.
//! Nothing here changes after it was built, and no look-up allocates. Built by `load` alone (and by tests).
//! Host names stay names: resolving them is net's work. Secrets stay inside `SecretString`.

mod api_path;
mod cache;
mod cores;
mod credential_field;
mod credentials;
mod listener;
mod model;
mod naming;
mod network;
mod protocol;
pub(super) mod read;
mod redis;
mod source;
mod tenant;
mod traces;

pub use credentials::{CredentialTable, KnownCredential, OwnLimits};
pub use tenant::*;

use std::fmt;
use std::path::PathBuf;

pub use self::api_path::ApiPath;
pub use self::cache::{Cache, CacheMode, CachePolicy, KeyShown, PurgeScope, Scope, SnapshotMode};
pub use self::cores::{CoreChoice, Cores, Rebalance, Steering};
pub use self::credential_field::CredentialField;
pub use self::listener::{Listen, ListenerSettings, ListenerTls, ProxyHeader};
pub use self::model::{Balance, BalanceWord, Model, OnClientDisconnect};
pub use self::naming::{AskedModel, ModelNames};
pub use self::network::{ForwardedField, Network, TrustedProxies};
pub use self::protocol::{Api, CountTokens, Protocol};
pub use self::redis::{FORMS as REDIS_FORMS, Redis, RedisLayout};
pub use self::source::{Endpoint, Scheme, SourceWord, Store, StoreKind};
pub use self::traces::{ParentDecision, Sampling, TraceProtocol, Traces};
use secrecy::SecretString;

use super::extra::is_own;
use super::glob;
use crate::prompts::PromptLibrary;
use strum::{EnumString, VariantNames};

/// A whole configuration. Indices (`usize`) point into the vectors below and hold for this snapshot only.
#[derive(Debug)]
pub struct Snapshot {
    pub server: Server,
    pub admin: Admin,
    pub metrics: Metrics,
    /// None: requests are not traced.
    pub traces: Option<Traces>,
    pub config: Config,
    pub log: Log,
    pub cores: Cores,
    pub cache: Cache,
    pub limits: LimitRules,
    pub cors: Cors,
    pub redis: Option<Redis>,
    pub backends: Vec<Backend>,
    pub models: Vec<Model>,
    pub tenants: Vec<Tenant>,
    /// Compiled.
    pub prompts: PromptLibrary,
    /// `Open` exactly when there is no tenant.
    pub access: Access,
    /// All of it as JSON for operators, secrets masked.
    pub shown: serde_json::Value,
    /// The same to be compared, secrets hashed. Shown to nobody.
    pub(super) compared: serde_json::Value,
    /// The files that it was read from: its own, and those that it names.
    pub files: Vec<PathBuf>,
    /// When it began to be read, in milliseconds since 1970: what its files say that were written later may not be in it. 0 where
    /// nobody asks.
    pub read_at_ms: u64,
    model_names: ModelNames,
    pub known_credentials: CredentialTable,
}

/// The tables that stand once.
#[derive(Debug)]
pub struct Singles {
    pub server: Server,
    pub admin: Admin,
    pub metrics: Metrics,
    pub traces: Option<Traces>,
    pub config: Config,
    pub log: Log,
    pub cores: Cores,
    pub cache: Cache,
    pub redis: Option<Redis>,
    pub limits: LimitRules,
    pub cors: Cors,
}

/// How it is written, for those who show and compare it.
#[derive(Debug)]
pub struct Written {
    pub shown: serde_json::Value,
    pub(super) compared: serde_json::Value,
}

/// Where the configuration is, and when it is read again without being asked.
#[derive(Clone, Debug)]
pub struct Config {
    /// None: it is in a file.
    pub store: Option<Box<Store>>,
    pub watch: Watch,
    /// 0: never.
    pub refresh_ms: u64,
}

/// Whether files of the configuration that change are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    On,
    Off,
}

/// What clients see: listeners, bounds and time-outs of client connections.
#[derive(Clone, Debug)]
pub struct Server {
    /// At least one; each data core binds every TCP address of it. Plain text, any protocol.
    pub listen: Vec<Listen>,
    /// Further addresses.
    pub listeners: Vec<ListenerSettings>,
    /// Whether first bytes are taken with a SYN.
    pub fast_open: FastOpen,
    /// Largest request body, counted after decompression.
    pub body_max_bytes: u64,
    /// What the bodies of the node's requests may take together.
    pub request_memory_bytes: u64,
    /// From the first byte of a head to its end.
    pub timeout_head_ms: u64,
    /// Longest silence while a request body arrives.
    pub timeout_body_ms: u64,
    /// A client that takes no byte of its answer for so long is cut.
    pub timeout_write_ms: u64,
    /// Least bytes a second at which clients send bodies and take answers.
    pub rate_min_bytes: u64,
    /// Longest silence between two requests of a connection.
    pub timeout_idle_ms: u64,
    /// How long running exchanges may take to finish once a stop was asked for.
    pub drain_delay_ms: u64,
    pub timeout_drain_ms: u64,
    /// Most connections of clients, of the node and of one address.
    pub connections_max: Option<u32>,
    pub connections_per_client_max: Option<u32>,
    /// Most requests of one HTTP/1.1 connection that are under way together.
    pub pipelined_max: u32,
    /// `None`: nobody's word counts.
    pub trusted_proxies: Option<TrustedProxies>,
    /// Where a successor asks for the sockets, if it is written down.
    pub control_socket: Option<PathBuf>,
    /// How long running exchanges may take to finish once another process has taken over.
    pub timeout_takeover_ms: u64,
    /// Index of the model whose backends get `/v1/*` requests that name no model.
    pub default_model: Option<usize>,
    /// Paths outside of `/v1/` that are passed through.
    pub passthrough_paths: Vec<String>,
    /// Where this node stands, in the words of `Backend::region`.
    pub region: Option<String>,
    /// The next nearest regions, nearest first.
    pub regions_near: Vec<String>,
    /// Whether answers name their backend and model.
    pub backend_shown: BackendShown,
    /// Whether probes are answered here too.
    pub health_paths: HealthPaths,
    /// Where to keep what outlives a restart, if it is written; see `cores::state`.
    pub state_dir: Option<PathBuf>,
}

/// What is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub access: AccessLog,
    /// Which messages about the process are told, and how.
    pub level: Level,
    pub format: LogFormat,
}

/// How grave a message has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Level {
    Error,
    Warn,
    Info,
}

/// How messages look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum LogFormat {
    Text,
    Json,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Stdout,
    File(PathBuf),
}

/// Whether clients see the names of the backend and the model that have answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendShown {
    Shown,
    Hidden,
}

/// Whether clients' listeners answer `/livez`, `/readyz` and `/healthz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthPaths {
    Answered,
    Unknown,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `None`: there is none.
    pub listen: Option<Listen>,
    pub choice: Choice,
    /// Present wherever others can connect.
    pub token: Option<SecretString>,
}

/// Who chose a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is not in the file.
    Default,
    /// The user wrote it.
    Written,
}

/// What a scrape says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    pub genai: GenAi,
}

/// Which of OpenTelemetry's names stand beside our own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GenAi {
    #[default]
    Off,
    Current,
    /// Those before 2026.
    Old,
    Both,
}

/// A server that answers requests.
#[derive(Clone, Debug)]
pub struct Backend {
    pub name: String,
    pub address: Address,
    /// The `Host` field of requests to it, as the URL spells it; `localhost` on a Unix socket.
    pub authority: String,
    pub paths: ApiPath,
    /// Visible ASCII without spaces, so that it fits a header field.
    pub api_key: Option<SecretString>,
    /// Which header field carries `api_key`.
    pub credential_field: CredentialField,
    /// How connections are secured; `None` for plain text.
    pub tls: Option<Tls>,
    pub protocol: Protocol,
    pub api: Api,
    /// Bound of an answer in a translated request whose client sets none, where the API requires one.
    pub max_tokens_default: u64,
    pub count_tokens: CountTokens,
    /// Share of the requests against the other backends of a model, unless the model says another one.
    pub weight: u32,
    /// Where it stands; nearer backends are asked first.
    pub region: Option<String>,
    /// Backends of a higher number are asked only while none of a lower one is in service.
    pub priority: u32,
    /// HTTP/1.1 connections of the node, to be divided over the data cores.
    pub connections: Connections,
    /// HTTP/2 connections of the node, to be divided over the data cores.
    pub http2_connections: Connections,
    /// Most streams on one HTTP/2 connection; the peer's own limit holds too.
    pub http2_streams: u32,
    pub timeout_connect_ms: u64,
    /// How long an idle connection is kept.
    pub timeout_idle_ms: u64,
    /// From the request to the head of the answer.
    /// Of a whole answer, without stream.
    pub timeout_attempt_ms: Option<u64>,
    pub timeout_head_ms: u64,
    /// From the request to the first content of a stream.
    pub timeout_first_token_ms: u64,
    /// For a whole answer, and to the first content of a stream; all attempts included.
    pub timeout_request_ms: u64,
    /// Between two reads of a body that flows.
    pub timeout_stream_idle_ms: u64,
    /// Between two events with content.
    pub timeout_stream_content_ms: u64,
    /// For a whole body that flows; `None` for no limit.
    pub timeout_stream_ms: Option<u64>,
    pub concurrency: ConcurrencyRule,
    pub fast_open: FastOpen,
    /// Whether streams are asked for their token usage.
    pub include_usage: IncludeUsage,
    pub extra: Extra,
    pub health: Health,
}

/// What requests to a backend have besides what their clients said.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Fields with their names in lower case.
    pub headers: Vec<(String, SecretString)>,
    /// Members of a JSON body: the name in quotes, and all of it with a comma.
    pub members: Vec<(String, Vec<u8>)>,
    /// Patterns of the names of fields that go through.
    forward: Vec<String>,
}

impl Extra {
    pub fn new(headers: Vec<(String, SecretString)>, members: Vec<(String, Vec<u8>)>, forward: Vec<String>) -> Extra {
        Extra { headers, members, forward }
    }

    pub fn forwards_any(&self) -> bool {
        !self.forward.is_empty()
    }

    /// Whether a client's field with this name goes through.
    pub fn forwards(&self, name: &[u8]) -> bool {
        let name = name.to_ascii_lowercase();
        let is_own = is_own(&name)
            || CHANGING_FIELDS.iter().any(|own| own.as_bytes() == name)
            || name.starts_with(b"x-forwarded-")
            || self.headers.iter().any(|(own, _)| own.as_bytes() == name);
        !is_own && self.forward.iter().any(|pattern| glob::fits(pattern.as_bytes(), &name))
    }
}

/// Fields of clients that may change the answer, which every backend gets.
pub const CHANGING_FIELDS: [&str; 3] = ["openai-beta", "anthropic-version", "anthropic-beta"];

/// How many connections the node keeps to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Opened ahead of need and kept open.
    pub min: u32,
    /// Most open at a time, idle or not; at least 1.
    pub max: u32,
}

/// How a backend's connections are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// For SNI and for the check of the certificate's name: a DNS name or an IP address.
    pub server_name: String,
    /// PEM file of the roots to trust; `None` for the system's.
    pub ca: Option<PathBuf>,
    /// PEM files of the client's certificate chain and its key.
    pub client: Option<CertificateFiles>,
}

/// A certificate chain and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub chain: PathBuf,
    pub private_key: PathBuf,
}

/// Whether connecting carries the first bytes along (RFC 7413).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOpen {
    On,
    Off,
}

/// How a backend is found to be in or out of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `None`: only what requests meet counts.
    pub check: Option<HealthCheck>,
    /// So many failures in a row take it out of service.
    pub errors_in_row: u32,
    /// Failures in percent of its requests that take it out of service; 0 = off.
    pub error_percent: u32,
    /// How long it stays out at first; each time in a row doubles it, up to sixteen times.
    pub eject_ms: u64,
    /// Good probes in a row that put it back into service.
    pub probes: u32,
    /// How long its share grows until it is whole again.
    pub slow_start_ms: u64,
}

/// An active check: a GET that costs no tokens. An answer below 500 is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub path: String,
    pub interval_ms: u64,
    pub timeout_ms: u64,
}

/// Where a backend is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `host` is a name or an IP address; an IPv6 address stands without brackets.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

/// How many requests a backend gets at a time, besides its connections and streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrencyRule {
    AsConnected,
    /// Found from how long it takes, and at least so many of the node.
    Adaptive {
        least: u32,
    },
}

/// Whether `stream_options.include_usage` is put into requests whose client did not ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeUsage {
    Ask,
    Leave,
}

/// One backend of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Index into `Snapshot::backends`.
    pub backend: usize,
    /// The model's name at that backend, see [`Target::name_there`]; `None` forwards the client's.
    pub model: Option<String>,
    /// At least 1.
    pub weight: u32,
}

/// Whether requests must carry a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No credential is asked for; only when every listener is loopback or a Unix socket.
    Open,
    /// A credential of a tenant is asked for.
    Keys,
}

impl Snapshot {
    /// Puts the parts together and builds the indices. The caller has checked names, indices and duplicates;
    /// of two equal names or credentials the first one would win.
    pub fn assemble(
        singles: Singles,
        backends: Vec<Backend>,
        models: Vec<Model>,
        tenants: Vec<Tenant>,
        prompts: PromptLibrary,
        written: Written,
    ) -> Snapshot {
        let Singles { server, admin, metrics, traces, config, log, cores, cache, redis, limits, cors } = singles;
        let model_names = ModelNames::of(&models);
        let known_credentials = CredentialTable::of(&tenants);
        let access = if tenants.is_empty() { Access::Open } else { Access::Keys };
        Snapshot {
            server,
            admin,
            metrics,
            traces,
            config,
            log,
            cores,
            cache,
            limits,
            cors,
            redis,
            backends,
            models,
            tenants,
            prompts,
            access,
            shown: written.shown,
            compared: written.compared,
            files: Vec::new(),
            read_at_ms: 0,
            model_names,
            known_credentials,
        }
    }

    /// What a client asks for as `name` (the exact bytes).
    pub fn asked<'n>(&self, name: &'n [u8]) -> Option<AskedModel<'n>> {
        self.model_names.asked(name)
    }

    /// How far back a backend stands in the order in which a model's backends are asked: first by its priority, then by
    /// how near its region is to the node's. Those without a region are as near as the node's own.
    pub fn tier(&self, backend: usize) -> u16 {
        let backend = &self.backends[backend];
        let near = &self.server.regions_near;
        let distance = match (&self.server.region, &backend.region) {
            (Some(own), Some(region)) if own != region => {
                1 + near.iter().position(|place| place == region).unwrap_or(near.len())
            }
            _ => 0,
        };
        let regions = near.len() + 2;
        (backend.priority as usize * regions + distance).min(u16::MAX.into()) as u16
    }
}

impl Listen {
    /// Whether only processes of this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Listen::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    /// As the configuration spells it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(out, "{address}"),
            Listen::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
