//! `ringway top`: a live view of a running node in the terminal, from its admin listener.

mod draw; // a view to a screen
mod numbers; // numbers to text
mod view; // what is shown, and what keys do

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event};

use self::view::{Next, View};
use super::node::Node;
use super::{EXIT_STATUS, Failure, note, print};
use crate::control::admin::client::Client;

/// How often the node is asked: it looks at its cores once a second.
const EVERY: Duration = Duration::from_secs(1);
/// What `--once` draws, in columns and rows.
const ONCE: (u16, u16) = (120, 50);

const EXAMPLES: &str = "\
Examples:
  ringway top
  ringway top --admin unix:/run/ringway/admin.sock
  RINGWAY_ADMIN_TOKEN=... ringway top --admin http://10.0.0.7:9901
  ringway top --once
  ringway top --json | jq .traffic.requests_per_second

Keys: Tab next table, arrows select, Enter look into a backend, s next order, r reverse it, m models or tenants, p pause, q quit.
Rates and percentiles are those of the last five seconds.";

/// Watch a running node: cores, traffic, latency, cache, backends, tenants
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(flatten)]
    node: Node,
    /// Print the state once as text, and end; takes two seconds, since rates need them
    #[arg(long)]
    once: bool,
    /// Print the state as JSON, a line a second; with --once, one line
    #[arg(long)]
    json: bool,
}

/// # Errors
/// The node cannot be reached at the start, or there is no terminal.
#[expect(clippy::disallowed_methods, reason = "a command, not a core")]
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let client = arguments.node.client()?;
    let ask = || client.status().map_err(|error| Failure::other(error.to_string()));
    // Being asked makes the node count tenants, too.
    let first = ask()?;
    if arguments.once || arguments.json {
        std::thread::sleep(2 * EVERY);
        loop {
            let status = ask()?;
            match arguments.json {
                // Numbers and strings only: writing them cannot fail.
                true => print(&(serde_json::to_string(&status).unwrap_or_default() + "\n"))?,
                false => print(&without_keys(&text(&View::new(status), ONCE)))?,
            }
            if arguments.once {
                return Ok(());
            }
            std::thread::sleep(EVERY);
        }
    }
    if !io::stdout().is_terminal() {
        return Err(Failure::other("standard output is no terminal: use --once or --json"));
    }
    let mut view = View::new(first);
    // Raw mode and the other screen, until it is dropped or the program panics.
    let mut terminal = ratatui::try_init().map_err(|error| Failure::other(format!("no terminal: {error}")))?;
    let ended = watch(&mut terminal, &client, &mut view);
    if let Err(error) = ratatui::try_restore() {
        note(&format!("the terminal could not be restored: {error}; try `reset`"));
    }
    ended.map_err(|error| Failure::other(format!("the terminal failed: {error}")))
}

#[expect(clippy::disallowed_methods, reason = "a command, not a core")]
fn watch(terminal: &mut ratatui::DefaultTerminal, client: &Client, view: &mut View) -> io::Result<()> {
    let mut asked = Instant::now();
    loop {
        terminal.draw(|frame| draw::draw(frame, view))?;
        // A key is answered at once, also while the node is not.
        while event::poll(EVERY.saturating_sub(asked.elapsed()))? {
            if let Event::Key(key) = event::read()?
                && view.key(key) == Next::Quit
            {
                return Ok(());
            }
            terminal.draw(|frame| draw::draw(frame, view))?;
        }
        asked = Instant::now();
        if !view.is_paused() {
            view.take(client.status().map_err(|error| error.to_string()));
        }
    }
}

/// The view as plain text, without empty lines at the end.
fn text(view: &View, (columns, rows): (u16, u16)) -> String {
    // Drawing to memory cannot fail.
    let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, rows));
    let _ = terminal.draw(|frame| draw::draw(frame, view));
    let buffer = terminal.backend().buffer();
    let symbols: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
    let lines = symbols.chunks(usize::from(columns)).map(|line| line.concat().trim_end().to_owned());
    let lines: Vec<String> = lines.collect();
    let used = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    lines[..used].join("\n") + "\n"
}

/// Without the last line, which has the keys, and the empty ones before it.
fn without_keys(text: &str) -> String {
    let lines = text.trim_end().rsplit_once('\n').map_or("", |(lines, _)| lines);
    format!("{}\n", lines.trim_end())
}

#[cfg(test)]
mod tests;
