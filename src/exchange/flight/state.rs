//! The state behind a flight: its stage, its log and who reads it. Writes what is new to readers that left a direct writer;
//! decides nothing else by itself.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use shards::CoreId;
use smallvec::SmallVec;

use crate::config::snapshot::OnClientDisconnect;
use crate::dialect::facts::Endpoint;
use crate::exchange::answer::{AnswerHead, End, Reuse, Source};
use crate::exchange::entry::{Entry, Level};
use crate::exchange::tags::Tags;
use crate::exchange::used::{Bill, Used};
use crate::limits::MAPPED_BYTES;
use crate::net::arena::{Afterwards, Arena};
use crate::net::{self, watch::Alarm};
use crate::wire::http1::encode;

/// How far the backend may be ahead of the fastest reader before it is read no further.
const WINDOW_BYTES: u64 = 256 << 10;
/// How often followers elsewhere hear that the flight is alive, at most.
pub(super) const HEARTBEAT_MS: u64 = 2000;
/// How far a reader may fall behind once the log is no longer kept whole.
const LAG_BYTES: u64 = 4 << 20;
/// A larger log is not kept for the next flight: one of this size holds a stream of 300 tokens.
const LOG_KEPT_BYTES: usize = 64 << 10;
/// The front of a log that nobody needs is cut off in steps of this, to move the rest seldom.
pub(super) const TRIM_BYTES: u64 = 64 << 10;

#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// The owner has been asked.
    Asking,
    /// The owner wants this core to lead; the first reader to see it does.
    Offered(u64),
    /// A task of this core reads the backend; `None` for a flight that nobody can join.
    Flying(Option<u64>),
    /// Another core's flight feeds this copy.
    Fed(Source),
    /// The owner had the answer.
    Found(Arc<Entry>),
    /// Each reader for itself.
    Alone,
    /// The flight to follow was over already: ask again.
    Gone,
}

/// A reader's place.
#[derive(Default)]
pub(super) struct Place {
    /// Offset of what it reads next.
    pub(super) at: u64,
    pub(super) waker: Option<Waker>,
    pub(super) direct_writer: Option<DirectWriter>,
    pub(super) served: Served,
    /// An answer that begins later is of no use to it; none: it waits.
    pub(super) until_ms: Option<u64>,
}

/// Where a flight writes what comes for a reader that waits, so that the reader's task need not run for it.
pub struct DirectWriter {
    pub socket: net::transport::DirectWriter,
    /// Whether each write is a chunk.
    pub chunked: bool,
}

/// What a direct writer has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub bytes: u64,
    /// When the last of them was heard.
    pub last_ms: u64,
}

/// What is done when a call is over, with what it has used.
pub type AtEnd = Box<dyn FnOnce(Option<Used>, Option<&AnswerHead>, Option<&End>)>;

pub(super) enum Log {
    Growing(Vec<u8>),
    /// One that is kept whole and has become large.
    Mapped(Arena),
    Frozen(Bytes),
}

pub(super) struct State {
    pub(super) stage: Stage,
    pub(super) answer_head: Option<Arc<AnswerHead>>,
    pub(super) log: Log,
    /// The log's memory was made for just this answer.
    is_exact: bool,
    /// Offset of the log's first byte in the answer; 0 as long as the log is kept whole.
    pub(super) base: u64,
    /// Most bytes kept whole.
    pub(super) whole_max: u64,
    pub(super) whole: bool,
    pub(super) end: Option<End>,
    /// The complete answer in the other form, once somebody wanted it; none inside if that cannot be.
    pub(super) converted: Option<Option<Arc<Entry>>>,
    /// The owner has been told of the end, or that nobody can join any more.
    pub(super) settled: bool,
    /// None where the place is free. Mostly there is one.
    pub(super) readers: SmallVec<[Option<Place>; 1]>,
    /// Cores that are fed, and how often each has joined.
    pub(super) followers: Vec<(CoreId, u32)>,
    /// End the waits of the attempts that run: one a lane.
    pub(super) alarms: [Option<Alarm>; 2],
    pub(super) pump: Option<Waker>,
    pub(super) abandoned: bool,
    /// What becomes of it when everybody leaves.
    pub(super) when_left: OnClientDisconnect,
    /// How much had come when everybody had left, if it goes on.
    pub(super) drained_from: Option<u64>,
    /// What is to be done when the call is over.
    pub(super) at_end: Option<AtEnd>,
    /// When the pump last gave a sign of life, on this core or the leader's.
    pub(super) heard_ms: u64,
    /// When followers elsewhere were last told anything.
    pub(super) told_ms: u64,
    /// An expired answer, for the case that every backend fails.
    pub(super) stale: Option<Arc<Entry>>,
    /// See `Flight::born`.
    pub(super) born: u64,
    pub(super) tags: Tags,
    pub(super) level: Level,
    pub(super) bill: Bill,
    /// Which [`crate::exchange::scratch::Fresh`] is the end of the log; 0 for none.
    pub(super) fresh: u64,
}

impl State {
    pub(super) fn new(stage: Stage, whole_max: u64, now_ms: u64) -> State {
        State {
            stage,
            answer_head: None,
            log: Log::Growing(Vec::new()),
            is_exact: false,
            base: 0,
            whole_max,
            whole: true,
            end: None,
            converted: None,
            settled: false,
            readers: SmallVec::new(),
            followers: Vec::new(),
            alarms: [None; 2],
            pump: None,
            abandoned: false,
            when_left: OnClientDisconnect::Cancel,
            drained_from: None,
            at_end: None,
            heard_ms: now_ms,
            told_ms: 0,
            stale: None,
            born: u64::MAX,
            tags: Tags::default(),
            level: Level::First,
            bill: Bill::None,
            fresh: 0,
        }
    }

    /// As it was when it was new, but for the memory of its lists.
    pub(super) fn clear(&mut self) {
        let mut log = match std::mem::replace(&mut self.log, Log::Growing(Vec::new())) {
            Log::Growing(log) if log.capacity() <= LOG_KEPT_BYTES => log,
            Log::Growing(_) | Log::Mapped(_) | Log::Frozen(_) => Vec::new(),
        };
        log.clear();
        let State { readers, followers, whole_max, .. } = self;
        let (mut readers, mut followers) = (std::mem::take(readers), std::mem::take(followers));
        readers.clear();
        followers.clear();
        let new = State::new(Stage::Alone, *whole_max, 0);
        *self = State { log: Log::Growing(log), readers, followers, ..new };
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.log {
            Log::Growing(log) => log,
            Log::Mapped(log) => log.bytes(),
            Log::Frozen(log) => log,
        }
    }

    /// Offset behind the last byte.
    pub(super) fn reach(&self) -> u64 {
        self.base + self.bytes().len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.readers.iter().all(Option::is_none) && self.followers.is_empty()
    }

    pub(super) fn wake(&mut self) {
        self.readers.iter_mut().flatten().filter_map(|place| place.waker.take()).for_each(Waker::wake);
    }

    /// Wakes those who have something to read.
    pub(super) fn wake_behind(&mut self) {
        let reach = self.reach();
        let behind = self.readers.iter_mut().flatten().filter(|place| place.at < reach);
        behind.filter_map(|place| place.waker.take()).for_each(Waker::wake);
    }

    /// Writes `bytes`, which are about to be appended to the log, to the clients of those who wait with a direct writer and have
    /// read all of it. `framed` is scratch. Whom it does not work for is behind then.
    // Before they are appended: the end of the log is memory long not touched, and a copy behind would wait for it.
    pub(super) fn serve(&mut self, bytes: &[u8], framed: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        framed.clear();
        let before = self.reach();
        for place in self.readers.iter_mut().flatten().filter(|place| place.at == before) {
            let Some(direct_writer) = &place.direct_writer else { continue };
            if direct_writer.chunked && framed.is_empty() {
                encode::chunk(framed, bytes);
            }
            if direct_writer.socket.post(if direct_writer.chunked { framed } else { bytes }) {
                place.at += bytes.len() as u64;
                place.served = Served { bytes: place.served.bytes + bytes.len() as u64, last_ms: self.heard_ms };
            }
        }
    }

    /// Whether the fastest reader is near enough for more, or nobody is to be waited for.
    pub(super) fn has_room(&self) -> bool {
        if self.whole || !self.followers.is_empty() || self.abandoned || self.drained_from.is_some() {
            return true;
        }
        let fastest = self.readers.iter().flatten().map(|place| place.at).max().unwrap_or(0);
        self.reach().saturating_sub(fastest) <= WINDOW_BYTES
    }

    /// Where reader `place` is.
    pub(super) fn at(&self, place: usize) -> u64 {
        self.readers[place].as_ref().map_or(0, |place| place.at)
    }

    /// Makes `held` the begin of the log. If it has room for just the whole of the answer, the cache will take it as it is.
    pub(super) fn begin(&mut self, held: Vec<u8>, is_exact: bool) -> usize {
        self.is_exact = is_exact;
        self.append(|log| {
            if log.is_empty() && (is_exact || log.capacity() < held.len()) {
                *log = held;
            } else {
                log.extend_from_slice(&held);
            }
        })
    }

    /// The log for the cache to keep: in memory of just its size. A short one is copied, so that its own memory, which is
    /// there and has grown by and by, serves the next flight.
    pub(super) fn freeze(&mut self) -> Bytes {
        let frozen = match &mut self.log {
            Log::Growing(log) if !self.is_exact && log.capacity() <= LOG_KEPT_BYTES => {
                return Bytes::copy_from_slice(log);
            }
            Log::Growing(log) => Bytes::from(std::mem::take(log).into_boxed_slice()),
            Log::Mapped(_) => match std::mem::replace(&mut self.log, Log::Growing(Vec::new())) {
                Log::Mapped(log) => log.share(),
                Log::Growing(_) | Log::Frozen(_) => Bytes::new(),
            },
            Log::Frozen(frozen) => return frozen.clone(),
        };
        self.log = Log::Frozen(frozen.clone());
        frozen
    }

    /// The answer as an entry, if it is complete, whole and may be converted. Not for the cache.
    pub(super) fn complete_entry(&mut self, endpoint: Endpoint) -> Option<Entry> {
        let Some(End::Complete { reuse, usage_event, tokens, .. }) = &self.end else { return None };
        let (usage_event, tokens) = (usage_event.clone(), *tokens);
        match reuse {
            Reuse::Kept(entry) => return entry.in_form(entry.form),
            Reuse::AsItCame => return None,
            Reuse::Converted => {}
        }
        let answer_head = self.answer_head.as_ref()?;
        let (form, content_type) = (answer_head.form, answer_head.content_type.clone());
        if !self.whole {
            return None;
        }
        let body = self.freeze();
        let (stored_ms, tags, born) = (self.heard_ms as i64, self.tags, self.born);
        Some(Entry { endpoint, form, content_type, body, usage_event, tokens, stored_ms, ttl_ms: 0, tags, born })
    }

    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let before = self.bytes().len();
        match &mut self.log {
            Log::Growing(log) => write(log),
            Log::Mapped(log) => {
                let mut piece = Vec::new();
                write(&mut piece);
                if !log.push(&piece) {
                    // It outgrows what is kept whole.
                    self.log = Log::Growing([log.bytes(), &piece].concat());
                }
            }
            Log::Frozen(_) => {}
        }
        let added = self.bytes().len() - before;
        let reach = self.reach();
        if self.whole && reach > self.whole_max {
            self.whole = false;
        }
        if self.whole {
            self.map_if_large();
            return added;
        }
        let slowest = self.readers.iter().flatten().map(|place| place.at).min().unwrap_or(reach);
        // Never what was just added: followers elsewhere are fed from it.
        let needed = slowest.max(reach.saturating_sub(LAG_BYTES)).min(reach - added as u64);
        let cut = needed - self.base.min(needed);
        if cut >= TRIM_BYTES
            && let Log::Growing(log) = &mut self.log
        {
            log.drain(..(cut as usize).min(log.len()));
            self.base = needed;
        }
        added
    }

    /// Moves a log that has become large to a map, with room for the most that is kept whole.
    fn map_if_large(&mut self) {
        if let Log::Growing(log) = &mut self.log
            && log.len() > MAPPED_BYTES
            // Nothing but the answer is to be resident with the cache's entry.
            && let Ok(mut map) = Arena::with_room(self.whole_max as usize, Afterwards::Unmapped)
            && map.push(log)
        {
            self.log = Log::Mapped(map);
        }
    }

    /// Whether a call goes on that nobody has given up.
    pub(super) fn goes_on(&self) -> bool {
        self.end.is_none() && !self.abandoned && matches!(self.stage, Stage::Flying(_))
    }

    /// The attempts that run end at once: the alarms are those of their waits.
    pub(super) fn abandon(&mut self) -> [Option<Alarm>; 2] {
        self.abandoned = true;
        if let Some(pump) = self.pump.take() {
            pump.wake();
        }
        std::mem::take(&mut self.alarms)
    }
}

#[cfg(test)]
mod tests {
    use super::{LOG_KEPT_BYTES, Log, MAPPED_BYTES, Stage, State};

    fn capacity(state: &State) -> usize {
        match &state.log {
            Log::Growing(log) => log.capacity(),
            Log::Mapped(_) | Log::Frozen(_) => 0,
        }
    }

    /// A flight of a stream: its begin, and a rest of `rest` bytes.
    fn stream(state: &mut State, rest: usize) {
        assert_eq!(state.begin(b"begin".to_vec(), false), 5);
        state.append(|log| log.resize(log.len() + rest, b'x'));
    }

    #[test]
    fn the_memory_of_a_short_log_serves_the_next_flight() {
        let mut state = State::new(Stage::Alone, 1 << 20, 0);
        stream(&mut state, 10_000);
        let (kept, before) = (state.freeze(), capacity(&state));
        assert_eq!(kept, state.bytes(), "what the cache keeps is the log");
        state.clear();
        assert_eq!((capacity(&state), state.bytes().len()), (before, 0));
        stream(&mut state, 2_000);
        assert_eq!(capacity(&state), before);
        assert_eq!(kept.len(), 10_005, "and stays what it was");
        assert_eq!(state.freeze().len(), 2_005);
    }

    #[test]
    fn a_long_log_goes_to_the_cache_with_its_memory() {
        let mut state = State::new(Stage::Alone, 1 << 20, 0);
        stream(&mut state, LOG_KEPT_BYTES + 1);
        let kept = state.freeze();
        assert_eq!(kept.as_ptr(), state.bytes().as_ptr());
        state.clear();
        assert_eq!(capacity(&state), 0);
        assert_eq!(kept.len(), LOG_KEPT_BYTES + 6);
    }

    #[test]
    fn a_large_log_moves_to_a_map_and_is_kept_as_it_is() {
        let mut state = State::new(Stage::Alone, 3 << 20, 0);
        stream(&mut state, MAPPED_BYTES);
        state.append(|log| log.extend_from_slice(b"more"));
        assert!(matches!(state.log, Log::Mapped(_)));
        let place = state.bytes().as_ptr();
        let kept = state.freeze();
        assert_eq!((kept.as_ptr(), kept.len()), (place, MAPPED_BYTES + 9));
        assert!(kept.starts_with(b"beginx") && kept.ends_with(b"xmore"));

        let mut state = State::new(Stage::Alone, 3 << 20, 0);
        stream(&mut state, 2 << 20);
        assert_eq!(state.append(|log| log.resize(log.len() + (2 << 20), b'y')), 2 << 20);
        assert!(!state.whole && matches!(state.log, Log::Growing(_)), "it is no longer kept whole");
        assert_eq!(state.reach(), 5 + (4 << 20));
        assert!(state.bytes().ends_with(b"yy"));
    }

    #[test]
    fn an_answer_in_one_piece_is_not_copied() {
        let mut state = State::new(Stage::Alone, 1 << 20, 0);
        let mut held = Vec::new();
        held.reserve_exact(300);
        held.resize(300, b'x');
        let place = held.as_ptr();
        assert_eq!(state.begin(held, true), 300);
        assert_eq!(state.freeze().as_ptr(), place);
        assert_eq!(state.bytes().as_ptr(), place);
    }
}
