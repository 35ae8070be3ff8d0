//! One core: its shard, the exchanges it accepted, the flights it leads. It receives and sends messages. A small
//! version of the gateway's protocol: the reaction of a core to each message, without bytes.

use crate::laws::{End, Ledger, Question};
use crate::messages::{Answer, Exchange, Message, Reply};
use crate::random::Random;
use shards::{Asked, CoreId, Fingerprint, Lookup, Millis, Outcome, Shard, placement};
use std::collections::HashMap;

/// How often an exchange asks before it fetches alone.
const ASKS_MAX: u32 = 3;

pub struct Core {
    pub id: CoreId,
    pub shard: Shard<Answer>,
    pub flights_max: usize,
    stale_ms: u64,
    exchanges: HashMap<Exchange, Running>,
    leads: HashMap<(Fingerprint, u64), Led>,
}

struct Running {
    fingerprint: Fingerprint,
    asks: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asking,
    Leading,
    Following { number: u64 },
    Alone,
}

struct Led {
    /// The exchange that started the flight; it may have left since.
    first: Exchange,
    followers: Vec<(CoreId, Exchange)>,
}

/// The purpose of a fetch.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Flight { fingerprint: Fingerprint, number: u64 },
    Alone { exchange: Exchange },
}

/// How a fetch ends.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Complete {
        serial: u64,
        size_bytes: u64,
        ttl_ms: u64,
    },
    Failed,
    /// The task died, but its guard reported it.
    Vanished,
    /// The task died and nothing was reported.
    VanishedSilently,
}

/// What a core asks of the simulated world.
pub enum Effect {
    Send {
        to: CoreId,
        message: Message,
    },
    Fetch {
        purpose: Purpose,
    },
    /// Wake the exchange after a time if it still follows `number`.
    Wait {
        exchange: Exchange,
        number: u64,
    },
}

/// What the world lends a core for one event.
pub struct Turn<'a> {
    pub now: Millis,
    pub cores: u16,
    pub ledger: &'a mut Ledger,
    pub effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    fn send(&mut self, to: CoreId, message: Message) {
        self.effects.push(Effect::Send { to, message });
    }

    fn owner(&self, fingerprint: &Fingerprint) -> CoreId {
        placement::owner(fingerprint, self.cores)
    }
}

impl Core {
    pub fn new(id: CoreId, random: &mut Random) -> Self {
        let flights_max = 1 + random.below(6) as usize;
        let stale_ms = if random.chance(20) { 0 } else { random.below(600) };
        let shard = Shard::new(2_000 + random.below(20_000), flights_max, stale_ms);
        Self { id, shard, flights_max, stale_ms, exchanges: HashMap::new(), leads: HashMap::new() }
    }

    pub fn accept(&mut self, exchange: Exchange, fingerprint: Fingerprint, turn: &mut Turn<'_>) {
        turn.ledger.began(exchange);
        self.exchanges.insert(exchange, Running { fingerprint, asks: 0, state: State::Asking });
        self.ask(exchange, None, turn);
    }

    /// The client left. A flight continues while another exchange follows it.
    pub fn leave(&mut self, exchange: Exchange, turn: &mut Turn<'_>) {
        let Some(running) = self.end(exchange, None, End::Left, turn) else { return };
        if running.state != State::Leading {
            return;
        }
        let deserted = self.leads.iter().find(|(_, led)| led.first == exchange && led.followers.is_empty());
        if let Some((&(fingerprint, number), _)) = deserted {
            self.leads.remove(&(fingerprint, number));
            let settle = Message::Settle { fingerprint, number, outcome: Outcome::Drop };
            turn.send(turn.owner(&fingerprint), settle);
        }
    }

    /// The exchange's wait for `number` timed out.
    pub fn waited(&mut self, exchange: Exchange, number: u64, turn: &mut Turn<'_>) {
        let follows = |running: &Running| running.state == State::Following { number };
        if self.exchanges.get(&exchange).is_some_and(follows) {
            self.ask(exchange, Some(number), turn);
        }
    }

    pub fn read(&mut self, from: CoreId, message: Message, turn: &mut Turn<'_>) {
        match message {
            Message::Ask { exchange, fingerprint, gave_up } => {
                let reply = self.answer(from, fingerprint, gave_up, turn);
                turn.send(from, Message::Reply { exchange, fingerprint, reply });
            }
            Message::Reply { exchange, fingerprint, reply } => self.handle_reply(exchange, fingerprint, reply, turn),
            Message::Join { exchange, fingerprint, number } => match self.leads.get_mut(&(fingerprint, number)) {
                Some(led) => led.followers.push((from, exchange)),
                None => turn.send(from, Message::Joined { exchange, number, answer: None }),
            },
            Message::Joined { exchange, number, answer } => {
                let state = self.exchanges.get(&exchange).map(|running| running.state);
                // It may have left, or given up on this flight.
                if state == Some(State::Following { number }) {
                    match answer {
                        Some(_) => drop(self.end(exchange, answer, End::Served, turn)),
                        None => self.ask(exchange, None, turn),
                    }
                }
            }
            Message::Settle { fingerprint, number, outcome } => {
                let brought = match &outcome {
                    Outcome::Store { value, ttl_ms, .. } => Some((*value, *ttl_ms)),
                    Outcome::Drop => None,
                };
                let settled = self.shard.settle(fingerprint, number, outcome, turn.now);
                turn.ledger.settled(self.question(from, fingerprint, turn.now), number, brought, settled);
            }
        }
    }

    pub fn fetched(&mut self, purpose: Purpose, fate: Fate, turn: &mut Turn<'_>) {
        match purpose {
            Purpose::Alone { exchange } => {
                let Some(running) = self.exchanges.get(&exchange) else { return };
                let fingerprint = running.fingerprint;
                match fate {
                    Fate::Complete { serial, .. } => {
                        self.end(exchange, Some(Answer { fingerprint, serial }), End::Served, turn)
                    }
                    _ => self.end(exchange, None, End::Failed, turn),
                };
            }
            Purpose::Flight { fingerprint, number } => {
                let Some(led) = self.leads.remove(&(fingerprint, number)) else { return };
                let (answer, outcome) = match fate {
                    Fate::Complete { serial, size_bytes, ttl_ms } => {
                        let value = Answer { fingerprint, serial };
                        (Some(value), Outcome::Store { value, size_bytes, ttl_ms })
                    }
                    _ => (None, Outcome::Drop),
                };
                let end = if answer.is_some() { End::Served } else { End::Failed };
                self.end(led.first, answer, end, turn);
                if matches!(fate, Fate::Vanished | Fate::VanishedSilently) {
                    turn.ledger.counts.vanished += 1;
                }
                if matches!(fate, Fate::VanishedSilently) {
                    return turn.ledger.lost(turn.owner(&fingerprint), number);
                }
                for (core, exchange) in led.followers {
                    turn.send(core, Message::Joined { exchange, number, answer });
                }
                turn.send(turn.owner(&fingerprint), Message::Settle { fingerprint, number, outcome });
            }
        }
    }

    pub fn check(&self, ledger: &Ledger) {
        self.shard.check();
        ledger.check(self.id, self.shard.flights().len());
    }

    pub fn check_at_rest(&self) {
        assert!(self.exchanges.is_empty(), "exchanges left on core {}", self.id.0);
        assert!(self.leads.is_empty(), "flights led by core {}", self.id.0);
        assert!(self.shard.flights().is_empty(), "flights owned by core {}", self.id.0);
    }

    fn ask(&mut self, exchange: Exchange, gave_up: Option<u64>, turn: &mut Turn<'_>) {
        let Some(running) = self.exchanges.get_mut(&exchange) else { return };
        if running.asks == ASKS_MAX {
            running.state = State::Alone;
            return turn.effects.push(Effect::Fetch { purpose: Purpose::Alone { exchange } });
        }
        running.asks += 1;
        running.state = State::Asking;
        let fingerprint = running.fingerprint;
        turn.send(turn.owner(&fingerprint), Message::Ask { exchange, fingerprint, gave_up });
    }

    /// As the owner.
    fn answer(&mut self, asker: CoreId, fingerprint: Fingerprint, gave_up: Option<u64>, turn: &mut Turn<'_>) -> Reply {
        let question = self.question(asker, fingerprint, turn.now);
        let peeked = self.shard.peek(&fingerprint, turn.now);
        let fresh = matches!(peeked, Lookup::Fresh { .. });
        let expired = match peeked {
            Lookup::Stale { value, .. } => Some(*value),
            Lookup::Fresh { .. } | Lookup::Absent => None,
        };
        if let Some(value) = expired {
            assert_eq!(value.fingerprint, fingerprint);
            turn.ledger.counts.stale += 1;
        }
        let asked = match gave_up {
            None => self.shard.ask(&fingerprint, asker, turn.now),
            Some(number) => self.shard.take_over(&fingerprint, number, asker, turn.now),
        };
        assert_eq!(fresh, matches!(asked, Asked::Hit { .. }), "a fresh answer is a hit, and nothing else is");
        turn.ledger.asked(question, gave_up, &asked, self.flights_max);
        if let Asked::Lead { stale, .. } | Asked::Alone { stale } = &asked {
            turn.ledger.led(question, expired, *stale, self.stale_ms);
        }
        match asked {
            Asked::Hit { value, .. } => Reply::Hit { answer: value },
            Asked::Lead { number, .. } => Reply::Lead { number },
            Asked::Follow { leader, number } => Reply::Follow { leader, number },
            Asked::Alone { .. } => Reply::Alone,
        }
    }

    /// As the asker.
    fn handle_reply(&mut self, exchange: Exchange, fingerprint: Fingerprint, reply: Reply, turn: &mut Turn<'_>) {
        let Some(running) = self.exchanges.get_mut(&exchange) else {
            // The client left meanwhile. A lead it was given must be settled all the same.
            if let Reply::Lead { number } = reply {
                let settle = Message::Settle { fingerprint, number, outcome: Outcome::Drop };
                turn.send(turn.owner(&fingerprint), settle);
            }
            return;
        };
        assert_eq!(running.state, State::Asking, "an answer without a question");
        match reply {
            Reply::Hit { answer } => drop(self.end(exchange, Some(answer), End::Served, turn)),
            Reply::Lead { number } => {
                running.state = State::Leading;
                let before = self.leads.insert((fingerprint, number), Led { first: exchange, followers: Vec::new() });
                assert!(before.is_none(), "a number has two leaders");
                turn.effects.push(Effect::Fetch { purpose: Purpose::Flight { fingerprint, number } });
            }
            Reply::Follow { leader, number } => {
                running.state = State::Following { number };
                turn.send(leader, Message::Join { exchange, fingerprint, number });
                turn.effects.push(Effect::Wait { exchange, number });
            }
            Reply::Alone => {
                running.state = State::Alone;
                turn.effects.push(Effect::Fetch { purpose: Purpose::Alone { exchange } });
            }
        }
    }

    /// `None`: it had left before.
    fn end(&mut self, exchange: Exchange, answer: Option<Answer>, end: End, turn: &mut Turn<'_>) -> Option<Running> {
        let running = self.exchanges.remove(&exchange)?;
        turn.ledger.ended(exchange, running.fingerprint, answer, end);
        Some(running)
    }

    fn question(&self, asker: CoreId, fingerprint: Fingerprint, now: Millis) -> Question {
        Question { owner: self.id, asker, fingerprint, now }
    }
}
