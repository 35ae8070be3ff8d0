//! The configuration's JSON Schema (2020-12), from the rows of `keys`: editors complete and check a file with it.
//! Owns nothing. It is looser than `check`, which alone knows what belongs together.

use serde_json::{Map, Value, json};

use super::keys::{Absent, KEYS, Key, Kind, Shape, Table};

/// The schema, as JSON that ends with a line break.
pub fn schema() -> String {
    let mut properties = Map::new();
    for table in Table::ALL {
        let one = object(table);
        match table.shape() {
            Shape::Single => properties.insert(table.name().to_owned(), one),
            Shape::Repeated => properties.insert(table.name().to_owned(), json!({ "type": "array", "items": one })),
            Shape::Nested => None,
        };
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ringway's configuration",
        "type": "object",
        "properties": properties,
        "required": ["backend", "model"],
        "additionalProperties": false,
    });
    format!("{schema:#}\n")
}

fn object(table: Table) -> Value {
    let keys = || KEYS.iter().filter(|key| key.table == table);
    let properties: Map<_, _> = keys().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<_> = keys().filter(|key| key.absent == Absent::Required).map(|key| key.name).collect();
    json!({
        "type": "object",
        "description": table.doc(),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut property = value(key.kind);
    property["description"] = json!(key.doc);
    if let Absent::Default(text) = key.absent
        && let Ok(default) = format!("it = {text}").parse::<toml::Table>()
        && let Ok(default) = serde_json::to_value(&default["it"])
    {
        property["default"] = default;
    }
    property
}

/// Whatever may stand for a value may come from the environment instead.
fn or_environment(value: Value) -> Value {
    json!({ "anyOf": [value, { "type": "string", "pattern": r"\$\{[A-Za-z_]" }] })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "minItems": 1, "items": items })
}

fn value(kind: Kind) -> Value {
    let text = || json!({ "type": "string" });
    match kind {
        Kind::Size { .. } => json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, text()] }),
        Kind::Duration { .. } | Kind::DurationOrZero { .. } => {
            or_environment(json!({ "type": "string", "pattern": r"^\s*[0-9]+\s*(ms|s|m|h)\s*$" }))
        }
        Kind::Count { least, most } => or_environment(json!({ "type": "integer", "minimum": least, "maximum": most })),
        Kind::Ratio => or_environment(json!({ "type": "number", "minimum": 0, "maximum": 1 })),
        Kind::Switch => or_environment(json!({ "type": "boolean" })),
        Kind::Choice(words) => or_environment(json!({ "enum": words })),
        Kind::Cores => json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 8192 }, text()] }),
        Kind::Name { .. }
        | Kind::Url
        | Kind::Secret
        | Kind::Template
        | Kind::File
        | Kind::Directory
        | Kind::Host
        | Kind::RequestPath
        | Kind::FieldName
        | Kind::Digest
        | Kind::Moment => {
            json!({ "type": "string", "minLength": 1 })
        }
        Kind::Label { .. } | Kind::AccessLog => text(),
        Kind::Headers => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Members => json!({ "type": "object" }),
        Kind::Address | Kind::ListenOrOff => text(),
        Kind::Files => json!({ "anyOf": [text(), list(text())] }),
        Kind::Listen | Kind::Names { .. } | Kind::Origins | Kind::Endpoints => list(text()),
        Kind::Targets => list(json!({ "anyOf": [text(), object(Table::Target)] })),
        Kind::Credentials => list(json!({ "anyOf": [text(), object(Table::Credential)] })),
        Kind::ModelLimits => list(object(Table::ModelLimits)),
        Kind::ServiceTiers => list(object(Table::ServiceTier)),
        Kind::Budgets => json!({ "anyOf": [object(Table::Budget), list(object(Table::Budget))] }),
        Kind::Money { .. } => or_environment(json!({
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,6})?$" }]
        })),
    }
}
