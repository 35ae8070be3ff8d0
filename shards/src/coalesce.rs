//! What one request does next about an answer that others want, too: takes it from the cache, leads the upstream call,
//! follows somebody else's, or makes a call of its own. Owned by the request; generic in the answer and the failure.
//! Must never let a crowd of followers call upstream one by one because a single answer did not serve them.

/// From this question to the owner on a request is patient, and makes no further try where a call fails.
const ASKS: u32 = 3;
/// At so many it goes alone. Each of those between follows a flight that was silent for long, or one that was over at once.
const ASKS_MAX: u32 = 16;

/// Whose flights a request takes part in. What serves the one group may not serve the next: each has one flight at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// All who ask the same, for whichever form: the answer is converted if that can be done exactly.
    Everyone,
    /// Those to whom what is kept is too old; for whichever form.
    Younger,
    /// Those who asked for the same form. All of them take what their leader takes.
    SameForm,
}

/// How long a silent flight is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Usual,
    /// Flights before it were silent or failed: a crowd that all called by itself would bury a backend that is merely slow.
    Long,
}

/// Whether an answer that is kept serves the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Usable,
    /// Older than the client accepts.
    TooOld,
    /// In the other form, and it cannot be converted exactly.
    OtherForm,
}

/// Whether the same request may end differently if it is made again at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    AnotherTry,
    Nothing,
}

/// What has become of the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoalesceEvent<A, F> {
    /// The owner, or a copy of what it has, gave an answer.
    Found(A, Fit),
    /// The owner wants this request to fetch the answer.
    Lead,
    /// Somebody fetches it.
    Follow,
    /// The owner has no room for one more flight.
    Alone,
    /// The flight to follow was over before this core could join it.
    Gone,
    /// The flight that was followed was silent for too long; none if not even the owner has answered.
    Silent(Option<u64>),
    /// The flight that was followed brought a complete answer in the other form; none if it cannot be converted exactly.
    Converted(Option<A>),
    /// The bytes that come next in the flight are gone before this request got to them.
    Lagged(F),
    /// The flight failed before anything was sent.
    Failed(F, Worth),
    /// It failed, and an expired answer may serve instead.
    Stale(A),
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoalesceStep<A, F> {
    /// Ask the owner, or whoever on this core has asked it already. `silent` is the flight that was followed in vain.
    Ask {
        group: Group,
        silent: Option<u64>,
    },
    /// Join whoever of this core fetches the answer without the owner's knowledge, or be the one. `silent` as in `Ask`.
    AskHere {
        group: Group,
        silent: Option<u64>,
    },
    /// Fetch the answer; others follow.
    Lead,
    /// Read somebody else's answer as it comes.
    Follow(Group, Patience),
    /// Fetch the answer; nobody follows.
    Alone,
    /// Send this answer.
    Serve(A),
    /// Send this answer, which has expired.
    ServeStale(A),
    Fail(F),
}

/// What the current flight is to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// None, or it is not known yet.
    Asking,
    /// It fetches the answer itself: there is nothing to be tried after that.
    Own,
    Following(Patience),
}

/// One request's way to its answer.
#[derive(Clone, Copy, Debug)]
pub struct Coalescing {
    group: Group,
    /// How often the owner was asked for a flight of this group.
    asks: u32,
    /// The owner does not answer, and is not asked any more.
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

    /// The only step of a request whose answer may not.
    pub fn begin_alone<A, F>(&mut self) -> CoalesceStep<A, F> {
        self.alone()
    }

    /// The step after `event`.
    pub fn next<A, F>(&mut self, event: CoalesceEvent<A, F>) -> CoalesceStep<A, F> {
        match event {
            CoalesceEvent::Found(answer, Fit::Usable) => CoalesceStep::Serve(answer),
            CoalesceEvent::Found(_, Fit::TooOld) => match self.group {
                Group::Everyone => self.ask_in(Group::Younger),
                // Somebody of this core asked, and accepts an older one.
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
            // Nobody's fault, and of this request alone. Its own request has been handed over where it led.
            CoalesceEvent::Lagged(failure) => match self.part {
                Part::Own => CoalesceStep::Fail(failure),
                Part::Asking | Part::Following(_) => self.alone(),
            },
            // Who has seen so many calls fail makes none of its own: a crowd of followers would fall on a sick backend.
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

    /// What serves others does not serve this one: one of those it does not serve leads, and the rest follow that one.
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
