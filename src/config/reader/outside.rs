//! What a value takes from outside the file: the environment, secrets in files, files that must be there.
//! Owns nothing. No message repeats what came from outside, and nothing that came from the environment names a secret's
//! file: the prefix must stand in the configuration itself.

use std::io;
use std::path::Path;

use secrecy::SecretString;
use secrecy::zeroize::Zeroize;
use toml::Spanned;
use toml::de::DeValue;

use super::{Reader, why_unreadable};
use crate::config::keys::Key;
use crate::config::problem::printable;
use crate::config::section::{FilePath, Placed};
use crate::config::value::{self, Wrong};

impl Reader<'_, '_> {
    /// A provider secret: as it stands, from the environment, from a file, or from systemd.
    pub(super) fn secret(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        at: usize,
    ) -> Option<SecretString> {
        let DeValue::String(raw) = value.get_ref() else {
            return self.mistyped(key, path, value.get_ref(), at);
        };
        if value::is_foreign_reference(raw) {
            let what = "a reference to the environment as other programs spell it, which would be sent as the secret";
            self.report.add(at, path, what, "write \"${NAME}\", or keep such a secret in a file: \"file:/path\"");
            return None;
        }
        // The prefix must stand in the file: text from the environment never names a file to read.
        let mut text = self.expand(path, at, raw)?;
        let file = if raw.starts_with("file:") {
            text.strip_prefix("file:").map(str::to_owned)
        } else if raw.starts_with("credential:") {
            let Some(directory) = (self.environment)("CREDENTIALS_DIRECTORY") else {
                let remedy = "start under systemd with LoadCredential=, or use file:/path";
                self.report.add(at, path, "no systemd credentials: CREDENTIALS_DIRECTORY is not set", remedy);
                return None;
            };
            text.strip_prefix("credential:").map(|name| format!("{directory}/{name}"))
        } else {
            None
        };
        if let Some(file) = file {
            text = self.secret_file(path, at, raw, &file)?;
        }
        let checked = value::secret(&text);
        let secret = SecretString::from(text.as_str());
        text.zeroize();
        match checked {
            Ok(()) => Some(secret),
            Err(Wrong { what, remedy }) => {
                self.report.add(at, path, what, remedy);
                None
            }
        }
    }

    fn secret_file(&mut self, path: &str, at: usize, raw: &str, file: &str) -> Option<String> {
        if !file.starts_with('/') {
            self.report.add(at, path, "the secret's file has no absolute path", "write file:/path");
            return None;
        }
        match (self.files)(Path::new(file)) {
            Ok(mut text) => {
                // Editors and `echo` end a file with a line break, which is no part of the secret.
                let length = text.trim_end_matches(['\r', '\n']).len();
                text.truncate(length);
                Some(text)
            }
            Err(error) => {
                self.unreadable(path, at, raw, &error);
                None
            }
        }
    }

    /// The text of a template: as it stands, or from a file.
    pub(super) fn template(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        at: usize,
    ) -> Option<Placed<String>> {
        let DeValue::String(raw) = value.get_ref() else {
            return self.mistyped(key, path, value.get_ref(), at);
        };
        let mut text = self.expand(path, at, raw)?;
        // As with secrets, text from the environment never names a file to read.
        if let Some(file) = text.strip_prefix("file:").filter(|_| raw.starts_with("file:")) {
            if !file.starts_with('/') {
                self.report.add(at, path, "the template's file has no absolute path", "write file:/path");
                return None;
            }
            match (self.files)(Path::new(file)) {
                Ok(read) => text = read,
                Err(error) => {
                    self.unreadable(path, at, raw, &error);
                    return None;
                }
            }
        }
        match value::template(&text) {
            Ok(()) => Some(Placed { at, value: text }),
            Err(Wrong { what, remedy }) => {
                self.report.add(at, path, what, remedy);
                None
            }
        }
    }

    /// The absolute path of a file, which is read here only to see that it can be.
    pub(super) fn file(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        at: usize,
    ) -> Option<Placed<FilePath>> {
        let file = self.scalar(key, path, value, at, value::file_path)?;
        // As the configuration spells it, since the rest may come from the environment.
        let raw = value.get_ref().as_str().unwrap_or_default();
        match (self.files)(Path::new(&file)) {
            // It may be a private key.
            Ok(mut text) => text.zeroize(),
            // PEM may stand between comments in any encoding.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => {
                self.unreadable(path, at, raw, &error);
                return None;
            }
        }
        Some(Placed { at, value: FilePath { path: file, spelled: printable(raw) } })
    }

    fn unreadable(&mut self, path: &str, at: usize, raw: &str, error: &io::Error) {
        let what = format!("cannot read {}: {}", printable(raw), why_unreadable(error));
        self.report.add(at, path, what, "check the path, and that the user Ringway runs as may read it");
    }

    /// Puts the environment in for `${NAME}`; `$${` is a plain `${`.
    pub(super) fn expand(&mut self, path: &str, at: usize, raw: &str) -> Option<String> {
        let mut out = String::with_capacity(raw.len());
        let mut rest = raw;
        let mut good = true;
        while let Some(dollar) = rest.find("${") {
            let (before, after) = (&rest[..dollar], &rest[dollar + 2..]);
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = after;
                continue;
            }
            out.push_str(before);
            let name = after.split_once('}').map(|(name, tail)| {
                rest = tail;
                name
            });
            let Some(name) = name.filter(|name| is_variable(name)) else {
                let remedy = "write ${NAME} with letters, digits and _, or $${ for a plain ${";
                self.report.add(at, path, "a ${ that begins no environment variable", remedy);
                return None;
            };
            match (self.environment)(name) {
                Some(value) => out.push_str(&value),
                None => {
                    let what = format!("the environment variable {} is not set", printable(name));
                    self.report.add(at, path, what, "set it where Ringway is started");
                    good = false;
                }
            }
        }
        out.push_str(rest);
        good.then_some(out)
    }
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
