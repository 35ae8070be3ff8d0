//! How Redis is spoken to, and where it is.

use std::sync::Arc;

use secrecy::SecretString;

use crate::net::tls::TlsSettings;
use crate::wire::cluster::Topology;

/// How Redis is spoken to, and where it is.
#[derive(Clone)]
pub struct Settings {
    /// At start; empty where it is still to be found.
    pub topology: Arc<Topology>,
    /// Whether it is one server, which messages need not name.
    pub is_alone: bool,
    /// Of any server: each has its own name.
    pub tls: Option<TlsSettings>,
    pub user: Option<String>,
    pub password: Option<SecretString>,
    pub database: u32,
    /// Longest wait for an answer.
    pub timeout_ms: u64,
}
