//! Scrapes of counters with known values.

use super::*;
use crate::limits::SERIES;
use crate::observe::counters::AttemptResult;
use crate::observe::metrics::{Kind, METRICS};
use crate::observe::series::SeriesIndex;

fn labels(models: &[&str], tenants: &[&str], backends: usize) -> Arc<Labels> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    Arc::new(Labels {
        endpoints: vec!["chat_completions", "other"],
        other_endpoint: 1,
        other_model: models.iter().position(|name| *name == OTHER).unwrap_or(models.len()),
        no_tenant: tenants.iter().position(|name| *name == NONE).unwrap_or(tenants.len()),
        models: owned(models),
        tenants: owned(tenants),
        backends: (0..backends).map(|number| format!("b{number}")).collect(),
        cache_budget_bytes: 1 << 20,
    })
}

fn cores(count: usize, labels: &Labels) -> Vec<Arc<Counters>> {
    let core = || Counters::new(labels.endpoints.len(), labels.models.len(), labels.backends.len());
    (0..count).map(|_| Arc::new(core())).collect()
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
    let labels = labels(&["m"], &["t"], 1);
    let cores = cores(2, &labels);
    for core in &cores {
        let mut index = SeriesIndex::new(1, 1);
        (0..3).for_each(|_| request(&mut index, core, 0, 0, 200));
        request(&mut index, core, 1, 1, 404);
        core.backends[0].result(AttemptResult::Timeout).add(2);
        core.own_time_hit.0.record(700);
        let operation = core.operation(0, Some(0)).unwrap();
        operation.duration.record(1_500_000);
        operation.first_token.record(2_000);
    }
    let text = Scrape::new(cores, labels, node(GenAi::On)).text();
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
    let labels = labels(&["other"], &["none"], 0);
    let cores = cores(1, &labels);
    let mut index = SeriesIndex::new(1, 1);
    for (model, tenant) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        request(&mut index, &cores[0], model, tenant, 200);
        cores[0].operation(0, (model == 0).then_some(0)).unwrap().first_token.record(1);
    }
    let text = Scrape::new(cores, labels, node(GenAi::On)).text();
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
    let labels = labels(&["m"], &["t"], 1);
    let text = Scrape::new(cores(1, &labels), labels, node(GenAi::On)).text();
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
fn opentelemetry_names_are_there_by_the_switch_only() {
    let labels = labels(&["m"], &["t"], 1);
    let text = Scrape::new(cores(1, &labels), labels, node(GenAi::Off)).text();
    assert!(!text.contains("gen_ai"));
}

#[test]
fn names_are_escaped() {
    let labels = labels(&["a\"b\\c\nd"], &[], 0);
    let cores = cores(1, &labels);
    request(&mut SeriesIndex::new(1, 0), &cores[0], 0, 0, 200);
    let text = Scrape::new(cores, labels, node(GenAi::Off)).text();
    assert!(text.contains(r#"model="a\"b\\c\nd""#), "{text}");
}

/// The size of a scrape depends on what has counted, not on what is configured.
#[test]
fn a_large_configuration_stays_small() {
    let names: Vec<String> = (0..1000).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let labels = labels(&names[..100], &names, 64);
    let cores = cores(16, &labels);
    let lines = Scrape::new(cores.clone(), labels.clone(), node(GenAi::On)).text().lines().count();
    assert!(lines < 1500, "{lines} lines before the first request");
    for core in &cores {
        let mut index = SeriesIndex::new(100, 1000);
        for place in 0..2 * SERIES as u32 {
            request(&mut index, core, place % 100, place % 1000, 200 + (place % 400) as u16);
        }
        assert!(core.series.len() <= SERIES);
    }
    let lines = Scrape::new(cores, labels, node(GenAi::On)).text().lines().count();
    assert!(lines < 3 * SERIES, "{lines} lines");
}
