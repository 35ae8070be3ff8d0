//! Tool calls: when a request asks for one, which tool, and arguments that fit the tool's schema.
//! Pure. Must never send arguments that are not JSON.

use serde_json::{Value, json};

/// Deepest schema that is filled in; below it an empty object must do.
const SCHEMA_DEPTH: usize = 8;

/// Bytes of arguments in one event of a stream.
const PIECE_BYTES: usize = 8;

/// A call of one function.
pub struct ToolCall {
    id: String,
    name: String,
    arguments: String,
}

impl ToolCall {
    /// The call as a whole answer holds it.
    pub fn whole(&self) -> Value {
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}})
    }

    /// The call's first delta in a stream: everything but the arguments.
    pub fn opening(&self) -> Value {
        json!({"index": 0, "id": self.id, "type": "function", "function": {"name": self.name, "arguments": ""}})
    }

    /// The arguments in the pieces a stream sends.
    pub fn pieces(&self) -> Vec<&str> {
        let mut rest = self.arguments.as_str();
        let mut pieces = Vec::new();
        while rest.len() > PIECE_BYTES {
            let (piece, after) = rest.split_at(rest.ceil_char_boundary(PIECE_BYTES));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        pieces
    }
}

/// The call that `body` asks for, if it gives tools and either demands one or its prompt speaks of one.
pub fn choose(body: &Value, prompt: &str, number: u64) -> Option<ToolCall> {
    let tools = body.get("tools")?.as_array()?;
    let functions: Vec<&Value> = tools.iter().filter_map(|tool| tool.get("function")).collect();
    let name_of = |function: &Value| function.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let lower = prompt.to_lowercase();
    let spoken_of = |function: &&&Value| {
        let name = name_of(function).to_lowercase();
        !name.is_empty() && (lower.contains(&name) || lower.contains(&name.replace('_', " ")))
    };
    let function = match body.get("tool_choice") {
        Some(Value::String(choice)) if choice == "none" => return None,
        Some(Value::String(choice)) if choice == "required" => functions.iter().find(spoken_of).or(functions.first())?,
        Some(Value::Object(choice)) => {
            let wanted = choice.get("function")?.get("name")?.as_str()?;
            functions.iter().find(|function| name_of(function) == wanted)?
        }
        _ if lower.contains("tool") => functions.iter().find(spoken_of).or(functions.first())?,
        _ => functions.iter().find(spoken_of)?,
    };
    let arguments = match function.get("parameters") {
        Some(schema) => fill(schema, prompt, 0),
        None => json!({}),
    };
    Some(ToolCall { id: format!("call_demo_{number}"), name: name_of(function), arguments: arguments.to_string() })
}

fn fill(schema: &Value, prompt: &str, depth: usize) -> Value {
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => json!(subject(prompt)),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") => json!([]),
        _ => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let filled = properties.filter(|_| depth < SCHEMA_DEPTH).map(|properties| {
                properties.iter().map(|(name, schema)| (name.clone(), fill(schema, prompt, depth + 1))).collect()
            });
            Value::Object(filled.unwrap_or_default())
        }
    }
}

/// The word a string argument most likely wants: the prompt's last capitalised word after the first, else its last.
fn subject(prompt: &str) -> &str {
    let words = || prompt.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    let proper = words().skip(1).filter(|word| word.starts_with(char::is_uppercase)).last();
    proper.or_else(|| words().next_back()).unwrap_or("nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather(choice: Value) -> Value {
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
        }});
        json!({"tools": [{"type": "function", "function": {"name": "get_weather", "parameters": schema}}], "tool_choice": choice})
    }

    #[test]
    fn arguments_fit_the_schema() {
        let call = choose(&weather(json!("auto")), "Get weather for Paris, please.", 3).unwrap();
        assert_eq!(call.arguments, r#"{"city":"Paris","days":1,"unit":"celsius"}"#);
        assert_eq!(call.pieces().concat(), call.arguments);
        assert_eq!(call.whole()["id"], "call_demo_3");
    }

    #[test]
    fn a_tool_is_called_when_asked_for_and_not_else() {
        let asked = |choice, prompt| choose(&weather(choice), prompt, 1).is_some();
        assert!(asked(json!(null), "use a tool"));
        assert!(asked(json!("required"), "hello"));
        assert!(asked(json!({"type": "function", "function": {"name": "get_weather"}}), "hello"));
        assert!(!asked(json!({"type": "function", "function": {"name": "other"}}), "hello"));
        assert!(!asked(json!("none"), "use a tool"));
        assert!(!asked(json!("auto"), "hello"));
        assert!(choose(&json!({"tools": "odd"}), "tool", 1).is_none());
        assert!(choose(&json!({"tools": [1, {"function": 2}]}), "tool", 1).is_some_and(|call| call.name.is_empty()));
    }

    #[test]
    fn a_schema_without_end_is_filled_to_a_bound() {
        let mut schema = json!({"type": "string"});
        for _ in 0..100 {
            schema = json!({"type": "object", "properties": {"inner": schema}});
        }
        assert!(fill(&schema, "x", 0).to_string().len() < 200);
    }
}
