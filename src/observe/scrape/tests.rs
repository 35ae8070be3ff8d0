//! Scrapes of counters with known values.

use super::*;
use crate::limits::SERIES;
use crate::observe::counters::AttemptResult;
use crate::observe::metrics::{Kind, METRICS};
use crate::observe::series::{OTHER as NO_NAME, SeriesIndex};

/// A node of so many cores; what has no name is counted under `series::OTHER`.
fn labels(cores: usize, models: &[&str], tenants: &[&str], backends: usize) -> Arc<Labels> {
    let mut names = Names::default();
    tenants.iter().for_each(|name| _ = names.tenants.number(name));
    let models = models.iter().map(|name| {
        let counters = (0..cores).map(|_| ModelCounters::new(2)).collect();
        Item { name: names.models.number(name).1, counters }
    });
    let models = models.collect();
    let backends = (0..backends).map(|number| {
        let counters = (0..cores).map(|_| BackendCounters::default()).collect();
        Item { name: format!("b{number}").into(), counters }
    });
    let endpoints = vec!["chat_completions", "other"];
    Arc::new(Labels::new(endpoints, models, backends.collect(), &names, 1 << 20))
}

fn cores(count: usize) -> Vec<Arc<Counters>> {
    (0..count).map(|_| Arc::new(Counters::new(2))).collect()
}

fn request(index: &mut SeriesIndex, core: &Counters, model: u32, tenant: u32, status: u16) {
    let amounts = Amounts { requests: 1, prompt_tokens: 10, completion_tokens: 5, ..Amounts::default() };
    index.add(&core.series, Key { endpoint: 0, model, tenant, status }, amounts);
}

fn node(genai: GenAi) -> Node {
    Node { generation: 1, genai, ..Node::default() }
}

/// The value of a sample as it appears in the text.
#[track_caller]
fn value<'a>(text: &'a str, sample: &str) -> &'a str {
    let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')).collect();
    assert_eq!(found.len(), 1, "{sample} stands {} times in\n{text}", found.len());
    found[0]
}

#[test]
fn what_cores_counted_is_added_up() {
    let (labels, cores) = (labels(2, &["m"], &["t"], 1), cores(2));
    for (place, core) in cores.iter().enumerate() {
        let mut index = SeriesIndex::default();
        (0..3).for_each(|_| request(&mut index, core, 0, 0, 200));
        request(&mut index, core, NO_NAME, NO_NAME, 404);
        labels.backends[0].counters[place].result(AttemptResult::Timeout).add(2);
        core.own_time_hit.0.record(700);
        let operation = labels.models[0].counters[place].operation(0).unwrap();
        operation.duration.record(1_500_000);
        operation.first_token.record(2_000);
    }
    let text = Scrape::new(cores, labels, node(GenAi::Both)).text();
    let sample = r#"ringway_requests_total{endpoint="chat_completions",model="m",tenant="t",status="200"}"#;
    assert_eq!(value(&text, sample), "6");
    let sample = r#"ringway_requests_total{endpoint="chat_completions",model="other",tenant="none",status="404"}"#;
    assert_eq!(value(&text, sample), "2");
    assert_eq!(value(&text, r#"ringway_tokens_total{model="m",tenant="t",kind="prompt"}"#), "60");
    assert_eq!(value(&text, r#"ringway_backend_requests_total{backend="b0",result="timeout"}"#), "4");
    assert_eq!(value(&text, r#"ringway_overhead_seconds_bucket{le="0.0005",result="hit"}"#), "0");
    assert_eq!(value(&text, r#"ringway_overhead_seconds_bucket{le="0.00075",result="hit"}"#), "2");
    assert_eq!(value(&text, r#"ringway_overhead_seconds_sum{result="hit"}"#), "0.0014");
    assert_eq!(value(&text, r#"ringway_request_duration_seconds_sum{endpoint="chat_completions"}"#), "3.0");
    assert_eq!(value(&text, r#"ringway_time_to_first_token_seconds_count{model="m"}"#), "2");
    let operation = r#"gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="m""#;
    assert_eq!(value(&text, &format!("gen_ai_server_request_duration_seconds_count{{{operation}}}")), "2");
    let sample =
        format!(r#"gen_ai_client_inference_usage_output_tokens_total{{{operation},gen_ai_token_modality="unknown"}}"#);
    assert_eq!(value(&text, &sample), "30");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_model_called_other_and_a_tenant_called_none_have_one_series_with_what_has_no_name() {
    let (labels, cores) = (labels(1, &["other"], &["none"], 0), cores(1));
    let mut index = SeriesIndex::default();
    for (model, tenant) in [(0, 0), (0, NO_NAME), (NO_NAME, 0), (NO_NAME, NO_NAME)] {
        request(&mut index, &cores[0], model, tenant, 200);
        let of_model = if model == 0 { &labels.models[0].counters[0] } else { &cores[0].without_model };
        of_model.operation(0).unwrap().first_token.record(1);
    }
    let text = Scrape::new(cores, labels, node(GenAi::Both)).text();
    let sample = r#"ringway_requests_total{endpoint="chat_completions",model="other",tenant="none",status="200"}"#;
    assert_eq!(value(&text, sample), "4");
    assert_eq!(value(&text, r#"ringway_time_to_first_token_seconds_count{model="other"}"#), "4");
    let mut samples: Vec<&str> = text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect();
    let count = samples.len();
    samples.sort_unstable();
    samples.dedup();
    assert_eq!(samples.len(), count, "a sample stands twice");
}

#[test]
fn every_row_has_its_head_in_both_formats() {
    let labels = labels(1, &["m"], &["t"], 1);
    let text = Scrape::new(cores(1), labels, node(GenAi::Both)).text();
    let prometheus = classic(&text);
    for metric in METRICS {
        let family = metric.name.strip_suffix("_total").unwrap_or(metric.name);
        let kind = metric.kind.label();
        assert!(text.contains(&format!("# HELP {family} {}\n# TYPE {family} {kind}\n", metric.help)), "{family}");
        let head = format!("# HELP {0} {1}\n# TYPE {0} {kind}\n", metric.name, metric.help);
        assert!(prometheus.contains(&head), "{}", metric.name);
    }
    assert!(!prometheus.contains("# EOF") && prometheus.ends_with('\n'));
    // A metric without labels exists from the start: a rate needs two samples.
    for metric in METRICS.iter().filter(|metric| metric.labels.is_empty() && metric.kind != Kind::Histogram) {
        value(&prometheus, metric.name);
    }
}

#[test]
fn limits_that_are_not_to_be_shared_have_no_store() {
    let scrape = |limits_store_up| {
        Scrape::new(cores(1), labels(1, &[], &[], 0), Node { limits_store_up, ..node(GenAi::Off) }).text()
    };
    let sample = r#"ringway_limits_store_up{store="redis"}"#;
    assert!(!scrape(None).contains(sample));
    assert_eq!(value(&scrape(Some(false)), sample), "0");
    assert_eq!(value(&scrape(Some(true)), sample), "1");
}

#[test]
fn opentelemetry_names_are_there_by_the_switch_only() {
    let labels = labels(1, &["m"], &["t"], 1);
    let text = Scrape::new(cores(1), labels, node(GenAi::Off)).text();
    assert!(!text.contains("gen_ai"));
}

#[test]
fn opentelemetry_names_of_before_2026_have_a_switch_of_their_own() {
    let (labels, cores) = (labels(1, &["m"], &["t"], 0), cores(1));
    let mut index = SeriesIndex::default();
    (0..3).for_each(|_| request(&mut index, &cores[0], 0, 0, 200));
    labels.models[0].counters[0].operation(0).unwrap().call.record(1_500_000);
    let current = Scrape::new(cores.clone(), labels.clone(), node(GenAi::Current)).text();
    assert!(current.contains("gen_ai_client_inference") && !current.contains("gen_ai_system"));
    let old = Scrape::new(cores, labels, node(GenAi::Old)).text();
    assert!(!old.contains("gen_ai_client_inference"));
    let of = r#"gen_ai_operation_name="chat",gen_ai_system="openai",gen_ai_request_model="m""#;
    assert_eq!(value(&old, &format!("gen_ai_client_operation_duration_seconds_sum{{{of}}}")), "1.5");
    let input = format!(r#"{of},gen_ai_token_type="input""#);
    assert_eq!(value(&old, &format!("gen_ai_client_token_usage_sum{{{input}}}")), "30.0");
    assert_eq!(value(&old, &format!("gen_ai_client_token_usage_count{{{input}}}")), "3");
    let all = format!(r#"gen_ai_client_token_usage_bucket{{le="+Inf",{input}}}"#);
    assert_eq!(value(&old, &all), "3");
}

#[test]
fn names_are_escaped() {
    let (labels, cores) = (labels(1, &["a\"b\\c\nd"], &[], 0), cores(1));
    request(&mut SeriesIndex::default(), &cores[0], 0, NO_NAME, 200);
    let text = Scrape::new(cores, labels, node(GenAi::Off)).text();
    assert!(text.contains(r#"model="a\"b\\c\nd""#), "{text}");
}

/// The size of a scrape depends on what has counted, not on what is configured.
#[test]
fn a_large_configuration_stays_small() {
    let names: Vec<String> = (0..1000).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (labels, cores) = (labels(16, &names[..100], &names, 64), cores(16));
    let lines = Scrape::new(cores.clone(), labels.clone(), node(GenAi::Both)).text().lines().count();
    assert!(lines < 1500, "{lines} lines before the first request");
    for core in &cores {
        let mut index = SeriesIndex::default();
        for place in 0..2 * SERIES as u32 {
            request(&mut index, core, place % 100, place % 1000, 200 + (place % 400) as u16);
        }
        assert!(core.series.len() <= SERIES);
    }
    let lines = Scrape::new(cores, labels, node(GenAi::Both)).text().lines().count();
    assert!(lines < 3 * SERIES, "{lines} lines");
}
