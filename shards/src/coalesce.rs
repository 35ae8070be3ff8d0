//! The next step of a request whose answer others may want as well: take it from the cache, lead the upstream call,
//! follow another request's call, or make a call of its own. Owned by the request; generic in the answer and the
//! failure. Must never let a crowd of followers call upstream one by one because a single answer did not serve them.

/// From this many asks on, a request uses `Patience::Long` and does not retry after a failed call.
const ASKS: u32 = 3;
/// After this many asks it goes alone. Each ask in between followed a flight that was silent for long, or was already
/// over.
const ASKS_MAX: u32 = 16;

/// Which requests share a flight. An answer that serves one group may not serve the next: each group has one flight at
/// a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// All identical requests, streaming or not: the answer is converted if that can be done exactly.
    Everyone,
    /// Those for whom the cached answer is too old; streaming or not.
    Younger,
    /// Those that asked for the same form. All of them take what their leader takes.
    SameForm,
}

/// How long to wait for a silent flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Usual,
    /// Earlier flights were silent or failed: if every follower made its own call, a backend that is merely slow would
    /// be overloaded.
    Long,
}

/// Whether a cached answer serves the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Usable,
    /// Older than the client accepts.
    TooOld,
    /// In the other form, and it cannot be converted exactly.
    OtherForm,
}

/// Whether an immediate retry of the same request may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    AnotherTry,
    Nothing,
}

/// The result of the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoalesceEvent<A, F> {
    /// The owner, or a near copy, gave an answer.
    Found(A, Fit),
    /// The owner wants this request to fetch the answer.
    Lead,
    /// Another request fetches the answer.
    Follow,
    /// The owner has no room for another flight.
    Alone,
    /// The flight to follow ended before this core could join it.
    Gone,
    /// The followed flight was silent for too long; `None` if the owner itself has not answered.
    Silent(Option<u64>),
    /// The followed flight produced a complete answer in the other form; `None` if it cannot be converted exactly.
    Converted(Option<A>),
    /// The next bytes of the flight were dropped before this request read them.
    Lagged(F),
    /// The flight failed before anything was sent.
    Failed(F, Worth),
    /// The flight failed, and an expired answer may serve instead.
    Stale(A),
}

/// The next action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoalesceStep<A, F> {
    /// Ask the owner, or join another request of this core that has asked it already. `silent` is the followed flight
    /// that timed out.
    Ask {
        group: Group,
        silent: Option<u64>,
    },
    /// Join the request of this core that fetches the answer without the owner, or be that request. `silent` as in
    /// `Ask`.
    AskHere {
        group: Group,
        silent: Option<u64>,
    },
    /// Fetch the answer; others may follow.
    Lead,
    /// Read another request's answer as it arrives.
    Follow(Group, Patience),
    /// Fetch the answer without followers.
    Alone,
    /// Send this answer.
    Serve(A),
    /// Send this answer, which has expired.
    ServeStale(A),
    Fail(F),
}

/// The request's role in the current flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// None, or not known yet.
    Asking,
    /// It fetches the answer itself: nothing else is tried after that.
    Own,
    Following(Patience),
}

/// One request's way to its answer.
#[derive(Clone, Copy, Debug)]
pub struct Coalescing {
    group: Group,
    /// How often the owner was asked for a flight of this group.
    asks: u32,
    /// The owner does not answer and is no longer asked.
    is_owner_silent: bool,
    part: Part,
}

impl Default for Coalescing {
    fn default() -> Self {
        Self::new()
    }
}

impl Coalescing {
    pub const fn new() -> Self {
        Self { group: Group::Everyone, asks: 0, is_owner_silent: false, part: Part::Asking }
    }

    /// The first step of a request whose answer may be shared.
    pub fn begin<A, F>(&mut self) -> CoalesceStep<A, F> {
        self.ask(None)
    }

    /// The only step of a request whose answer may not be shared.
    pub fn begin_alone<A, F>(&mut self) -> CoalesceStep<A, F> {
        self.alone()
    }

    /// The step after `event`.
    pub fn next<A, F>(&mut self, event: CoalesceEvent<A, F>) -> CoalesceStep<A, F> {
        match event {
            CoalesceEvent::Found(answer, Fit::Usable) => CoalesceStep::Serve(answer),
            CoalesceEvent::Found(_, Fit::TooOld) => match self.group {
                Group::Everyone => self.ask_in(Group::Younger),
                // Another request of this core asked, and accepts an older answer.
                Group::Younger | Group::SameForm => self.ask(None),
            },
            CoalesceEvent::Gone => self.ask(None),
            CoalesceEvent::Found(_, Fit::OtherForm) | CoalesceEvent::Converted(None) => match self.group {
                Group::Everyone | Group::Younger => self.ask_in(Group::SameForm),
                Group::SameForm => self.alone(),
            },
            CoalesceEvent::Lead => {
                self.part = Part::Own;
                CoalesceStep::Lead
            }
            CoalesceEvent::Alone => self.alone(),
            CoalesceEvent::Follow => {
                let patience = if self.asks >= ASKS { Patience::Long } else { Patience::Usual };
                self.part = Part::Following(patience);
                CoalesceStep::Follow(self.group, patience)
            }
            CoalesceEvent::Silent(Some(number)) => self.ask(Some(number)),
            CoalesceEvent::Silent(None) if self.is_owner_silent => self.alone(),
            CoalesceEvent::Silent(None) => {
                self.is_owner_silent = true;
                self.ask(None)
            }
            CoalesceEvent::Converted(Some(answer)) => CoalesceStep::Serve(answer),
            // No fault of the call, and only this request is affected. A leading request cannot go alone: its call has
            // been handed over.
            CoalesceEvent::Lagged(failure) => match self.part {
                Part::Own => CoalesceStep::Fail(failure),
                Part::Asking | Part::Following(_) => self.alone(),
            },
            // After so many failed calls a follower makes none of its own: a crowd of followers would overload a
            // failing backend.
            CoalesceEvent::Failed(failure, worth) => match (self.part, worth) {
                (Part::Asking | Part::Following(Patience::Usual), Worth::AnotherTry) => self.ask(None),
                _ => CoalesceStep::Fail(failure),
            },
            CoalesceEvent::Stale(answer) => CoalesceStep::ServeStale(answer),
        }
    }

    fn ask<A, F>(&mut self, silent: Option<u64>) -> CoalesceStep<A, F> {
        if self.asks >= ASKS_MAX {
            return self.alone();
        }
        self.asks += 1;
        self.part = Part::Asking;
        match self.is_owner_silent {
            true => CoalesceStep::AskHere { group: self.group, silent },
            false => CoalesceStep::Ask { group: self.group, silent },
        }
    }

    /// Other requests' answers do not serve this one: one request of the narrower group leads, and the rest of it
    /// follow.
    fn ask_in<A, F>(&mut self, group: Group) -> CoalesceStep<A, F> {
        (self.group, self.asks) = (group, 0);
        self.ask(None)
    }

    fn alone<A, F>(&mut self) -> CoalesceStep<A, F> {
        self.part = Part::Own;
        CoalesceStep::Alone
    }
}

#[cfg(test)]
mod tests;
