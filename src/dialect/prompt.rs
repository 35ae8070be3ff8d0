//! Requests that name a prompt template (`prompt`, as in OpenAI's responses API): what they ask for, and the same requests with
//! its messages in place of that. Pure functions; all other bytes stay as the client sent them.

use super::Dialect;
use super::facts::{Endpoint, Spelling, Text};
use super::openai::Edits;
use crate::wire::Span;
use crate::wire::json::{Kind, Member, Tape, Value, write_json_string};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptAsked {
    pub id: Text,
    pub version: Option<Text>,
    /// A JSON object.
    pub variables: Option<Span>,
}

/// Why a request gets no prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptFault {
    #[error("You must provide the id of a prompt template.")]
    IdMissing,
    #[error("Invalid type for 'prompt.id': expected a string.")]
    IdType,
    #[error("Invalid type for 'prompt.version': expected a string or null.")]
    VersionType,
    #[error("Invalid type for 'prompt.variables': expected an object or null.")]
    VariablesType,
    #[error("Unknown member of 'prompt': it has id, version and variables.")]
    UnknownMember,
    #[error("Invalid type for 'messages': expected an array.")]
    MessagesType,
    #[error("Invalid type for 'input': expected a string or an array.")]
    InputType,
    #[error("Invalid type for 'system': expected a string or an array.")]
    SystemType,
}

impl PromptFault {
    /// The member at fault.
    pub fn param(self) -> &'static str {
        match self {
            PromptFault::IdMissing | PromptFault::IdType => "prompt.id",
            PromptFault::VersionType => "prompt.version",
            PromptFault::VariablesType => "prompt.variables",
            PromptFault::UnknownMember => "prompt",
            PromptFault::MessagesType => "messages",
            PromptFault::InputType => "input",
            PromptFault::SystemType => "system",
        }
    }
}

/// Whether requests of this endpoint have a place for the messages of a prompt template.
pub fn takes_prompts(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Messages | Endpoint::Responses)
}

/// What a request with an object as its `prompt` asks for. `tape` is the parsed body.
pub fn asked(body: &[u8], tape: &Tape) -> Result<PromptAsked, PromptFault> {
    let (mut id, mut version, mut variables) = (None, None, None);
    for member in tape.root().get(body, "prompt").into_iter().flat_map(Value::members) {
        let value = member.value;
        if member.is_named(body, "id") {
            id = Some(text(value).ok_or(PromptFault::IdType)?);
        } else if member.is_named(body, "version") {
            version = if value.is_null() { None } else { Some(text(value).ok_or(PromptFault::VersionType)?) };
        } else if member.is_named(body, "variables") {
            variables = match value.kind() {
                Kind::Object => Some(value.span()),
                Kind::Null => None,
                _ => return Err(PromptFault::VariablesType),
            };
        } else {
            return Err(PromptFault::UnknownMember);
        }
    }
    Ok(PromptAsked { id: id.ok_or(PromptFault::IdMissing)?, version, variables })
}

fn text(value: Value<'_>) -> Option<Text> {
    let spelling = if value.has_escapes() { Spelling::Escaped } else { Spelling::Plain };
    value.inside().map(|span| Text { span, spelling })
}

impl Dialect {
    /// Appends the request with `messages` (roles and texts) in front of its own, and without its `prompt`. `tape` is the parsed
    /// body.
    pub fn with_prompt(
        self,
        body: &[u8],
        tape: &Tape,
        messages: &[(&str, &str)],
        out: &mut Vec<u8>,
    ) -> Result<(), PromptFault> {
        let apart = self == Dialect::Anthropic;
        let (system, said): (Vec<_>, Vec<_>) = messages.iter().partition(|(role, _)| apart && *role == "system");
        let place = |name| tape.root().members().find(|member| member.is_named(body, name)).map(|member| member.value);
        let mut written = Written::default();
        let said: Vec<String> = said.iter().map(|(role, text)| message(role, text)).collect();
        let (name, fault) = match self {
            Dialect::Responses => ("input", PromptFault::InputType),
            Dialect::OpenAi | Dialect::Anthropic => ("messages", PromptFault::MessagesType),
        };
        match place(name) {
            Some(own) if own.kind() == Kind::Array => written.in_front(own, &said),
            Some(own) if own.kind() == Kind::String && self == Dialect::Responses => {
                let Span { start, end } = own.span();
                let front = format!("[{},{{\"role\":\"user\",\"content\":", said.join(","));
                written.replace(Span { start, end: start }, front);
                written.replace(Span { start: end, end }, "}]".to_owned());
            }
            None => written.add_member(name, &format!("[{}]", said.join(","))),
            Some(_) => return Err(fault),
        }
        if !system.is_empty() {
            let blocks: Vec<String> = system.iter().map(|(_, text)| block(text)).collect();
            let whole = if let [(_, text)] = system[..] { string(text) } else { format!("[{}]", blocks.join(",")) };
            match place("system") {
                Some(own) if own.kind() == Kind::Array => written.in_front(own, &blocks),
                Some(own) if own.inside().is_some_and(|inside| !inside.is_empty()) => {
                    let Span { start, end } = own.span();
                    let front = format!("[{},{{\"type\":\"text\",\"text\":", blocks.join(","));
                    written.replace(Span { start, end: start }, front);
                    written.replace(Span { start: end, end }, "}]".to_owned());
                }
                Some(own) if own.kind() == Kind::String || own.is_null() => written.replace(own.span(), whole),
                None => written.add_member("system", &whole),
                Some(_) => return Err(PromptFault::SystemType),
            }
        }
        let Written { mut parts, members } = written;
        if let Some(span) = own_span(body, tape, if members.is_empty() { Comma::Too } else { Comma::Stays }) {
            parts.push((span, members.join(",")));
        }
        let mut edits = Edits::new();
        parts.iter().for_each(|(span, text)| edits.replace(*span, text.as_bytes()));
        edits.write(body, out);
        Ok(())
    }
}

/// What is written where.
#[derive(Default)]
struct Written {
    parts: Vec<(Span, String)>,
    /// New members, which stand in the place of `prompt`.
    members: Vec<String>,
}

impl Written {
    fn replace(&mut self, span: Span, text: String) {
        self.parts.push((span, text));
    }

    fn add_member(&mut self, name: &str, value: &str) {
        self.members.push(format!("\"{name}\":{value}"));
    }

    /// Puts `elements` in front of those of the array `own`.
    fn in_front(&mut self, own: Value<'_>, elements: &[String]) {
        if elements.is_empty() {
            return;
        }
        let at = own.span().start + 1;
        let comma = if own.elements().next().is_some() { "," } else { "" };
        self.replace(Span { start: at, end: at }, elements.join(",") + comma);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comma {
    /// Is part of it: nothing comes in its place.
    Too,
    Stays,
}

/// The span of the member `prompt`.
fn own_span(body: &[u8], tape: &Tape, comma: Comma) -> Option<Span> {
    let members: Vec<Member<'_>> = tape.root().members().collect();
    let place = members.iter().position(|member| member.is_named(body, "prompt"))?;
    let own = members[place].span();
    Some(match comma {
        Comma::Stays => own,
        Comma::Too if place > 0 => Span { start: members[place - 1].span().end, end: own.end },
        Comma::Too => Span { start: own.start, end: members.get(1).map_or(own.end, |next| next.span().start) },
    })
}

fn message(role: &str, text: &str) -> String {
    format!("{{\"role\":\"{role}\",\"content\":{}}}", string(text))
}

fn block(text: &str) -> String {
    format!("{{\"type\":\"text\",\"text\":{}}}", string(text))
}

fn string(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_json_string(&mut out, text);
    String::from_utf8(out).unwrap_or_default() // it is made of nothing else
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    /// The request with a system and a user message.
    fn spliced(dialect: Dialect, body: &str) -> Result<String, PromptFault> {
        let mut tape = Tape::new();
        json::parse(body.as_bytes(), &mut tape).unwrap();
        let mut out = Vec::new();
        dialect.with_prompt(body.as_bytes(), &tape, &[("system", "S\"1"), ("user", "U\n")], &mut out)?;
        json::parse(&out, &mut tape).unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&out)));
        Ok(String::from_utf8(out).unwrap())
    }

    const S: &str = r#"{"role":"system","content":"S\"1"}"#;
    const U: &str = r#"{"role":"user","content":"U\n"}"#;

    #[test]
    fn messages_stand_in_front_of_the_clients_and_no_other_byte_changes() {
        for (body, expected) in [
            (
                r#"{"model" : "m", "prompt":{"id":"t"} ,"messages":[ {"role":"user","content":"x"} ],"top_k":1e2}"#,
                format!(r#"{{"model" : "m" ,"messages":[{S},{U}, {{"role":"user","content":"x"}} ],"top_k":1e2}}"#),
            ),
            (r#"{ "prompt":{"id":"t"}, "messages":[],"a":1}"#, format!(r#"{{ "messages":[{S},{U}],"a":1}}"#)),
            (r#"{"messages":[ ],"prompt":{}}"#, format!(r#"{{"messages":[{S},{U} ]}}"#)),
            (r#"{"prompt":{}}"#, format!(r#"{{"messages":[{S},{U}]}}"#)),
            (r#"{"a":1, "prompt" : {} , "b":2}"#, format!(r#"{{"a":1, "messages":[{S},{U}] , "b":2}}"#)),
            // Names may be spelled with escapes, and an array may be anything.
            (r#"{"pro\u006dpt":{},"messages":[1,2]}"#, format!(r#"{{"messages":[{S},{U},1,2]}}"#)),
        ] {
            assert_eq!(spliced(Dialect::OpenAi, body).unwrap(), expected, "{body}");
        }
        assert_eq!(spliced(Dialect::OpenAi, r#"{"prompt":{},"messages":null}"#), Err(PromptFault::MessagesType));
    }

    #[test]
    fn anthropics_system_text_has_a_place_of_its_own() {
        let b = r#"{"type":"text","text":"S\"1"}"#;
        for (body, expected) in [
            (r#"{"prompt":{},"messages":[7]}"#, format!(r#"{{"system":"S\"1","messages":[{U},7]}}"#)),
            (r#"{"prompt":{}}"#, format!(r#"{{"messages":[{U}],"system":"S\"1"}}"#)),
            (
                r#"{"system": "own \u00e9","messages":[7],"prompt":{}}"#,
                format!(r#"{{"system": [{b},{{"type":"text","text":"own \u00e9"}}],"messages":[{U},7]}}"#),
            ),
            (r#"{"prompt":{},"system":"","messages":[7]}"#, format!(r#"{{"system":"S\"1","messages":[{U},7]}}"#)),
            (r#"{"prompt":{},"system":null,"messages":[7]}"#, format!(r#"{{"system":"S\"1","messages":[{U},7]}}"#)),
            (r#"{"prompt":{},"system":[8],"messages":[7]}"#, format!(r#"{{"system":[{b},8],"messages":[{U},7]}}"#)),
            (r#"{"prompt":{},"system":[ ],"messages":[7]}"#, format!(r#"{{"system":[{b} ],"messages":[{U},7]}}"#)),
        ] {
            assert_eq!(spliced(Dialect::Anthropic, body).unwrap(), expected, "{body}");
        }
        assert_eq!(spliced(Dialect::Anthropic, r#"{"prompt":{},"system":7}"#), Err(PromptFault::SystemType));
    }

    #[test]
    fn the_input_of_a_response_is_a_text_or_items() {
        for (body, expected) in [
            (r#"{"prompt":{},"input":"own"}"#, format!(r#"{{"input":[{S},{U},{{"role":"user","content":"own"}}]}}"#)),
            (r#"{"input":[7],"prompt":{}}"#, format!(r#"{{"input":[{S},{U},7]}}"#)),
            (r#"{"prompt":{},"store":false}"#, format!(r#"{{"input":[{S},{U}],"store":false}}"#)),
        ] {
            assert_eq!(spliced(Dialect::Responses, body).unwrap(), expected, "{body}");
        }
        assert_eq!(spliced(Dialect::Responses, r#"{"prompt":{},"input":7}"#), Err(PromptFault::InputType));
    }

    #[test]
    fn what_is_asked_for_is_read_strictly() {
        let read = |body: &str| {
            let mut tape = Tape::new();
            json::parse(body.as_bytes(), &mut tape).unwrap();
            asked(body.as_bytes(), &tape).map(|asked| {
                let text =
                    |text: Text| String::from_utf8(text.read(body.as_bytes(), &mut Vec::new()).to_vec()).unwrap();
                (text(asked.id), asked.version.map(text), asked.variables.map(|span| span.of(body.as_bytes()).to_vec()))
            })
        };
        let found = read(r#"{"prompt":{"id":"\u0061b","version":"2","variables":{"x": 1}}}"#).unwrap();
        assert_eq!(found, ("ab".to_owned(), Some("2".to_owned()), Some(br#"{"x": 1}"#.to_vec())));
        let found = read(r#"{"prompt":{"id":"a","version":null,"variables":null}}"#).unwrap();
        assert_eq!(found, ("a".to_owned(), None, None));
        for (body, fault) in [
            (r#"{"prompt":{}}"#, PromptFault::IdMissing),
            (r#"{"prompt":{"id":1}}"#, PromptFault::IdType),
            (r#"{"prompt":{"id":"a","version":2}}"#, PromptFault::VersionType),
            (r#"{"prompt":{"id":"a","variables":[]}}"#, PromptFault::VariablesType),
            (r#"{"prompt":{"id":"a","vars":{}}}"#, PromptFault::UnknownMember),
        ] {
            assert_eq!(read(body), Err(fault), "{body}");
        }
    }
}
