//! What an upstream call has used: as its backend tells, or, of an answer that broke off or says nothing of it, as estimated. It is
//! determined once, and limits, usage, metrics and the log count the same.

use crate::config::snapshot::Price;
use crate::dialect::facts::TokenUsage;

/// What is known of what the upstream call of a flight has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bill {
    /// This core makes no call for it.
    #[default]
    None,
    /// The call goes on.
    Open,
    /// It is over. None: it has used nothing.
    Closed(Option<Used>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageSource {
    Reported,
    Estimated,
}

impl UsageSource {
    pub fn is_estimated(self) -> bool {
        self == UsageSource::Estimated
    }
}

/// The usage of one upstream call, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub tokens: TokenUsage,
    /// In 10^-12 of the unit of money.
    pub money: u64,
    /// The part that is estimated: prompt and completion together.
    pub estimated_tokens: u64,
    pub estimated_money: u64,
}

/// What has come of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// About how many tokens, for an answer that says nothing of it.
    pub tokens: u64,
    /// What a stream has said of its usage up to where it broke off. More may have been used since.
    pub reported: Option<TokenUsage>,
}

impl Used {
    pub fn of(tokens: TokenUsage, source: UsageSource, price: Price) -> Used {
        let money = price.of(tokens.prompt, tokens.completion);
        let (estimated_tokens, estimated_money) = match source {
            UsageSource::Reported => (0, 0),
            UsageSource::Estimated => (tokens.prompt.saturating_add(tokens.completion), money),
        };
        Used { tokens, money, estimated_tokens, estimated_money }
    }

    /// With that of another call for the same request.
    pub fn and(self, more: Used) -> Used {
        let (own, other) = (self.tokens, more.tokens);
        Used {
            tokens: TokenUsage {
                prompt: own.prompt.saturating_add(other.prompt),
                completion: own.completion.saturating_add(other.completion),
                total: own.total.saturating_add(other.total),
                cached: own.cached.saturating_add(other.cached),
                reasoning: own.reasoning.saturating_add(other.reasoning),
            },
            money: self.money.saturating_add(more.money),
            estimated_tokens: self.estimated_tokens.saturating_add(more.estimated_tokens),
            estimated_money: self.estimated_money.saturating_add(more.estimated_money),
        }
    }

    pub fn source(self) -> UsageSource {
        if self.estimated_tokens > 0 { UsageSource::Estimated } else { UsageSource::Reported }
    }
}

impl Seen {
    /// The usage of an answer of which this has come: its prompt is about `prompt`, and it may have at most `most` tokens.
    pub fn estimate(self, prompt: u64, most: u64) -> TokenUsage {
        let said = self.reported.unwrap_or_default();
        let prompt = if said.prompt > 0 { said.prompt } else { prompt };
        let completion = said.completion.max(self.tokens.min(most));
        TokenUsage::counted(Some(prompt), Some(completion), None).with_parts(Some(said.cached), Some(said.reasoning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_broke_off_has_used_what_it_said_or_else_what_came() {
        let counted = |prompt, completion| TokenUsage::counted(Some(prompt), Some(completion), None);
        let seen = |tokens, reported| Seen { tokens, reported };
        assert_eq!(seen(7, None).estimate(20, u64::MAX), counted(20, 7));
        assert_eq!(seen(7, None).estimate(20, 5), counted(20, 5), "no more than the request allows");
        // Anthropic's API says the prompt at first, with one token of the answer.
        assert_eq!(seen(7, Some(counted(33, 1))).estimate(20, 100), counted(33, 7));
        assert_eq!(seen(7, Some(counted(33, 9))).estimate(20, 5), counted(33, 9), "what is said is so");
    }
}
