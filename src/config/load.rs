//! From the text of a file, or of a store, to a snapshot, or to everything that is wrong with it, at once.
//! Owns the order of the steps and nothing else: parse, read each table, check across tables, assemble.
//! It never panics on any text, reads the environment and files only through its arguments, and keeps no secret.

use std::cell::RefCell;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use strum::VariantNames;
use toml::de::DeTable;

use super::bootstrap::{Bootstrap, bootstrap};
use super::check::{self, Credentials, Names, Tenants};
use super::keys::Table;
use super::pem::{Look, no_look};
use super::problem::{Problems, Report, Second};
use super::reader::{Reader, header, why_unreadable};
use super::section::Value;
use super::shown::Secrets;
use super::snapshot::{Singles, Snapshot, SourceWord, Written, read};
use super::tables::{Tables, tables};
use crate::limits::CONFIG_BYTES;

/// Largest file that a configuration refers to: a secret, certificates. A system's bundle of authorities has about
/// 250 KiB; what would hurt (a log, a device) is far above.
const REFERRED_FILE_BYTES: u64 = 4 << 20;

/// What a file says.
#[derive(Debug)]
pub enum Loaded {
    /// It is the whole configuration.
    Here(Box<Snapshot>),
    /// It says where the configuration is.
    Elsewhere(Box<Bootstrap>),
}

/// Reads the file at `path` with the environment and the files of this process; `look` says what is wrong with
/// certificates and keys.
///
/// # Errors
/// Everything that is wrong with it; a file that cannot be read is one problem.
pub fn load_file(path: &Path, look: &Look<'_>) -> Result<Loaded, Problems> {
    load_from(read_bounded(path, CONFIG_BYTES), path, look)
}

/// As `load_file`, from standard input or its like.
///
/// # Errors
/// As `load_file`'s.
pub fn load_input(input: impl Read, look: &Look<'_>) -> Result<Loaded, Problems> {
    load_from(bounded(input, CONFIG_BYTES), Path::new("standard input"), look)
}

fn load_from(text: io::Result<String>, path: &Path, look: &Look<'_>) -> Result<Loaded, Problems> {
    let text = text.map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::FileTooLarge => format!("the file has over {CONFIG_BYTES} bytes"),
            _ => format!("cannot read the file: {}", why_unreadable(&error)),
        };
        Problems::unreadable(path, what, "check the path; `ringway config sample` prints a file to start from")
    })?;
    of_this_process(path, |environment, files| load_with(&text, path, None, environment, files, look))
}

/// Reads `text`, which a store has at the place `called`, with what `own` says besides.
///
/// # Errors
/// Everything that is wrong, with its place there or in the node's own file.
pub fn load_document(own: &Bootstrap, called: &str, text: &str, look: &Look<'_>) -> Result<Snapshot, Problems> {
    let place = Path::new(called);
    let loaded =
        of_this_process(&own.path, |environment, files| load_with(text, place, Some(own), environment, files, look))?;
    match loaded {
        Loaded::Here(snapshot) => Ok(*snapshot),
        Loaded::Elsewhere(_) => Err(Problems::unreadable(place, "it leads elsewhere".to_owned(), TO_A_STORE)),
    }
}

const TO_A_STORE: &str = "where the configuration is stands in each node's own file: take config.source out";

/// Loads with the environment and the files of this process, and notes those that were read.
fn of_this_process(
    path: &Path,
    load: impl FnOnce(&dyn Fn(&str) -> Option<String>, &dyn Fn(&Path) -> io::Result<String>) -> Result<Loaded, Problems>,
) -> Result<Loaded, Problems> {
    let environment = |name: &str| std::env::var(name).ok();
    let read = RefCell::new(vec![path.to_owned()]);
    let files = |path: &Path| {
        read.borrow_mut().push(path.to_owned());
        read_bounded(path, REFERRED_FILE_BYTES)
    };
    let mut loaded = load(&environment, &files)?;
    let mut files = read.into_inner();
    files.sort_unstable();
    files.dedup();
    match &mut loaded {
        Loaded::Here(snapshot) => snapshot.files = files,
        Loaded::Elsewhere(own) => own.files = files,
    }
    Ok(loaded)
}

/// Reads `text`, which came from `path` (for messages only), without a look at certificates.
///
/// `environment` gives a variable's value, `files` the text of a secret's or a certificate's file.
///
/// # Errors
/// Everything that is wrong, sorted by place. Where the text is broken TOML, what seems to be missing is not reported,
/// since it may be out of reach.
pub fn load(
    text: &str,
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Snapshot, Problems> {
    match load_with(text, path, None, environment, files, &no_look)? {
        Loaded::Here(snapshot) => Ok(*snapshot),
        Loaded::Elsewhere(_) => Err(Problems::unreadable(path, "it leads elsewhere".to_owned(), TO_A_STORE)),
    }
}

/// `own`: what a node's own file says; then `text` is what a store has.
fn load_with(
    text: &str,
    path: &Path,
    own: Option<&Bootstrap>,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &dyn Fn(&Path) -> io::Result<String>,
    look: &Look<'_>,
) -> Result<Loaded, Problems> {
    // Behind the text, so that a place tells in which of the two it is.
    let start = text.len() + 1;
    let second = own.map(|own| Second { path: &own.path, text: &own.text, start });
    let mut report = Report::new(text, second);
    let mut reader = Reader { report: &mut report, base: 0, environment, files };
    let own_text = own.map(|own| " ".repeat(start) + &own.text);
    let own_root = match own_text.as_deref().map(DeTable::parse).transpose() {
        Ok(root) => root,
        Err(error) => {
            syntax(&error, &mut reader);
            return Err(report.finish(path));
        }
    };
    let mut tables = match DeTable::parse(text) {
        Ok(root) => tables(root.get_ref(), own_root.as_ref().map(|root| root.get_ref()), &mut reader),
        Err(error) => {
            broken(text, &error, &mut reader);
            return Err(report.finish(path));
        }
    };
    let is_elsewhere =
        matches!(tables.config.value("source"), Some(Value::Choice(word)) if *word != SourceWord::VARIANTS[0]);
    let loaded = if own.is_none() && is_elsewhere {
        bootstrap(&mut tables, path, text, &mut report).map(|own| Loaded::Elsewhere(Box::new(own)))
    } else {
        assemble(tables, look, &mut report).map(|snapshot| Loaded::Here(Box::new(snapshot)))
    };
    match loaded {
        Some(loaded) if report.is_clean() => Ok(loaded),
        _ => {
            if report.is_clean() {
                // Cannot happen while the tests pass: they load every key.
                report.add(0, "", "a key's row and its use disagree", "report this as a bug");
            }
            Err(report.finish(path))
        }
    }
}

/// Reports what is wrong with a text that is no TOML. Each table is looked at on its own, so that a bracket or quote
/// that is missing in one says nothing about the others; `first` is told when every table alone is whole.
fn broken(text: &str, first: &toml::de::Error, reader: &mut Reader<'_, '_>) {
    reader.report.broken = true;
    let mut told = false;
    for part in parts(text) {
        reader.base = part.start;
        match DeTable::parse(&text[part]) {
            // A part that is whole means what it says: values never come from a neighbour's unclosed array, where a
            // message could repeat a secret.
            Ok(root) => drop(tables(root.get_ref(), None, reader)),
            Err(error) => {
                syntax(&error, reader);
                told = true;
            }
        }
    }
    if !told {
        reader.base = 0;
        syntax(first, reader);
    }
}

fn syntax(error: &toml::de::Error, reader: &mut Reader<'_, '_>) {
    let at = reader.base + error.span().map_or(0, |span| span.start);
    // The message alone: the error's own form would repeat the line, which may hold a secret.
    let what = format!("this is not TOML: {}", error.message().replace('\n', ", "));
    reader.report.add(at, "", what, "fix the syntax here; what follows in the same table was not checked");
}

/// The text in front of the first table, and each table with the tables inside it. Lines that look like a header
/// inside a string are taken for one; that can only happen in a text that is refused anyway.
fn parts(text: &str) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let name = line.strip_prefix("[[").or_else(|| line.strip_prefix('[')).unwrap_or("");
        let name = &name[..name.find([']', '#', '\n']).unwrap_or(name.len())];
        if name.starts_with(|first: char| first.is_ascii_alphabetic()) && !name.contains('.') {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

fn read_bounded(path: &Path, most_bytes: u64) -> io::Result<String> {
    bounded(std::fs::File::open(path)?, most_bytes)
}

fn bounded(input: impl Read, most_bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    input.take(most_bytes + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most_bytes {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

fn assemble(mut tables: Tables, look: &Look<'_>, report: &mut Report<'_>) -> Option<Snapshot> {
    for (table, sections) in [(Table::Backend, &tables.backends), (Table::Model, &tables.models)] {
        if sections.is_empty() {
            let what = format!("there is no {}", header(table));
            report.add_absence(0, table.name(), what, "add one; `ringway config sample` shows how");
        }
    }
    let (shown, compared) = (tables.shown(Secrets::Masked), tables.shown(Secrets::Hashed));
    let backend_names = Names::of(Table::Backend, &tables.backends, report);
    let model_names = Names::of(Table::Model, &tables.models, report);
    Names::of(Table::Tenant, &tables.tenants, report);
    let template_names = Names::of_versions(Table::Template, &tables.templates);

    let tenancy = if tables.tenants.is_empty() { Tenants::None } else { Tenants::Some };
    let mut server = read::server(&mut tables.server, &model_names, tenancy, report);
    let mut listen = server.as_ref().map_or_else(Vec::new, |server| server.listen.clone());
    let listeners: Vec<_> = tables.listeners.iter_mut().map(|section| read::listener(section, look, report)).collect();
    for (address, _) in listeners.iter().flatten() {
        check::listeners("listener.address", &listen, std::slice::from_ref(address), tenancy, report);
        listen.push(address.value.clone());
    }
    if let Some(server) = &mut server {
        server.listeners = listeners.iter().flatten().map(|(_, settings)| settings.clone()).collect();
    }
    let admin = read::admin(&mut tables.admin, &listen, report);
    let metrics = read::metrics(&mut tables.metrics);
    let traces = read::traces(&mut tables.traces, report);
    let config = read::config(&mut tables.config, report);
    let log = read::log(&mut tables.log);
    let cores = read::cores(&mut tables.cores, report);
    let cache = read::cache(&mut tables.cache, report);
    let limits = read::limit_rules(&mut tables.limits, report);
    let cors = read::cors(&mut tables.cors, report);
    let redis = read::redis(&mut tables.redis, report);
    // One that was reported is nobody's default.
    let cache_ttl_ms = cache.as_ref().map_or(1, |cache| cache.ttl_ms);
    // Collected with their gaps first, so that a broken one hides nothing about the others.
    let backends: Vec<_> = tables.backends.iter_mut().map(|section| read::backend(section, look, report)).collect();
    let models: Vec<_> = tables
        .models
        .iter_mut()
        .map(|section| read::model(section, &backend_names, &backends, &model_names, cache_ttl_ms, report))
        .collect();
    // One that was reported may have had a price.
    let pricing = match models.iter().all(|model| model.as_ref().is_some_and(|model| model.price.is_free())) {
        true => read::Pricing::None,
        false => read::Pricing::Some,
    };
    let prompts = read::templates(&mut tables.templates, report);
    let mut credentials = Credentials::default();
    let tenants: Vec<_> = tables
        .tenants
        .iter_mut()
        .map(|section| read::tenant(section, &model_names, &template_names, pricing, &mut credentials, report))
        .collect();

    let singles =
        [&tables.server, &tables.admin, &tables.metrics, &tables.config, &tables.log, &tables.cores, &tables.cache];
    let singles = singles.into_iter().chain([&tables.limits, &tables.cors, &tables.traces]);
    let repeated = tables.listeners.iter().chain(&tables.backends).chain(&tables.models).chain(&tables.tenants);
    for section in singles.chain(repeated).chain(&tables.templates) {
        section.report_fault(report);
    }
    listeners.into_iter().collect::<Option<Vec<_>>>()?;
    let singles = Singles {
        server: server?,
        admin: admin?,
        metrics: metrics?,
        traces: traces?,
        config: config?,
        log: log?,
        cores: cores?,
        cache: cache?,
        redis: redis?,
        limits: limits?,
        cors: cors?,
    };
    Some(Snapshot::assemble(
        singles,
        backends.into_iter().collect::<Option<_>>()?,
        models.into_iter().collect::<Option<_>>()?,
        tenants.into_iter().collect::<Option<_>>()?,
        prompts?,
        Written { shown, compared },
    ))
}
