//! The configuration in force, as JSON for the operator: every key with its value, defaults included and environment and
//! files put in. Secrets are masked here, by the kind of their key; no other code gets to see them.

use data_encoding::HEXLOWER;
use secrecy::ExposeSecret;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use super::keys::{Absent, Key, Kind, Table};
use super::section::{Section, Value};
use super::snapshot::{AccessLog, Address, CoreChoice};
use super::value::{Url, spell_duration, spell_money, spell_size};

/// In the place of a secret.
const MASKED: &str = "(set)";
/// So much of a credential's hash tells an operator which it is.
const DIGEST_BYTES: usize = 4;

/// What stands for a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// For operators.
    Masked,
    /// To be compared with another configuration, shown to nobody.
    Hashed,
}

/// A table before its values are taken.
pub(super) fn table(section: &Section, secrets: Secrets) -> Json {
    let value = |key: &'static Key| section.value(key.name).map_or(Json::Null, |value| shown(key, value, secrets));
    Json::Object(section.table.keys().map(|key| (key.name.to_owned(), value(key))).collect::<Map<_, _>>())
}

/// A table in a list. Of keys there may be a hundred thousand: one that has a hash and nothing else is shown as that, and of
/// others, limits that they do not have are left out.
fn element(section: &Section, secrets: Secrets) -> Json {
    let Some(short) = section.table.short().filter(|_| section.table == Table::Credential) else {
        return table(section, secrets);
    };
    let is_there = |key: &&'static Key| section.value(key.name).is_some();
    match section.table.keys().filter(is_there).find(|key| key.name != short && section.is_written(key.name)) {
        None => section
            .table
            .key(short)
            .zip(section.value(short))
            .map_or(Json::Null, |(key, value)| shown(key, value, secrets)),
        Some(_) => {
            let rows = section.table.keys().filter(|key| key.absent != Absent::Optional || is_there(key));
            let value =
                |key: &'static Key| section.value(key.name).map_or(Json::Null, |value| shown(key, value, secrets));
            Json::Object(rows.map(|key| (key.name.to_owned(), value(key))).collect::<Map<_, _>>())
        }
    }
}

/// All that the elements of a list say, as one hash: whether they differ is all that is asked.
fn digest(sections: &[Section]) -> String {
    let mut hash = Sha256::new();
    for section in sections {
        for (key, value) in section.table.keys().filter_map(|key| Some((key, section.value(key.name)?))) {
            // Names and JSON have no zeros.
            hash.update(key.name);
            hash.update([0]);
            match value {
                Value::Digest(digest) => hash.update(digest.value),
                value => hash.update(shown(key, value, Secrets::Hashed).to_string()),
            }
            hash.update([0]);
        }
        hash.update([0]);
    }
    HEXLOWER.encode(&hash.finalize())
}

fn shown(key: &Key, value: &Value, secrets: Secrets) -> Json {
    match value {
        Value::Secret(secret) if secrets == Secrets::Hashed => {
            json!(HEXLOWER.encode(&Sha256::digest(secret.expose_secret().as_bytes())))
        }
        Value::Sections(sections) if secrets == Secrets::Hashed => json!(digest(sections)),
        Value::Number(number) => match key.kind {
            Kind::Size { .. } => json!(spell_size(*number)),
            Kind::Duration { .. } | Kind::DurationOrZero { .. } => json!(spell_duration(*number)),
            Kind::Money { .. } => json!(spell_money(*number)),
            Kind::Ratio => json!(*number as f64 / 1e6),
            _ => json!(number),
        },
        Value::Switch(on) => json!(on),
        Value::Choice(word) => json!(word),
        Value::Text(text) => json!(text.value),
        Value::File(file) => json!(file.value.spelled),
        Value::Files(files) => match &files[..] {
            [file] => json!(file.value.spelled),
            files => json!(files.iter().map(|file| &file.value.spelled).collect::<Vec<_>>()),
        },
        Value::Headers(fields) => {
            let value = |secret: &secrecy::SecretString| match secrets {
                Secrets::Hashed => json!(HEXLOWER.encode(&Sha256::digest(secret.expose_secret().as_bytes()))),
                Secrets::Masked => json!(MASKED),
            };
            let fields = fields.iter().map(|(name, secret)| (name.value.clone(), value(secret)));
            Json::Object(fields.collect::<Map<_, _>>())
        }
        Value::Members(members) => Json::Object(members.clone()),
        Value::Secret(_) => json!(MASKED),
        Value::Cores(CoreChoice::Auto) => json!("auto"),
        Value::Cores(CoreChoice::Count(count)) => json!(count),
        Value::Cores(CoreChoice::List(list)) => {
            json!(list.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
        }
        Value::AccessLog(AccessLog::Off) => json!("off"),
        Value::AccessLog(AccessLog::Stdout) => json!("stdout"),
        Value::AccessLog(AccessLog::File(path)) => json!(path),
        Value::Url(url) => json!(address(url)),
        Value::Address(listen) => json!(listen.value.to_string()),
        Value::Listens(listens) => json!(listens.iter().map(|listen| listen.value.to_string()).collect::<Vec<_>>()),
        Value::ListenOrOff(listen) => match &listen.value {
            Some(listen) => json!(listen.to_string()),
            None => json!("off"),
        },
        Value::Digest(digest) => {
            let start = HEXLOWER.encode(&digest.value[..DIGEST_BYTES]);
            json!(format!("sha256:{start}..."))
        }
        Value::Moment(moment) => json!(moment.spelled),
        Value::Names(names) => json!(names.iter().map(|name| &name.value).collect::<Vec<_>>()),
        Value::Sections(sections) => Json::Array(sections.iter().map(|section| element(section, secrets)).collect()),
    }
}

fn address(url: &Url) -> String {
    match &url.address {
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Tcp { .. } => {
            let scheme = if url.secure_host.is_some() { "https" } else { "http" };
            format!("{scheme}://{}{}", url.authority, url.base_path)
        }
    }
}
