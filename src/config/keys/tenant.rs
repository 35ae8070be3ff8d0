//! The rows of who sends requests: tenants, their keys and limits, web pages. Part of [`super::KEYS`].

use super::Absent::{Default, Optional, Required};
use super::Table::{Budget, Cors, Credential, Limits, ModelLimits, ServiceTier, Tenant};
use super::{Key, Kind, MODEL_NAME, MODEL_NAMES, NAME, Table};
use crate::config::snapshot::Period;

impl Key {
    /// Whether an empty list says something: that there is none.
    pub fn may_be_empty(&self) -> bool {
        self.table == Tenant && self.name == "templates"
    }
}

/// A unit of money in millionths.
pub const UNIT: u64 = 1_000_000;

/// The largest counts; above, a limit limits nothing.
const COUNT: Kind = Kind::Count { least: 1, most: 1_000_000_000_000 };

const fn requests_per_minute(table: Table) -> Key {
    Key {
        table,
        name: "requests_per_minute",
        kind: COUNT,
        absent: Optional,
        doc: "Most requests within any 60 seconds, answers from the cache included. Further ones get 429 with \
              Retry-After.",
        example: "600",
    }
}

const fn requests_per_day(table: Table) -> Key {
    Key {
        table,
        name: "requests_per_day",
        kind: COUNT,
        absent: Optional,
        doc: "The same within a day in UTC.",
        example: "100_000",
    }
}

const fn tokens_per_minute(table: Table) -> Key {
    Key {
        table,
        name: "tokens_per_minute",
        kind: COUNT,
        absent: Optional,
        doc: "Most tokens of prompts and answers within any 60 seconds. A request reserves an estimate of its \
              prompt and the tokens it asks for at most (without max_tokens, what answers have taken lately), and is \
              settled on what the backend reports.",
        example: "2_000_000",
    }
}

const fn tokens_per_day(table: Table) -> Key {
    Key {
        table,
        name: "tokens_per_day",
        kind: COUNT,
        absent: Optional,
        doc: "The same within a day in UTC.",
        example: "500_000_000",
    }
}

const fn concurrent_requests(table: Table) -> Key {
    Key {
        table,
        name: "concurrent_requests",
        kind: Kind::Count { least: 1, most: 1_000_000 },
        absent: Optional,
        doc: "Most requests at a time on this node, whichever of its data cores they are on.",
        example: "200",
    }
}

const fn budget(table: Table) -> Key {
    Key {
        table,
        name: "budget",
        kind: Kind::Budgets,
        absent: Optional,
        doc: "Most money for a day, a week from Monday on, or a month, in UTC, by the prices of the models; several of them as \
              an array. Reserved and settled as tokens are. Requests beyond it get 429 with the code insufficient_quota.",
        example: r#"{ amount = "100", period = "1d" }"#,
    }
}

#[rustfmt::skip]
pub const ROWS: &[Key] = &[
    // ---- [limits]
    Key { table: Limits, name: "cached_tokens", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether answers that cost nothing, from the cache or shared with another request, count against limits of \
              tokens and money as if a backend had been asked.",
        example: "true" },
    Key { table: Limits, name: "budget_status", kind: Kind::Choice(&["429", "402"]), absent: Default(r#""429""#),
        doc: "Status of the answer to a request beyond a budget: 429, as OpenAI has it, or 402.",
        example: r#""402""# },
    Key { table: Limits, name: "shared", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether limits hold for all nodes together that use the same [redis]. Without one, or with false, they are each \
              node's. Requests at a time are each node's in any case.",
        example: "false" },
    Key { table: Limits, name: "nodes_min", kind: Kind::Count { least: 1, most: 1_000 }, absent: Default("1"),
        doc: "There are at least so many such nodes. While Redis is gone, a node grants this part of each limit, or a smaller \
              one if it has seen more nodes.",
        example: "3" },
    Key { table: Limits, name: "service_tiers", kind: Kind::ServiceTiers, absent: Optional,
        doc: "With which priority requests wait that name a service_tier in their body: an array of tables with the keys \
              below. As with x-request-priority, the less urgent of this and the tenant's priority counts. Without it, and \
              for other tiers, the tier says nothing here. Backends get it as it came.",
        example: r#"[{ tier = "flex", priority = 9 }]"# },

    // ---- [cors]
    Key { table: Cors, name: "origins", kind: Kind::Origins, absent: Optional,
        doc: "Origins of the web pages that may send requests and read answers, as browsers spell them; \"*\" allows every \
              page. Without it, none. Their preflight requests need no key.",
        example: r#"["https://chat.example"]"# },

    // ---- [[tenant]]
    Key { table: Tenant, name: "name", kind: NAME, absent: Required,
        doc: "The name of the tenant; in logs.",
        example: r#""search""# },
    Key { table: Tenant, name: "keys", kind: Kind::Credentials, absent: Optional,
        doc: "SHA-256 of each key that its clients may send, as a bearer credential or in x-api-key or api-key: `ringway key \
              generate` makes a key and its hash, `ringway key hash` hashes an existing key. The keys themselves are never \
              in this file. List two keys during a rotation. Each element is a hash, or a table with the keys below.",
        example: r#"["sha256:0000000000000000000000000000000000000000000000000000000000000000"]"# },
    Key { table: Tenant, name: "client_certificates", kind: Kind::Names { most_bytes: 1024 }, absent: Optional,
        doc: "Names in client certificates that speak for this tenant where a request carries no key, on listeners with \
              tls_client_ca: \"URI:...\", \"DNS:...\" or \"email:...\" of the subject's alternative names, or \"CN=...\", its common \
              name. Of several names in a certificate the first that any tenant lists counts, in this order. A tenant needs keys or \
              client_certificates.",
        example: r#"["URI:spiffe://example.org/search", "CN=search"]"# },
    Key { table: Tenant, name: "models", kind: MODEL_NAMES, absent: Optional,
        doc: "Names of the [[model]] tables it may use, where * matches any characters; without it, or with \"*\", all. \
              With any other list, a body without a recognizable model, such as plain text, is rejected, because a backend \
              might interpret it.",
        example: r#"["gpt-4o-mini", "claude-*"]"# },
    Key { table: Tenant, name: "templates", kind: Kind::Names { most_bytes: 64 }, absent: Optional,
        doc: "Names of the [[template]] tables whose prompts its requests may name, where * matches any characters; all versions of \
              a name are meant. Without it, or with \"*\", all; an empty list is none. To others a template does not exist.",
        example: r#"["support"]"# },

    Key { table: Tenant, name: "priority", kind: Kind::Count { least: 0, most: 9 }, absent: Default("5"),
        doc: "Where requests wait for a model or a backend, those with lower numbers go first: 0 is the most urgent, 9 is \
              for batches. A priority that waits gets one of 17 turns at least. A request can lower its own with the header \
              x-request-priority, never raise it.",
        example: "1" },
    Key { table: Tenant, name: "weight", kind: Kind::Count { least: 1, most: 1_000 }, absent: Default("1"),
        doc: "Its share of the turns among the tenants of the same priority whose requests wait.",
        example: "4" },

    requests_per_minute(Tenant),
    requests_per_day(Tenant),
    tokens_per_minute(Tenant),
    tokens_per_day(Tenant),
    concurrent_requests(Tenant),
    budget(Tenant),
    Key { table: Tenant, name: "model_limits", kind: Kind::ModelLimits, absent: Optional,
        doc: "Limits of this tenant at single models, besides those above: an array of tables with the keys below.",
        example: r#"[{ model = "gpt-4o-mini", tokens_per_minute = 100_000 }]"# },

    // ---- an element of a tenant's keys
    Key { table: Credential, name: "hash", kind: Kind::Digest, absent: Required,
        doc: "SHA-256 of the key.",
        example: r#""sha256:0000000000000000000000000000000000000000000000000000000000000000""# },
    Key { table: Credential, name: "expires", kind: Kind::Moment, absent: Optional,
        doc: "The last day on which the key is accepted, in UTC, or the time from which it is rejected. Without it, the key \
              does not expire.",
        example: r#""2027-01-31""# },
    Key { table: Credential, name: "disabled", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether the key is rejected regardless of its expiry. The client is told that the key is disabled.",
        example: "true" },
    requests_per_minute(Credential),
    requests_per_day(Credential),
    tokens_per_minute(Credential),
    tokens_per_day(Credential),
    concurrent_requests(Credential),
    budget(Credential),

    // ---- an element of a tenant's model_limits
    Key { table: ModelLimits, name: "model", kind: MODEL_NAME, absent: Required,
        doc: "Name of a [[model]].",
        example: r#""gpt-4o-mini""# },
    requests_per_minute(ModelLimits),
    requests_per_day(ModelLimits),
    tokens_per_minute(ModelLimits),
    tokens_per_day(ModelLimits),
    concurrent_requests(ModelLimits),
    budget(ModelLimits),

    // ---- a service tier
    Key { table: ServiceTier, name: "tier", kind: NAME, absent: Required,
        doc: "The value of service_tier, such as \"flex\" or \"default\".",
        example: r#""flex""# },
    Key { table: ServiceTier, name: "priority", kind: Kind::Count { least: 0, most: 9 }, absent: Required,
        doc: "From 0, which is served first, to 9.",
        example: "9" },

    // ---- a budget
    Key { table: Budget, name: "amount", kind: Kind::Money { least: 1, most: 10_000_000 * UNIT }, absent: Required,
        doc: "How much, in the unit of money that prices are in.",
        example: r#""100""# },
    Key { table: Budget, name: "period", kind: Kind::Choice(Period::CALENDAR), absent: Required,
        doc: "For which time: a day, a week from Monday on, or a month, in UTC.",
        example: r#""1mo""# },
];
