//! A `[[tenant]]` of the file as a field of the snapshot: its keys, models and limits; and what holds for all tenants.
//! Owns nothing. `None` means that something was reported, never that a value is absent.

use data_encoding::HEXLOWER;
use hashbrown::{HashMap, HashSet};
use sha2::{Digest, Sha256};

use crate::config::check::{Credentials, Names};
use crate::config::problem::Report;
use crate::config::section::{Placed, Section};
use crate::config::snapshot::{
    Allowed, CachedTokens, Concurrent, Cors, Counted, Credential, CredentialState, Limit, LimitNodes, LimitOf,
    LimitRules, Limits, Period, Tenant, certificate_credential,
};

/// Whether any model has a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Pricing {
    Some,
    None,
}

pub(in crate::config) fn limit_rules(section: &mut Section, report: &mut Report<'_>) -> Option<LimitRules> {
    let tiers = section.take_optional("service_tiers")?.map_or(Some(Vec::new()), |parts| service_tiers(parts, report));
    let cached = section.take("cached_tokens")?;
    let status: &str = section.take("budget_status")?;
    Some(LimitRules {
        cached_tokens: if cached { CachedTokens::Counted } else { CachedTokens::Free },
        budget_status: status.parse().ok()?,
        nodes: if section.take("shared")? { LimitNodes::Shared } else { LimitNodes::Apart },
        nodes_min: section.take::<u64>("nodes_min")?.try_into().ok()?,
        service_tiers: tiers?,
    })
}

fn service_tiers(parts: Vec<Section>, report: &mut Report<'_>) -> Option<Vec<(String, u8)>> {
    // All of them are looked at though one is wrong.
    let read: Vec<Option<(Placed<String>, u32)>> = parts
        .into_iter()
        .map(|mut part| {
            let (name, priority) = (part.take("tier"), part.take("priority"));
            part.report_fault(report);
            Some((name?, priority?))
        })
        .collect();
    let mut tiers: Vec<(String, u8)> = Vec::new();
    for (name, priority) in read.into_iter().collect::<Option<Vec<_>>>()? {
        if tiers.iter().any(|(other, _)| *other == name.value) {
            let what = format!("\"{}\" stands twice in the list", name.value);
            report.add(name.at, "limits.service_tiers.tier", what, "name each tier once");
        }
        tiers.push((name.value, priority as u8));
    }
    Some(tiers)
}

pub(in crate::config) fn cors(section: &mut Section, report: &mut Report<'_>) -> Option<Cors> {
    let origins: Vec<Placed<String>> = section.take_optional("origins")?.unwrap_or_default();
    for (index, origin) in origins.iter().enumerate() {
        if origins[..index].iter().any(|earlier| earlier.value == origin.value) {
            let what = format!("\"{}\" stands twice in the list", origin.value);
            report.add(origin.at, "cors.origins", what, "name each origin once");
        }
    }
    Some(Cors { origins: origins.into_iter().map(|origin| origin.value).collect() })
}

pub(in crate::config) fn tenant(
    section: &mut Section,
    models: &Names,
    templates: &Names,
    pricing: Pricing,
    credentials: &mut Credentials,
    report: &mut Report<'_>,
) -> Option<Tenant> {
    // Collected with their gaps first, so that a broken one hides nothing about the others.
    let whose = section.name().map(|name| name.value.clone()).unwrap_or_default();
    let parts: Option<Option<Vec<Section>>> = section.take_optional("keys");
    let names: Option<Option<Vec<Placed<String>>>> = section.take_optional("client_certificates");
    if let (Some(None), Some(None)) = (&parts, &names) {
        let remedy = "add keys, or client_certificates: `ringway key generate` makes a key";
        report.add_absence(section.at, "tenant.keys", "no request could be this tenant's: it has no keys", remedy);
    }
    let keys: Option<Vec<Option<Credential>>> = parts.map(|parts| {
        let parts = parts.into_iter().flatten();
        parts.map(|part| credential(part, &whose, pricing, credentials, report)).collect()
    });
    let certificates: Option<Vec<Option<Credential>>> =
        names.map(|names| names.into_iter().flatten().map(|name| certificate(&name, credentials, report)).collect());
    let own = limits(section, LimitOf::Tenant, &[&whose], pricing, report);
    let model_limits = model_limits(section, &whose, models, pricing, report);
    let allowed_models = allowed(section, "models", models, "name each model once", report);
    let allowed_templates = allowed(section, "templates", templates, "name each template once", report);
    Some(Tenant {
        name: section.take("name")?,
        models: allowed_models?,
        templates: allowed_templates?,
        credentials: keys?.into_iter().chain(certificates?).collect::<Option<_>>()?,
        priority: section.take::<u32>("priority")? as u8,
        weight: section.take("weight")?,
        limits: own?,
        model_limits: model_limits?,
    })
}

/// What a list of names and patterns leaves a tenant of all that has a name.
fn allowed(
    section: &mut Section,
    key: &'static str,
    all: &Names,
    once: &str,
    report: &mut Report<'_>,
) -> Option<Allowed> {
    let Some(names) = section.take_optional::<Vec<Placed<String>>>(key)? else { return Some(Allowed::All) };
    let (path, mut allowed, mut named) = (format!("tenant.{key}"), HashSet::new(), HashSet::new());
    for name in &names {
        if name.value.contains('*') {
            allowed.extend(all.fitting(&path, name, report));
            continue;
        }
        // A name that a pattern matches too is not a mistake; the same name twice is.
        let found = all.find(&path, name, report);
        allowed.extend(found);
        if found.is_some_and(|index| !named.insert(index)) {
            let what = format!("\"{}\" stands twice in the list", name.value);
            report.add(name.at, &path, what, once);
        }
    }
    Some(if names.iter().any(|name| name.value == "*") { Allowed::All } else { Allowed::Some(allowed) })
}

/// A name in clients' certificates.
fn certificate(name: &Placed<String>, credentials: &mut Credentials, report: &mut Report<'_>) -> Option<Credential> {
    let kinds = ["URI:", "DNS:", "email:", "CN="];
    if !kinds.iter().any(|kind| name.value.strip_prefix(kind).is_some_and(|rest| !rest.is_empty())) {
        let what = format!("\"{}\" does not say which kind of name it is", name.value);
        let remedy = "begin it with URI:, DNS:, email: or CN=";
        report.add(name.at, "tenant.client_certificates", what, remedy);
        return None;
    }
    let spelled = if name.value.starts_with("DNS:") {
        format!("DNS:{}", name.value[4..].to_ascii_lowercase())
    } else {
        name.value.clone()
    };
    let sha256 = certificate_credential(&spelled);
    credentials.add_certificate(&Placed { at: name.at, value: sha256 }, report);
    Some(Credential { sha256, expires: None, state: CredentialState::Enabled, limits: Limits::default() })
}

fn credential(
    mut section: Section,
    tenant: &str,
    pricing: Pricing,
    credentials: &mut Credentials,
    report: &mut Report<'_>,
) -> Option<Credential> {
    let hash: Option<Placed<[u8; 32]>> = section.take("hash");
    if let Some(hash) = &hash {
        credentials.add(hash, report);
    }
    let digest = hash.as_ref().map(|hash| HEXLOWER.encode(&hash.value)).unwrap_or_default();
    let limits = limits(&mut section, LimitOf::Key, &[tenant, &digest], pricing, report);
    let credential = Credential {
        sha256: hash?.value,
        expires: section.take_optional("expires")?,
        state: if section.take("disabled")? { CredentialState::Disabled } else { CredentialState::Enabled },
        limits: limits?,
    };
    section.report_fault(report);
    Some(credential)
}

fn model_limits(
    section: &mut Section,
    tenant: &str,
    models: &Names,
    pricing: Pricing,
    report: &mut Report<'_>,
) -> Option<HashMap<usize, Limits>> {
    let parts: Vec<Section> = section.take_optional("model_limits")?.unwrap_or_default();
    // All of them are looked at though one is wrong: the report is what counts then.
    let read: Vec<Option<(usize, usize, Limits)>> = parts
        .into_iter()
        .map(|mut part| {
            let name: Placed<String> = part.take("model")?;
            let model = models.find("tenant.model_limits.model", &name, report);
            let limits = limits(&mut part, LimitOf::Model, &[tenant, &name.value], pricing, report);
            if limits.as_ref().is_some_and(Limits::is_empty) {
                let remedy = "add one, such as requests_per_minute, or take the element out";
                report.add(part.at, "tenant.model_limits", "there is no limit in it", remedy);
            }
            part.report_fault(report);
            Some((name.at, model?, limits?))
        })
        .collect();
    let mut all = HashMap::new();
    for (at, model, limits) in read.into_iter().collect::<Option<Vec<_>>>()? {
        if all.insert(model, limits).is_some() {
            report.add(at, "tenant.model_limits.model", "the model stands twice in the list", "name each model once");
        }
    }
    Some(all)
}

/// The limits in a table. `whose` tells them from all others.
fn limits(
    section: &mut Section,
    of: LimitOf,
    whose: &[&str],
    pricing: Pricing,
    report: &mut Report<'_>,
) -> Option<Limits> {
    let mut limits = Limits::default();
    let mut add = |counted: Counted, period: Period, amount: u64| {
        limits.rates.push(Limit { id: identity(of, whose, counted, period), of, counted, period, amount });
    };
    let counts = [
        ("requests_per_minute", Counted::Requests, Period::Minute),
        ("requests_per_day", Counted::Requests, Period::Day),
        ("tokens_per_minute", Counted::Tokens, Period::Minute),
        ("tokens_per_day", Counted::Tokens, Period::Day),
    ]
    .map(|(name, counted, period)| {
        let amount: Option<u64> = section.take_optional(name)?;
        amount.into_iter().for_each(|amount| add(counted, period, amount));
        Some(())
    });
    let concurrent: Option<Option<u32>> = section.take_optional("concurrent_requests");
    let budgets_at = section.place("budget");
    let budgets: Option<Vec<Section>> = section.take_optional("budget")?;
    if budgets.is_some() && pricing == Pricing::None {
        let remedy = "add price_input and price_output to the models that cost something";
        report.add_absence(budgets_at, "tenant.budget", "no [[model]] has a price, so nothing would count", remedy);
    }
    let (mut whole, mut periods) = (true, Vec::new());
    for mut budget in budgets.into_iter().flatten() {
        let at = budget.at;
        let (amount, period) = (budget.take::<u64>("amount"), budget.take_choice::<Period>("period"));
        let (Some(amount), Some(period)) = (amount, period) else {
            whole = false;
            continue;
        };
        if periods.contains(&period) {
            report.add(at, "tenant.budget.period", "the period stands twice in the list", "write one budget for each");
        }
        periods.push(period);
        // From millionths.
        add(Counted::Money, period, amount.saturating_mul(1_000_000));
        budget.report_fault(report);
    }
    counts.into_iter().collect::<Option<Vec<()>>>()?;
    limits.concurrent = concurrent?.map(|most| Concurrent::new(hash_of(of, whose, [CONCURRENT, CONCURRENT]), of, most));
    whole.then_some(limits)
}

/// In the place of what is counted and of its period, of requests at a time.
const CONCURRENT: u8 = u8::MAX;

/// The same for the same limit in each configuration.
fn identity(of: LimitOf, whose: &[&str], counted: Counted, period: Period) -> u64 {
    hash_of(of, whose, [counted as u8, period as u8])
}

fn hash_of(of: LimitOf, whose: &[&str], what: [u8; 2]) -> u64 {
    let mut hash = Sha256::new();
    for part in whose {
        hash.update(part.as_bytes());
        hash.update([0]); // names have none
    }
    hash.update([of as u8]);
    hash.update(what);
    let hash = hash.finalize();
    u64::from_be_bytes(std::array::from_fn(|at| hash[at]))
}
