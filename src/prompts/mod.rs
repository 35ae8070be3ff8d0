//! Prompt templates: named, with versions, compiled when the configuration is read, rendered with a request's variables.
//! Owned by the snapshot; each core has a copy of its own. Must never reach a file or another template, run without a bound,
//! or leave out a variable that was not given.

mod render; // a request's variables into a template
mod trial; // what a template calls that is not there

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Map, Value as Json};

pub use self::render::{RenderFault, Rendered};
use crate::limits::{PROMPT_FUEL, PROMPT_NESTING};

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    User,
}

impl Role {
    /// The key of the configuration, and the role in a request.
    pub fn label(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
        }
    }
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileFault {
    /// In the text of this message, on this line of it.
    Text { role: Role, line: usize, what: String },
    /// There is a default for a variable that no text has.
    Default { variable: String },
}

/// Whether requests that name no version get this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    Marked,
    /// If it is the last one of its name, and no other one is marked.
    IfLast,
}

/// A template before it is compiled.
#[derive(Clone, Debug)]
pub struct Definition {
    pub name: String,
    pub version: String,
    pub standard: Standard,
    /// In the order of the messages.
    pub texts: Vec<(Role, String)>,
    /// Of variables that a request may leave out.
    pub defaults: Map<String, Json>,
}

/// One version of a template.
#[derive(Debug)]
pub struct PromptTemplate {
    pub name: Box<str>,
    pub version: Box<str>,
    /// Of each message, and what its text is called in the engine.
    texts: Vec<(Role, String)>,
    /// Everything that its texts take from a request.
    pub variables: BTreeSet<String>,
    pub defaults: Map<String, Json>,
}

/// The versions of one name, in the order of the configuration.
#[derive(Clone, Debug, Default)]
struct Versions {
    all: Vec<usize>,
    standard: Option<usize>,
}

/// All templates of a configuration. A copy has the compiled texts in common with its original, and nothing that is written.
#[derive(Clone, Debug, Default)]
pub struct PromptLibrary {
    /// None while there is no template: most configurations have none.
    engine: Option<Environment<'static>>,
    templates: Vec<Arc<PromptTemplate>>,
    by_name: HashMap<Box<str>, Versions>,
}

impl PromptLibrary {
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// In the order of the configuration.
    pub fn templates(&self) -> &[Arc<PromptTemplate>] {
        &self.templates
    }

    /// Whether requests for its name that say no version get the one at `index`.
    pub fn is_standard(&self, index: usize) -> bool {
        let versions = self.templates.get(index).and_then(|template| self.by_name.get(&*template.name));
        versions.and_then(Versions::standard) == Some(index)
    }

    /// Compiles a template and adds it. The caller has checked that no other has its name and version. Errors: everything
    /// that is wrong with it; then it is not added.
    pub fn add(&mut self, definition: Definition) -> Result<(), Vec<CompileFault>> {
        let Definition { name, version, standard, texts, defaults } = definition;
        let engine = self.engine.get_or_insert_with(engine);
        let (mut called, mut variables, mut faults) = (Vec::new(), BTreeSet::new(), Vec::new());
        for (role, text) in texts {
            let own = format!("{}:{}", self.templates.len(), role.label());
            match engine.add_template_owned(own.clone(), text) {
                Ok(()) => {}
                Err(error) => {
                    faults.push(CompileFault::of(role, &error));
                    continue;
                }
            }
            let Ok(compiled) = engine.get_template(&own) else { continue };
            let globals: BTreeSet<&str> = engine.globals().map(|(name, _)| name).collect();
            let mut found = compiled.undeclared_variables(false);
            found.retain(|name| !globals.contains(name.as_str()));
            faults.extend(trial::unknown(&compiled, &found).map(|error| CompileFault::of(role, &error)));
            variables.extend(found);
            called.push((role, own));
        }
        if faults.is_empty() {
            let unused = defaults.keys().filter(|name| !variables.contains(*name));
            faults.extend(unused.map(|name| CompileFault::Default { variable: name.clone() }));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let index = self.templates.len();
        let versions = self.by_name.entry(name.as_str().into()).or_default();
        versions.all.push(index);
        if standard == Standard::Marked {
            versions.standard = Some(index);
        }
        let (name, version) = (name.into(), version.into());
        self.templates.push(Arc::new(PromptTemplate { name, version, texts: called, variables, defaults }));
        Ok(())
    }
}

impl Versions {
    fn standard(&self) -> Option<usize> {
        self.standard.or(self.all.last().copied())
    }
}

impl CompileFault {
    fn of(role: Role, error: &minijinja::Error) -> CompileFault {
        let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        CompileFault::Text { role, line: error.line().unwrap_or(1), what }
    }
}

/// Nothing of one template leads to another, or to a file: there is no loader, and `include`, `import` and `extends` are not
/// even built.
fn engine() -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(PROMPT_FUEL));
    engine.set_recursion_limit(PROMPT_NESTING);
    // The function would print all variables; what this switches on is that errors name what is undefined.
    engine.remove_global("debug");
    engine.set_debug(true);
    engine
}

#[cfg(test)]
mod tests;
