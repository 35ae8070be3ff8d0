//! `GET /v1/limits`: what is used and left of the limits of tenants, as JSON. `?tenant=search&key=9f86&model=gpt-4o&used=80`. The cores
//! are asked, a thousand limits at a time: each knows what it holds, and a limit's home core what counts.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use shards::quota::LimitState;
use strum::VariantNames;
use tokio::sync::{Mutex, Notify};

use super::Admin;
use super::routes::{Answer, JSON, pretty, refuse, reply};
use super::usage::plain;
use crate::config::snapshot::{Concurrent, Counted, Limit, Limits, Period, Snapshot, Tenant, spell_money};
use crate::control::usage::days::spell_key;
use crate::limits::{LIMITS_ASKED, LIMITS_SHOWN};

/// How long the cores may take. One that takes longer is about to end the process.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Asks every core for what it knows of these limits, under this number; see [`Admin::limits_told`].
pub type Ask = Box<dyn Fn(u64, Arc<[Limit]>)>;

/// What the cores are asked, and what they have said so far.
pub struct State {
    ask: OnceCell<Ask>,
    /// One question at a time.
    turn: Mutex<()>,
    number: Cell<u64>,
    /// By core, whether it has answered this number.
    heard: RefCell<Vec<bool>>,
    sums: RefCell<Vec<LimitState>>,
    all_heard: Notify,
}

impl State {
    pub fn new(cores: usize) -> State {
        State {
            ask: OnceCell::new(),
            turn: Mutex::new(()),
            number: Cell::new(0),
            heard: RefCell::new(vec![false; cores]),
            sums: RefCell::default(),
            all_heard: Notify::new(),
        }
    }

    /// The sums over all cores; `None` if a core is silent.
    async fn of(&self, limits: Arc<[Limit]>) -> Option<Vec<LimitState>> {
        if limits.is_empty() {
            return Some(Vec::new());
        }
        let _turn = self.turn.lock().await;
        self.number.set(self.number.get() + 1);
        self.heard.borrow_mut().fill(false);
        self.sums.replace(vec![LimitState::default(); limits.len()]);
        let heard = self.all_heard.notified();
        (self.ask.get()?)(self.number.get(), limits);
        tokio::time::timeout(ANSWER_LIMIT, heard).await.ok()?;
        Some(self.sums.take())
    }

    fn told(&self, core: u16, number: u64, states: &[LimitState]) {
        let mut heard = self.heard.borrow_mut();
        let Some(is_heard) = heard.get_mut(usize::from(core)).filter(|is_heard| !**is_heard) else { return };
        // An answer to a question that nobody waits for any more.
        if number != self.number.get() {
            return;
        }
        *is_heard = true;
        for (sum, state) in self.sums.borrow_mut().iter_mut().zip(states) {
            sum.counted = sum.counted.saturating_add(state.counted);
            sum.held = sum.held.saturating_add(state.held);
            sum.left = sum.left.or(state.left);
            sum.whole_in_ms = sum.whole_in_ms.max(state.whole_in_ms);
        }
        if heard.iter().all(|is_heard| *is_heard) {
            self.all_heard.notify_waiters();
        }
    }
}

/// What a query asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    tenant: Option<String>,
    key: Option<String>,
    model: Option<String>,
    /// Least percentage that is used.
    used: u64,
}

/// Errors: what is wrong with it, for the client.
fn parse(query: &str) -> Result<Asked, String> {
    let mut asked = Asked::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = plain(value).ok_or_else(|| format!("{name} is no text."))?;
        match name {
            "tenant" => asked.tenant = Some(value),
            "key" => asked.key = Some(value.to_ascii_lowercase()),
            "model" => asked.model = Some(value),
            "used" => match value.parse() {
                Ok(percent @ 0..=100) => asked.used = percent,
                _ => return Err("used is a percentage, a whole number from 0 to 100.".to_owned()),
            },
            _ => return Err("The query has tenant, key, model and used.".to_owned()),
        }
    }
    Ok(asked)
}

/// One limit in force, and whose it is.
struct Row<'a> {
    tenant: &'a str,
    key: Option<String>,
    model: Option<&'a str>,
    limit: Of<'a>,
}

enum Of<'a> {
    Rate(&'a Limit),
    Concurrent(&'a Concurrent),
}

impl Asked {
    /// The limits that are asked for, in the order of the configuration.
    fn rows<'a>(&self, snapshot: &'a Snapshot) -> Vec<Row<'a>> {
        let mut rows = Vec::new();
        let is_wanted = |tenant: &&Tenant| self.tenant.as_ref().is_none_or(|name| *name == tenant.name);
        for tenant in snapshot.tenants.iter().filter(is_wanted) {
            let mut add = |key: Option<String>, model: Option<&'a str>, limits: &'a Limits| {
                let of = limits.concurrent.iter().map(Of::Concurrent).chain(limits.rates.iter().map(Of::Rate));
                rows.extend(of.map(|limit| Row { tenant: &tenant.name, key: key.clone(), model, limit }));
            };
            if self.key.is_none() && self.model.is_none() {
                add(None, None, &tenant.limits);
            }
            if self.key.is_none() {
                let mut models: Vec<_> = tenant.model_limits.iter().collect();
                models.sort_unstable_by_key(|(model, _)| **model);
                for (model, limits) in models {
                    let name = &*snapshot.models[*model].name;
                    if self.model.as_deref().is_none_or(|wanted| wanted == name) {
                        add(None, Some(name), limits);
                    }
                }
            }
            if self.model.is_none() {
                for credential in tenant.credentials.iter().filter(|credential| !credential.limits.is_empty()) {
                    let [a, b, c, d, e, f, g, h, ..] = credential.sha256;
                    let key = spell_key(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
                    if self.key.as_deref().is_none_or(|start| key.starts_with(start)) {
                        add(Some(key), None, &credential.limits);
                    }
                }
            }
        }
        rows
    }
}

impl Row<'_> {
    /// `None`: less is used than was asked for.
    fn told(&self, state: LimitState, least_percent: u64) -> Option<Value> {
        let (used, most) = match self.limit {
            Of::Rate(limit) => (state.counted.saturating_sub(state.held), limit.amount),
            Of::Concurrent(limit) => (u64::from(limit.running()), u64::from(limit.most)),
        };
        // Limits are at least 1.
        if u128::from(used) * 100 < u128::from(most) * u128::from(least_percent) {
            return None;
        }
        let mut row = json!({ "tenant": self.tenant });
        if let Some(key) = &self.key {
            row["key"] = json!(key);
        }
        if let Some(model) = self.model {
            row["model"] = json!(model);
        }
        let left = most.saturating_sub(used);
        match self.limit {
            Of::Concurrent(_) => {
                row["counts"] = json!("concurrent_requests");
                (row["limit"], row["used"], row["left"]) = (json!(most), json!(used), json!(left));
            }
            Of::Rate(limit) => {
                // Nodes that share it may have used more of it.
                let left = state.left.map_or(left, |free| left.min(free.saturating_add(state.held)));
                let (counts, amount): (_, fn(u64) -> Value) = match limit.counted {
                    Counted::Requests => ("requests", |amount| json!(amount)),
                    Counted::Tokens => ("tokens", |amount| json!(amount)),
                    Counted::Money => ("money", |amount| json!(spell_money(amount))),
                };
                row["counts"] = json!(counts);
                row["period"] = json!(spell_period(limit.period));
                (row["limit"], row["used"], row["left"]) = (amount(most), amount(used), amount(left));
                row["resets_in_ms"] = json!(state.whole_in_ms);
            }
        }
        Some(row)
    }
}

/// As the configuration spells it.
fn spell_period(period: Period) -> &'static str {
    Period::VARIANTS[period as usize]
}

impl Admin {
    /// Data cores are asked by this.
    pub fn ask_limits_by(&self, ask: Ask) {
        let _ = self.limit_states.ask.set(ask);
    }

    /// A core has answered.
    pub fn limits_told(&self, core: u16, number: u64, states: &[LimitState]) {
        self.limit_states.told(core, number, states);
    }

    pub(super) async fn limits(&self, query: &str) -> Response<Answer> {
        let asked = match parse(query) {
            Ok(asked) => asked,
            Err(why) => return refuse(StatusCode::BAD_REQUEST, "bad_query", &why),
        };
        let snapshot = self.in_force.borrow().snapshot.clone();
        if let Some(name) = &asked.tenant
            && !snapshot.tenants.iter().any(|tenant| tenant.name == *name)
        {
            let message = format!("There is no tenant {name:?}; /v1/config has all of them.");
            return refuse(StatusCode::NOT_FOUND, "no_such_tenant", &message);
        }
        let (mut told, mut is_truncated) = (Vec::new(), false);
        for rows in asked.rows(&snapshot).chunks(LIMITS_ASKED) {
            let rates: Arc<[Limit]> = rows.iter().filter_map(|row| row.limit.rate()).collect();
            let Some(states) = self.limit_states.of(rates).await else {
                let message = "A core does not answer; try again, and look at the log.";
                return refuse(StatusCode::SERVICE_UNAVAILABLE, "core_silent", message);
            };
            let mut states = states.into_iter();
            for row in rows {
                let state = row.limit.rate().and_then(|_| states.next()).unwrap_or_default();
                told.extend(row.told(state, asked.used));
            }
            is_truncated = told.len() > LIMITS_SHOWN;
            if is_truncated {
                told.truncate(LIMITS_SHOWN);
                break;
            }
        }
        let store_up = self.limits.get().map(|shared| shared.is_up());
        let answer = json!({ "limits": told, "truncated": is_truncated, "store_up": store_up });
        reply(StatusCode::OK, JSON, pretty(&answer))
    }
}

impl Of<'_> {
    fn rate(&self) -> Option<Limit> {
        match self {
            Of::Rate(limit) => Some(**limit),
            Of::Concurrent(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_or_refused_in_words() {
        assert_eq!(parse(""), Ok(Asked::default()));
        let all = parse("tenant=a%20b&key=2C70&model=x%2Fy&used=80").unwrap();
        assert_eq!(
            (all.tenant.as_deref(), all.key.as_deref(), all.model.as_deref(), all.used),
            (Some("a b"), Some("2c70"), Some("x/y"), 80)
        );
        for (query, why) in [
            ("used=101", "used is a percentage"),
            ("used=-1", "used is a percentage"),
            ("tenant=%ff", "tenant is no text"),
            ("who", "The query has"),
        ] {
            assert!(parse(query).unwrap_err().starts_with(why), "{query}");
        }
    }

    fn limit() -> Limit {
        let of = crate::config::snapshot::LimitOf::Tenant;
        Limit { id: 7, of, counted: Counted::Requests, period: Period::Day, amount: 100 }
    }

    /// Polls once; what has come of it.
    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> std::task::Poll<T> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn cores_are_summed_and_late_answers_forgotten() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let state = State::new(2);
        assert!(state.ask.set(Box::new(|_, limits| assert_eq!(*limits, [limit()]))).is_ok());
        {
            let mut given_up = std::pin::pin!(state.of([limit()].into()));
            assert!(poll(given_up.as_mut()).is_pending());
        }
        let mut sums = std::pin::pin!(state.of([limit()].into()));
        assert!(poll(sums.as_mut()).is_pending());
        let home = LimitState { counted: 40, held: 3, left: Some(50), whole_in_ms: 9 };
        state.told(0, 1, &[home]);
        state.told(1, 1, &[home]);
        assert!(poll(sums.as_mut()).is_pending(), "answers to a question that was given up");
        state.told(0, 2, &[home]);
        state.told(0, 2, &[home]);
        state.told(9, 2, &[home]);
        assert!(poll(sums.as_mut()).is_pending(), "one core twice, and one that is not there");
        state.told(1, 2, &[LimitState { held: 4, ..LimitState::default() }]);
        let std::task::Poll::Ready(Some(sums)) = poll(sums.as_mut()) else { panic!("all have answered") };
        assert_eq!(sums, [LimitState { held: 7, ..home }]);
    }

    #[test]
    fn what_cores_hold_is_not_used_and_other_nodes_leave_less() {
        let limit = limit();
        let row = Row { tenant: "t", key: None, model: Some("m"), limit: Of::Rate(&limit) };
        let told = |state: LimitState, least| row.told(state, least);
        let state = LimitState { counted: 40, held: 7, left: None, whole_in_ms: 9 };
        let expected = |used: u64, left: u64| {
            json!({ "tenant": "t", "model": "m", "counts": "requests", "period": "1d", "limit": 100, "used": used,
                    "left": left, "resets_in_ms": 9 })
        };
        assert_eq!(told(state, 0), Some(expected(33, 67)));
        assert_eq!(told(LimitState { left: Some(5), ..state }, 33), Some(expected(33, 12)));
        assert_eq!(told(state, 34), None);
        assert_eq!(told(LimitState { counted: 150, ..state }, 100).unwrap()["left"], 0);
    }
}
