//! A YAML text as a tree whose nodes know their lines, and mappings that track which keys were read. Pure. Keys that
//! were not read are reported, so that nothing is lost silently.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Deepest nesting; configurations stay below 10 levels.
const DEPTH: usize = 64;

/// The value of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Yaml {
    Null,
    Switch(bool),
    Integer(i64),
    Fraction(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A value and its line, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: u64,
    pub value: Yaml,
}

/// What is not in the result or needs manual work: line, place, explanation.
#[derive(Debug, Default)]
pub struct Leftovers(Vec<(u64, String, String)>);

impl Leftovers {
    pub fn add(&mut self, line: u64, place: &str, what: impl Into<String>) {
        self.0.push((line, place.to_owned(), what.into()));
    }

    /// One line each, in the order of the file.
    pub fn lines(mut self) -> Vec<String> {
        self.0.sort();
        self.0.dedup();
        self.0.into_iter().map(|(line, place, what)| plain(&format!("line {line}: {place}: {what}"))).collect()
    }
}

/// Reads a text of one document.
///
/// # Errors
/// What is wrong with it, with line and column. The text itself is not repeated: it may hold secrets.
pub fn parse(text: &str) -> Result<Node, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH, flow_nesting_limit: DEPTH },
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Yaml>>(text, options) {
        Ok(root) => Ok(Node::from(root)),
        Err(error) => {
            // The library's message starts with the location, which is given already.
            let what = error.without_snippet().to_string();
            let what = what.lines().next().unwrap_or("it cannot be read").to_owned();
            Err(match error.location() {
                Some(place) => format!("{}:{}: not YAML: {}", place.line(), place.column(), plain(&what)),
                None => format!("1:1: not YAML: {}", plain(&what)),
            })
        }
    }
}

/// Without control characters, and on one line.
pub fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

impl From<Spanned<Yaml>> for Node {
    fn from(spanned: Spanned<Yaml>) -> Node {
        Node { line: spanned.referenced.line(), value: spanned.value }
    }
}

impl Node {
    /// Text as it is, and numbers and booleans as spelled; `None` for other values.
    pub fn text(&self) -> Option<String> {
        match &self.value {
            Yaml::Text(text) => Some(text.clone()),
            Yaml::Integer(number) => Some(number.to_string()),
            Yaml::Fraction(number) => Some(number.to_string()),
            Yaml::Switch(on) => Some(on.to_string()),
            Yaml::Null | Yaml::List(_) | Yaml::Map(_) => None,
        }
    }

    /// A number above zero, also in quotes.
    pub fn number(&self) -> Option<f64> {
        let number = match &self.value {
            Yaml::Integer(number) => *number as f64,
            Yaml::Fraction(number) => *number,
            Yaml::Text(text) => text.parse().ok()?,
            _ => return None,
        };
        (number.is_finite() && number >= 0.0).then_some(number)
    }

    /// LiteLLM reads YAML 1.1, which has more words for booleans.
    pub fn switch(&self) -> Option<bool> {
        match &self.value {
            Yaml::Switch(on) => Some(*on),
            Yaml::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn list(&self) -> Option<&[Node]> {
        if let Yaml::List(nodes) = &self.value { Some(nodes) } else { None }
    }

    pub fn map(&self) -> Option<&[(String, Node)]> {
        if let Yaml::Map(entries) = &self.value { Some(entries) } else { None }
    }
}

/// A mapping being read: keys are taken one by one, and the rest is reported at the end.
pub struct Fields<'n> {
    place: String,
    entries: Vec<(&'n str, &'n Node)>,
}

impl<'n> Fields<'n> {
    /// The fields of `node`. If it is not a mapping, reports that and returns `None`; null counts as an empty mapping.
    pub fn of(node: &'n Node, place: &str, left: &mut Leftovers) -> Option<Fields<'n>> {
        let entries = match &node.value {
            Yaml::Map(entries) => entries.iter().map(|(key, value)| (key.as_str(), value)).collect(),
            Yaml::Null => Vec::new(),
            _ => {
                left.add(node.line, place, "is not a mapping; left out");
                return None;
            }
        };
        Some(Fields { place: place.to_owned(), entries })
    }

    pub fn place(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    /// Takes a key. One without a value counts as absent.
    pub fn take(&mut self, key: &str) -> Option<&'n Node> {
        let at = self.entries.iter().position(|(name, _)| *name == key)?;
        let (_, node) = self.entries.remove(at);
        (node.value != Yaml::Null).then_some(node)
    }

    /// Takes a key and reads it; a value of another kind is reported and ignored.
    pub fn read<T>(
        &mut self,
        key: &str,
        kind: &str,
        left: &mut Leftovers,
        read: impl FnOnce(&'n Node) -> Option<T>,
    ) -> Option<T> {
        let node = self.take(key)?;
        let value = read(node);
        if value.is_none() {
            left.add(node.line, &self.place(key), format!("is not {kind}; left out"));
        }
        value
    }

    pub fn text(&mut self, key: &str, left: &mut Leftovers) -> Option<String> {
        self.read(key, "text", left, Node::text)
    }

    pub fn number(&mut self, key: &str, left: &mut Leftovers) -> Option<f64> {
        self.read(key, "a number from 0", left, Node::number)
    }

    /// Reports every key that was not taken, with a reason from `why` if it has one.
    pub fn finish(self, left: &mut Leftovers, why: impl Fn(&str) -> Option<&'static str>) {
        for (key, node) in &self.entries {
            left.add(node.line, &self.place(key), why(key).unwrap_or("has no counterpart; left out"));
        }
    }
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Yaml, D::Error> {
        source.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Yaml;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, source: D) -> Result<Yaml, D::Error> {
        source.deserialize_any(Tree)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Yaml, E> {
        Ok(Yaml::Switch(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Yaml, E> {
        Ok(Yaml::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Yaml, E> {
        Ok(i64::try_from(number).map_or(Yaml::Fraction(number as f64), Yaml::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Yaml, E> {
        Ok(Yaml::Fraction(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Yaml, E> {
        Ok(Yaml::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Yaml, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = source.next_element::<Spanned<Yaml>>()? {
            nodes.push(Node::from(node));
        }
        Ok(Yaml::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Yaml, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, node)) = source.next_entry::<String, Spanned<Yaml>>()? {
            entries.push((key, Node::from(node)));
        }
        Ok(Yaml::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_lines() {
        let root = parse("a: 1\nb:\n  - x\n  - c: off\n").unwrap();
        let entries = root.map().unwrap();
        assert_eq!((entries[0].1.line, entries[0].1.number()), (1, Some(1.0)));
        let list = entries[1].1.list().unwrap();
        assert_eq!((list[0].line, list[0].text().as_deref()), (3, Some("x")));
        let inner = &list[1].map().unwrap()[0];
        assert_eq!((inner.0.as_str(), inner.1.line, inner.1.switch()), ("c", 4, Some(false)));
    }

    #[test]
    fn bad_yaml_is_refused_with_its_line() {
        for (text, line) in [
            ("a: 1\nb: [1, 2\n", ""),
            ("a: 1\na: 2\n", "2:"),
            ("a:\n  b: \"x\n", ""),
            ("a: 1\nb: [x\n\n}", "2:"),
            ("a: *nobody\n", "1:"),
            ("a: 1\n b: 2\n", "2:"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.starts_with(line) && told.contains("not YAML: "), "{text:?}: {told}");
        }
    }

    #[test]
    fn neither_nesting_nor_aliases_blow_up() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"- ".repeat(100_000)).is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        assert!(parse(&bomb).is_err());
    }

    #[test]
    fn what_nobody_takes_is_told() {
        let root = parse("a: 1\nb: 2\nc:\n").unwrap();
        let mut left = Leftovers::default();
        let mut fields = Fields::of(&root, "top", &mut left).unwrap();
        assert_eq!(fields.number("a", &mut left), Some(1.0));
        assert_eq!(fields.number("c", &mut left), None);
        fields.finish(&mut left, |_| None);
        assert_eq!(left.lines(), ["line 2: top.b: has no counterpart; left out"]);
    }
}
