//! What tenants may spend: taken at admission, from this core's leases; settled once, when it is known what a request has
//! used. A request waits only where this core has nothing of a limit and its home core has not said that there is none.

use std::rc::Rc;

use memchr::memmem::Finder;
use shards::quota::{Admitted, Ask, Cost, LimitId, PARTS, Period, Taken};

use super::authenticate::Principal;
use super::core::Core;
use super::generation::Generation;
use super::home;
use super::message::Message;
use super::quota::{FILE_MARK, now};
use super::used::{Seen, UsageSource, Used};
use crate::config::snapshot::{
    self, CachedTokens, Concurrent, Counted, Limit, LimitOf, Limits, OwnLimits, Price, Running,
};
use crate::dialect::facts::{Endpoint, RequestFacts, TokenUsage};
use crate::error::{Failure, Limited, LimitedCount};
use crate::net::{sleep_ms, within};

/// How often a request that waits for a grant looks whether its home core is to be asked again. That answers within a second,
/// whatever is heard of Redis.
const LOOK_MS: u64 = 250;
/// How long a request waits: a core that does not answer for longer is dead, and so is the process.
const WAIT_MS: u64 = 10_000;
/// Limits that are looked at before other tasks run: some ten microseconds.
const SWEPT_AT_A_TIME: usize = 256;
/// What is said when others took what came, each time.
const AGAIN_MS: u64 = 1_000;
/// What is said of a place among the running requests, of which nobody knows when one is free.
const RUNNING_MS: u64 = 1_000;

/// Whose limits a request spends from: indices into the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spender {
    tenant: u32,
    /// `u32::MAX`: it has no limits of its own.
    credential: u32,
    model: u32,
}

/// What is left of the limits of each kind that are nearest to their end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remaining {
    pub requests: Option<Headroom>,
    pub tokens: Option<Headroom>,
}

/// A limit's amount, what is left of it, and in how many milliseconds it is whole.
#[derive(Clone, Copy, Debug)]
pub struct Headroom {
    pub limit: u64,
    pub left: u64,
    pub whole_ms: u64,
}

/// What a request has taken. Places among the running requests are free again when it is dropped.
pub struct Permit {
    spender: Spender,
    spending: Option<Spending>,
    has_called: bool,
    _running: [Option<Running>; 3],
}

/// Tokens and money that are reserved. Dropped without [`Spending::settle`], nothing was used.
pub struct Spending {
    generation: Rc<Generation>,
    taken: Vec<Taken>,
    amounts: Amounts,
    model: usize,
}

/// What a request is expected to use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amounts {
    prompt_bytes: u64,
    prompt: u64,
    answer: u64,
    /// Whether the client bounds the answer.
    is_bounded: bool,
}

impl Spender {
    /// None where nothing is limited.
    pub fn of(generation: &Generation, principal: &Principal, model: usize) -> Option<Spender> {
        let tenant = principal.tenant? as u32;
        let credential = match principal.own_limits {
            OwnLimits::Some => principal.number as u32,
            OwnLimits::None => u32::MAX,
        };
        let spender = Spender { tenant, credential, model: model as u32 };
        spender.limits(&generation.snapshot).any(|limits| !limits.is_empty()).then_some(spender)
    }

    fn limits(self, snapshot: &snapshot::Snapshot) -> impl Iterator<Item = &Limits> + Clone {
        let tenant = snapshot.tenants.get(self.tenant as usize);
        let credential = tenant.and_then(|tenant| tenant.credentials.get(self.credential as usize));
        let of_model = tenant.and_then(|tenant| tenant.model_limits.get(&(self.model as usize)));
        let limits = [tenant.map(|tenant| &tenant.limits), credential.map(|key| &key.limits), of_model];
        limits.into_iter().flatten()
    }

    fn rates(self, snapshot: &snapshot::Snapshot) -> impl Iterator<Item = &Limit> + Clone {
        self.limits(snapshot).flat_map(|limits| &limits.rates)
    }

    /// Of the limits of a kind, those of a minute come first.
    pub fn remaining(self, generation: &Generation) -> Remaining {
        let leases = generation.quota.leases.borrow();
        let (mut requests, mut tokens) = (None, None);
        self.rates(&generation.snapshot).for_each(|limit| {
            let nearest: &mut Option<(bool, u64, &Limit)> = match limit.counted {
                Counted::Requests => &mut requests,
                Counted::Tokens => &mut tokens,
                Counted::Money => return,
            };
            let left = leases.remaining(LimitId(limit.id), limit.amount);
            let is_long = limit.period != snapshot::Period::Minute;
            if nearest.is_none_or(|(others, other, _)| (is_long, left) < (others, other)) {
                *nearest = Some((is_long, left, limit));
            }
        });
        let headroom = |(_, left, limit): (bool, u64, &Limit)| {
            let whole_ms = if left == limit.amount { 0 } else { period(limit.period).whole_in_ms(now()) };
            Headroom { limit: limit.amount, left, whole_ms }
        };
        Remaining { requests: requests.map(headroom), tokens: tokens.map(headroom) }
    }
}

/// Takes what a request needs of all its limits; where a home core has to be asked, [`Waiting`] takes it. Errors: the limit that
/// does not have it.
pub fn admit(
    generation: &Rc<Generation>,
    spender: Spender,
    endpoint: Endpoint,
    facts: Option<&RequestFacts>,
    body: &[u8],
) -> Result<Result<Permit, Waiting>, Failure> {
    let amounts = Amounts::of(generation, spender.model as usize, endpoint, facts, body);
    let running = enter(generation, spender)?;
    Ok(match take(generation, spender, 1, amounts)? {
        Some(spending) => Ok(Permit { spender, spending, has_called: false, _running: running }),
        None => Err(Waiting { spender, amounts, running }),
    })
}

/// A request for which a home core was asked.
pub struct Waiting {
    spender: Spender,
    amounts: Amounts,
    running: [Option<Running>; 3],
}

impl Waiting {
    /// As [`admit`].
    pub async fn wait(self, generation: &Rc<Generation>) -> Result<Permit, Failure> {
        let Waiting { spender, amounts, running } = self;
        let began = now().mono;
        while now().mono.since(began) < WAIT_MS {
            within(generation.quota.next_grant(), LOOK_MS).await;
            if let Some(spending) = take(generation, spender, 1, amounts)? {
                return Ok(Permit { spender, spending, has_called: false, _running: running });
            }
        }
        // Others took what came, each time.
        let limit = spender.rates(&generation.snapshot).next().ok_or(Failure::Internal)?;
        Err(used_up(generation, limit, Some(AGAIN_MS)))
    }
}

/// A place among the running requests of each limit.
fn enter(generation: &Generation, spender: Spender) -> Result<[Option<Running>; 3], Failure> {
    let mut running = [None, None, None];
    for (place, limits) in running.iter_mut().zip(spender.limits(&generation.snapshot)) {
        let Some(concurrent) = &limits.concurrent else { continue };
        *place = Some(concurrent.enter().ok_or_else(|| too_many(concurrent))?);
    }
    Ok(running)
}

fn too_many(concurrent: &Concurrent) -> Failure {
    Failure::Limited(Limited {
        count: LimitedCount::ConcurrentRequests,
        whose: whose(concurrent.of),
        most: concurrent.most.to_string().into(),
        in_ms: Some(RUNNING_MS),
        status: 429,
    })
}

/// Takes all or nothing; `None` where a home core was asked.
fn take(
    generation: &Rc<Generation>,
    spender: Spender,
    requests: u64,
    amounts: Amounts,
) -> Result<Option<Option<Spending>>, Failure> {
    let price = generation.snapshot.models[spender.model as usize].price;
    let needs = Needs {
        requests,
        tokens: amounts.prompt.saturating_add(amounts.answer),
        money: price.of(amounts.prompt, amounts.answer),
    };
    let costs = spender.rates(&generation.snapshot).map(|limit| Cost {
        id: LimitId(limit.id),
        period: period(limit.period),
        what: limit.counted as u8,
        limit: limit.amount,
        need: needs.of(limit.counted as u8),
    });
    let quota = &generation.quota;
    let mut taken = quota.list();
    let mut rounds = 0;
    let admitted = loop {
        let mut asks = Vec::new();
        let admitted = quota.leases.borrow_mut().admit(costs.clone(), now(), &mut taken, &mut asks);
        let mut here = false;
        for (id, ask) in asks {
            here |= send_ask(generation, id, ask);
        }
        // What was asked on this core is answered. Each limit is asked once; whatever it says, this comes to an end.
        rounds += 1;
        if admitted != Admitted::Wait || !here || rounds > costs.clone().count() {
            break admitted;
        }
    };
    match admitted {
        Admitted::Yes => {
            // Requests are what they are: the others are settled.
            taken.retain(|Taken { cost, .. }| {
                let is_settled = cost.what != REQUESTS;
                if !is_settled {
                    quota.note_used(cost.id, cost.need);
                }
                is_settled
            });
            if taken.is_empty() {
                quota.give(taken);
                return Ok(Some(None));
            }
            Ok(Some(Some(Spending { generation: generation.clone(), taken, amounts, model: spender.model as usize })))
        }
        Admitted::Wait => {
            quota.give(taken);
            Ok(None)
        }
        Admitted::No { place, in_ms } => {
            quota.give(taken);
            let limit = spender.rates(&generation.snapshot).nth(place).ok_or(Failure::Internal)?;
            Err(used_up(generation, limit, in_ms))
        }
    }
}

const REQUESTS: u8 = Counted::Requests as u8;
const TOKENS: u8 = Counted::Tokens as u8;

/// Of each kind.
struct Needs {
    requests: u64,
    tokens: u64,
    money: u64,
}

impl Needs {
    fn of(&self, what: u8) -> u64 {
        match what {
            REQUESTS => self.requests,
            TOKENS => self.tokens,
            _ => self.money,
        }
    }
}

fn used_up(generation: &Generation, limit: &Limit, in_ms: Option<u64>) -> Failure {
    use snapshot::Period::Minute;
    let count = match (limit.counted, limit.period) {
        (Counted::Requests, Minute) => LimitedCount::RequestsPerMinute,
        (Counted::Requests, _) => LimitedCount::RequestsPerDay,
        (Counted::Tokens, Minute) => LimitedCount::TokensPerMinute,
        (Counted::Tokens, _) => LimitedCount::TokensPerDay,
        (Counted::Money, _) => LimitedCount::Budget,
    };
    let (most, status) = match limit.counted {
        Counted::Money => (snapshot::spell_money(limit.amount), generation.snapshot.limits.budget_status),
        Counted::Requests | Counted::Tokens => (limit.amount.to_string(), 429),
    };
    Failure::Limited(Limited { count, whose: whose(limit.of), most: most.into(), in_ms, status })
}

const fn whose(of: LimitOf) -> &'static str {
    match of {
        LimitOf::Tenant => "tenant",
        LimitOf::Key => "key",
        LimitOf::Model => "model",
    }
}

impl Permit {
    /// What is reserved, for the upstream call that will know what was used. A second call has nothing reserved.
    pub fn take_spending(&mut self, generation: &Rc<Generation>) -> Option<Spending> {
        match std::mem::replace(&mut self.has_called, true) {
            false => self.spending.take(),
            true => Spending::unreserved(generation, self.spender),
        }
    }

    /// What is still reserved, no upstream call of this exchange uses: the answer was there already, or there is none.
    pub fn settle_cached(&mut self, tokens: Option<TokenUsage>) {
        if let Some(spending) = self.spending.take() {
            spending.settle_cached(tokens);
        }
    }
}

impl Spending {
    /// For one more upstream call of a request, of which nothing is reserved.
    pub fn unreserved(generation: &Rc<Generation>, spender: Spender) -> Option<Spending> {
        take(generation, spender, 0, Amounts::default()).ok()??
    }

    /// A backend has answered: with this usage, or with what was `seen` of an answer that broke off or says nothing of it.
    pub fn settle(mut self, tokens: Option<TokenUsage>, seen: Seen, model: usize) -> Used {
        if let Some(tokens) = tokens {
            let model = &self.generation.upstreams.models[self.model];
            let mut estimate = model.estimate.borrow_mut();
            estimate.note_prompt(self.amounts.prompt_bytes, tokens.prompt);
            if !self.amounts.is_bounded {
                estimate.note_answer(tokens.completion);
            }
        }
        let used = self.amounts.used(tokens, seen, self.generation.snapshot.models[model].price);
        self.end(used.tokens.prompt.saturating_add(used.tokens.completion), used.money);
        used
    }

    /// There was an answer already.
    pub fn settle_cached(mut self, tokens: Option<TokenUsage>) {
        if let Some(TokenUsage { prompt, completion, .. }) = tokens
            && self.generation.snapshot.limits.cached_tokens == CachedTokens::Counted
        {
            let price = self.generation.snapshot.models[self.model].price;
            self.end(prompt.saturating_add(completion), price.of(prompt, completion));
        }
    }

    fn end(&mut self, tokens: u64, money: u64) {
        let taken = std::mem::take(&mut self.taken);
        let (quota, needs) = (&self.generation.quota, Needs { requests: 0, tokens, money });
        {
            let (mut leases, now) = (quota.leases.borrow_mut(), now());
            for of in &taken {
                let used = needs.of(of.cost.what);
                leases.settle(of, used, now);
                quota.note_used(of.cost.id, used);
            }
        }
        // What was used beyond that is told at once: until its home core knows, other cores may spend the same.
        for Taken { cost, .. } in taken.iter().filter(|of| needs.of(of.cost.what) > of.cost.need) {
            let returned = quota.leases.borrow_mut().take_returned(cost.id);
            if let Some(returned) = returned {
                home::send_returned(&self.generation, cost.id, cost.period, returned);
            }
        }
        quota.give(taken);
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        self.end(0, 0);
    }
}

impl Amounts {
    pub fn of(
        generation: &Generation,
        model: usize,
        endpoint: Endpoint,
        facts: Option<&RequestFacts>,
        body: &[u8],
    ) -> Amounts {
        let estimate = generation.upstreams.models[model].estimate.borrow();
        let (prompt_bytes, media) = facts
            .and_then(|facts| facts.prompt)
            .map_or((0, 0), |span| text_bytes(&generation.quota.files, span.of(body)));
        let prompt = estimate.prompt(prompt_bytes).saturating_add(media * MEDIA_TOKENS).max(1);
        let bound = facts.and_then(|facts| facts.answer_tokens_max);
        let answer = match endpoint {
            Endpoint::Embeddings | Endpoint::Models => 0,
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Messages
            | Endpoint::Responses
            | Endpoint::Other => match (bound, facts) {
                (_, None) => 0,
                (Some(most), Some(facts)) => most.saturating_mul(facts.answers),
                (None, Some(facts)) => estimate.answer().saturating_mul(facts.answers),
            },
        };
        Amounts { prompt_bytes, prompt, answer, is_bounded: bound.is_some() }
    }

    /// What a call for it has used.
    pub fn used(self, tokens: Option<TokenUsage>, seen: Seen, price: Price) -> Used {
        let most = if self.is_bounded { self.answer } else { u64::MAX };
        match tokens {
            Some(tokens) => Used::of(tokens, UsageSource::Reported, price),
            None => Used::of(seen.estimate(self.prompt, most), UsageSource::Estimated, price),
        }
    }
}

/// An image or a recording within a prompt: what providers take for one of usual size.
const MEDIA_TOKENS: u64 = 1_024;

/// How many bytes of a prompt's JSON are text, and how many files stand in it as base64.
fn text_bytes(mark: &Finder<'_>, prompt: &[u8]) -> (u64, u64) {
    let (mut rest, mut bytes, mut files) = (prompt, 0, 0);
    while let Some(at) = mark.find(rest) {
        let data = &rest[at + FILE_MARK.len()..];
        let end = memchr::memchr(b'"', data).unwrap_or(data.len());
        bytes += at as u64;
        files += 1;
        rest = &data[end..];
    }
    (bytes + rest.len() as u64, files)
}

/// Asks a limit's home core. Whether that is this one, and has answered.
fn send_ask(core: &Core, id: LimitId, ask: Ask) -> bool {
    if let Some(returned) = core.quota.leases.borrow_mut().take_returned(id) {
        home::send_returned(core, id, ask.period, returned);
    }
    match home::of(core, id) {
        own if own == core.id => home::ask_own(core, id, ask),
        home => {
            core.post(home, Message::QuotaAsk { limit: id, ask, from: core.id });
            false
        }
    }
}

/// About once a second: gives back what is not used. Other tasks run in between.
pub async fn keep_swept(core: Rc<Core>) {
    let mut looked_at = 0;
    for part in 0..PARTS {
        looked_at += sweep(&core, part);
        if looked_at > SWEPT_AT_A_TIME {
            looked_at = 0;
            // Through a timer: a task that wakes itself would be the next one.
            sleep_ms(1).await;
        }
    }
}

/// How many limits this has looked at.
fn sweep(core: &Core, part: usize) -> usize {
    let mut told = Vec::new();
    core.quota.leases.borrow_mut().sweep(part, now(), |id, period, returned| told.push((id, period, returned)));
    for (id, period, returned) in told {
        home::send_returned(core, id, period, returned);
    }
    core.quota.leases.borrow().count(part) + home::sweep(core, part)
}

/// Before this core ends: gives back all that it has leased. What the others give back is told at once from now on.
pub fn give_all_back(core: &Core) {
    // The first time may find what was used meanwhile.
    (0..2 * PARTS).for_each(|part| _ = sweep(core, part));
}

const fn period(of: snapshot::Period) -> Period {
    match of {
        snapshot::Period::Minute => Period::Minute,
        snapshot::Period::Day => Period::Day,
        snapshot::Period::Week => Period::Week,
        snapshot::Period::Month => Period::Month,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_a_prompt_are_no_text() {
        let mark = Finder::new(FILE_MARK);
        let text = br#"[{"content":"look"}]"#;
        assert_eq!(text_bytes(&mark, text), (20, 0));
        let image = format!(r#"[{{"url":"data:image/png;base64,{}"}},{{"url":"data:x;base64,"#, "A".repeat(5_000));
        assert_eq!(text_bytes(&mark, image.as_bytes()), (40, 2));
        assert_eq!(text_bytes(&mark, b""), (0, 0));
    }
}
