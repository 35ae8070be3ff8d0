//! Prompt templates, compiled as they are read, so that what is wrong with one is told with its place.

use hashbrown::HashMap;

use crate::config::problem::Report;
use crate::config::section::{Placed, Section};
use crate::prompts::{CompileFault, Definition, PromptLibrary, Role, Standard};

/// Every template of the file. `None`: one was reported.
pub(in crate::config) fn templates(sections: &mut [Section], report: &mut Report<'_>) -> Option<PromptLibrary> {
    let mut library = PromptLibrary::default();
    // Where each version stands, and the marked one of each name.
    let (mut seen, mut marked) = (HashMap::new(), HashMap::new());
    let mut is_whole = true;
    for section in sections {
        let at = section.at;
        let version_at = section.place("version");
        let Some(Read { definition, places, name_at }) = read(section, report) else {
            is_whole = false;
            continue;
        };
        let called = (definition.name.clone(), definition.version.clone());
        if let Some(first) = seen.insert(called, at) {
            let line = report.line(first);
            let what =
                format!("\"{}\" has a version \"{}\" on line {line} already", definition.name, definition.version);
            let place = if version_at == at { name_at } else { version_at };
            report.add(place, "template.version", what, "give each version a name of its own");
            is_whole = false;
            continue;
        }
        if definition.standard == Standard::Marked
            && let Some(first) = marked.insert(definition.name.clone(), at)
        {
            let line = report.line(first);
            let what = format!("the version on line {line} is the default of \"{}\" already", definition.name);
            report.add(name_at, "template.default", what, "mark one version of a name");
        }
        let name = definition.name.clone();
        for fault in library.add(definition).err().into_iter().flatten() {
            is_whole = false;
            match fault {
                CompileFault::Text { role, line, what } => {
                    let place = places.iter().find(|(of, _)| *of == role).map_or(at, |(_, place)| *place);
                    let what = format!("on line {line} of the text: {what}");
                    let remedy = "correct the template; docs/templates.md has the syntax";
                    report.add(place, &format!("template.{}", role.label()), what, remedy);
                }
                CompileFault::Default { variable } => {
                    let what = format!("no text of \"{name}\" has a variable \"{variable}\"");
                    report.add(at, "template.defaults", what, "take it out, or correct its name");
                }
            }
        }
    }
    is_whole.then_some(library)
}

struct Read {
    definition: Definition,
    /// Where each text stands.
    places: Vec<(Role, usize)>,
    name_at: usize,
}

fn read(section: &mut Section, report: &mut Report<'_>) -> Option<Read> {
    let name: Option<Placed<String>> = section.take("name");
    let version = section.take("version");
    let is_marked: Option<bool> = section.take("default");
    let system: Option<Option<Placed<String>>> = section.take_optional("system");
    let user: Option<Option<Placed<String>>> = section.take_optional("user");
    let defaults = section.take_optional("defaults");
    let (system, user, name) = (system?, user?, name?);
    if system.is_none() && user.is_none() {
        report.add_absence(section.at, "template.user", "the template has no text", "add system, user, or both");
        return None;
    }
    let texts: Vec<(Role, Placed<String>)> = [(Role::System, system), (Role::User, user)]
        .into_iter()
        .filter_map(|(role, text)| Some((role, text?)))
        .collect();
    Some(Read {
        places: texts.iter().map(|(role, text)| (*role, text.at)).collect(),
        name_at: name.at,
        definition: Definition {
            name: name.value,
            version: version?,
            standard: if is_marked? { Standard::Marked } else { Standard::IfLast },
            texts: texts.into_iter().map(|(role, text)| (role, text.value)).collect(),
            defaults: defaults?.unwrap_or_default(),
        },
    })
}
