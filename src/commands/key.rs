//! `ringway key`: generates and hashes the keys of tenants, and tells which tenant a key belongs to. Keys are read from
//! standard input, never from the command line, where every process of the machine could see them. Only a new one is printed.

use std::fmt::Write;
use std::io::{self, IsTerminal, Read};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{ConfigurationFile, EXIT_STATUS, Failure, note, print};
use crate::config::pem::no_look;
use crate::config::snapshot::{Access, Snapshot, Standing};
use crate::cores::origin::{Copies, find};
use crate::net::unix_ms;

const EXAMPLES: &str = "\
Examples:
  ringway key generate
  printf %s \"$KEY\" | ringway key hash
  ringway key hash < key.txt
  printf %s \"$KEY\" | ringway key which -c ringway.toml

The hash goes into `keys` of a [[tenant]]; the key itself is kept nowhere.";

/// So that secret scanners, and people, know where a key belongs.
const PREFIX: &str = "rw-";

/// Of a new key, beyond guessing.
const RANDOM_BYTES: usize = 32;

/// Longest key, so that it fits into a request head.
const KEY_BYTES: u64 = 4 << 10;

/// A shorter key can be guessed from its hash; 16 random hexadecimal digits have 64 bits.
const SHORT_KEY_BYTES: usize = 16;

/// Make a tenant's key, hash one, or tell whose one is
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new key; print it, this once, and its hash on the next line
    Generate,
    /// Read a key from standard input and print its hash
    Hash,
    /// Read a key from standard input and tell its tenant; fails if requests with it would be refused
    Which {
        #[command(flatten)]
        file: ConfigurationFile,
    },
}

/// # Errors
/// Standard input has no key that a request could carry, the key would be rejected, or the configuration is invalid.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::Generate => {
            let key = generate()?;
            print(&format!("{}\n{}\n", key.expose_secret(), hash(key.expose_secret())))?;
            note(
                "The first line is the key, which cannot be shown again; the second goes into `keys` of a [[tenant]].",
            );
            Ok(())
        }
        Action::Hash => {
            let key = ask()?;
            if key.expose_secret().len() < SHORT_KEY_BYTES {
                note("ringway: note: the key is short enough to be guessed from its hash");
            }
            print(&format!("{}\n", hash(key.expose_secret())))
        }
        Action::Which { file } => {
            // What it says of certificates does not matter here.
            let snapshot = find(&file.path, Copies::Used, &no_look)?.snapshot;
            let key = ask()?;
            which(&snapshot, key.expose_secret(), unix_ms()).and_then(|told| print(&format!("{told}\n")))
        }
    }
}

fn generate() -> Result<SecretString, Failure> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| Failure::other(format!("no random numbers: {error}")))?;
    Ok(SecretString::from(format!("{PREFIX}{}", hexadecimal(&random))))
}

/// Says whose `key` is and until when, in one line.
///
/// # Errors
/// When requests with it would be refused.
fn which(snapshot: &Snapshot, key: &str, now_unix_ms: u64) -> Result<String, Failure> {
    let sha256: [u8; 32] = Sha256::digest(key).into();
    let Some((tenant, credential)) = snapshot.credential(&sha256) else {
        return Err(Failure::other(match snapshot.access {
            Access::Open => "the configuration has no tenant: no key is asked for",
            Access::Keys => "the key belongs to no tenant",
        }));
    };
    let tenant = &snapshot.tenants[tenant].name;
    let expires = credential.expires.as_ref().map(|moment| moment.spelled.as_str());
    match (credential.standing(|| now_unix_ms), expires) {
        (Standing::Accepted, None) => Ok(format!("tenant {tenant}, does not expire")),
        (Standing::Accepted, Some(expires)) => Ok(format!("tenant {tenant}, expires {expires}")),
        (Standing::Expired, expires) => {
            Err(Failure::other(format!("tenant {tenant}, expired {}", expires.unwrap_or_default())))
        }
        (Standing::Disabled, _) => Err(Failure::other(format!("tenant {tenant}, disabled"))),
    }
}

fn ask() -> Result<SecretString, Failure> {
    if io::stdin().is_terminal() {
        note("Type or paste the key, then press Enter and Ctrl-D.");
    }
    read(io::stdin().lock())
}

/// Reads one key, without the line break at its end.
///
/// # Errors
/// When there is none, or it is nothing a bearer credential can carry.
pub fn read(input: impl Read) -> Result<SecretString, Failure> {
    let mut text = String::new();
    match input.take(KEY_BYTES + 2).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Failure::other("the key has a character other than visible ASCII"));
        }
        Err(error) => return Err(Failure::other(format!("cannot read standard input: {error}"))),
    }
    let text = SecretString::from(text);
    let line = text.expose_secret();
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(Failure::other("there is no key on standard input"));
    }
    if line.len() as u64 > KEY_BYTES {
        return Err(Failure::other(format!("the key has over {KEY_BYTES} bytes")));
    }
    if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::other("the key has a space, a line break, or a character other than visible ASCII"));
    }
    Ok(SecretString::from(line))
}

/// `sha256:` and 64 hexadecimal digits.
pub fn hash(key: &str) -> String {
    format!("sha256:{}", hexadecimal(&Sha256::digest(key.as_bytes())))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}
