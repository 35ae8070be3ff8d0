//! One table of the file after it was read: typed values by key name.
//! It owns them until `snapshot/read.rs` takes them; every value is taken exactly once.
//! A use without a row, or a row without a use, is remembered as a fault and never panics.

use std::str::FromStr;

use hashbrown::HashMap;
use secrecy::SecretString;

use super::keys::Table;
use super::problem::Report;
use super::snapshot::{AccessLog, CoreChoice, Listen, Moment};
use super::value::Url;

/// A value and the byte offset it stands at.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub at: usize,
    pub value: T,
}

/// A file that the configuration names.
#[derive(Clone, Debug)]
pub(super) struct FilePath {
    pub path: String,
    /// As the configuration spells it, for messages.
    pub spelled: String,
}

/// A value of one of the kinds.
#[derive(Debug)]
pub(super) enum Value {
    Number(u64),
    Switch(bool),
    Choice(&'static str),
    Text(Placed<String>),
    File(Placed<FilePath>),
    Files(Vec<Placed<FilePath>>),
    Secret(SecretString),
    Cores(CoreChoice),
    AccessLog(AccessLog),
    Url(Url),
    Address(Placed<Listen>),
    Listens(Vec<Placed<Listen>>),
    ListenOrOff(Placed<Option<Listen>>),
    Digest(Placed<[u8; 32]>),
    Moment(Moment),
    Names(Vec<Placed<String>>),
    Headers(Vec<(Placed<String>, SecretString)>),
    Members(serde_json::Map<String, serde_json::Value>),
    Sections(Vec<Section>),
}

/// What became of a row.
#[derive(Debug)]
pub(super) enum Slot {
    Value(Value),
    /// Optional and not in the file.
    Absent,
    /// Already reported.
    Broken,
}

/// One table of the file.
#[derive(Debug)]
pub(super) struct Section {
    pub table: Table,
    /// Where its header stands.
    pub at: usize,
    /// With the place of each: the table's own for what is not in the file.
    slots: HashMap<&'static str, (usize, Slot)>,
    /// Uses that have no row, or a row of another kind.
    faults: Vec<&'static str>,
}

/// A Rust type that values of some kinds turn into.
pub(super) trait FromValue: Sized {
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($variant:ident($type:ty)),+ $(,)?) => {
        $(impl FromValue for $type {
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$variant(inner) => Some(inner),
                    _ => None,
                }
            }
        })+
    };
}

from_value!(
    Number(u64),
    Switch(bool),
    Choice(&'static str),
    Text(Placed<String>),
    File(Placed<FilePath>),
    Files(Vec<Placed<FilePath>>),
    Secret(SecretString),
    Cores(CoreChoice),
    AccessLog(AccessLog),
    Url(Url),
    Address(Placed<Listen>),
    Listens(Vec<Placed<Listen>>),
    ListenOrOff(Placed<Option<Listen>>),
    Digest(Placed<[u8; 32]>),
    Moment(Moment),
    Names(Vec<Placed<String>>),
    Headers(Vec<(Placed<String>, SecretString)>),
    Members(serde_json::Map<String, serde_json::Value>),
    Sections(Vec<Section>),
);

impl FromValue for u32 {
    fn from_value(value: Value) -> Option<Self> {
        u64::from_value(value).and_then(|number| number.try_into().ok())
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Option<Self> {
        Placed::<String>::from_value(value).map(|placed| placed.value)
    }
}

impl Section {
    pub fn new(table: Table, at: usize, slots: HashMap<&'static str, (usize, Slot)>) -> Section {
        Section { table, at, slots, faults: Vec::new() }
    }

    /// The value of a key that is required or has a default; `None` if something about it was reported.
    pub fn take<T: FromValue>(&mut self, name: &'static str) -> Option<T> {
        match self.slots.remove(name).map(|(_, slot)| slot) {
            Some(Slot::Value(value)) => self.convert(name, value),
            Some(Slot::Broken) => None,
            Some(Slot::Absent) | None => self.fault(name),
        }
    }

    /// The meaning of a choice's word. The row's words and the type's are one declaration; a row with another type's words is
    /// a fault.
    pub fn take_choice<T: FromStr>(&mut self, name: &'static str) -> Option<T> {
        let word: &'static str = self.take(name)?;
        word.parse().ok().or_else(|| self.fault(name))
    }

    /// The value of an optional key; `Some(None)` if it is not in the file.
    pub fn take_optional<T: FromValue>(&mut self, name: &'static str) -> Option<Option<T>> {
        match self.slots.remove(name).map(|(_, slot)| slot) {
            Some(Slot::Value(value)) => self.convert(name, value).map(Some),
            Some(Slot::Absent) => Some(None),
            Some(Slot::Broken) => None,
            None => self.fault(name),
        }
    }

    /// Where the value of a key stands that was not taken yet; the table's place if it is not in the file.
    pub fn place(&self, name: &str) -> usize {
        self.slots.get(name).map_or(self.at, |(at, _)| *at)
    }

    /// Whether a key whose value was not taken yet stands in the file, instead of having its default.
    pub fn is_written(&self, name: &str) -> bool {
        self.place(name) != self.at
    }

    /// The value of `name`, left in place, if it is good.
    pub fn name(&self) -> Option<&Placed<String>> {
        match self.slots.get("name") {
            Some((_, Slot::Value(Value::Text(placed)))) => Some(placed),
            _ => None,
        }
    }

    /// The value of a key, left in place, if it is good.
    pub fn value(&self, name: &str) -> Option<&Value> {
        match self.slots.get(name) {
            Some((_, Slot::Value(value))) => Some(value),
            _ => None,
        }
    }

    /// Reports a row without a use, or a use without a row. Only while nothing else is wrong: a table that was given
    /// up half-way has values left.
    pub fn report_fault(&self, report: &mut Report<'_>) {
        let fault = self.faults.first().or_else(|| self.slots.keys().next());
        if let Some(name) = fault.filter(|_| report.is_clean()) {
            let path = format!("{}.{name}", self.table.name());
            report.add(self.at, &path, "its row and its use disagree", "report this as a bug");
        }
    }

    fn convert<T: FromValue>(&mut self, name: &'static str, value: Value) -> Option<T> {
        T::from_value(value).or_else(|| self.fault(name))
    }

    fn fault<T>(&mut self, name: &'static str) -> Option<T> {
        self.faults.push(name);
        None
    }
}
