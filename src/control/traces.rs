//! Sends spans to an OpenTelemetry receiver, on the background core. What waits is bounded; what a receiver does not take in time is
//! dropped and counted. Nothing else waits for it, but a stop for a moment.

mod deliver; // one batch over one connection
pub mod proto; // OTLP's messages

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use prost::Message;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use self::deliver::{Connection, Delivered};
use crate::config::snapshot::Traces;
use crate::limits::{SPANS_A_BATCH, SPANS_WAITING};
use crate::net::random_u64;
use crate::observe::spans::{Span, SpanCounts};

/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How often a batch is sent before it is dropped, and the pauses between: the first, and the longest.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Where spans go.
pub struct Settings {
    pub of: Traces,
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Owned by the background core.
pub struct Exporter {
    settings: RefCell<Option<Rc<Settings>>>,
    waiting: RefCell<VecDeque<Span>>,
    arrived: Notify,
    /// Nothing waits, and no batch is under way.
    settled: Notify,
    busy: Cell<bool>,
    /// The node stops: what waits is sent at once, and only once.
    stopping: Cell<bool>,
    stop: Notify,
    counts: Cell<SpanCounts>,
    /// Whether the last batch was taken; failures in a row are told once.
    is_well: Cell<bool>,
    /// Names this process among those of the same service.
    instance: String,
}

impl Exporter {
    pub fn new(settings: Option<Settings>) -> Rc<Exporter> {
        Rc::new(Exporter {
            settings: RefCell::new(settings.map(Rc::new)),
            waiting: RefCell::default(),
            arrived: Notify::new(),
            settled: Notify::new(),
            busy: Cell::new(false),
            stopping: Cell::new(false),
            stop: Notify::new(),
            counts: Cell::default(),
            is_well: Cell::new(true),
            instance: format!("{:016x}{:016x}", random_u64(), random_u64()),
        })
    }

    /// From the next batch on, spans go there, or nowhere.
    pub fn set(&self, settings: Option<Settings>) {
        self.settings.replace(settings.map(Rc::new));
    }

    pub fn counts(&self) -> SpanCounts {
        self.counts.get()
    }

    fn count(&self, add: impl FnOnce(&mut SpanCounts)) {
        let mut counts = self.counts.get();
        add(&mut counts);
        self.counts.set(counts);
    }

    /// Takes spans that have ended, as far as there is room.
    pub fn add(&self, spans: Vec<Span>) {
        let mut waiting = self.waiting.borrow_mut();
        let room = SPANS_WAITING.saturating_sub(waiting.len());
        let dropped = spans.len().saturating_sub(room) as u64;
        waiting.extend(spans.into_iter().take(room));
        drop(waiting);
        self.count(|counts| counts.dropped_full += dropped);
        self.arrived.notify_one();
    }

    /// Sends what comes, forever.
    pub async fn run(&self) {
        let mut connection = None;
        loop {
            while self.waiting.borrow().is_empty() {
                self.busy.set(false);
                self.settled.notify_one();
                self.arrived.notified().await;
            }
            self.busy.set(true);
            self.gather().await;
            let batch: Vec<Span> = {
                let mut waiting = self.waiting.borrow_mut();
                let length = waiting.len().min(SPANS_A_BATCH);
                waiting.drain(..length).collect()
            };
            let settings = self.settings.borrow().clone();
            match settings {
                Some(settings) => self.send(&settings, &mut connection, batch).await,
                // Tracing was switched off while they were under way.
                None => self.count(|counts| counts.dropped_failed += batch.len() as u64),
            }
        }
    }

    /// Waits until there is a whole batch, or for a moment.
    async fn gather(&self) {
        let whole = async {
            while self.waiting.borrow().len() < SPANS_A_BATCH && !self.stopping.get() {
                tokio::select! {
                    () = self.arrived.notified() => {}
                    () = self.stop.notified() => {}
                }
            }
        };
        let _ = timeout(GATHER, whole).await;
    }

    /// Sends one batch, or drops it in the end.
    async fn send(
        &self,
        settings: &Rc<Settings>,
        connection: &mut Option<(Rc<Settings>, Connection)>,
        batch: Vec<Span>,
    ) {
        let count = batch.len() as u64;
        let message = proto::request(&settings.of.service_name, &self.instance, &batch).encode_to_vec();
        drop(batch);
        let message = Bytes::from(message);
        let mut pause = PAUSE;
        for number in 1..=TRIES {
            let (why, after_ms) = match self.try_once(settings, connection, &message).await {
                Delivered::Taken { rejected, why } => {
                    let rejected = rejected.min(count);
                    self.count(|counts| {
                        counts.sent += count - rejected;
                        counts.dropped_rejected += rejected;
                    });
                    if !self.is_well.replace(true) {
                        info!("traces: {} takes spans again", settings.of.authority);
                    }
                    if rejected > 0 {
                        warn!("traces: {} rejected {rejected} of {count} spans: {why}", settings.of.authority);
                    }
                    return;
                }
                Delivered::Refused { why } => {
                    self.tell(settings, &why);
                    break;
                }
                Delivered::Later { why, after_ms } => (why, after_ms),
            };
            self.tell(settings, &why);
            // Others wait behind it, and a stop waits for all of them.
            if number == TRIES || self.stopping.get() {
                break;
            }
            let asked = Duration::from_millis(after_ms.unwrap_or(0)).min(PAUSE_MAX);
            // Up to a half more, so that nodes do not come all at once.
            let rest = pause.max(asked).mul_f64(1.0 + (random_u64() % 512) as f64 / 1024.0);
            tokio::select! {
                () = sleep(rest) => {}
                () = self.stop.notified() => {}
            }
            pause = (2 * pause).min(PAUSE_MAX);
        }
        self.count(|counts| counts.dropped_failed += count);
    }

    async fn try_once(
        &self,
        settings: &Rc<Settings>,
        connection: &mut Option<(Rc<Settings>, Connection)>,
        message: &Bytes,
    ) -> Delivered {
        let within = Duration::from_millis(settings.of.timeout_ms);
        let reused = connection.take().filter(|(of, open)| Rc::ptr_eq(of, settings) && open.is_open());
        let delivery = async {
            // A kept connection may have been closed at the moment that it was used.
            if let Some((_, mut open)) = reused
                && let Ok(delivered) = open.deliver(settings, message).await
            {
                return Ok((open, delivered));
            }
            let mut open = Connection::open(settings).await?;
            let delivered = open.deliver(settings, message).await?;
            Ok::<_, String>((open, delivered))
        };
        match timeout(within, delivery).await {
            Ok(Ok((open, delivered))) => {
                *connection = Some((settings.clone(), open));
                delivered
            }
            Ok(Err(why)) => Delivered::Later { why, after_ms: None },
            Err(_) => {
                let why = format!("takes no spans within {} ms", settings.of.timeout_ms);
                Delivered::Later { why, after_ms: None }
            }
        }
    }

    fn tell(&self, settings: &Settings, why: &str) {
        if self.is_well.replace(false) {
            warn!("traces: {} {why}; spans are dropped and counted while it lasts", settings.of.authority);
        }
    }

    /// Sends what waits, for `limit` at most: the node stops. What is left then is not sent.
    pub async fn finish(&self, limit: Duration) {
        self.stopping.set(true);
        self.stop.notify_one();
        let _ = timeout(limit, async {
            while self.busy.get() || !self.waiting.borrow().is_empty() {
                self.settled.notified().await;
            }
        })
        .await;
    }
}
