//! Which model a client asks for: the one of exactly this name, else the one whose name is the most specific pattern that fits. A pattern
//! has one `*`, which stands for one character at least.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::{Model, Target};
use crate::config::value;
use crate::limits::MODEL_BYTES;

/// What a name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedModel<'n> {
    /// Its index in the snapshot.
    pub model: usize,
    /// What the `*` in its name stands for.
    pub star: Option<&'n str>,
}

/// All models by their names.
#[derive(Clone, Debug, Default)]
pub struct ModelNames {
    exact: HashMap<Box<[u8]>, usize>,
    /// What stands before and behind the star; those with the most characters first.
    patterns: Vec<(Box<str>, Box<str>, usize)>,
}

impl ModelNames {
    /// Of two equal names the first one wins.
    pub fn of(models: &[Model]) -> ModelNames {
        let mut names = ModelNames::default();
        for (index, model) in models.iter().enumerate() {
            match model.name.split_once('*') {
                Some((before, behind)) => names.patterns.push((before.into(), behind.into(), index)),
                None => _ = names.exact.entry(model.name.as_bytes().into()).or_insert(index),
            }
        }
        names.patterns.sort_by_key(|(before, behind, _)| usize::MAX - before.len() - behind.len());
        names
    }

    /// What a client asks for as `name` (the exact bytes).
    pub fn asked<'n>(&self, name: &'n [u8]) -> Option<AskedModel<'n>> {
        if let Some(model) = self.exact.get(name) {
            return Some(AskedModel { model: *model, star: None });
        }
        // What goes upstream, and into logs, is a name as one in the configuration could be.
        if self.patterns.is_empty() || name.len() > MODEL_BYTES {
            return None;
        }
        let name = std::str::from_utf8(name).ok().filter(|text| value::name(text, MODEL_BYTES).is_ok())?;
        self.patterns.iter().find_map(|(before, behind, model)| {
            let star = name.strip_prefix(&**before)?.strip_suffix(&**behind).filter(|star| !star.is_empty())?;
            Some(AskedModel { model: *model, star: Some(star) })
        })
    }
}

impl Model {
    /// Whether its name stands for many.
    pub fn is_pattern(&self) -> bool {
        self.name.contains('*')
    }

    /// What clients call it; `star` is what the `*` in its name stands for.
    pub fn asked_name(&self, star: Option<&str>) -> Cow<'_, str> {
        filled(&self.name, star)
    }
}

impl Target {
    /// What it is called at the backend; `None` forwards the client's name.
    pub fn name_there(&self, star: Option<&str>) -> Option<Cow<'_, str>> {
        self.model.as_ref().map(|name| filled(name, star))
    }
}

fn filled<'a>(name: &'a str, star: Option<&str>) -> Cow<'a, str> {
    match star {
        Some(star) => Cow::Owned(name.replacen('*', star, 1)),
        None => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::load::load;

    #[test]
    fn the_most_specific_name_is_asked_for() {
        let names = ["*", "openai/*", "openai/gpt-4o", "openai/*-mini", "*-x"];
        let model = |name: &&str| format!("[[model]]\nname = \"{name}\"\nbackends = [\"b\"]\n");
        let text =
            names.iter().map(model).collect::<String>() + "[[backend]]\nname = \"b\"\nurl = \"http://127.0.0.1:1\"\n";
        let nothing = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        let snapshot = load(&text, Path::new("x.toml"), &|_| None, &nothing).unwrap_or_else(|told| panic!("{told}"));
        for (asked, found) in [
            ("openai/gpt-4o", Some(("openai/gpt-4o", None))),
            ("openai/gpt-5", Some(("openai/*", Some("gpt-5")))),
            ("openai/gpt-5-mini", Some(("openai/*-mini", Some("gpt-5")))),
            ("openai/-mini", Some(("openai/*", Some("-mini")))),
            ("openai/", Some(("*", Some("openai/")))),
            ("claude-x", Some(("*-x", Some("claude")))),
            ("openai/*", Some(("openai/*", Some("*")))),
            ("é", Some(("*", Some("é")))),
            ("", None),
            ("a\r\nb", None),
            ("a\"b", None),
            (&"a".repeat(1_000_000), None),
        ] {
            let told = snapshot.asked(asked.as_bytes()).map(|asked| (&*snapshot.models[asked.model].name, asked.star));
            assert_eq!(told, found, "{asked:.40}");
        }
        assert_eq!(snapshot.asked(b"\xff"), None);
        let pattern = &snapshot.models[1];
        assert_eq!((&*pattern.asked_name(Some("gpt-5")), pattern.is_pattern()), ("openai/gpt-5", true));
    }
}
