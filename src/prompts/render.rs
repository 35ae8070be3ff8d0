//! A request's variables into a template: which template, whether they are the ones that it takes, and its messages. Bounded
//! in the work and in the size of what comes out. Owns nothing.

use std::io::{self, Write};

use minijinja::ErrorKind;
use minijinja::value::Value;
use serde_json::{Map, Number, Value as Json};

use super::{PromptLibrary, PromptTemplate, Role};
use crate::limits::PROMPT_VARIABLES_BYTES;

/// Why a request gets no prompt. Always the client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderFault {
    #[error("There is no prompt template '{name}'.")]
    UnknownTemplate { name: String },
    #[error("The prompt template '{name}' has no version '{version}'; it has {known}.")]
    UnknownVersion { name: String, version: String, known: String },
    #[error("The prompt template '{name}' needs the variable '{variable}', which 'prompt.variables' does not have.")]
    Missing { name: String, variable: String },
    #[error("The prompt template '{name}' has no variable '{variable}'; it takes {known}.")]
    Extra { name: String, variable: String, known: String },
    #[error("The variables of the prompt have more than {PROMPT_VARIABLES_BYTES} bytes.")]
    VariablesTooLarge,
    #[error("The variables of the prompt cannot be read: {why}.")]
    Unreadable { why: &'static str },
    #[error("The prompt is longer than a request may be.")]
    TooLong,
    #[error("The prompt takes too much work with these variables.")]
    TooMuchWork,
    #[error("The prompt template '{name}' cannot be rendered with these variables: {what} ({role}, line {line}).")]
    Failed { name: String, what: String, role: &'static str, line: usize },
}

impl RenderFault {
    /// The member of the request that is at fault.
    pub fn param(&self) -> &'static str {
        match self {
            RenderFault::UnknownTemplate { .. } => "prompt.id",
            RenderFault::UnknownVersion { .. } => "prompt.version",
            RenderFault::TooLong | RenderFault::TooMuchWork => "prompt",
            RenderFault::Missing { .. } | RenderFault::Extra { .. } | RenderFault::VariablesTooLarge => {
                "prompt.variables"
            }
            RenderFault::Unreadable { .. } | RenderFault::Failed { .. } => "prompt.variables",
        }
    }
}

/// The messages of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Where its template stands in [`PromptLibrary::templates`].
    pub template: usize,
    pub messages: Vec<(Role, String)>,
}

impl PromptLibrary {
    /// The messages of the template `name`, with `variables` (the bytes of a JSON object); none of them and nothing else may be
    /// missing. Together they have at most `most_bytes`.
    pub fn render(
        &self,
        name: &str,
        version: Option<&str>,
        variables: Option<&[u8]>,
        most_bytes: usize,
    ) -> Result<Rendered, RenderFault> {
        let index = self.find(name, version)?;
        let template = &*self.templates[index];
        let variables = template.values(variables.unwrap_or(b"{}"))?;
        let (mut messages, mut left) = (Vec::with_capacity(template.texts.len()), most_bytes);
        for (role, called) in &template.texts {
            let engine = self.engine.as_ref();
            let Some(compiled) = engine.and_then(|engine| engine.get_template(called).ok()) else { continue };
            let mut out = Bounded { text: Vec::new(), left, is_over: false };
            if let Err(error) = compiled.render_captured_to(variables.clone(), &mut out) {
                return Err(if out.is_over { RenderFault::TooLong } else { template.failed(*role, &error) });
            }
            left = out.left;
            let Ok(text) = String::from_utf8(out.text) else { continue }; // it is made of nothing else
            messages.push((*role, text));
        }
        Ok(Rendered { template: index, messages })
    }

    /// Where the first version of this name stands. Errors: there is none, or `allows` does not want it.
    pub fn first(&self, name: &str, allows: impl Fn(usize) -> bool) -> Result<usize, RenderFault> {
        let first = self.by_name.get(name).and_then(|versions| versions.all.first().copied());
        first.filter(|first| allows(*first)).ok_or_else(|| RenderFault::UnknownTemplate { name: shortened(name) })
    }

    fn find(&self, name: &str, version: Option<&str>) -> Result<usize, RenderFault> {
        let unknown = || RenderFault::UnknownTemplate { name: shortened(name) };
        let versions = self.by_name.get(name).ok_or_else(unknown)?;
        let Some(version) = version else { return versions.standard().ok_or_else(unknown) };
        let found = versions.all.iter().find(|index| *self.templates[**index].version == *version);
        found.copied().ok_or_else(|| {
            let known = listed(versions.all.iter().map(|index| &*self.templates[*index].version));
            RenderFault::UnknownVersion { name: shortened(name), version: shortened(version), known }
        })
    }
}

impl PromptTemplate {
    /// What its texts are rendered with.
    fn values(&self, bytes: &[u8]) -> Result<Value, RenderFault> {
        if bytes.len() > PROMPT_VARIABLES_BYTES {
            return Err(RenderFault::VariablesTooLarge);
        }
        // It was scanned before: what is left is nesting that nobody needs, and text that is not Unicode.
        let given: Map<String, Json> = serde_json::from_slice(bytes).map_err(|_| RenderFault::Unreadable {
            why: "they have text that is not Unicode, or are nested too deeply",
        })?;
        if let Some(variable) = given.keys().find(|name| !self.variables.contains(*name)) {
            let (name, variable) = (self.name.to_string(), shortened(variable));
            return Err(RenderFault::Extra {
                name,
                variable,
                known: listed(self.variables.iter().map(String::as_str)),
            });
        }
        let is_there = |name: &String| given.contains_key(name) || self.defaults.contains_key(name);
        if let Some(variable) = self.variables.iter().find(|name| !is_there(name)) {
            return Err(RenderFault::Missing { name: self.name.to_string(), variable: variable.clone() });
        }
        let left_out = self.defaults.iter().filter(|(name, _)| !given.contains_key(*name));
        let defaults: Vec<(&str, Value)> = left_out.map(|(name, json)| (name.as_str(), value(json))).collect();
        Ok(Value::from_pairs(given.iter().map(|(name, json)| (name.as_str(), value(json))).chain(defaults)))
    }

    fn failed(&self, role: Role, error: &minijinja::Error) -> RenderFault {
        if error.kind() == ErrorKind::OutOfFuel {
            return RenderFault::TooMuchWork;
        }
        let what = error.detail().map_or_else(|| error.kind().to_string(), shortened);
        let (role, line) = (role.label(), error.line().unwrap_or(1));
        RenderFault::Failed { name: self.name.to_string(), what, role, line }
    }
}

/// What templates see of a value.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(is_true) => Value::from(*is_true),
        Json::Number(number) => self::number(number),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(members) => Value::from_pairs(members.iter().map(|(name, json)| (name.as_str(), value(json)))),
    }
}

fn number(number: &Number) -> Value {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(integer), _, _) => Value::from(integer),
        (_, Some(integer), _) => Value::from(integer),
        (_, _, Some(real)) if real.is_finite() => Value::from(real),
        // As it is spelled: a text is all that it can be.
        _ => Value::from(number.to_string()),
    }
}

/// Takes text up to a bound.
struct Bounded {
    text: Vec<u8>,
    left: usize,
    is_over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Characters of a text of the client's that a message repeats.
const REPEATED: usize = 100;
/// Names that a message lists.
const LISTED: usize = 20;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(REPEATED) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.take(LISTED + 1).map(|name| format!("'{name}'")).collect();
    match names.len() {
        0 => "none".to_owned(),
        length if length > LISTED => {
            names.truncate(LISTED);
            format!("{} and others", names.join(", "))
        }
        _ => names.join(", "),
    }
}
