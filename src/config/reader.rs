//! Tables of the file against their rows: types, bounds, defaults, unknown keys.
//! Owns nothing: values go into a `Section`, problems into the `Report`.
//! It never looks from one table to another: that is `check`'s work.

mod expected; // what a value is to be, in words
mod outside; // environment and files

use std::io;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

pub(crate) use self::expected::expects;
use self::expected::expects_element;
use super::extra;
use super::foreign;
use super::keys::{Absent, Key, Kind, Shape, Table};
use super::moment;
use super::problem::{Report, nearest, printable};
use super::section::{Placed, Section, Slot, Value};
use super::snapshot::CoreChoice;
use super::value::{self, Wrong};

/// What reading needs from outside: where problems go, and how to reach the environment and files.
pub(super) struct Reader<'a, 'r> {
    pub report: &'r mut Report<'a>,
    /// Byte offset in the file of the text that is read.
    pub base: usize,
    pub environment: &'r dyn Fn(&str) -> Option<String>,
    pub files: &'r dyn Fn(&Path) -> io::Result<String>,
}

/// The rows of a table as they are written.
#[derive(Clone, Copy)]
enum Written<'f, 'd> {
    Table(&'f DeTable<'d>),
    /// A bare text in the place of a table that has nothing but this.
    Short(&'static str, &'f Spanned<DeValue<'d>>),
}

impl<'f, 'd> Written<'f, 'd> {
    fn get(self, name: &str) -> Option<&'f Spanned<DeValue<'d>>> {
        match self {
            Written::Table(fields) => fields.get(name),
            Written::Short(short, value) => (short == name).then_some(value),
        }
    }
}

/// Where a value stands: its own place, or (for a default, which is not in the file) its table's.
#[derive(Clone, Copy)]
enum Origin {
    File,
    Default { at: usize },
}

impl Origin {
    fn at<T>(self, spanned: &Spanned<T>, base: usize) -> usize {
        match self {
            Origin::File => base + spanned.span().start,
            Origin::Default { at } => at,
        }
    }
}

impl Reader<'_, '_> {
    /// Reads `fields`, which stand at `at`, as a `table`.
    pub fn section(&mut self, table: Table, at: usize, fields: &DeTable<'_>) -> Section {
        for (name, _) in fields.iter() {
            if table.key(name.get_ref()).is_none() {
                self.unknown_key(table, self.base + name.span().start, name.get_ref());
            }
        }
        self.rows(table, at, Written::Table(fields))
    }

    fn rows(&mut self, table: Table, at: usize, written: Written<'_, '_>) -> Section {
        let is_there = |key: &Key| written.get(key.name).is_some() || key.absent != Absent::Optional;
        let mut rows = Vec::with_capacity(table.keys().filter(|key| is_there(key)).count());
        let mut absent = 0;
        for (number, key) in table.keys().enumerate() {
            let value = written.get(key.name);
            let place = value.map_or(at, |value| Origin::File.at(value, self.base));
            let slot = match (value, key.absent) {
                (Some(value), _) => self.value(key, &path(key), value, Origin::File).map_or(Slot::Broken, Slot::Value),
                (None, Absent::Optional) => {
                    absent |= 1 << number;
                    continue;
                }
                // No snapshot will be made of it.
                (None, Absent::Default(_)) if self.report.broken => Slot::Broken,
                (None, Absent::Default(text)) => match DeValue::parse(text) {
                    Ok(value) => {
                        self.value(key, &path(key), &value, Origin::Default { at }).map_or(Slot::Broken, Slot::Value)
                    }
                    Err(_) => self.default_fault(at, &path(key)),
                },
                (None, Absent::Required) => {
                    let remedy = format!("add {} = {}", key.name, key.example);
                    self.report.add_absence(at, &path(key), "is required", remedy);
                    Slot::Broken
                }
            };
            rows.push((key.name, place, slot));
        }
        Section::new(table, at, rows, absent)
    }

    fn default_fault(&mut self, at: usize, path: &str) -> Slot {
        self.report.add(at, path, "the default in Ringway's own table of keys is not TOML", "report this as a bug");
        Slot::Broken
    }

    fn unknown_key(&mut self, table: Table, at: usize, name: &str) {
        let path = format!("{}.{name}", table.name());
        let elsewhere = Table::ALL.iter().find(|other| other.key(name).is_some());
        if let Some(meant) = foreign::meant(Some(table), name) {
            return self.report.add(at, &path, "unknown key", meant.remedy());
        }
        // A key of another table, spelled as there, is no slip.
        let remedy = match (elsewhere, nearest(name, table.keys().map(|key| key.name))) {
            (Some(other), _) => format!("{} is a key of {}", printable(name), header(*other)),
            (None, Some(meant)) => format!("did you mean {meant}?"),
            (None, None) => "`ringway config keys` lists every key".to_owned(),
        };
        self.report.add(at, &path, "unknown key", remedy);
    }

    fn value(&mut self, key: &Key, path: &str, value: &Spanned<DeValue<'_>>, origin: Origin) -> Option<Value> {
        let at = origin.at(value, self.base);
        match key.kind {
            Kind::Size { least, most } => {
                let bytes = self.number(key, path, value, at, value::size)?;
                self.within(path, at, bytes, least, most, value::spell_size).map(Value::Number)
            }
            Kind::Duration { least_ms, most_ms } => {
                let ms = self.scalar(key, path, value, at, value::duration_ms)?;
                self.within(path, at, ms, least_ms, most_ms, value::spell_duration).map(Value::Number)
            }
            Kind::DurationOrZero { least_ms, most_ms } => {
                let ms = self.scalar(key, path, value, at, value::duration_ms)?;
                if ms == 0 {
                    return Some(Value::Number(0));
                }
                if ms < least_ms {
                    let remedy = format!("write 0s, or at least {}", value::spell_duration(least_ms));
                    self.report.add(at, path, "is too small", remedy);
                    return None;
                }
                self.within(path, at, ms, least_ms, most_ms, value::spell_duration).map(Value::Number)
            }
            Kind::Count { least, most } => {
                let count = self.number(key, path, value, at, count)?;
                self.within(path, at, count, least, most, |count| count.to_string()).map(Value::Number)
            }
            Kind::Ratio => {
                let millionths = match value.get_ref() {
                    DeValue::Integer(number) => integer(number).and_then(|number| number.checked_mul(1_000_000)),
                    DeValue::Float(number) => match value::ratio(&number.as_str().replace('_', "")) {
                        Ok(millionths) => Some(millionths),
                        Err(Wrong { what, remedy }) => {
                            self.report.add(at, path, what, remedy);
                            return None;
                        }
                    },
                    _ => Some(self.scalar(key, path, value, at, value::ratio)?),
                };
                let millionths = millionths.unwrap_or(u64::MAX);
                self.within(path, at, millionths, 0, 1_000_000, value::spell_money).map(Value::Number)
            }
            Kind::Switch => match value.get_ref() {
                DeValue::Boolean(on) => Some(Value::Switch(*on)),
                _ => self.scalar(key, path, value, at, switch).map(Value::Switch),
            },
            Kind::Choice(words) => self.scalar(key, path, value, at, |text| choice(text, words)).map(Value::Choice),
            Kind::Name { most_bytes } => self.name(key, path, value, at, most_bytes).map(Value::Text),
            Kind::Label { most_bytes } => {
                let text = self.scalar(key, path, value, at, |text| label(text, most_bytes))?;
                Some(Value::Text(Placed { at, value: text }))
            }
            Kind::Cores => match value.get_ref() {
                DeValue::Integer(_) => {
                    let count = self.number(key, path, value, at, count)?;
                    // The kernel's largest CPU mask, as for the numbers in a list.
                    let count = self.within(path, at, count, 1, 8192, |count| count.to_string())?;
                    Some(Value::Cores(CoreChoice::Count(count as usize)))
                }
                _ => self.scalar(key, path, value, at, value::cores).map(Value::Cores),
            },
            Kind::AccessLog => self.scalar(key, path, value, at, value::access_log).map(Value::AccessLog),
            Kind::Url => self.scalar(key, path, value, at, value::url).map(Value::Url),
            Kind::File => self.file(key, path, value, at).map(Value::File),
            Kind::Files => match value.get_ref() {
                DeValue::Array(_) => self
                    .list(key, path, value, origin, |reader, item, at| reader.file(key, path, item, at))
                    .map(Value::Files),
                _ => self.file(key, path, value, at).map(|file| Value::Files(vec![file])),
            },
            Kind::Directory => self.text(key, path, value, at, value::directory_path),
            Kind::Headers => self.headers(key, path, value, origin).map(Value::Headers),
            Kind::Members => match value.get_ref() {
                DeValue::Table(fields) => self.members(path, at, fields).map(Value::Members),
                other => self.mistyped(key, path, other, at),
            },
            Kind::Host => self.text(key, path, value, at, value::host),
            Kind::RequestPath => self.text(key, path, value, at, value::request_path),
            Kind::FieldName => self.text(key, path, value, at, value::field_name),
            Kind::Secret => self.secret(key, path, value, at).map(Value::Secret),
            Kind::Template => self.template(key, path, value, at).map(Value::Text),
            Kind::Listen => self
                .list(key, path, value, origin, |reader, item, at| {
                    let value = reader.scalar(key, path, item, at, value::listen)?;
                    Some(Placed { at, value })
                })
                .map(Value::Listens),
            Kind::Address => {
                let value = self.scalar(key, path, value, at, value::listen)?;
                Some(Value::Address(Placed { at, value }))
            }
            Kind::ListenOrOff => {
                let listen = self.scalar(key, path, value, at, value::listen_or_off)?;
                Some(Value::ListenOrOff(Placed { at, value: listen }))
            }
            Kind::Digest => {
                let digest = self.scalar(key, path, value, at, value::digest)?;
                Some(Value::Digest(Placed { at, value: digest }))
            }
            Kind::Moment => self.scalar(key, path, value, at, moment::moment).map(Value::Moment),
            Kind::Names { most_bytes } => self
                .list(key, path, value, origin, |reader, item, at| reader.name(key, path, item, at, most_bytes))
                .map(Value::Names),
            Kind::Targets => self.sections(key, path, value, origin, Table::Target),
            Kind::Credentials => self.sections(key, path, value, origin, Table::Credential),
            Kind::ModelLimits => self.sections(key, path, value, origin, Table::ModelLimits),
            Kind::ServiceTiers => self.sections(key, path, value, origin, Table::ServiceTier),
            Kind::Budgets => match value.get_ref() {
                DeValue::Table(fields) => Some(Value::Sections(vec![self.section(Table::Budget, at, fields)])),
                _ => self.sections(key, path, value, origin, Table::Budget),
            },
            Kind::Money { least, most } => {
                let millionths = match value.get_ref() {
                    DeValue::Integer(number) => integer(number).and_then(|units| units.checked_mul(1_000_000)),
                    _ => Some(self.scalar(key, path, value, at, value::money)?),
                };
                // Below 0, or far too large.
                let millionths = millionths.unwrap_or(u64::MAX);
                self.within(path, at, millionths, least, most, value::spell_money).map(Value::Number)
            }
            Kind::Origins => self.texts(key, path, value, origin, value::origin),
            Kind::Endpoints => self.texts(key, path, value, origin, value::endpoint),
        }
    }

    /// A table of header fields.
    fn headers(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        origin: Origin,
    ) -> Option<Vec<(Placed<String>, secrecy::SecretString)>> {
        let at = origin.at(value, self.base);
        let DeValue::Table(fields) = value.get_ref() else {
            return self.mistyped(key, path, value.get_ref(), at);
        };
        let mut read: Vec<Option<(Placed<String>, secrecy::SecretString)>> = Vec::new();
        for (name, value) in fields {
            let at = origin.at(value, self.base);
            let path = format!("{path}.{}", printable(name.get_ref()));
            let name = match extra::header_name(name.get_ref()) {
                Ok(value) => Some(Placed { at, value }),
                Err(Wrong { what, remedy }) => {
                    self.report.add(at, &path, what, remedy);
                    None
                }
            };
            let value = self.secret(key, &path, value, at);
            read.push(name.zip(value));
        }
        read.into_iter().collect()
    }

    /// A table as the members of a JSON object.
    fn members(
        &mut self,
        path: &str,
        at: usize,
        fields: &DeTable<'_>,
    ) -> Option<serde_json::Map<String, serde_json::Value>> {
        match extra::members(fields, extra::JSON_LEVELS) {
            Ok(members) => Some(members),
            Err(Wrong { what, remedy }) => {
                self.report.add(at, path, what, remedy);
                None
            }
        }
    }

    /// A non-empty array of nested tables. A bare text is short for a table with nothing but that.
    fn sections(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        origin: Origin,
        table: Table,
    ) -> Option<Value> {
        self.list(key, path, value, origin, |reader, item, at| match (item.get_ref(), table.short()) {
            (DeValue::Table(fields), _) => Some(reader.section(table, at, fields)),
            (DeValue::String(_), Some(short)) => Some(reader.rows(table, at, Written::Short(short, item))),
            (other, _) => reader.mistyped(key, path, other, at),
        })
        .map(Value::Sections)
    }

    /// A non-empty array; `None` if it, or any element, was reported.
    fn list<T>(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        origin: Origin,
        mut element: impl FnMut(&mut Self, &Spanned<DeValue<'_>>, usize) -> Option<T>,
    ) -> Option<Vec<T>> {
        let at = origin.at(value, self.base);
        let DeValue::Array(items) = value.get_ref() else {
            return self.mistyped(key, path, value.get_ref(), at);
        };
        if items.is_empty() && !key.may_be_empty() {
            let remedy = match key.absent {
                Absent::Required => format!("write {} = {}", key.name, key.example),
                Absent::Optional | Absent::Default(_) => format!("name one, or leave {} out", key.name),
            };
            self.report.add(at, path, "the list is empty", remedy);
            return None;
        }
        // Collected first, so that every element is looked at though one is wrong.
        let read: Vec<Option<T>> = items.iter().map(|item| element(self, item, origin.at(item, self.base))).collect();
        read.into_iter().collect()
    }

    fn name(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        at: usize,
        most_bytes: usize,
    ) -> Option<Placed<String>> {
        let text = self.scalar(key, path, value, at, |text| label(text, most_bytes))?;
        if text.is_empty() {
            self.report.add(at, path, "is empty", "write a name");
            return None;
        }
        Some(Placed { at, value: text })
    }

    /// A non-empty array of texts that `parse` reads as what they stand for.
    fn texts(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        origin: Origin,
        parse: fn(&str) -> Result<String, Wrong>,
    ) -> Option<Value> {
        self.list(key, path, value, origin, |reader, item, at| {
            let value = reader.scalar(key, path, item, at, parse)?;
            Some(Placed { at, value })
        })
        .map(Value::Names)
    }

    /// Text that `parse` reads as what it stands for.
    fn text(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        at: usize,
        parse: impl FnOnce(&str) -> Result<String, Wrong>,
    ) -> Option<Value> {
        let text = self.scalar(key, path, value, at, parse)?;
        Some(Value::Text(Placed { at, value: text }))
    }

    /// An integer, or text that `parse` reads.
    fn number(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        at: usize,
        parse: impl FnOnce(&str) -> Result<u64, Wrong>,
    ) -> Option<u64> {
        let DeValue::Integer(number) = value.get_ref() else {
            return self.scalar(key, path, value, at, parse);
        };
        let number = integer(number);
        if number.is_none() {
            self.report.add(at, path, "a number below 0 or far too large", format!("write {}", expects(key.kind)));
        }
        number
    }

    /// Text that `parse` reads, after the environment was put in.
    fn scalar<T>(
        &mut self,
        key: &Key,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        at: usize,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let DeValue::String(raw) = value.get_ref() else {
            return self.mistyped(key, path, value.get_ref(), at);
        };
        let text = self.expand(path, at, raw)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(Wrong { what, remedy }) => {
                // What the environment says may be a secret in the wrong place: only the file's own text is repeated.
                let what = if text == raw.as_ref() {
                    what
                } else {
                    format!("\"{}\" does not stand for {}", printable(raw), expects_element(key.kind))
                };
                self.report.add(at, path, what, remedy);
                None
            }
        }
    }

    fn within(
        &mut self,
        path: &str,
        at: usize,
        number: u64,
        least: u64,
        most: u64,
        spell: fn(u64) -> String,
    ) -> Option<u64> {
        if (least..=most).contains(&number) {
            return Some(number);
        }
        let remedy = format!("write {} to {}", spell(least), spell(most));
        // A number from the environment is not repeated either; the bounds tell enough.
        let what = if number < least { "is too small" } else { "is too large" };
        self.report.add(at, path, what, remedy);
        None
    }

    fn mistyped<T>(&mut self, key: &Key, path: &str, found: &DeValue<'_>, at: usize) -> Option<T> {
        let remedy = match (found, key.kind) {
            (DeValue::Integer(_), Kind::Duration { .. } | Kind::DurationOrZero { .. }) => {
                "write it with its unit, such as \"30s\"".to_owned()
            }
            _ => format!("write {}", expects(key.kind)),
        };
        let what = match found {
            DeValue::Integer(_) => "found an integer".to_owned(),
            DeValue::Array(_) => "found an array".to_owned(),
            other => format!("found a {}", other.type_str()),
        };
        self.report.add(at, path, what, remedy);
        None
    }
}

/// The dotted name of a key.
pub(super) fn path(key: &Key) -> String {
    format!("{}.{}", key.table.name(), key.name)
}

/// A table's name as its header spells it.
pub(super) fn header(table: Table) -> String {
    match table.shape() {
        Shape::Single => format!("[{}]", table.name()),
        Shape::Repeated => format!("[[{}]]", table.name()),
        Shape::Nested => format!("the elements of {}", table.name()),
    }
}

/// Why a file could not be read, in words for a person.
pub(super) fn why_unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        io::ErrorKind::FileTooLarge => "it is far too large".to_owned(),
        kind => kind.to_string(),
    }
}

/// The value of a TOML integer; `None` below 0 or above 64 bits.
fn integer(number: &DeInteger<'_>) -> Option<u64> {
    let digits: String = number.as_str().chars().filter(|c| *c != '_').collect();
    u64::from_str_radix(&digits, number.radix()).ok()
}

/// `"a", "b" or "c"`.
fn count(text: &str) -> Result<u64, Wrong> {
    text.parse().map_err(|_| Wrong {
        what: format!("\"{}\" is not a number", printable(text)),
        remedy: "write an integer".to_owned(),
    })
}

fn switch(text: &str) -> Result<bool, Wrong> {
    text.parse().map_err(|_| Wrong {
        what: format!("\"{}\" is neither true nor false", printable(text)),
        remedy: "write true or false".to_owned(),
    })
}

fn choice(text: &str, words: &'static [&'static str]) -> Result<&'static str, Wrong> {
    words.iter().find(|word| **word == text).copied().ok_or_else(|| Wrong {
        what: format!("\"{}\" is not a choice", printable(text)),
        remedy: nearest(text, words.iter().copied()).map_or_else(
            || format!("write {}", expects(Kind::Choice(words))),
            |meant| format!("did you mean \"{meant}\"?"),
        ),
    })
}

fn label(text: &str, most_bytes: usize) -> Result<String, Wrong> {
    value::name(text, most_bytes).map(|()| text.to_owned())
}
