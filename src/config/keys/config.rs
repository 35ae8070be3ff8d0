//! The rows of where the configuration comes from, and when it is read again. Part of [`super::KEYS`].

use strum::VariantNames;

use super::Absent::{Default, Optional};
use super::Table::Config;
use super::{HOUR, Key, Kind, MINUTE, SECOND};
use crate::config::snapshot::SourceWord;

#[rustfmt::skip]
pub(super) const ROWS: &[Key] = &[
    Key { table: Config, name: "source", kind: Kind::Choice(SourceWord::VARIANTS), absent: Default(r#""file""#),
        doc: "Where the configuration is: \"file\", this one; or a store that many nodes read, \"etcd\", \"consul\" or \
              \"redis\". Then this file says where the store is and what this node keeps for itself, and the value of key \
              there is the rest. See docs/sources.md.",
        example: r#""file""# },
    Key { table: Config, name: "endpoints", kind: Kind::Endpoints, absent: Optional,
        doc: "The servers of the store, asked in order until one answers: http:// or https:// for etcd and Consul, redis:// or \
              rediss:// for Redis, where /N at the end is the number of the database. Required with a store.",
        example: r#"["https://10.0.0.7:2379", "https://10.0.0.8:2379"]"# },
    Key { table: Config, name: "key", kind: Kind::Name { most_bytes: 256 }, absent: Default(r#""ringway/config""#),
        doc: "The key in the store whose value is the configuration, as TOML. With Redis it is the name of the channel that \
              tells of changes, too.",
        example: r#""ringway/eu-west""# },
    Key { table: Config, name: "user", kind: Kind::Name { most_bytes: 256 }, absent: Optional,
        doc: "The user that etcd or Redis knows this node by.",
        example: r#""ringway""# },
    Key { table: Config, name: "password", kind: Kind::Secret, absent: Optional,
        doc: "The password of that user; with Redis and no user, that of the default user.",
        example: r#""${STORE_PASSWORD}""# },
    Key { table: Config, name: "token", kind: Kind::Secret, absent: Optional,
        doc: "The ACL token for Consul.",
        example: r#""${CONSUL_TOKEN}""# },
    Key { table: Config, name: "tls_ca", kind: Kind::File, absent: Optional,
        doc: "PEM file of the only certificate authorities trusted for the store; without it, the system's.",
        example: r#""/etc/ringway/ca.pem""# },
    Key { table: Config, name: "tls_cert", kind: Kind::File, absent: Optional,
        doc: "PEM file of the client certificate chain presented to the store, leaf first; requires tls_key.",
        example: r#""/etc/ringway/client.pem""# },
    Key { table: Config, name: "tls_key", kind: Kind::File, absent: Optional,
        doc: "PEM file of the private key of tls_cert, not encrypted; requires tls_cert.",
        example: r#""/etc/ringway/client.key""# },
    Key { table: Config, name: "timeout", kind: Kind::Duration { least_ms: 10, most_ms: MINUTE }, absent: Default(r#""3s""#),
        doc: "Longest wait for one endpoint of the store to answer. No request waits for it: what is in force stays in force.",
        example: r#""1s""# },
    Key { table: Config, name: "watch", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether this file, and every file of a secret, certificate or key that it names, is read again when it \
              changes, and whether a store tells of changes. What changed is in force within about a second; a configuration \
              with an error changes nothing.",
        example: "false" },
    Key { table: Config, name: "refresh", kind: Kind::DurationOrZero { least_ms: SECOND, most_ms: 24 * HOUR }, absent: Default(r#""60s""#),
        doc: "How often the configuration is read again without any sign of a change. \"0s\" leaves it to watch, SIGHUP and \
              POST /v1/reload.",
        example: r#""10s""# },
];
