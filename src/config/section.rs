//! One table of the file after it was read: typed values by key name.
//! It owns them until `snapshot/read.rs` takes them; every value is taken exactly once.
//! A use without a row, or a row without a use, is remembered as a fault and never panics.

use std::str::FromStr;

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

/// What became of a row that is in the file, or has a default, or has to be there.
#[derive(Debug)]
pub(super) enum Slot {
    Value(Value),
    /// Already reported.
    Broken,
}

/// A row of a table, its place, which is the table's own for what is not in the file, and what became of it.
pub(super) type Row = (&'static str, usize, Slot);

/// One table of the file. Small: there may be a hundred thousand, with a key each.
#[derive(Debug)]
pub(super) struct Section {
    pub table: Table,
    /// Where its header stands.
    pub at: usize,
    rows: Vec<Row>,
    /// Optional rows that are not in the file and were not asked for: a bit for each, in the order of the table's.
    absent: u64,
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
    pub fn new(table: Table, at: usize, rows: Vec<Row>, absent: u64) -> Section {
        Section { table, at, rows, absent, faults: Vec::new() }
    }

    /// The value of a key that is required or has a default; `None` if something about it was reported.
    pub fn take<T: FromValue>(&mut self, name: &'static str) -> Option<T> {
        match self.remove(name) {
            Some(Slot::Value(value)) => self.convert(name, value),
            Some(Slot::Broken) => None,
            None => self.fault(name),
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
        match self.remove(name) {
            Some(Slot::Value(value)) => self.convert(name, value).map(Some),
            Some(Slot::Broken) => None,
            None => {
                let bit = self.table.keys().position(|key| key.name == name).map_or(0, |place| 1 << place);
                let is_absent = self.absent & bit != 0;
                self.absent &= !bit;
                if is_absent { Some(None) } else { self.fault(name) }
            }
        }
    }

    /// Where the value of a key stands that was not taken yet; the table's place if it is not in the file.
    pub fn place(&self, name: &str) -> usize {
        self.row(name).map_or(self.at, |(_, at, _)| *at)
    }

    /// Whether a key whose value was not taken yet stands in the file, instead of having its default.
    pub fn is_written(&self, name: &str) -> bool {
        self.place(name) != self.at
    }

    /// The value of `name`, left in place, if it is good.
    pub fn name(&self) -> Option<&Placed<String>> {
        match self.value("name") {
            Some(Value::Text(placed)) => Some(placed),
            _ => None,
        }
    }

    /// The value of a key, left in place, if it is good.
    pub fn value(&self, name: &str) -> Option<&Value> {
        match self.row(name) {
            Some((_, _, Slot::Value(value))) => Some(value),
            _ => None,
        }
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|(row, _, _)| *row == name)
    }

    fn remove(&mut self, name: &str) -> Option<Slot> {
        let place = self.rows.iter().position(|(row, _, _)| *row == name)?;
        Some(self.rows.swap_remove(place).2)
    }

    /// Reports a row without a use, or a use without a row. Only while nothing else is wrong: a table that was given
    /// up half-way has values left.
    pub fn report_fault(&self, report: &mut Report<'_>) {
        let absent = || self.table.keys().nth(self.absent.trailing_zeros() as usize).map(|key| key.name);
        let fault = self.faults.first().copied().or_else(|| self.rows.first().map(|row| row.0)).or_else(absent);
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
