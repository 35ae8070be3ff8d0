//! What a backend's requests have besides what their clients said, as the file spells it: fields, and members of a JSON body. Owns
//! nothing.

use strum::VariantNames;

use super::problem::printable;
use super::snapshot::CredentialField;
use super::value::{Wrong, field_name, wrong};

/// Fields that a backend's `headers` may not set and `forward_headers` never lets through: they frame or route a message, are
/// meant for one connection (RFC 9110 7.6.1), or are written by the gateway itself.
const OWN_FIELDS: [&str; 23] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "cookie",
    "accept",
    "accept-encoding",
    "x-request-id",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "forwarded",
    "via",
];

/// Whether a field, in lower case, is one of these or carries a credential.
pub(super) fn is_own(name: &[u8]) -> bool {
    OWN_FIELDS.iter().chain(CredentialField::VARIANTS).any(|own| own.as_bytes() == name)
        // Browsers put a key into one of them.
        || name.starts_with(b"sec-websocket-")
}

/// The name of a field that may be added to requests.
pub(super) fn header_name(text: &str) -> Result<String, Wrong> {
    let name = field_name(text)?;
    match &*name {
        name if CredentialField::VARIANTS.contains(&name) => {
            Err(wrong(format!("{name} is the field of a credential"), "write api_key and api_key_field"))
        }
        name if is_own(name.as_bytes()) => Err(wrong(format!("{name} is written by Ringway itself"), "take it out")),
        _ => Ok(name),
    }
}

/// A table of TOML as JSON, nested at most so deep.
pub(super) fn members(
    fields: &toml::de::DeTable<'_>,
    levels: usize,
) -> Result<serde_json::Map<String, serde_json::Value>, Wrong> {
    let mut members = serde_json::Map::new();
    for (name, value) in fields {
        if ["model", "stream", "stream_options"].contains(&&**name.get_ref()) && levels == JSON_LEVELS {
            return Err(wrong(format!("{} is written by Ringway itself", name.get_ref()), "take it out"));
        }
        members.insert(name.get_ref().to_string(), json(value.get_ref(), levels)?);
    }
    Ok(members)
}

/// How deep a table that becomes JSON may be nested.
pub(super) const JSON_LEVELS: usize = 16;

fn json(value: &toml::de::DeValue<'_>, levels: usize) -> Result<serde_json::Value, Wrong> {
    use toml::de::DeValue;
    let deeper = levels.checked_sub(1).ok_or_else(|| wrong("is nested too deeply".to_owned(), "make it flatter"))?;
    let number = |text: &str| {
        let text = text.replace('_', "");
        let number = text.strip_prefix('+').unwrap_or(&text).parse::<serde_json::Number>().ok();
        let wrong = || wrong(format!("\"{}\" is no number of JSON", printable(&text)), "write a decimal number");
        number.map(serde_json::Value::Number).ok_or_else(wrong)
    };
    Ok(match value {
        DeValue::String(text) => serde_json::Value::String(text.to_string()),
        DeValue::Boolean(on) => serde_json::Value::Bool(*on),
        DeValue::Integer(integer) if integer.radix() == 10 => number(integer.as_str())?,
        DeValue::Float(float) => number(float.as_str())?,
        DeValue::Integer(_) => return Err(wrong("a number that is not decimal".to_owned(), "write a decimal number")),
        DeValue::Datetime(_) => return Err(wrong("JSON has no dates".to_owned(), "write it in quotes")),
        DeValue::Array(items) => {
            let items: Result<Vec<_>, Wrong> = items.iter().map(|item| json(item.get_ref(), deeper)).collect();
            serde_json::Value::Array(items?)
        }
        DeValue::Table(fields) => serde_json::Value::Object(members(fields, deeper)?),
    })
}
