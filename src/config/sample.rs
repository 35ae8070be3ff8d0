//! The annotated sample and the reference, both printed from the rows of `keys`.
//! Owns nothing. Neither holds a word about a key that its row does not say.

use super::keys::{Absent, KEYS, Key, Shape, Table};
use super::reader::{expects, header};

/// Width of the sample's comments and of the reference, in columns.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Ringway's configuration with every key. A line with a `#` and no space after it is switched off: it shows
# the default, or an example where there is no default. Take the `#` away to change one, then check the file:
#     ringway check FILE
#
# Sizes are whole numbers and B, KiB, MiB, GiB or TiB. Durations are whole numbers and ms, s, m or h.
# ${NAME} inside any text is taken from the environment; $${ is a plain ${.
#
# This file is generated: `ringway config sample` prints it.
";

/// The annotated sample: a valid configuration in which everything with a default is commented out.
pub fn sample() -> String {
    let mut out = HEAD.to_owned();
    for table in Table::ALL.into_iter().filter(|table| table.shape() != Shape::Nested) {
        out.push('\n');
        wrap(&mut out, "# ", table.doc());
        // The sample asks for no key, since a key printed here would open every gateway that kept it, and has neither certificate
        // nor prompt.
        let off = if matches!(table, Table::Listener | Table::Template | Table::Tenant) { "#" } else { "" };
        out.push_str(&format!("{off}{}\n", header(table)));
        for key in table.keys() {
            out.push('\n');
            wrap(&mut out, "# ", key.doc);
            if let Some(table) = key.kind.nested() {
                for nested in table.keys() {
                    wrap(&mut out, "#   ", &format!("{}: {}", nested.name, nested.doc));
                }
            }
            let (mark, value) = match key.absent {
                Absent::Required => (off, key.example),
                Absent::Default(value) => ("#", value),
                Absent::Optional => ("#", key.example),
            };
            out.push_str(&format!("{mark}{} = {value}\n", key.name));
        }
    }
    out
}

/// The least that is a configuration: the tables without which there is none, and their required keys.
pub fn minimal() -> String {
    let mut out = String::new();
    for table in [Table::Backend, Table::Model] {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("{}\n", header(table)));
        for key in table.keys().filter(|key| key.absent == Absent::Required) {
            out.push_str(&format!("{} = {}\n", key.name, key.example));
        }
    }
    out
}

/// Every key with its type, default, documentation and an example.
pub fn reference() -> String {
    reference_of(|_| true)
}

/// The same of the keys that have `word` in their name or documentation; none if no key has.
pub fn matching(word: &str) -> Option<String> {
    let word = word.to_lowercase();
    let matches = |key: &Key| {
        let path = format!("{}.{}", key.table.name(), key.name);
        path.to_lowercase().contains(&word) || key.doc.to_lowercase().contains(&word)
    };
    KEYS.iter().any(matches).then(|| reference_of(matches))
}

fn reference_of(wanted: impl Fn(&Key) -> bool) -> String {
    let mut out = String::new();
    for table in Table::ALL {
        if !KEYS.iter().any(|key| key.table == table && wanted(key)) {
            continue;
        }
        out.push_str(&format!("{}\n", heading(table)));
        wrap(&mut out, "    ", table.doc());
        out.push('\n');
        for key in KEYS.iter().filter(|key| key.table == table && wanted(key)) {
            let absent = match key.absent {
                Absent::Required => "required".to_owned(),
                Absent::Optional => "optional".to_owned(),
                Absent::Default(value) => format!("default {value}"),
            };
            out.push_str(&format!("  {}.{}\n", table.name(), key.name));
            wrap(&mut out, "      ", &format!("{}; {absent}", expects(key.kind)));
            wrap(&mut out, "      ", key.doc);
            out.push_str(&format!("      Example: {} = {}\n\n", key.name, key.example));
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn heading(table: Table) -> String {
    match table.shape() {
        Shape::Nested => format!("In {}", header(table)),
        Shape::Single | Shape::Repeated => header(table),
    }
}

/// Appends `text` as lines that begin with `prefix`, broken between words.
fn wrap(out: &mut String, prefix: &str, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column == 0 {
            out.push_str(prefix);
            column = prefix.len();
        } else if column + 1 + length > WIDTH {
            out.push('\n');
            out.push_str(prefix);
            column = prefix.len();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    if column > 0 {
        out.push('\n');
    }
}
