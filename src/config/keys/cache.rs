//! The rows of the cache and of its second level. Part of [`super::KEYS`].

use strum::VariantNames;

use super::Absent::{Default, Optional};
use super::Table::{Cache, Redis};
use super::{GIB, HOUR, KIB, Key, Kind, MIB, MINUTE, SECOND, TIB, TIMEOUT};
use crate::config::snapshot::Scope;

#[rustfmt::skip]
pub const ROWS: &[Key] = &[
    // ---- [cache]
    Key { table: Cache, name: "enabled", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether answers are cached and identical concurrent requests are coalesced.",
        example: "false" },
    Key { table: Cache, name: "memory", kind: Kind::Size { least: MIB, most: 64 * TIB }, absent: Default(r#""4GiB""#),
        doc: "Memory for stored answers on this node, divided over its data cores. Entries are evicted beyond it.",
        example: r#""512MiB""# },
    Key { table: Cache, name: "ttl", kind: Kind::Duration { least_ms: 1, most_ms: 30 * 24 * HOUR },
        absent: Default(r#""300s""#),
        doc: "How long a stored answer may be served.",
        example: r#""1h""# },
    Key { table: Cache, name: "max_entry", kind: Kind::Size { least: KIB, most: GIB }, absent: Default(r#""2MiB""#),
        doc: "Largest answer that is stored; larger ones are only relayed. It may not exceed memory.",
        example: r#""512KiB""# },
    Key { table: Cache, name: "scope", kind: Kind::Choice(Scope::VARIANTS),
        absent: Default(r#""tenant""#),
        doc: "Which requests may share an answer: those of the same tenant, those with the same key, or all. With \
              \"shared\" a tenant can learn by timing what others asked.",
        example: r#""key""# },
    Key { table: Cache, name: "timeout_follow", kind: TIMEOUT, absent: Default(r#""10s""#),
        doc: "How long a request that joined an identical one waits without progress before it goes to a backend on \
              its own.",
        example: r#""2s""# },
    Key { table: Cache, name: "stale_if_error",
        kind: Kind::DurationOrZero { least_ms: 1, most_ms: 30 * 24 * HOUR }, absent: Default(r#""1h""#),
        doc: "How long after its ttl an answer may still be served when every backend fails (RFC 5861 4). Such an \
              answer is marked in Cache-Status. \"0s\" = never.",
        example: r#""0s""# },

    Key { table: Cache, name: "show_key", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether Cache-Status shows the key of an answer (RFC 9211 2.7), for `ringway purge --fingerprint`. The key is \
              a hash of the request; who knows the tenant and guesses the prompt can verify the guess.",
        example: "true" },
    Key { table: Cache, name: "snapshot", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether stored answers outlive a restart: they are written to a file in server.state_dir at stop, every \
              snapshot_interval and on request (ringway snapshot), and read in the background at start. The file shows what \
              clients were told, and is readable by the user Ringway runs as alone.",
        example: "true" },
    Key { table: Cache, name: "snapshot_interval", kind: Kind::DurationOrZero { least_ms: SECOND, most_ms: 24 * HOUR },
        absent: Default(r#""15m""#),
        doc: "How often a snapshot is written while the node runs: a node that is killed loses what came since. \"0s\" = at stop \
              and on request only.",
        example: r#""5m""# },

    // ---- [redis]
    Key { table: Redis, name: "url", kind: Kind::Secret, absent: Optional,
        doc: "Where answers are kept for other nodes and for after a restart: redis://[user:password@]host[:port][/database]; \
              redis+sentinel://[user:password@]host[:port],.../service[/database], with the addresses of Sentinels; or \
              redis+cluster://[user:password@]host[:port],..., with one or more servers of a Cluster. rediss for TLS. Without it \
              they are kept in this node's memory only. A Redis that is slow or down costs nothing but its hits.",
        example: r#""redis+sentinel://ringway:${REDIS_PASSWORD}@10.0.0.7,10.0.0.8,10.0.0.9/mymaster""# },
    Key { table: Redis, name: "sentinel_user", kind: Kind::Name { most_bytes: 256 }, absent: Optional,
        doc: "The user that Sentinels know this node by, if not the default one. User and password in the URL are those of the \
              servers.",
        example: r#""ringway""# },
    Key { table: Redis, name: "sentinel_password", kind: Kind::Secret, absent: Optional,
        doc: "The password for Sentinels, where they have one.",
        example: r#""${SENTINEL_PASSWORD}""# },
    Key { table: Redis, name: "tls_ca", kind: Kind::File, absent: Optional,
        doc: "PEM file of the only certificate authorities trusted for it; without it, the system's.",
        example: r#""/etc/ringway/redis-ca.pem""# },
    Key { table: Redis, name: "timeout", kind: Kind::Duration { least_ms: 1, most_ms: MINUTE }, absent: Default(r#""5ms""#),
        doc: "Longest wait of a request for it, before the request goes to a backend. After three such waits in a row it \
              is not asked for a second, and twice as long each time that it is still too slow.",
        example: r#""20ms""# },
];
