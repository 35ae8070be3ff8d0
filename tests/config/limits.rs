//! Limits, prices and origins: what the configuration says of them, exactly.

use ringway::config::snapshot::{CachedTokens, Counted, LimitOf, Period, Price};

use super::{LEAST, good};

fn with(tenant: &str) -> String {
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    format!(
        r#"
        {LEAST}
        price_input = "0.15"
        price_cached_input = "0.075"
        price_output = 3
        [[tenant]]
        name = "t"
        {tenant}
        keys = ["sha256:{one}", {{ hash = "sha256:{two}", requests_per_minute = 5, budget = {{ amount = "0.01", period = "1d" }} }}]
        "#
    )
}

#[test]
fn limits_are_read_exactly() {
    let snapshot = good(&with(
        r#"
        requests_per_minute = 600
        tokens_per_day = 1_000_000
        concurrent_requests = 2
        budget = [{ amount = "100.000001", period = "1mo" }, { amount = 7, period = "1w" }]
        model_limits = [{ model = "m", tokens_per_minute = 50 }]
        "#,
    ));
    assert_eq!(
        snapshot.models[0].price,
        Price { input: 150_000, cached_input: 75_000, cache_write: 150_000, output: 3_000_000 }
    );
    let tenant = &snapshot.tenants[0];
    let of = |limits: &ringway::config::snapshot::Limits| {
        limits.rates.iter().map(|limit| (limit.of, limit.counted, limit.period, limit.amount)).collect::<Vec<_>>()
    };
    assert_eq!(
        of(&tenant.limits),
        [
            (LimitOf::Tenant, Counted::Requests, Period::Minute, 600),
            (LimitOf::Tenant, Counted::Tokens, Period::Day, 1_000_000),
            (LimitOf::Tenant, Counted::Money, Period::Month, 100_000_001_000_000),
            (LimitOf::Tenant, Counted::Money, Period::Week, 7_000_000_000_000),
        ]
    );
    assert_eq!(of(&tenant.model_limits[&0]), [(LimitOf::Model, Counted::Tokens, Period::Minute, 50)]);
    assert!(tenant.credentials[0].limits.is_empty());
    assert_eq!(
        of(&tenant.credentials[1].limits),
        [
            (LimitOf::Key, Counted::Requests, Period::Minute, 5),
            (LimitOf::Key, Counted::Money, Period::Day, 10_000_000_000)
        ]
    );
    assert_eq!((snapshot.limits.cached_tokens, snapshot.limits.budget_status), (CachedTokens::Free, 429));
    // A million tokens each way.
    assert_eq!(snapshot.models[0].price.of(1_000_000, 1_000_000), 3_150_000_000_000);
}

#[test]
fn a_limit_has_one_identity_in_all_configurations_and_no_other_one_has_it() {
    let ids = |text: &str| {
        let snapshot = good(&with(text));
        let tenant = &snapshot.tenants[0];
        let all = tenant.limits.rates.iter().chain(&tenant.credentials[1].limits.rates);
        all.map(|limit| limit.id).collect::<Vec<u64>>()
    };
    let one = ids("requests_per_minute = 600\ntokens_per_minute = 5");
    let mut other = ids("requests_per_minute = 7\ntokens_per_minute = 6\nrequests_per_day = 5");
    assert!(one.iter().all(|id| other.contains(id)), "whatever the amount");
    other.sort_unstable();
    other.dedup();
    assert_eq!(other.len(), 5);
}

#[test]
fn no_more_run_at_a_time_than_may() {
    let snapshot = good(&with("concurrent_requests = 2"));
    let concurrent = snapshot.tenants[0].limits.concurrent.as_ref().unwrap();
    let (one, two) = (concurrent.enter(), concurrent.enter());
    assert!(one.is_some() && two.is_some() && concurrent.enter().is_none());
    drop(one);
    assert_eq!(concurrent.running(), 1);
    assert!(concurrent.enter().is_some());
    // Under the next configuration, what runs counts still.
    let next = good(&with("concurrent_requests = 1"));
    next.continue_running(&snapshot);
    let next = next.tenants[0].limits.concurrent.as_ref().unwrap();
    assert!(next.enter().is_none());
    drop(two);
    assert!(next.enter().is_some());
}

#[test]
fn pages_are_allowed_by_their_origins() {
    let allowed = |origins: &str, origin: &[u8]| {
        let snapshot = good(&format!("[cors]\norigins = {origins}\n{LEAST}"));
        snapshot.cors.place(origin).map(|place| snapshot.cors.origins[place].clone())
    };
    let some = r#"["https://chat.example", "http://localhost:3000"]"#;
    assert_eq!(allowed(some, b"http://localhost:3000").as_deref(), Some("http://localhost:3000"));
    assert_eq!(allowed(some, b"https://chat.example.evil"), None);
    assert_eq!(allowed(r#"["*"]"#, b"https://any.example").as_deref(), Some("*"));
    assert_eq!(good(LEAST).cors.place(b"https://chat.example"), None);
}

#[test]
fn tiers_of_service_have_priorities() {
    let tiers = r#"service_tiers = [{ tier = "flex", priority = 9 }, { tier = "priority", priority = 0 }]"#;
    let limits = good(&format!("[limits]\n{tiers}\n{LEAST}")).limits.clone();
    let of = |tier: &str| limits.priority_of_tier(tier.as_bytes());
    assert_eq!((of("flex"), of("priority"), of("default"), of("Flex")), (Some(9), Some(0), None, None));
}
