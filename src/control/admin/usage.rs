//! `GET /v1/usage`: what tenants have used, by day, as JSON. `?from=2026-11-01&to=2026-11-30&tenant=search&by=tenant,model`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::Admin;
use super::routes::{Answer, JSON, pretty, refuse, reply};
use crate::config::snapshot::spell_money;
use crate::control::usage::days::{day_of, read_day, spell_day, spell_key};
use crate::limits::{USAGE_DAYS, USAGE_ROWS};
use crate::net::unix_ms;
use crate::observe::series::Amounts;

/// What rows may be told apart by.
const PARTS: [&str; 4] = ["day", "tenant", "key", "model"];

/// What a query asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    from: u64,
    to: u64,
    tenant: Option<String>,
    model: Option<String>,
    key: Option<String>,
    /// Which of [`PARTS`].
    by: [bool; PARTS.len()],
}

/// Errors: what is wrong with it, for the client.
fn parse(query: &str, today: u64) -> Result<Asked, String> {
    let mut asked = Asked { from: today, to: today, tenant: None, model: None, key: None, by: [true; PARTS.len()] };
    let (mut from, mut to) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = plain(value).ok_or_else(|| format!("{name} is no text."))?;
        let day = || read_day(&value).ok_or_else(|| format!("{name} is a day such as 2026-11-30."));
        match name {
            "day" => (from, to) = (Some(day()?), Some(day()?)),
            "from" => from = Some(day()?),
            "to" => to = Some(day()?),
            "tenant" => asked.tenant = Some(value),
            "model" => asked.model = Some(value),
            "key" => asked.key = Some(value.to_ascii_lowercase()),
            "by" => {
                asked.by = [false; PARTS.len()];
                for part in value.split(',').filter(|part| !part.is_empty()) {
                    let place = PARTS.iter().position(|known| *known == part);
                    let place = place.ok_or_else(|| format!("by is a list of {}.", PARTS.join(", ")))?;
                    asked.by[place] = true;
                }
            }
            _ => return Err("The query has day, from, to, tenant, key, model and by.".to_owned()),
        }
    }
    asked.to = to.unwrap_or(today);
    asked.from = from.unwrap_or(asked.to);
    match asked.to.checked_sub(asked.from) {
        None => Err("from is after to.".to_owned()),
        Some(days) if days > USAGE_DAYS => Err(format!("At most {USAGE_DAYS} days at a time.")),
        Some(_) => Ok(asked),
    }
}

/// Percent-decoded; `None` if it is no UTF-8 then.
pub(super) fn plain(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn told(amounts: Amounts) -> Value {
    // Billionths are kept, and said exactly.
    let money = |billionths: u64| json!(spell_money(billionths.saturating_mul(1000)));
    json!({
        "requests": amounts.requests,
        "saved_requests": amounts.saved_requests,
        "tokens": {
            "prompt": amounts.prompt_tokens,
            "cached_prompt": amounts.cached_tokens,
            "completion": amounts.completion_tokens,
            "reasoning": amounts.reasoning_tokens,
            "saved_prompt": amounts.saved_prompt_tokens,
            "saved_completion": amounts.saved_completion_tokens,
            "estimated": amounts.estimated_tokens,
        },
        "cost": money(amounts.cost),
        "saved_cost": money(amounts.saved_cost),
        "estimated_cost": money(amounts.estimated_cost),
    })
}

impl Admin {
    pub(super) async fn usage(&self, query: &str) -> Response<Answer> {
        let today = day_of(unix_ms());
        let asked = match parse(query, today) {
            Ok(asked) => asked,
            Err(why) => return refuse(StatusCode::BAD_REQUEST, "bad_query", &why),
        };
        self.collect_usage();
        let Some(days) = self.usage.rows(asked.from, asked.to, USAGE_ROWS).await else {
            let why = format!("These days have more than {USAGE_ROWS} rows; ask for fewer days.");
            return refuse(StatusCode::BAD_REQUEST, "too_many_rows", &why);
        };
        let (mut sums, mut total) = (BTreeMap::<[Arc<str>; PARTS.len()], Amounts>::new(), Amounts::default());
        for (day, rows) in days {
            for (row, amounts) in rows {
                let names: [Arc<str>; PARTS.len()] =
                    [spell_day(day).into(), row.tenant, spell_key(row.credential).into(), row.model];
                let is = |wanted: &Option<String>, at: usize| wanted.as_deref().is_none_or(|text| text == &*names[at]);
                // A key may be named by the beginning of its hash, as the log has it.
                let is_key = asked.key.as_deref().is_none_or(|start| names[2].starts_with(start));
                if is(&asked.tenant, 1) && is_key && is(&asked.model, 3) {
                    let names = std::array::from_fn(|at| if asked.by[at] { names[at].clone() } else { "".into() });
                    sums.entry(names).or_default().add(amounts);
                    total.add(amounts);
                }
            }
        }
        let rows: Vec<Value> = sums
            .into_iter()
            .map(|(names, amounts)| {
                let named = PARTS.iter().zip(names).zip(asked.by).filter(|(_, by)| *by);
                let mut row: Map<String, Value> =
                    named.map(|((part, name), _)| ((*part).to_owned(), json!(&*name))).collect();
                if let Value::Object(amounts) = told(amounts) {
                    row.extend(amounts);
                }
                Value::Object(row)
            })
            .collect();
        let answer =
            json!({ "from": spell_day(asked.from), "to": spell_day(asked.to), "rows": rows, "total": told(total) });
        reply(StatusCode::OK, JSON, pretty(&answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_or_refused_in_words() {
        let asked = |query: &str| parse(query, 100);
        let today = Asked { from: 100, to: 100, tenant: None, model: None, key: None, by: [true; 4] };
        assert_eq!(asked(""), Ok(today));
        let all = asked("from=1970-01-02&to=1970-02-01&tenant=a%20b+c&model=x%2Fy&key=2C70&by=tenant,model").unwrap();
        assert_eq!((all.from, all.to, all.by), (1, 31, [false, true, false, true]));
        assert_eq!(
            (all.tenant.as_deref(), all.model.as_deref(), all.key.as_deref()),
            (Some("a b c"), Some("x/y"), Some("2c70"))
        );
        assert_eq!(asked("day=1970-01-05").map(|all| (all.from, all.to)), Ok((4, 4)));
        assert_eq!(asked("from=1970-01-05").map(|all| (all.from, all.to)), Ok((4, 100)));
        for (query, why) in [
            ("day=yesterday", "day is a day"),
            ("from=1970-05-05", "from is after to"),
            ("from=1970-01-01&to=2020-01-01", "At most"),
            ("by=colour", "by is a list of day, tenant, key, model"),
            ("tenant=%ff", "tenant is no text"),
            ("who", "The query has"),
        ] {
            assert!(asked(query).unwrap_err().starts_with(why), "{query}");
        }
    }
}
