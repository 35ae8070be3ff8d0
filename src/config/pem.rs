//! The PEM files that a `[[backend]]` or `[[listener]]` names, as whoever can read certificates looks at them while a configuration is
//! loaded. This room knows no TLS: the look itself comes from outside.

use std::path::Path;

/// A file that could be read a moment ago.
#[derive(Clone, Copy, Debug)]
pub struct PemFile<'a> {
    pub path: &'a Path,
    /// As the configuration spells it, for messages: the rest may come from the environment.
    pub called: &'a str,
}

/// Whose signature on the peer's certificate is good.
#[derive(Clone, Copy, Debug)]
pub enum Trusted<'a> {
    System,
    File(PemFile<'a>),
    /// No peer's certificate is looked at: the chain is a server's own.
    Nobody,
    /// The file could not be read, which has been told.
    Unreadable,
}

/// What one https backend names, or a listener for one certificate. A file that could not be read is absent: that has been told.
#[derive(Clone, Copy, Debug)]
pub struct PemFiles<'a> {
    pub trusted: Trusted<'a>,
    /// The gateway's own certificate chain, and its key.
    pub chain: Option<PemFile<'a>>,
    pub private_key: Option<PemFile<'a>>,
    /// An OCSP response about it, in DER.
    pub staple: Option<PemFile<'a>>,
}

/// What is wrong with one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub key: PemKey,
    /// Names the file as the configuration calls it, and holds nothing of what is in it.
    pub what: String,
    pub remedy: &'static str,
}

/// The key of the configuration that a flaw is told at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemKey {
    Ca,
    Chain,
    PrivateKey,
    Staple,
}

impl PemKey {
    /// As it stands in the file.
    pub const fn name(self) -> &'static str {
        match self {
            PemKey::Ca => "tls_ca",
            PemKey::Chain => "tls_cert",
            PemKey::PrivateKey => "tls_key",
            PemKey::Staple => "tls_ocsp",
        }
    }
}

/// Says everything that is wrong with the files of one backend.
pub type Look<'a> = dyn Fn(&PemFiles<'_>) -> Vec<Flaw> + 'a;

/// Finds nothing: for configurations that name no files, and where the look comes later.
pub fn no_look(_: &PemFiles<'_>) -> Vec<Flaw> {
    Vec::new()
}
