//! Reloads in the middle of a story: which configuration comes next, who knows of it, and the laws that follow from it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use ringway::exchange::message::Message;
use ringway::net::now_us;
use ringway::upstream::node::NodeGeneration;

use crate::house::{House, Setup, parts};
use crate::ledger::{Book, Ledger, Outcome};
use crate::scenario::{chance, pick};

/// What changes from one configuration to the next.
#[derive(Clone, Debug)]
pub struct Round {
    /// Backends call it by this: it stands in their credential.
    pub number: u64,
    /// Those that stand in it, in this order.
    pub backends: Vec<usize>,
    pub tenants: Vec<usize>,
    /// Settings by which a backend is another one.
    pub timeout_idle_s: u64,
    pub connections_more: u32,
    pub model_more: u32,
}

impl Round {
    pub fn first(setup: &Setup) -> Round {
        let (backends, tenants) = ((0..setup.backends).collect(), (0..setup.tenants).collect());
        Round { number: 1, backends, tenants, timeout_idle_s: 10, connections_more: 0, model_more: 0 }
    }

    /// Another one; tenants leave only where that may be noticed.
    pub fn next(setup: &Setup, number: u64, tenants_leave: bool) -> Round {
        let mut backends: Vec<usize> = (0..setup.backends).collect();
        let turn = pick(&[0, 1, 2]) % setup.backends;
        backends.rotate_left(turn);
        if setup.backends > 1 && chance(50) {
            backends.pop();
        }
        let mut tenants: Vec<usize> = (0..setup.tenants).collect();
        if tenants_leave && setup.tenants > 1 && chance(50) {
            tenants.remove(pick(&[0, 1]));
        }
        Round {
            number,
            backends,
            tenants,
            timeout_idle_s: pick(&[10, 10, 9]),
            connections_more: pick(&[0, 0, 1]),
            model_more: pick(&[0, 0, 1]),
        }
    }
}

/// A generation as the ledger knows it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub tenants: Vec<usize>,
    pub at_us: u64,
    /// When every core had acknowledged it.
    pub in_force_us: Option<u64>,
}

/// Counts the acknowledgements of the cores.
pub struct Acknowledged {
    cores: Vec<Cell<u64>>,
    ledger: Ledger,
}

impl Acknowledged {
    pub fn new(cores: usize, ledger: Ledger) -> Rc<Acknowledged> {
        Rc::new(Acknowledged { cores: (0..cores).map(|_| Cell::new(1)).collect(), ledger })
    }

    pub fn hear(&self, core: usize, number: u64) {
        assert!(number >= self.cores[core].get(), "a core goes back to generation {number}");
        self.cores[core].set(number);
        let least = self.cores.iter().map(Cell::get).min().unwrap_or(1);
        self.ledger.in_force(least);
    }
}

impl House {
    /// Sends every core the next configuration.
    pub fn reload(&self, setup: &Setup, ledger: &Ledger, tenants_leave: bool) {
        let number = self.latest.borrow().number + 1;
        self.send(setup, ledger, Round::next(setup, number, tenants_leave));
    }

    /// Sends every core the first configuration again.
    pub fn restore(&self, setup: &Setup, ledger: &Ledger) {
        let number = self.latest.borrow().number + 1;
        self.send(setup, ledger, Round { number, ..Round::first(setup) });
    }

    /// Sends every core a configuration without this backend.
    pub fn remove(&self, setup: &Setup, ledger: &Ledger, gone: usize) {
        let number = self.latest.borrow().number + 1;
        let backends = (0..setup.backends).filter(|backend| *backend != gone).collect();
        self.send(setup, ledger, Round { number, backends, ..Round::first(setup) });
    }

    fn send(&self, setup: &Setup, ledger: &Ledger, round: Round) {
        let before = self.latest.borrow().clone();
        let next = Arc::new(NodeGeneration::next(&before, parts(setup, &round)));
        assert_eq!(next.number, round.number);
        ledger.sent(Sent { tenants: round.tenants, at_us: now_us(), in_force_us: None });
        self.latest.replace(next.clone());
        for core in 0..self.cores.len() {
            assert!(self.background.post(core, Message::Generation(next.clone())).is_ok(), "a core has mail");
        }
    }
}

/// Each exchange sees one generation, of those that were in force while it went on; and nobody whose tenant is gone from all of
/// these gets an answer.
pub fn check_generations(ledger: &Ledger) {
    ledger.look(|book| {
        for (id, request) in &book.requests {
            let own = || book.calls.iter().filter(|call| call.request_id == *id);
            let (first, last) =
                possible(book, request.asked_us, request.closed_ms.saturating_add(1).saturating_mul(1000));
            if let Some(one) = own().next() {
                let calls = || own().map(|call| format!("\n{call:?}")).collect::<String>();
                assert!(
                    own().all(|call| call.generation == one.generation),
                    "{id} saw several generations:{}",
                    calls()
                );
                let within = (first..=last).contains(&one.generation);
                assert!(within, "{id} was served by generation {}, not {first} to {last}", one.generation);
            }
            let has_tenant = |number: u64| {
                let sent = &book.generations[number as usize - 1];
                sent.tenants.is_empty() || sent.tenants.contains(&request.tenant)
            };
            let answered = matches!(request.outcome, Outcome::Answer { .. } | Outcome::Relayed { .. });
            assert!(!answered || (first..=last).any(has_tenant), "{id} of a tenant that is gone got {request:?}");
            let stranger = request.told.contains("Stranger");
            let refused = matches!(&request.outcome, Outcome::Error { status: 401, code } if code == "invalid_api_key");
            assert!(!refused || stranger || !(first..=last).all(has_tenant), "{id} was refused: {request:?}");
        }
    });
}

/// The generations that a request may have met, of a span in microseconds.
fn possible(book: &Book, from_us: u64, to_us: u64) -> (u64, u64) {
    let in_force = |sent: &Sent| sent.in_force_us.is_some_and(|at_us| at_us < from_us);
    let first = book.generations.iter().rposition(in_force).map_or(1, |place| place as u64 + 1);
    let last = book.generations.iter().rposition(|sent| sent.at_us <= to_us).map_or(1, |place| place as u64 + 1);
    (first, last)
}
