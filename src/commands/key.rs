//! `ringway key`: makes the configuration's entry for a tenant's key. The key itself is read from standard input, never
//! from the command line, where every process of the machine could see it; it is never printed.

use std::fmt::Write;
use std::io::{self, IsTerminal, Read};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{EXIT_STATUS, Failure, note, print};

const EXAMPLES: &str = "\
Examples:
  printf %s \"$KEY\" | ringway key hash
  ringway key hash < key.txt
  openssl rand -hex 32 | tee key.txt | ringway key hash

The line it prints goes into `keys` of a [[tenant]].";

/// Longest key, so that it fits into a request head.
const KEY_BYTES: u64 = 4 << 10;

/// A shorter key can be guessed from its hash; 16 random hexadecimal digits have 64 bits.
const SHORT_KEY_BYTES: usize = 16;

/// Make the hash of a tenant's key
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read a key from standard input and print its hash
    Hash,
}

/// # Errors
/// Standard input has no key that a request could carry.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Hash => {
            if io::stdin().is_terminal() {
                note("Type or paste the key, then press Enter and Ctrl-D.");
            }
            let key = read(io::stdin().lock())?;
            if key.expose_secret().len() < SHORT_KEY_BYTES {
                note("ringway: note: the key is short enough to be guessed from its hash");
            }
            print(&format!("{}\n", hash(key.expose_secret())))
        }
    }
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
    let mut out = String::from("sha256:");
    for byte in Sha256::digest(key.as_bytes()) {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}
