//! `ringway man`: manual pages of the commands and of the configuration file, from the declarations that `--help` and
//! `ringway config keys` print. Writes files only where it is told to.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{EXIT_STATUS, Failure, Line, print};
use crate::config::expects;
use crate::config::keys::{Absent, KEYS, Shape, Table};

const EXAMPLES: &str = "\
Examples:
  ringway man | man -l -
  ringway man --out /usr/local/share/man
  man ringway.toml";

/// Print or write the manual pages
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    /// Write a page per command to FOLDER/man1 and that of the configuration to FOLDER/man5; without it, print ringway(1)
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// # Errors
/// When standard output or a file cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let pages = pages();
    let Some(folder) = &arguments.out else {
        return print(&pages.first().map_or(String::new(), |(_, page)| page.clone()));
    };
    for (name, page) in &pages {
        let section = name.rsplit('.').next().unwrap_or("1");
        let folder = folder.join(format!("man{section}"));
        let path = folder.join(name);
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, page))
            .map_err(|error| Failure::other(format!("cannot write {}: {error}", path.display())))?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

/// Every page by its file name; ringway(1) comes first.
fn pages() -> Vec<(String, String)> {
    let mut line = Line::command();
    line.build();
    let commands = line.clone();
    let mut pages = vec![("ringway.1".to_owned(), page(&Man::new(line).date(DATE)))];
    for command in commands.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = format!("ringway-{}", command.get_name());
        let man = Man::new(command.clone()).title(name.clone()).date(DATE);
        pages.push((format!("{name}.1"), page(&man)));
    }
    pages.push(("ringway.toml.5".to_owned(), of_configuration()));
    pages
}

/// The same build gives the same bytes.
const DATE: &str = "";

fn page(man: &Man) -> String {
    let mut out = Vec::new();
    // A vector takes every byte.
    let _ = man.render(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// ringway.toml(5): every table and key.
fn of_configuration() -> String {
    let mut roff = Roff::new();
    roff.control("TH", ["ringway.toml", "5", DATE, concat!("ringway ", env!("CARGO_PKG_VERSION"))]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("ringway.toml - configuration of the LLM gateway Ringway")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "A TOML file, by default /etc/ringway/ringway.toml. ${NAME} in a string is the value of an environment variable. \
         Unknown keys are errors; `ringway check` reports everything that is wrong, with its place. \
         `ringway config sample` prints a file with every key.",
    )]);
    for table in Table::ALL {
        let heading = match table.shape() {
            Shape::Single => format!("[{}]", table.name()),
            Shape::Repeated => format!("[[{}]]", table.name()),
            Shape::Nested => format!("in {}", table.name()),
        };
        roff.control("SH", [heading.as_str()]);
        roff.text([roman(table.doc())]);
        for key in KEYS.iter().filter(|key| key.table == table) {
            let absent = match key.absent {
                Absent::Required => "required".to_owned(),
                Absent::Optional => "optional".to_owned(),
                Absent::Default(value) => format!("default {value}"),
            };
            roff.control("TP", []);
            roff.text([bold(key.name)]);
            roff.text([roman(format!("{}; {absent}. {}", expects(key.kind), key.doc))]);
            roff.control("br", []);
            roff.text([roman(format!("Example: {} = {}", key.name, key.example))]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("ringway"), roman("(1), "), bold("ringway-check"), roman("(1)")]);
    roff.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_and_each_key_has_its_place() {
        let pages = pages();
        for command in Line::command().get_subcommands().filter(|command| command.get_name() != "help") {
            let name = format!("ringway-{}.1", command.get_name());
            let (_, page) = pages.iter().find(|(page, _)| *page == name).expect("a page for each command");
            assert!(page.contains("Examples"), "{name}");
        }
        let (_, configuration) = pages.iter().find(|(name, _)| name == "ringway.toml.5").expect("a page");
        for key in KEYS {
            // roff spells a hyphen `\-`.
            assert!(configuration.contains(&format!("\\fB{}\\fR", key.name.replace('-', "\\-"))), "{}", key.name);
        }
    }
}
