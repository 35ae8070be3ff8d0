//! `ringway import`: converts another gateway's configuration. Reads only the file that it is given; reports what
//! cannot be converted, and copies no secret.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{EXIT_STATUS, Failure, note, print};
use crate::config::load::load;
use plan::Plan;
use yaml::Leftovers;

mod additions;
mod deployment;
mod litellm;
mod plan;
mod provider;
mod yaml;

const EXAMPLES: &str = "\
Examples:
  ringway import litellm config.yaml --output ringway.toml
  ringway import litellm - < config.yaml | less

What cannot be carried over is told on standard error and stands as comments at the end of the result. Keys become
references to the environment. An output file that exists already is left alone.";

/// Largest file to import.
const FILE_BYTES: u64 = 1 << 20;

/// Convert another gateway's configuration
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// The YAML file of LiteLLM's proxy
    #[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
    Litellm {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where to write the configuration; standard output if absent
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// # Errors
/// When the file cannot be read or is no configuration of that gateway, or the output cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Source::Litellm { file, output } = &arguments.source;
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let text = read(file).map_err(|error| Failure::other(format!("cannot read {name}: {error}")))?;
    let (result, left) = import(&text, &name).map_err(|refused| {
        for line in refused.left {
            note(&format!("{name}: {line}"));
        }
        Failure::other(refused.why)
    })?;
    match output {
        Some(path) => {
            write(path, &result).map_err(|error| Failure::other(format!("cannot write {}: {error}", path.display())))?
        }
        None => print(&result)?,
    }
    for line in left {
        note(&format!("{name}: {line}"));
    }
    Ok(())
}

/// Why the import failed, and what was left out until then.
#[derive(Debug)]
struct Refused {
    why: String,
    left: Vec<String>,
}

/// The configuration for a LiteLLM file, and what is not in it.
fn import(text: &str, name: &str) -> Result<(String, Vec<String>), Refused> {
    let root = yaml::parse(text).map_err(|why| Refused { why: format!("{name}:{why}"), left: Vec::new() })?;
    let mut left = Leftovers::default();
    match litellm::read(&root, name, &mut left) {
        Ok(plan) => {
            let mut left = left.lines();
            left.extend(problems(&plan));
            Ok((plan.toml(&left), left))
        }
        Err(why) => Err(Refused { why: format!("{name}: {why}"), left: left.lines() }),
    }
}

/// What `ringway check` will report once the environment is set, such as an invalid URL.
fn problems(plan: &Plan) -> Vec<String> {
    let example = |name: &str| {
        let variable = plan.variables.iter().find(|variable| variable.name == name);
        variable.map(|variable| variable.example.to_owned())
    };
    let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    match load(&plan.toml(&[]), Path::new("result"), &example, &nothing) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.to_string().lines().map(|line| format!("to be fixed: {line}")).collect(),
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().lock().take(FILE_BYTES + 1).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(file)?.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    }
    if text.len() as u64 > FILE_BYTES {
        return Err(io::Error::other(format!("it has over {FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// Writes a new file that only its owner can read; leaves none if that fails.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // A partial configuration is worse than none; the first error is the one reported.
        let _ = std::fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests;
