//! `ringway template`: which prompt templates a configuration has, and what comes out of one. Starts nothing.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::{ConfigurationFile, EXIT_STATUS, Failure, print};
use crate::config::load::{Loaded, load_file};
use crate::config::snapshot::Snapshot;
use crate::cores::origin::{Copies, stored};
use crate::cores::secure;
use crate::prompts::{PromptLibrary, Rendered};

const EXAMPLES: &str = "\
Examples:
  ringway template list
  ringway template render support --var product=Ringway --json 'questions=[\"Why?\"]'
  ringway template render support --version 2026-11 --var product=Ringway -c ringway.toml";

/// Show prompt templates, and what comes out of them
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every template with its version and variables
    List {
        #[command(flatten)]
        file: ConfigurationFile,
    },
    /// The messages of a template, as requests get them
    Render {
        /// Its name
        name: String,
        /// Its version, instead of the default one
        #[arg(long)]
        version: Option<String>,
        /// A variable that is a text
        #[arg(long = "var", value_name = "NAME=TEXT")]
        texts: Vec<String>,
        /// A variable of any kind
        #[arg(long = "json", value_name = "NAME=JSON")]
        values: Vec<String>,
        #[command(flatten)]
        file: ConfigurationFile,
    },
}

/// # Errors
/// The configuration's problems, or why the template cannot be rendered.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::List { file } => print(&list(&snapshot(file)?.prompts)),
        Action::Render { name, version, texts, values, file } => {
            let variables = variables(texts, values)?;
            let snapshot = snapshot(file)?;
            let most = snapshot.server.body_max_bytes as usize;
            let rendered = snapshot.prompts.render(name, version.as_deref(), Some(variables.as_bytes()), most);
            print(&shown(&rendered.map_err(|fault| Failure::other(fault.to_string()))?))
        }
    }
}

fn snapshot(file: &ConfigurationFile) -> Result<Snapshot, Failure> {
    let look = secure::look();
    Ok(match load_file(&file.path, &look)? {
        Loaded::Here(snapshot) => *snapshot,
        Loaded::Elsewhere(own) => stored(&own, Copies::Ignored, &look)?.snapshot,
    })
}

/// The variables as a JSON object.
fn variables(texts: &[String], values: &[String]) -> Result<String, Failure> {
    let mut all = Map::new();
    let parts = |given: &String| match given.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::other(format!("\"{given}\" is no variable; write NAME=VALUE"))),
    };
    for given in texts {
        let (name, text) = parts(given)?;
        all.insert(name, Value::String(text));
    }
    for given in values {
        let (name, text) = parts(given)?;
        let value = serde_json::from_str(&text)
            .map_err(|error| Failure::other(format!("the variable {name} is not JSON: {error}")))?;
        all.insert(name, value);
    }
    Ok(Value::Object(all).to_string())
}

fn list(library: &PromptLibrary) -> String {
    let mut out = String::new();
    for (index, template) in library.templates().iter().enumerate() {
        let mark = if library.is_standard(index) { " (default)" } else { "" };
        out.push_str(&format!("{} {}{mark}\n", template.name, template.version));
        for variable in &template.variables {
            match template.defaults.get(variable) {
                Some(default) => out.push_str(&format!("  {variable} = {default}\n")),
                None => out.push_str(&format!("  {variable}\n")),
            }
        }
    }
    if out.is_empty() { "no prompt template\n".to_owned() } else { out }
}

fn shown(rendered: &Rendered) -> String {
    let message = |(role, text): &(crate::prompts::Role, String)| {
        format!("--- {}\n{}\n", role.label(), text.trim_end_matches('\n'))
    };
    rendered.messages.iter().map(message).collect()
}
