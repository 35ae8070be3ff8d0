//! What is shown, and what keys do to it. Pure: the state of the node and the keys are passed in.

use std::cmp::Ordering;
use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::control::admin::status::{Backend, Core, Model, Status, Tenant};

/// Values kept for the line of requests.
const HISTORY: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Go,
    Quit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Backends,
    Cores,
    Models,
    Tenants,
}

/// The order of a table: which of its columns, and whether the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub column: usize,
    pub is_reversed: bool,
}

/// The columns to sort by, the first one at the start: what wants attention comes first.
impl Table {
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Table::Backends => &["state", "name", "in flight", "attempts/s", "failed/s"],
            Table::Cores => &["core", "busy", "requests/s", "messages/s"],
            Table::Models => &["requests/s", "name", "waiting"],
            Table::Tenants => &["requests/s", "name", "tokens/s", "failed"],
        }
    }
}

pub struct View {
    pub status: Status,
    /// Requests a second, the newest last.
    pub requests: VecDeque<f64>,
    pub focus: Table,
    /// In the lower right corner.
    pub corner: Table,
    /// The selected row of each table, and its order.
    selected: [usize; 4],
    orders: [Order; 4],
    /// Whether the selected backend is looked into.
    pub is_open: bool,
    paused: bool,
    /// Why the last answer is missing.
    pub trouble: Option<String>,
}

impl View {
    pub fn new(status: Status) -> View {
        View {
            requests: VecDeque::from([status.traffic.requests_per_second]),
            status,
            focus: Table::Backends,
            corner: Table::Tenants,
            selected: [0; 4],
            orders: [Order::default(); 4],
            is_open: false,
            paused: false,
            trouble: None,
        }
    }

    /// The node's answer, or why there is none: then the last one stays.
    pub fn take(&mut self, answer: Result<Status, String>) {
        match answer {
            Ok(status) => {
                if self.requests.len() == HISTORY {
                    self.requests.pop_front();
                }
                self.requests.push_back(status.traffic.requests_per_second);
                (self.status, self.trouble) = (status, None);
            }
            Err(why) => self.trouble = Some(why),
        }
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    pub fn key(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Go;
        }
        let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc if self.is_open => self.is_open = false,
            _ if is_interrupt => return Next::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Tab => self.focus = self.beside(1),
            KeyCode::BackTab => self.focus = self.beside(2),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Home => self.selected[self.focus as usize] = 0,
            KeyCode::End => self.step(isize::MAX),
            KeyCode::Enter => (self.focus, self.is_open) = (Table::Backends, !self.is_open),
            KeyCode::Char('s') => {
                let order = &mut self.orders[self.focus as usize];
                *order = Order { column: (order.column + 1) % self.focus.columns().len(), is_reversed: false };
            }
            KeyCode::Char('r') => {
                let order = &mut self.orders[self.focus as usize];
                order.is_reversed = !order.is_reversed;
            }
            KeyCode::Char('m') => {
                let other = if self.corner == Table::Tenants { Table::Models } else { Table::Tenants };
                if self.focus == self.corner {
                    self.focus = other;
                }
                self.corner = other;
            }
            KeyCode::Char('p') => self.paused = !self.paused,
            _ => {}
        }
        Next::Go
    }

    fn beside(&self, steps: usize) -> Table {
        let shown = [Table::Backends, Table::Cores, self.corner];
        let at = shown.iter().position(|table| *table == self.focus).unwrap_or(0);
        shown[(at + steps) % shown.len()]
    }

    fn step(&mut self, by: isize) {
        let last = self.rows(self.focus).saturating_sub(1);
        let place = &mut self.selected[self.focus as usize];
        *place = place.saturating_add_signed(by).min(last);
    }

    fn rows(&self, table: Table) -> usize {
        match table {
            Table::Backends => self.status.backends.len(),
            Table::Cores => self.status.cores.len(),
            Table::Models => self.status.models.len(),
            Table::Tenants => self.status.tenants.len(),
        }
    }

    /// The selected row, if the table has any.
    pub fn selected(&self, table: Table) -> Option<usize> {
        let last = self.rows(table).checked_sub(1)?;
        Some(self.selected[table as usize].min(last))
    }

    pub fn order(&self, table: Table) -> Order {
        self.orders[table as usize]
    }

    pub fn backends(&self) -> Vec<&Backend> {
        let severity = |backend: &Backend| match backend.state.as_str() {
            "tripped" => 0,
            "probing" => 1,
            _ => 2,
        };
        self.sorted(Table::Backends, &self.status.backends, |column, a, b| match column {
            0 => severity(a).cmp(&severity(b)).then_with(|| a.name.cmp(&b.name)),
            2 => b.requests_in_flight.cmp(&a.requests_in_flight),
            3 => b.attempts_per_second.total_cmp(&a.attempts_per_second),
            4 => b.failed_attempts_per_second.total_cmp(&a.failed_attempts_per_second),
            _ => a.name.cmp(&b.name),
        })
    }

    pub fn cores(&self) -> Vec<&Core> {
        self.sorted(Table::Cores, &self.status.cores, |column, a, b| match column {
            1 => b.busy_ratio.total_cmp(&a.busy_ratio),
            2 => b.requests_per_second.total_cmp(&a.requests_per_second),
            3 => b.messages_per_second.total_cmp(&a.messages_per_second),
            _ => a.core.cmp(&b.core),
        })
    }

    pub fn models(&self) -> Vec<&Model> {
        self.sorted(Table::Models, &self.status.models, |column, a, b| match column {
            0 => b.requests_per_second.total_cmp(&a.requests_per_second).then_with(|| a.name.cmp(&b.name)),
            2 => b.queue_depth.cmp(&a.queue_depth),
            _ => a.name.cmp(&b.name),
        })
    }

    pub fn tenants(&self) -> Vec<&Tenant> {
        self.sorted(Table::Tenants, &self.status.tenants, |column, a, b| match column {
            0 => b.requests_per_second.total_cmp(&a.requests_per_second).then_with(|| a.name.cmp(&b.name)),
            2 => b.tokens_per_second.total_cmp(&a.tokens_per_second),
            3 => b.failures.cmp(&a.failures),
            _ => a.name.cmp(&b.name),
        })
    }

    fn sorted<'a, T>(&self, table: Table, rows: &'a [T], compare: impl Fn(usize, &T, &T) -> Ordering) -> Vec<&'a T> {
        let Order { column, is_reversed } = self.order(table);
        let mut rows: Vec<&T> = rows.iter().collect();
        rows.sort_by(|a, b| if is_reversed { compare(column, b, a) } else { compare(column, a, b) });
        rows
    }
}
