//! The rows of `[cores]`.

use strum::VariantNames;

use super::{Absent::Default, Key, Kind, Table::Cores};
use crate::config::snapshot::Steering;

#[rustfmt::skip]
pub(super) const ROWS: &[Key] = &[
    Key { table: Cores, name: "data", kind: Kind::Cores, absent: Default(r#""auto""#),
        doc: "CPUs that serve requests, one pinned thread each. An integer is a count, text is a list of CPU numbers: \
              2 means two CPUs, \"2\" means CPU number 2.",
        example: r#""2-5,8""# },
    Key { table: Cores, name: "io", kind: Kind::Cores, absent: Default(r#""auto""#),
        doc: "CPU for disk work; there is one such thread. On machines with up to 3 CPUs \"auto\" lets the thread float.",
        example: r#""1""# },
    Key { table: Cores, name: "background", kind: Kind::Cores, absent: Default(r#""auto""#),
        doc: "CPU for health checks, backend name resolution and signals; there is one such thread. On machines with \
              up to 3 CPUs \"auto\" lets the thread float.",
        example: r#""0""# },
    Key { table: Cores, name: "steering", kind: Kind::Choice(Steering::VARIANTS), absent: Default(r#""auto""#),
        doc: "Which data core gets a new TCP connection. \"cpu\" is the one on whose CPU its first packet arrived, so that a \
              connection's packets and its requests stay on one CPU; \"hash\" is the kernel's hash of addresses and ports, which \
              spreads evenly. \"auto\" is \"cpu\" where the network interface brings packets to the CPU of every data core, as a \
              core without would get no connections, and \"hash\" otherwise and on loopback addresses.",
        example: r#""cpu""# },
    Key { table: Cores, name: "rebalance", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether a busy data core gives connections to one with less to do, as few busy ones may share one core while \
              others idle: those of HTTP/1.1 between two requests, and clients of HTTP/2 are asked to connect anew.",
        example: "false" },
];
