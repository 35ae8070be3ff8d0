//! The tables of a text, each read against its rows, before anything is checked across them. Where a node reads from a store
//! there are two texts: what it says itself wins. Owns nothing.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::foreign;
use super::keys::{KEYS, Shape, Table};
use super::problem::{Report, nearest};
use super::reader::{Reader, header};
use super::section::Section;
use super::shown::{self, Secrets};

/// The tables, each read against its rows.
pub(super) struct Tables {
    pub server: Section,
    pub log: Section,
    pub admin: Section,
    pub metrics: Section,
    pub traces: Section,
    pub config: Section,
    pub cores: Section,
    pub cache: Section,
    pub redis: Section,
    pub listeners: Vec<Section>,
    pub limits: Section,
    pub cors: Section,
    pub backends: Vec<Section>,
    pub models: Vec<Section>,
    pub templates: Vec<Section>,
    pub tenants: Vec<Section>,
}

/// Reads every table of `root`. What `own` says of a table that stands once wins, key by key; so do its listeners, all
/// together.
pub(super) fn tables<'t>(root: &'t DeTable<'t>, own: Option<&'t DeTable<'t>>, reader: &mut Reader<'_, '_>) -> Tables {
    if own.is_some() {
        sources(root, reader);
    }
    let listeners = own.filter(|own| own.contains_key(Table::Listener.name())).unwrap_or(root);
    for (name, value) in root.iter() {
        let known = Table::ALL.iter().any(|table| table.shape() != Shape::Nested && table.name() == name.get_ref());
        if !known {
            unknown_table(name, value.get_ref(), reader);
        }
    }
    Tables {
        server: single(Table::Server, root, own, reader),
        log: single(Table::Log, root, own, reader),
        admin: single(Table::Admin, root, own, reader),
        metrics: single(Table::Metrics, root, own, reader),
        traces: single(Table::Traces, root, own, reader),
        config: single(Table::Config, root, own, reader),
        cores: single(Table::Cores, root, own, reader),
        cache: single(Table::Cache, root, own, reader),
        redis: single(Table::Redis, root, own, reader),
        listeners: repeated(Table::Listener, listeners, reader),
        limits: single(Table::Limits, root, own, reader),
        cors: single(Table::Cors, root, own, reader),
        backends: repeated(Table::Backend, root, reader),
        models: repeated(Table::Model, root, reader),
        templates: repeated(Table::Template, root, reader),
        tenants: repeated(Table::Tenant, root, reader),
    }
}

fn unknown_table(name: &Spanned<DeString<'_>>, value: &DeValue<'_>, reader: &mut Reader<'_, '_>) {
    let known = Table::ALL.iter().filter(|table| table.shape() != Shape::Nested);
    let key = KEYS.iter().find(|key| key.name == name.get_ref());
    if let Some(meant) = foreign::meant(None, name.get_ref()) {
        return reader.report.add(
            reader.base + name.span().start,
            name.get_ref(),
            "unknown table or key",
            meant.remedy(),
        );
    }
    // [models] and [[models]] are meant as tables, whatever key has that name.
    let is_table = match value {
        DeValue::Table(_) => true,
        DeValue::Array(elements) => elements.iter().all(|element| matches!(element.get_ref(), DeValue::Table(_))),
        _ => false,
    };
    let remedy = match (nearest(name.get_ref(), known.map(|table| table.name())), key) {
        (Some(meant), _) if is_table => format!("did you mean {meant}?"),
        (_, Some(key)) => format!("put it under {}", header(key.table)),
        (Some(meant), None) => format!("did you mean {meant}?"),
        (None, None) => "`ringway config keys` lists every table and key".to_owned(),
    };
    reader.report.add(reader.base + name.span().start, name.get_ref(), "unknown table or key", remedy);
}

/// Keys of `[config]` that a store cannot have: a node that reads the store knows them already.
fn sources(root: &DeTable<'_>, reader: &mut Reader<'_, '_>) {
    let Some(DeValue::Table(fields)) = root.get(Table::Config.name()).map(Spanned::get_ref) else { return };
    for (name, _) in fields.iter().filter(|(name, _)| !matches!(name.get_ref().as_ref(), "watch" | "refresh")) {
        if Table::Config.key(name.get_ref()).is_some() {
            let what = "says where the configuration is, which stands in each node's own file";
            let path = format!("{}.{}", Table::Config.name(), name.get_ref());
            reader.report.add(name.span().start, &path, what, "take it out here");
        }
    }
}

/// `[table]`; one that is not in the file has its defaults.
fn single<'t>(
    table: Table,
    root: &'t DeTable<'t>,
    own: Option<&'t DeTable<'t>>,
    reader: &mut Reader<'_, '_>,
) -> Section {
    let (at, fields) = fields_of(table, root, reader).unzip();
    match own.and_then(|own| fields_of(table, own, reader)) {
        None => match fields {
            Some(fields) => reader.section(table, at.unwrap_or(0), fields),
            None => reader.section(table, 0, &DeTable::new()),
        },
        Some((own_at, own)) => {
            let mut both = fields.cloned().unwrap_or_default();
            for (name, value) in own.iter() {
                both.insert(name.clone(), value.clone());
            }
            reader.section(table, at.unwrap_or(own_at), &both)
        }
    }
}

/// Where a table that stands once begins, and what is in it.
fn fields_of<'t>(table: Table, root: &'t DeTable<'t>, reader: &mut Reader<'_, '_>) -> Option<(usize, &'t DeTable<'t>)> {
    let value = root.get(table.name())?;
    let at = reader.base + value.span().start;
    match value.get_ref() {
        DeValue::Table(fields) => Some((at, fields)),
        _ => {
            let remedy = format!("write {} once, and its keys below", header(table));
            reader.report.add(at, table.name(), "is not one table", remedy);
            None
        }
    }
}

/// `[[table]]`, any number of them.
fn repeated(table: Table, root: &DeTable<'_>, reader: &mut Reader<'_, '_>) -> Vec<Section> {
    let Some(value) = root.get(table.name()) else { return Vec::new() };
    let base = reader.base;
    let place = |span: Range<usize>| base + span.start;
    let refuse = |at: usize, report: &mut Report<'_>| {
        let remedy = format!("write {} with two brackets for each, and its keys below", header(table));
        report.add(at, table.name(), "is not a list of tables", remedy);
    };
    let mut sections = Vec::new();
    match value.get_ref() {
        DeValue::Array(items) => {
            for item in items.iter() {
                match item.get_ref() {
                    DeValue::Table(fields) => sections.push(reader.section(table, place(item.span()), fields)),
                    _ => refuse(place(item.span()), reader.report),
                }
            }
        }
        // Read all the same, so that what refers to it by name is not reported too.
        DeValue::Table(fields) => {
            refuse(place(value.span()), reader.report);
            sections.push(reader.section(table, place(value.span()), fields));
        }
        _ => refuse(place(value.span()), reader.report),
    }
    sections
}

impl Tables {
    /// Everything, before it is taken.
    pub fn shown(&self, secrets: Secrets) -> serde_json::Value {
        let all =
            |sections: &[Section]| sections.iter().map(|section| shown::table(section, secrets)).collect::<Vec<_>>();
        serde_json::json!({
            "server": shown::table(&self.server, secrets),
            "admin": shown::table(&self.admin, secrets),
            "metrics": shown::table(&self.metrics, secrets),
            "traces": shown::table(&self.traces, secrets),
            "config": shown::table(&self.config, secrets),
            "log": shown::table(&self.log, secrets),
            "cores": shown::table(&self.cores, secrets),
            "cache": shown::table(&self.cache, secrets),
            "redis": shown::table(&self.redis, secrets),
            "listener": all(&self.listeners),
            "limits": shown::table(&self.limits, secrets),
            "cors": shown::table(&self.cors, secrets),
            "backend": all(&self.backends),
            "model": all(&self.models),
            "template": all(&self.templates),
            "tenant": all(&self.tenants),
        })
    }
}
