//! What tenants may spend: taken at admission, from this core's leases; settled once, when it is known what a request has
//! used. A request waits only where this core has nothing of a limit and its home core has not said that there is none.

use std::rc::Rc;

use shards::quota::{Admitted, Ask, Cost, LimitId, PARTS, Period, Taken};

use super::amounts::Amounts;
use super::authenticate::Principal;
use super::core::Core;
use super::generation::Generation;
use super::home;
use super::message::Message;
use super::quota::now;
use super::used::{self, Seen, Used};
use crate::config::snapshot::{self, CachedTokens, Concurrent, Counted, Limit, LimitOf, Limits, OwnLimits, Running};
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

/// Where it is known what is left of a request's limits.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// In this core's leases: its upstream call may be settled at any time.
    Leased(Spender),
    /// It is settled.
    Settled(Remaining),
}

impl Left {
    pub fn remaining(self, generation: &Generation) -> Remaining {
        match self {
            Left::Leased(spender) => spender.remaining(generation),
            Left::Settled(remaining) => remaining,
        }
    }
}

/// What is left of the limits of each kind that are nearest to their end, those of a minute first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remaining {
    pub requests: Option<Headroom>,
    pub tokens: Option<Headroom>,
}

/// A limit's amount, and what is left of it.
#[derive(Clone, Copy, Debug)]
pub struct Headroom {
    pub limit: u64,
    pub left: u64,
    period: Period,
}

impl Headroom {
    /// In how many milliseconds it is whole.
    pub fn whole_ms(self) -> u64 {
        if self.left == self.limit { 0 } else { self.period.whole_in_ms(now()) }
    }

    fn is_nearer(self, other: Headroom) -> bool {
        let rank = |of: Headroom| (of.period != Period::Minute, of.left);
        rank(self) < rank(other)
    }
}

impl Remaining {
    fn note(&mut self, of: u8, headroom: Headroom) {
        let nearest = match of {
            REQUESTS => &mut self.requests,
            TOKENS => &mut self.tokens,
            _ => return,
        };
        if nearest.is_none_or(|nearest| headroom.is_nearer(nearest)) {
            *nearest = Some(headroom);
        }
    }
}

/// What a request has taken. Places among the running requests are free again when it is dropped.
pub struct Permit {
    spender: Spender,
    spending: Option<Spending>,
    /// Nothing is reserved for a call, as an answer was at hand.
    lacks_reservation: bool,
    /// Of its limits, when it was taken.
    remaining: Remaining,
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

    fn remaining(self, generation: &Generation) -> Remaining {
        let leases = generation.quota.leases.borrow();
        let mut remaining = Remaining::default();
        for limit in self.rates(&generation.snapshot) {
            let left = leases.remaining(LimitId(limit.id), limit.amount);
            let headroom = Headroom { limit: limit.amount, left, period: period(limit.period) };
            remaining.note(limit.counted as u8, headroom);
        }
        remaining
    }
}

/// What a request may need of its limits.
#[derive(Clone, Copy)]
pub enum Needed<'a> {
    /// A place and a request: an answer is at hand, and its tokens do not count.
    Request,
    /// Also tokens and money, as a backend will be asked.
    Call { endpoint: Endpoint, facts: Option<&'a RequestFacts>, body: &'a [u8] },
}

/// Takes what a request needs of all its limits; where a home core has to be asked, [`Waiting`] takes it. Errors: the limit that
/// does not have it.
pub fn admit(
    generation: &Rc<Generation>,
    spender: Spender,
    needed: Needed<'_>,
) -> Result<Result<Permit, Waiting>, Failure> {
    let amounts = match needed {
        Needed::Request => None,
        Needed::Call { endpoint, facts, body } => {
            Some(Amounts::of(generation, spender.model as usize, endpoint, facts, body))
        }
    };
    let running = enter(generation, spender)?;
    Ok(match take(generation, spender, 1, amounts)? {
        Some(taken) => Ok(Permit::new(spender, running, amounts, taken)),
        None => Err(Waiting { spender, amounts, running }),
    })
}

/// A request for which a home core was asked.
pub struct Waiting {
    spender: Spender,
    amounts: Option<Amounts>,
    running: [Option<Running>; 3],
}

impl Waiting {
    /// As [`admit`].
    pub async fn wait(self, generation: &Rc<Generation>) -> Result<Permit, Failure> {
        let Waiting { spender, amounts, running } = self;
        let taken = wait(generation, spender, 1, amounts).await?;
        Ok(Permit::new(spender, running, amounts, taken))
    }
}

/// Takes all once it has come.
async fn wait(
    generation: &Rc<Generation>,
    spender: Spender,
    requests: u64,
    amounts: Option<Amounts>,
) -> Result<(Option<Spending>, Remaining), Failure> {
    let began = now().mono;
    while now().mono.since(began) < WAIT_MS {
        within(generation.quota.next_grant(), LOOK_MS).await;
        if let Some(taken) = take(generation, spender, requests, amounts)? {
            return Ok(taken);
        }
    }
    // Others took what came, each time.
    let limit = spender.rates(&generation.snapshot).next().ok_or(Failure::Internal)?;
    Err(used_up(generation, limit, Some(AGAIN_MS)))
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

/// Takes all or nothing, and tells what is left; `None` where a home core was asked. Without amounts, only requests are taken.
fn take(
    generation: &Rc<Generation>,
    spender: Spender,
    requests: u64,
    amounts: Option<Amounts>,
) -> Result<Option<(Option<Spending>, Remaining)>, Failure> {
    let Amounts { prompt, answer, .. } = amounts.unwrap_or_default();
    let price = generation.snapshot.models[spender.model as usize].price;
    let needs = Needs { requests, tokens: prompt.saturating_add(answer), money: price.of(prompt, answer) };
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
            let mut remaining = Remaining::default();
            // Requests are what they are: the others are settled.
            taken.retain(|Taken { cost, left, .. }| {
                remaining.note(cost.what, Headroom { limit: cost.limit, left: *left, period: cost.period });
                let is_settled = cost.what != REQUESTS && amounts.is_some();
                if !is_settled {
                    quota.note_used(cost.id, cost.need);
                }
                is_settled
            });
            let Some(amounts) = amounts.filter(|_| !taken.is_empty()) else {
                quota.give(taken);
                return Ok(Some((None, remaining)));
            };
            let (generation, model) = (generation.clone(), spender.model as usize);
            Ok(Some((Some(Spending { generation, taken, amounts, model }), remaining)))
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
    fn new(
        spender: Spender,
        running: [Option<Running>; 3],
        amounts: Option<Amounts>,
        (spending, remaining): (Option<Spending>, Remaining),
    ) -> Permit {
        let lacks_reservation = amounts.is_none();
        Permit { spender, spending, lacks_reservation, remaining, has_called: false, _running: running }
    }

    /// Whether a backend may not be asked yet: the answer that was at hand does not serve. Then [`Permit::reserve`] comes first.
    pub fn lacks_reservation(&self) -> bool {
        self.lacks_reservation
    }

    /// Reserves what a call needs. Errors: the limit that does not have it.
    pub async fn reserve(
        &mut self,
        generation: &Rc<Generation>,
        endpoint: Endpoint,
        facts: Option<&RequestFacts>,
        body: &[u8],
    ) -> Result<(), Failure> {
        let amounts = Some(Amounts::of(generation, self.spender.model as usize, endpoint, facts, body));
        (self.spending, self.remaining) = match take(generation, self.spender, 0, amounts)? {
            Some(taken) => taken,
            None => wait(generation, self.spender, 0, amounts).await?,
        };
        self.lacks_reservation = false;
        Ok(())
    }

    /// What is reserved, for the upstream call that will know what was used. A second call has nothing reserved.
    pub fn take_spending(&mut self, generation: &Rc<Generation>) -> Option<Spending> {
        match std::mem::replace(&mut self.has_called, true) {
            false => self.spending.take(),
            true => Spending::unreserved(generation, self.spender),
        }
    }

    /// What is still reserved, no upstream call of this exchange uses: the answer was there already, or there is none. What is
    /// left of its limits then.
    pub fn settle_cached(&mut self, tokens: Option<TokenUsage>) -> Remaining {
        if let Some(spending) = self.spending.take()
            && let Some(tokens) = spending.settle_cached(tokens)
        {
            self.remaining.tokens = Some(tokens);
        }
        self.remaining
    }
}

impl Spending {
    /// For one more upstream call of a request, of which nothing is reserved.
    pub fn unreserved(generation: &Rc<Generation>, spender: Spender) -> Option<Spending> {
        take(generation, spender, 0, Some(Amounts::default())).ok()??.0
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

    /// There was an answer already. What is left of its limits of tokens then.
    pub fn settle_cached(mut self, tokens: Option<TokenUsage>) -> Option<Headroom> {
        let (counts, price) =
            (self.generation.snapshot.limits.cached_tokens, self.generation.snapshot.models[self.model].price);
        match tokens.filter(|_| counts == CachedTokens::Counted) {
            Some(tokens) => self.end(tokens.prompt.saturating_add(tokens.completion), used::money(tokens, price)),
            None => self.end(0, 0),
        }
    }

    fn end(&mut self, tokens: u64, money: u64) -> Option<Headroom> {
        let taken = std::mem::take(&mut self.taken);
        let (quota, needs) = (&self.generation.quota, Needs { requests: 0, tokens, money });
        let (mut remaining, mut has_overspent) = (Remaining::default(), false);
        {
            let (mut leases, now) = (quota.leases.borrow_mut(), now());
            for of in &taken {
                let (cost, used) = (&of.cost, needs.of(of.cost.what));
                let left = leases.settle(of, used, now);
                remaining.note(cost.what, Headroom { limit: cost.limit, left, period: cost.period });
                has_overspent |= used > cost.need;
                quota.note_used(cost.id, used);
            }
        }
        if has_overspent {
            self.tell_overspent(&taken, &needs);
        }
        quota.give(taken);
        remaining.tokens
    }

    /// At once: until its home core knows, other cores may spend the same.
    fn tell_overspent(&self, taken: &[Taken], needs: &Needs) {
        for Taken { cost, .. } in taken.iter().filter(|of| needs.of(of.cost.what) > of.cost.need) {
            let returned = self.generation.quota.leases.borrow_mut().take_returned(cost.id);
            if let Some(returned) = returned {
                home::send_returned(&self.generation, cost.id, cost.period, returned);
            }
        }
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            self.end(0, 0);
        }
    }
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
