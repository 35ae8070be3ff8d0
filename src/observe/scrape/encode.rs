//! Computes and encodes the values of each row. The match has no wildcard: a row without values does not compile.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use smallvec::SmallVec;

use super::{Amounts, Key, Labels, Reload, ReloadResult, Scrape, Stored};
use crate::observe::counters::{AttemptResult, HandshakeResult, Operation, RefusedConnection};
use crate::observe::histogram::{CONNECT_US, Histogram, OWN_TIME_US, REQUEST_US, TOKEN_US, Totals};
use crate::observe::metrics::{Id, Kind, METRICS, Metric};
use crate::observe::series::TemplateKey;
use crate::observe::snapshots::RestoreResult;
use crate::observe::spans::{PROVIDER, operation as operation_of};

const MICROSECONDS: f64 = 1e6;
const BILLIONTHS: f64 = 1e9;

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS.iter().filter(|metric| metric.is_shown(self.node.genai)) {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let encoder = encoder.encode_descriptor(name, metric.help, None, kind)?;
            self.encode_row(metric.id, &mut Row { metric, encoder })?;
        }
        Ok(())
    }
}

/// Encodes the samples of one row.
struct Row<'a> {
    metric: &'static Metric,
    encoder: MetricEncoder<'a>,
}

impl Row<'_> {
    /// Encodes one sample; `values` are those of the row's labels.
    fn with(&mut self, values: &[&str], write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result) -> fmt::Result {
        debug_assert_eq!(values.len(), self.metric.labels.len(), "{}", self.metric.name);
        if values.is_empty() {
            return write(&mut self.encoder);
        }
        let labels: SmallVec<[(&str, &str); 4]> =
            self.metric.labels.iter().copied().zip(values.iter().copied()).collect();
        write(&mut self.encoder.encode_family(&&labels[..])?)
    }

    fn number(&mut self, values: &[&str], number: u64) -> fmt::Result {
        let kind = self.metric.kind;
        self.with(values, |encoder| match kind {
            Kind::Counter => encoder.encode_counter::<NoLabelSet, u64, u64>(&number, None),
            Kind::Gauge | Kind::Histogram => encoder.encode_gauge(&number),
        })
    }

    fn real(&mut self, values: &[&str], number: f64) -> fmt::Result {
        let kind = self.metric.kind;
        self.with(values, |encoder| match kind {
            Kind::Counter => encoder.encode_counter::<NoLabelSet, f64, f64>(&number, None),
            Kind::Gauge | Kind::Histogram => encoder.encode_gauge(&number),
        })
    }

    /// Encodes microseconds as seconds.
    fn histogram(&mut self, values: &[&str], totals: &Totals) -> fmt::Result {
        let bounds = totals.bounds.iter().map(|&bound| bound as f64 / MICROSECONDS).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(totals.counts.iter().copied()).collect();
        self.with(values, |encoder| {
            encoder.encode_histogram::<NoLabelSet>(totals.sum as f64 / MICROSECONDS, totals.count(), &buckets, None)
        })
    }

    /// A histogram of which only sum and count are known.
    fn one_bucket(&mut self, values: &[&str], sum: u64, count: u64) -> fmt::Result {
        let all = [(f64::INFINITY, count)];
        self.with(values, |encoder| encoder.encode_histogram::<NoLabelSet>(sum as f64, count, &all, None))
    }

    /// As `histogram`, if it has recorded anything.
    fn histogram_if_any(&mut self, values: &[&str], totals: &Totals) -> fmt::Result {
        if totals.count() == 0 { Ok(()) } else { self.histogram(values, totals) }
    }
}

impl Scrape {
    /// Of the store that the configuration is in, if it is in one.
    fn stored(&self, row: &mut Row<'_>, value: impl Fn(&Stored) -> u64) -> fmt::Result {
        self.node.stored.as_ref().map_or(Ok(()), |stored| row.number(&[stored.source], value(stored)))
    }

    fn encode_row(&self, id: Id, row: &mut Row<'_>) -> fmt::Result {
        let labels = &*self.labels;
        match id {
            Id::Requests => {
                for (key, amounts) in &self.series {
                    let [endpoint, model, tenant] = names(labels, *key);
                    let mut digits = itoa::Buffer::new();
                    let status = if key.status == 0 { "none" } else { digits.format(key.status) };
                    row.number(&[endpoint, model, tenant, status], amounts.requests)?;
                }
                Ok(())
            }
            Id::RequestDuration => {
                for (index, endpoint) in labels.endpoints.iter().enumerate() {
                    let models = (0..labels.models.len()).map(Some).chain([None]);
                    let totals = self.operations(models.map(|model| (index, model)), REQUEST_US, |of| &of.duration);
                    row.histogram_if_any(&[endpoint], &totals)?;
                }
                Ok(())
            }
            Id::Overhead => {
                row.histogram(&["hit"], &self.totals(OWN_TIME_US, |core| &core.own_time_hit.0))?;
                row.histogram(&["miss"], &self.totals(OWN_TIME_US, |core| &core.own_time_miss.0))
            }
            Id::FirstToken => {
                for (name, models) in labels.model_rows() {
                    let endpoints = 0..labels.endpoints.len();
                    let places = endpoints.flat_map(|endpoint| models.iter().map(move |model| (endpoint, *model)));
                    row.histogram_if_any(&[name], &self.operations(places, REQUEST_US, |of| &of.first_token))?;
                }
                Ok(())
            }
            Id::InterToken => row.histogram(&[], &self.operations(labels.places(), TOKEN_US, |of| &of.inter_token)),
            Id::Tokens => {
                for ((model, tenant), amounts) in self.by(|key| (key.model, key.tenant)) {
                    let (model, tenant) = (labels.model(model), labels.tenant(tenant));
                    let kinds = [
                        ("prompt", amounts.prompt_tokens),
                        ("cached_prompt", amounts.cached_tokens),
                        ("completion", amounts.completion_tokens),
                        ("reasoning", amounts.reasoning_tokens),
                        ("prompt_saved", amounts.saved_prompt_tokens),
                        ("completion_saved", amounts.saved_completion_tokens),
                        ("estimated", amounts.estimated_tokens),
                    ];
                    for (kind, tokens) in kinds.into_iter().filter(|(_, tokens)| *tokens > 0) {
                        row.number(&[model, tenant, kind], tokens)?;
                    }
                }
                Ok(())
            }
            Id::Cost => {
                for ((model, tenant), amounts) in self.by(|key| (key.model, key.tenant)) {
                    let (model, tenant) = (labels.model(model), labels.tenant(tenant));
                    let kinds =
                        [("spent", amounts.cost), ("saved", amounts.saved_cost), ("estimated", amounts.estimated_cost)];
                    for (kind, cost) in kinds {
                        if cost > 0 {
                            row.real(&[model, tenant, kind], cost as f64 / BILLIONTHS)?;
                        }
                    }
                }
                Ok(())
            }
            Id::Templates => {
                let mut all: BTreeMap<(&str, &str), u64> = BTreeMap::new();
                for core in &self.cores {
                    core.templates.read(|TemplateKey(number), amounts| {
                        *all.entry(labels.template(number)).or_default() += amounts.requests;
                    });
                }
                all.into_iter().try_for_each(|((name, version), count)| row.number(&[name, version], count))
            }
            Id::Failures => row.number(&[], self.sum(|core| &core.failures)),
            Id::InFlight => row.number(&[], self.sum(|core| &core.exchanges)),
            Id::ClientConnections => row.number(&[], self.sum(|core| &core.connections)),
            Id::ConnectionsMoved => row.number(&[], self.sum(|core| &core.connections_moved)),
            Id::CacheRequests => {
                row.number(&["hit"], self.sum(|core| &core.hits))?;
                row.number(&["miss"], self.sum(|core| &core.misses))?;
                row.number(&["joined"], self.sum(|core| &core.joined))?;
                row.number(&["stale"], self.sum(|core| &core.stale))?;
                row.number(&["bypass"], self.sum(|core| &core.bypasses))
            }
            Id::CacheBytes => row.number(&[], self.sum(|core| &core.cache_bytes)),
            Id::CacheBudget => row.number(&[], labels.cache_budget_bytes),
            Id::CacheEntries => row.number(&[], self.sum(|core| &core.cache_entries)),
            Id::CachePurged => row.number(&[], self.sum(|core| &core.purged)),
            Id::Snapshots => {
                row.number(&["written"], self.node.snapshots.written.get())?;
                row.number(&["failed"], self.node.snapshots.failed.get())
            }
            Id::SnapshotTime => row.real(&[], self.node.snapshots.unix_ms.get() as f64 / 1000.0),
            Id::SnapshotEntries => row.number(&[], self.node.snapshots.entries.get()),
            Id::SnapshotBytes => row.number(&[], self.node.snapshots.bytes.get()),
            Id::CacheRestored => RestoreResult::ALL
                .iter()
                .try_for_each(|result| row.number(&[result.label()], self.node.snapshots.result(*result).get())),
            Id::SecondLookups => {
                row.number(&["hit"], self.sum(|core| &core.second.hits))?;
                row.number(&["miss"], self.sum(|core| &core.second.misses))?;
                row.number(&["damaged"], self.sum(|core| &core.second.damaged))?;
                row.number(&["timeout"], self.sum(|core| &core.second.late))?;
                row.number(&["error"], self.sum(|core| &core.second.failed))?;
                row.number(&["skipped"], self.sum(|core| &core.second.skipped))
            }
            Id::SecondWrites => {
                row.number(&["sent"], self.sum(|core| &core.second.writes))?;
                row.number(&["dropped"], self.sum(|core| &core.second.writes_dropped))
            }
            Id::SecondDisconnects => row.number(&[], self.sum(|core| &core.second.disconnects)),
            Id::LimitsStoreUp => {
                self.node.limits_store_up.map_or(Ok(()), |is_up| row.number(&["redis"], u64::from(is_up)))
            }
            Id::Coalesced => row.number(&[], self.sum(|core| &core.joined)),
            Id::UpstreamCalls => row.number(&[], self.sum(|core| &core.calls)),
            Id::DrainedCalls => {
                row.number(&["finished"], self.sum(|core| &core.drained.finished))?;
                row.number(&["failed"], self.sum(|core| &core.drained.failed))?;
                row.number(&["joined"], self.sum(|core| &core.drained.joined))?;
                row.number(&["cut"], self.sum(|core| &core.drained.cut))?;
                row.number(&["refused"], self.sum(|core| &core.drained.refused))
            }
            Id::Combined => row.number(&[], self.sum(|core| &core.combined)),
            Id::BackendRequests => labels.backends.iter().try_for_each(|backend| {
                for result in AttemptResult::ALL {
                    let count = backend.sum(|core| core.result(result));
                    if count > 0 || result == AttemptResult::Success {
                        row.number(&[&backend.name, result.label()], count)?;
                    }
                }
                Ok(())
            }),
            Id::BackendAttempts => labels
                .backends
                .iter()
                .try_for_each(|backend| row.number(&[&backend.name], backend.sum(|core| &core.attempts))),
            Id::BackendInFlight => labels
                .backends
                .iter()
                .try_for_each(|backend| row.number(&[&backend.name], backend.sum(|core| &core.in_flight))),
            Id::BackendConnections => labels.backends.iter().try_for_each(|backend| {
                let name = &backend.name;
                row.number(&[name, "idle"], backend.sum(|core| &core.connections_idle))?;
                row.number(&[name, "busy"], backend.sum(|core| &core.connections_busy))?;
                row.number(&[name, "http2"], backend.sum(|core| &core.http2_connections))
            }),
            Id::BackendConcurrency => {
                labels.backends.iter().try_for_each(|backend| match backend.sum(|core| &core.concurrency_limit) {
                    0 => Ok(()),
                    limit => row.number(&[&backend.name], limit),
                })
            }
            Id::BackendConnect => labels.backends.iter().try_for_each(|backend| {
                let mut totals = Totals::new(CONNECT_US);
                backend.counters.iter().for_each(|core| totals.add(&core.connect));
                row.histogram_if_any(&[&backend.name], &totals)
            }),
            Id::BackendState => labels.backends.iter().try_for_each(|backend| {
                let worst = backend.counters.iter().map(|core| core.state.get()).max();
                row.number(&[&backend.name], worst.unwrap_or(0))
            }),
            Id::BackendTransitions => self
                .node
                .transitions
                .iter()
                .try_for_each(|of| row.number(&[&of.backend, of.state, of.reason], of.count)),
            Id::QueueDepth => labels.models.iter().try_for_each(|model| {
                row.number(&[&model.name], model.counters.iter().map(|core| core.queue_depth.get()).sum())
            }),
            Id::WebSockets => row.number(&[], self.sum(|core| &core.websockets)),
            Id::WebSocketBytes => {
                row.number(&["client"], self.sum(|core| &core.websocket_bytes_up))?;
                row.number(&["backend"], self.sum(|core| &core.websocket_bytes_down))
            }
            Id::ProxyErrors => row.number(&[], self.sum(|core| &core.proxy_errors)),
            Id::ConnectionsRefused => {
                for reason in RefusedConnection::ALL {
                    row.number(&[reason.label()], self.sum(|core| core.connections_refused(reason)))?;
                }
                Ok(())
            }
            Id::TlsHandshakes => {
                for result in HandshakeResult::ALL {
                    let count = self.sum(|core| core.handshakes(result));
                    if count > 0 {
                        row.number(&[result.label()], count)?;
                    }
                }
                Ok(())
            }
            Id::QueueRejections => {
                row.number(&["full"], self.sum(|core| &core.queue_full))?;
                row.number(&["timeout"], self.sum(|core| &core.queue_timeouts))?;
                row.number(&["deadline"], self.sum(|core| &core.queue_sheds))?;
                row.number(&["expired"], self.sum(|core| &core.queue_expired))
            }
            Id::Retries => row.number(&[], self.sum(|core| &core.retries)),
            Id::Fallbacks => row.number(&[], self.sum(|core| &core.fallbacks)),
            Id::Hedges => row.number(&[], self.sum(|core| &core.hedges)),
            Id::HedgeWins => row.number(&[], self.sum(|core| &core.hedge_wins)),
            Id::CoreBusy => self
                .each_core(|core, name| row.real(&[name], self.node.busy.get(core).map_or(0.0, |(ratio, _)| *ratio))),
            Id::CoreCpu => self.each_core(|core, name| {
                row.real(&[name], self.node.busy.get(core).map_or(0.0, |(_, seconds)| *seconds))
            }),
            Id::CoreMessages => self.each_core(|core, name| row.number(&[name], self.cores[core].messages.get())),
            Id::MessagesDropped => row.number(&[], self.sum(|core| &core.messages_dropped)),
            Id::LogDropped => row.number(&[], self.sum(|core| &core.log_lines_dropped)),
            Id::LogDroppedBytes => row.number(&[], self.sum(|core| &core.log_bytes_dropped)),
            Id::SpansSent => row.number(&[], self.node.spans.sent),
            Id::SpansDropped => {
                let spans = &self.node.spans;
                row.number(&["full"], spans.dropped_full + self.sum(|core| &core.spans_dropped))?;
                row.number(&["failed"], spans.dropped_failed)?;
                row.number(&["rejected"], spans.dropped_rejected)
            }
            Id::ConfigGeneration => row.number(&[], self.node.generation),
            Id::ConfigReload => row.number(&[], u64::from(self.node.last_reload == Reload::Good)),
            Id::ConfigReloads => {
                let counted = ReloadResult::ALL.iter().zip(self.node.reloads);
                counted.into_iter().try_for_each(|(result, count)| row.number(&[result.label()], count))
            }
            Id::ConfigSourceUp => self.stored(row, |stored| u64::from(stored.is_up)),
            Id::ConfigSourceWatched => self.stored(row, |stored| u64::from(stored.is_watched)),
            Id::ConfigSourceErrors => self.stored(row, |stored| stored.faults),
            Id::ConfigKeptCopy => self.stored(row, |stored| u64::from(stored.is_kept_copy)),
            Id::BuildInfo => row.number(&[env!("CARGO_PKG_VERSION")], 1),
            Id::ProcessCpu => row.real(&[], self.node.process.cpu_seconds),
            Id::ProcessResident => row.number(&[], self.node.process.resident_bytes),
            Id::ProcessVirtual => row.number(&[], self.node.process.virtual_bytes),
            Id::ProcessDescriptors => row.number(&[], self.node.process.open_descriptors),
            Id::ProcessDescriptorsMax => row.number(&[], self.node.process.most_descriptors),
            Id::ProcessThreads => row.number(&[], self.node.process.threads),
            Id::ProcessStart => row.real(&[], self.node.process.started_seconds),
            Id::GenAiServerDuration => self.genai(row, REQUEST_US, |of| &of.duration),
            Id::GenAiServerFirstToken => self.genai(row, REQUEST_US, |of| &of.first_token),
            Id::GenAiServerTokenTime => self.genai(row, TOKEN_US, |of| &of.inter_token),
            Id::GenAiClientDuration => self.genai(row, REQUEST_US, |of| &of.call),
            Id::GenAiClientFirstChunk => self.genai(row, REQUEST_US, |of| &of.first_chunk),
            Id::GenAiClientInputTokens => self.genai_tokens(row, |amounts| amounts.prompt_tokens),
            Id::GenAiClientOutputTokens => self.genai_tokens(row, |amounts| amounts.completion_tokens),
            Id::OldGenAiDuration => self.genai(row, REQUEST_US, |of| &of.call),
            Id::OldGenAiTokens => {
                self.old_genai_tokens(row, "input", |amounts| amounts.prompt_tokens)?;
                self.old_genai_tokens(row, "output", |amounts| amounts.completion_tokens)
            }
        }
    }

    fn each_core(&self, mut each: impl FnMut(usize, &str) -> fmt::Result) -> fmt::Result {
        (0..self.cores.len()).try_for_each(|core| each(core, itoa::Buffer::new().format(core)))
    }

    fn genai(
        &self,
        row: &mut Row<'_>,
        bounds: &'static [u64],
        histogram: impl Fn(&Operation) -> &Histogram,
    ) -> fmt::Result {
        let labels = &*self.labels;
        for operation in OPERATIONS {
            for (name, models) in labels.model_rows() {
                let endpoints = labels.endpoints.iter().enumerate();
                let places = endpoints.filter(|(_, name)| operation_of(name) == Some(operation));
                let places = places.flat_map(|(endpoint, _)| models.iter().map(move |model| (endpoint, *model)));
                let totals = self.operations(places, bounds, &histogram);
                row.histogram_if_any(&[operation, PROVIDER, name], &totals)?;
            }
        }
        Ok(())
    }

    fn genai_tokens(&self, row: &mut Row<'_>, tokens: impl Fn(&Amounts) -> u64) -> fmt::Result {
        self.genai_amounts(|operation, model, amounts| match tokens(amounts) {
            0 => Ok(()),
            tokens => row.number(&[operation, PROVIDER, model, "unknown"], tokens),
        })
    }

    fn old_genai_tokens(&self, row: &mut Row<'_>, kind: &str, tokens: impl Fn(&Amounts) -> u64) -> fmt::Result {
        self.genai_amounts(|operation, model, amounts| match tokens(amounts) {
            0 => Ok(()),
            tokens => {
                let calls = amounts.requests.saturating_sub(amounts.saved_requests);
                row.one_bucket(&[operation, PROVIDER, model, kind], tokens, calls)
            }
        })
    }

    /// What each model was asked for by each operation.
    fn genai_amounts(&self, mut each: impl FnMut(&str, &str, &Amounts) -> fmt::Result) -> fmt::Result {
        let labels = &*self.labels;
        let part = |key: Key| (operation_of(labels.endpoint(key.endpoint.into())), key.model);
        for ((operation, model), amounts) in self.by(part) {
            if let Some(operation) = operation {
                each(operation, labels.model(model), &amounts)?;
            }
        }
        Ok(())
    }
}

impl Labels {
    /// Every endpoint with every model and without one.
    fn places(&self) -> impl Iterator<Item = (usize, Option<usize>)> {
        let models = self.models.len();
        (0..self.endpoints.len())
            .flat_map(move |endpoint| (0..models).map(Some).chain([None]).map(move |model| (endpoint, model)))
    }
}

fn names(labels: &Labels, key: Key) -> [&str; 3] {
    [labels.endpoint(key.endpoint.into()), labels.model(key.model), labels.tenant(key.tenant)]
}

/// The values of `gen_ai.operation.name` for this gateway's endpoints.
const OPERATIONS: [&str; 3] = ["chat", "text_completion", "embeddings"];

/// Converts OpenMetrics text to Prometheus text (version 0.0.4), in which a counter's family name also ends in
/// `_total`, and there is no end marker.
pub fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 2048);
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // The kind, which determines the name, is on the next line.
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take().filter(|(helped, _)| *helped == name) {
                out.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
