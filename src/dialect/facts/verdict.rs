//! Whether an answer may be stored: the reasons against it, and the verdict on a stream.

use super::{EventFacts, EventKind};

/// Why an answer is not stored in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotStored {
    #[error("truncated at the length limit")]
    LengthCut,
    #[error("stopped by a content filter")]
    ContentFilter,
    #[error("unknown finish reason")]
    UnknownFinish,
    #[error("a choice without a finish reason")]
    MissingFinish,
    #[error("the answer is an error")]
    Error,
    #[error("the stream ended without its terminal event")]
    NoTerminal,
    #[error("no choices or data")]
    NoContent,
    #[error("an empty choice: no text, tool call, refusal, reasoning or audio")]
    Empty,
    #[error("more choices than the bound")]
    TooManyChoices,
    #[error("not understood")]
    Unreadable,
    #[error("events after the terminal event")]
    AfterTerminal,
    #[error("answers of this endpoint are not stored")]
    Endpoint,
    #[error("a fallback model answered")]
    OtherModel,
    #[error("larger than the bound on entries")]
    TooLarge,
    #[error("the status is not 200")]
    Status,
    #[error("unsupported content coding")]
    Encoded,
    #[error("the client asked not to store it")]
    NoStore,
    #[error("the request has a query")]
    Query,
    #[error("the cache is switched off")]
    Off,
    #[error("the cache is switched off for this model")]
    ModelOff,
    #[error("neither temperature 0 nor a seed, and the model's policy asks for one")]
    NotDeterministic,
    #[error("the request refers to what its provider keeps, or has it keep something")]
    Stateful,
}

impl NotStored {
    /// Every reason; the documentation is checked against it.
    pub const ALL: [NotStored; 22] = [
        NotStored::LengthCut,
        NotStored::ContentFilter,
        NotStored::UnknownFinish,
        NotStored::MissingFinish,
        NotStored::Error,
        NotStored::NoTerminal,
        NotStored::NoContent,
        NotStored::Empty,
        NotStored::TooManyChoices,
        NotStored::Unreadable,
        NotStored::AfterTerminal,
        NotStored::Endpoint,
        NotStored::OtherModel,
        NotStored::TooLarge,
        NotStored::Status,
        NotStored::Encoded,
        NotStored::NoStore,
        NotStored::Query,
        NotStored::Off,
        NotStored::ModelOff,
        NotStored::NotDeterministic,
        NotStored::Stateful,
    ];

    /// A lower-case word for logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            NotStored::LengthCut => "length_cut",
            NotStored::ContentFilter => "content_filter",
            NotStored::UnknownFinish => "unknown_finish",
            NotStored::MissingFinish => "missing_finish",
            NotStored::Error => "error",
            NotStored::NoTerminal => "no_terminal",
            NotStored::NoContent => "no_content",
            NotStored::Empty => "empty",
            NotStored::TooManyChoices => "too_many_choices",
            NotStored::Unreadable => "unreadable",
            NotStored::AfterTerminal => "after_terminal",
            NotStored::Endpoint => "endpoint",
            NotStored::OtherModel => "other_model",
            NotStored::TooLarge => "too_large",
            NotStored::Status => "status",
            NotStored::Encoded => "encoded",
            NotStored::NoStore => "no_store",
            NotStored::Query => "query",
            NotStored::Off => "off",
            NotStored::ModelOff => "model_off",
            NotStored::NotDeterministic => "not_deterministic",
            NotStored::Stateful => "stateful",
        }
    }
}

/// Follows the events of a stream to decide at its end whether it may be stored. Takes every event that has data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamVerdict {
    choices: u128,
    said: u128,
    ended: u128,
    done: bool,
    not_stored: Option<NotStored>,
}

impl StreamVerdict {
    pub fn new() -> StreamVerdict {
        StreamVerdict::default()
    }

    /// Takes the next event. The first reason not to store is kept.
    pub fn note(&mut self, event: &EventFacts) {
        let late = self.done.then_some(NotStored::AfterTerminal);
        let unreadable = matches!(event.kind, EventKind::Other | EventKind::Cut).then_some(NotStored::Unreadable);
        self.not_stored = self.not_stored.or(late).or(event.not_stored).or(unreadable);
        self.choices |= event.choices;
        self.said |= event.said;
        self.ended |= event.ended;
        self.done |= event.kind == EventKind::Done;
    }

    /// Whether the terminal event was seen.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the answer is complete if the stream ends here: the terminal event was seen, or every choice has ended.
    /// False after an error.
    pub fn is_complete(&self) -> bool {
        let untold = matches!(self.not_stored, Some(NotStored::TooManyChoices | NotStored::Error));
        self.done || self.choices != 0 && self.choices & !self.ended == 0 && !untold
    }

    /// The verdict if the stream ends here.
    pub fn stored(&self) -> Result<(), NotStored> {
        if let Some(reason) = self.not_stored {
            Err(reason)
        } else if !self.is_complete() {
            Err(NotStored::NoTerminal)
        } else if self.choices == 0 {
            Err(NotStored::NoContent)
        } else if self.choices & !self.ended != 0 {
            Err(NotStored::MissingFinish)
        } else if self.choices & !self.said != 0 {
            Err(NotStored::Empty)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NotStored;

    #[test]
    fn every_reason_against_storing_is_documented() {
        let documentation = include_str!("../../../docs/cache.md");
        for reason in NotStored::ALL {
            assert!(documentation.contains(&format!("| `{}` |", reason.label())), "{}", reason.label());
        }
    }
}
