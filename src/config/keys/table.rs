//! What each table of the file is called, how often it may occur, and what it is for.

use std::sync::OnceLock;

use super::Table::{
    self, Admin, Backend, Budget, Cache, Config, Cores, Cors, Credential, Limits, Listener, Log, Metrics, Model,
    ModelLimits, Redis, Server, ServiceTier, Target, Template, Tenant, Traces,
};
use super::{KEYS, Key, Kind, Shape};

impl Kind {
    /// The table that values of this kind are lists of.
    pub fn nested(self) -> Option<Table> {
        match self {
            Kind::Targets => Some(Target),
            Kind::Credentials => Some(Credential),
            Kind::Budgets => Some(Budget),
            Kind::ModelLimits => Some(ModelLimits),
            Kind::ServiceTiers => Some(ServiceTier),
            _ => None,
        }
    }
}

impl Table {
    /// Every table, in the order of the sample.
    pub const ALL: [Table; 21] = [
        Server,
        Admin,
        Metrics,
        Traces,
        Config,
        Log,
        Cores,
        Cache,
        Redis,
        Limits,
        Cors,
        Listener,
        Backend,
        Model,
        Target,
        Template,
        Tenant,
        Credential,
        ModelLimits,
        Budget,
        ServiceTier,
    ];

    /// As spelled in the file; a nested table is named after the key that contains it.
    pub fn name(self) -> &'static str {
        match self {
            Server => "server",
            Log => "log",
            Admin => "admin",
            Metrics => "metrics",
            Traces => "traces",
            Config => "config",
            Cores => "cores",
            Cache => "cache",
            Redis => "redis",
            Listener => "listener",
            Backend => "backend",
            Model => "model",
            Target => "model.backends",
            Template => "template",
            Tenant => "tenant",
            Credential => "tenant.keys",
            ModelLimits => "tenant.model_limits",
            Budget => "tenant.budget",
            Limits => "limits",
            ServiceTier => "limits.service_tiers",
            Cors => "cors",
        }
    }

    pub fn shape(self) -> Shape {
        match self {
            Server | Admin | Metrics | Traces | Config | Log | Cores | Cache | Redis | Limits | Cors => Shape::Single,
            Listener | Backend | Model | Template | Tenant => Shape::Repeated,
            Target | Credential | ModelLimits | Budget | ServiceTier => Shape::Nested,
        }
    }

    /// What the table is for; full sentences.
    pub fn doc(self) -> &'static str {
        match self {
            Server => "What clients connect to.",
            Log => "The access log, and messages about the process itself.",
            Admin => "What operators, probes and scrapers connect to, on the background core.",
            Config => {
                "Where the configuration is, and when it is read again without being asked; `ringway serve` explains how to \
                 ask."
            }
            Metrics => "What a scrape of the admin listener contains.",
            Traces => {
                "Spans of requests and of the attempts at backends, sent to an OpenTelemetry collector by the background core."
            }
            Cores => {
                "The CPUs of each kind of thread: \"auto\", a count such as 2, or a list of CPU numbers such as \"2-5,8\". \
                 The plan is printed at start."
            }
            Cache => "The answer cache, and coalescing of identical concurrent requests.",
            Redis => "The second level of the cache, shared by nodes. Read at start.",
            Listener => {
                "A further address that clients connect to, with TLS or a protocol of its own. Repeat the table for each. \
                 Certificates are read again by a reload."
            }
            Backend => "A server that answers requests. Repeat the table for each.",
            Model => "A model name that clients request, and the backends that answer it. Repeat the table for each.",
            Target => "An element of `backends` of a model, when it is a table.",
            Template => {
                "A prompt that requests name instead of writing it out, with variables of theirs; see docs/templates.md. Repeat \
                 the table for each, and for each version of one."
            }
            Tenant => {
                "A group of clients with its keys. Without any tenant, no key is required, which is allowed only while every \
                 listen address is loopback or a Unix socket. Repeat the table for each."
            }
            Credential => "An element of `keys` of a tenant, when it is a table.",
            ModelLimits => "An element of `model_limits` of a tenant.",
            Budget => "A `budget` of a tenant, of a key, or of an element of `model_limits`.",
            Limits => "What holds for the limits and priorities of all tenants.",
            ServiceTier => "An element of `service_tiers` of the limits.",
            Cors => "Which web pages may use this gateway from a browser (the Fetch standard's CORS protocol).",
        }
    }

    /// The key whose text stands for a whole table of this kind, where the table is nested.
    pub fn short(self) -> Option<&'static str> {
        match self {
            Target => Some("backend"),
            Credential => Some("hash"),
            ModelLimits | Budget | ServiceTier | Limits | Cors => None,
            Server | Admin | Metrics | Traces | Config | Log | Cores | Cache | Redis | Listener | Backend | Model => {
                None
            }
            Template | Tenant => None,
        }
    }

    /// The rows of this table, in order. Sorted out once: a file may have a hundred thousand tables.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        static ROWS: OnceLock<Vec<Vec<&'static Key>>> = OnceLock::new();
        let rows = ROWS.get_or_init(|| {
            let mut rows = vec![Vec::new(); Table::ALL.len()];
            KEYS.iter().for_each(|key| rows[key.table as usize].push(key));
            rows
        });
        rows[self as usize].iter().copied()
    }

    /// The row with this name.
    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}
