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

/// What an answer of so many tokens costs, in 10^-12 of the unit of money; what is beyond 64 bits is so many.
pub fn money(tokens: TokenUsage, price: Price) -> u64 {
    let TokenUsage { prompt, completion, cached, cache_written, .. } = tokens;
    let (read, written) = (cached.saturating_mul(price.cached_input), cache_written.saturating_mul(price.cache_write));
    let other = prompt.saturating_sub(cached).saturating_sub(cache_written);
    price.of(other, completion).saturating_add(read).saturating_add(written)
}

impl Used {
    pub fn of(tokens: TokenUsage, source: UsageSource, price: Price) -> Used {
        let money = money(tokens, price);
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
                cache_written: own.cache_written.saturating_add(other.cache_written),
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
        TokenUsage::counted(Some(prompt), Some(completion), None).with_parts(said.parts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::facts::Parts;

    #[test]
    fn what_the_provider_read_from_and_wrote_into_its_cache_has_prices_of_its_own() {
        let price = Price { input: 100, cached_input: 10, cache_write: 125, output: 500 };
        let tokens = TokenUsage::counted(Some(12), Some(2), None);
        let with = |cached, cache_written| tokens.with_parts(Parts { cached, cache_written, reasoning: 1 });
        for (tokens, expected) in [
            (tokens, 12 * 100 + 2 * 500),
            (with(4, 0), 8 * 100 + 4 * 10 + 2 * 500),
            (with(4, 5), 3 * 100 + 4 * 10 + 5 * 125 + 2 * 500),
            // No part is larger than what is left of its whole.
            (with(4, 99), 4 * 10 + 8 * 125 + 2 * 500),
            (with(99, 99), 12 * 10 + 2 * 500),
        ] {
            assert_eq!(money(tokens, price), expected, "{tokens:?}");
        }
        let many = TokenUsage::counted(Some(u64::MAX), Some(u64::MAX), None);
        let all = Parts { cached: u64::MAX / 2, cache_written: u64::MAX / 2, reasoning: 0 };
        assert_eq!(money(many.with_parts(all), price), u64::MAX);
        assert_eq!(Used::of(with(4, 5), UsageSource::Reported, price).and(Used::default()).money, 1_965);
    }

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
