//! The open-loop generator: requests start at a constant rate whatever the answers, and latency counts from the time a
//! request was due, so that a stalled server cannot hide its stall by slowing the generator down. One thread; owns the
//! schedule and the tally. Never sends to a machine other than this one without `--remote`.

mod client;
mod questions;
pub mod scenario;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::clock::now;
use crate::report::Tally;
use client::Client;
use questions::Questions;

const EXAMPLES: &str = "\
Scenarios:
  hit     one question, asked once before the clock starts
  miss    a body that no run has sent before, for every request
  stream  event streams, each with a body of its own; how late each chunk comes is counted from the stamp that
          `loadtest backend` wrote into it
  zipf    questions of a corpus, by Zipf's law; reports the share of hits from x-cache

Examples:
  loadtest run --url http://127.0.0.1:8080 --scenario hit --rate 5000 --seconds 10 --key sk-test
  loadtest run --url http://127.0.0.1:8080 --scenario miss --rate 1000 --model mock-t20
  loadtest run --url http://127.0.0.1:8080 --scenario stream --rate 100 --connections 400 --model mock-n100-i10
  loadtest run --url http://127.0.0.1:8080 --scenario zipf --rate 2000 --models mock-a,mock-b";

/// How long answers may take after the last request was due, by default; also the longest wait for the first answer of a run.
const GRACE: Duration = Duration::from_secs(10);
/// Most requests that wait for a connection, so that a server far too slow does not fill the generator's memory.
const BACKLOG_MAX: usize = 1_000_000;
/// Below this interval the pacer polls the clock instead of sleeping: the runtime's timer has millisecond resolution.
const SPIN: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    Hit,
    Miss,
    Stream,
    Zipf,
}

/// Load a gateway at a constant rate
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Where to: http://HOST:PORT, or with a path (default path /v1/chat/completions)
    #[arg(long)]
    url: String,
    #[arg(long, value_enum)]
    scenario: Scenario,
    /// Requests (or streams) to start a second
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Connections; also the most requests at one time. Requests that find none free wait, and their wait counts
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds that answers may take after the last request was due; what is open then counts as an error
    #[arg(long, default_value_t = GRACE.as_secs_f64())]
    grace: f64,
    /// Sent as a bearer credential
    #[arg(long)]
    key: Option<String>,
    #[arg(long, default_value = "mock")]
    model: String,
    /// Zipf: models of the generated corpus
    #[arg(long, value_delimiter = ',', default_value = crate::corpus::MODELS)]
    models: Vec<String>,
    /// Zipf: a file written by `loadtest corpus`; without it the corpus is generated
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Zipf: seed of the corpus and of the order of requests
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Zipf: weight of rank r is 1 / r ^ exponent
    #[arg(long, default_value_t = 0.9)]
    exponent: f64,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
    /// Allow a target that is not this machine
    #[arg(long)]
    remote: bool,
}

/// Requests that are due and not yet taken by a connection.
struct Due {
    starts: RefCell<VecDeque<(Instant, Start)>>,
    bell: Notify,
}

/// When a request is to start, which part of the run it belongs to, and whether the cache may answer.
#[derive(Clone, Copy, Debug)]
struct Start {
    after: Duration,
    part: usize,
    cache: CacheUse,
}

/// Whether a request may be answered from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    Allowed,
    /// `Cache-Control: no-store`
    Bypassed,
}

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let sane = |value: f64, most: f64| value > 0.0 && value <= most;
    if !sane(arguments.rate, 1e6) || !sane(arguments.seconds, 1e6) || arguments.connections == 0 {
        return Err("rate, seconds and connections must be above 0 (rate at most 1000000)".into());
    }
    let (address, host, path) = target(&arguments.url)?;
    if !address.ip().is_loopback() && !arguments.remote {
        return Err(format!("{address} is not this machine; --remote allows it").into());
    }
    if !(0.0..=1e6).contains(&arguments.grace) {
        return Err("grace must be from 0 to 1000000 seconds".into());
    }
    let planned = (arguments.rate * arguments.seconds).ceil() as u64;
    let questions = Questions::new(arguments, &host, &path)?;
    let tally = Rc::new(RefCell::new(Tally::new(planned)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let set = tokio::task::LocalSet::new();
    set.block_on(&runtime, load(arguments, address, questions, tally.clone()))?;
    let tally = tally.borrow();
    if arguments.json {
        println!("{}", tally.json());
    } else {
        tally.print();
    }
    Ok(())
}

async fn load(
    arguments: &Arguments,
    address: SocketAddr,
    questions: Questions,
    tally: Rc<RefCell<Tally>>,
) -> Result<(), Box<dyn Error>> {
    let questions = Rc::new(RefCell::new(questions));
    if arguments.scenario == Scenario::Hit {
        // The answer is cached before the measurement starts; this request is not counted.
        let warm = Rc::new(RefCell::new(Tally::new(1)));
        let mut client = Client::new(address, warm.clone());
        let mut request = Vec::new();
        questions.borrow_mut().next(&mut request, CacheUse::Allowed);
        tokio::time::timeout(GRACE, client.ask(&request, now(), 0))
            .await
            .map_err(|_| "no answer to the first request")?;
        if let Some(kind) = warm.borrow().errors.keys().next() {
            return Err(format!("the first request failed: {kind}").into());
        }
    }
    let planned = tally.borrow().planned;
    let starts = (0..planned).map(|number| Start {
        after: Duration::from_secs_f64(number as f64 / arguments.rate),
        part: 0,
        cache: CacheUse::Allowed,
    });
    let grace = Duration::from_secs_f64(arguments.grace);
    drive(arguments.connections, address, questions, tally, starts, grace, |_, _| ControlFlow::Continue(())).await;
    Ok(())
}

/// Starts requests when they are due, whatever the outcome of earlier ones. `look` is called in between with the time
/// since the start, and may end the run early. Late requests may finish within `grace`.
async fn drive(
    connections: usize,
    address: SocketAddr,
    questions: Rc<RefCell<Questions>>,
    tally: Rc<RefCell<Tally>>,
    starts: impl Iterator<Item = Start>,
    grace: Duration,
    mut look: impl FnMut(Duration, &RefCell<Tally>) -> ControlFlow<()>,
) {
    let due = Rc::new(Due { starts: RefCell::default(), bell: Notify::new() });
    let clients: Vec<_> = (0..connections)
        .map(|_| tokio::task::spawn_local(work(due.clone(), questions.clone(), Client::new(address, tally.clone()))))
        .collect();
    let begin = now();
    let mut started = 0;
    for start in starts {
        let intended = begin + start.after;
        loop {
            let left = intended.saturating_duration_since(now());
            if left.is_zero() {
                break;
            } else if left > SPIN {
                tokio::time::sleep(left - SPIN).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
        if look(now() - begin, &tally).is_break() {
            break;
        }
        started += 1;
        if due.starts.borrow().len() >= BACKLOG_MAX {
            tally.borrow_mut().error(start.part, "never sent: too many wait for a connection");
            continue;
        }
        due.starts.borrow_mut().push_back((intended, start));
        due.bell.notify_one();
    }
    let until = now() + grace;
    let handled = |tally: &Tally| tally.done + tally.failed();
    while handled(&tally.borrow()) < started && now() < until {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for client in clients {
        client.abort();
    }
    let mut tally = tally.borrow_mut();
    tally.planned = started;
    tally.seconds = (now() - begin).as_secs_f64();
    tally.hits_possible = questions.borrow().hits_possible();
    let never_sent = due.starts.borrow().len() as u64;
    let unanswered = started.saturating_sub(handled(&tally) + never_sent);
    for (kind, count) in [("never sent: all connections busy", never_sent), ("no answer in time", unanswered)] {
        if count > 0 {
            tally.errors.insert(kind.to_owned(), count);
        }
    }
}

/// One connection: takes the next due request, forever.
async fn work(due: Rc<Due>, questions: Rc<RefCell<Questions>>, mut client: Client) {
    let mut request = Vec::new();
    loop {
        let next = due.starts.borrow_mut().pop_front();
        let Some((intended, start)) = next else {
            due.bell.notified().await;
            continue;
        };
        questions.borrow_mut().next(&mut request, start.cache);
        client.ask(&request, intended, start.part).await;
    }
}

/// Address, Host field and path of a URL.
fn target(url: &str) -> Result<(SocketAddr, String, String), Box<dyn Error>> {
    let rest = url.strip_prefix("http://").ok_or("the URL must begin with http://")?;
    let (host, path) = match rest.split_once('/') {
        Some((host, "")) => (host, "/v1/chat/completions".to_owned()),
        Some((host, path)) => (host, format!("/{path}")),
        None => (rest, "/v1/chat/completions".to_owned()),
    };
    let with_port =
        if host.rsplit(']').next().unwrap_or("").contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = with_port.to_socket_addrs()?.next().ok_or("the host has no address")?;
    Ok((address, host.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let (address, host, path) = target("http://127.0.0.1:8080").unwrap();
        assert_eq!((address.port(), host.as_str(), path.as_str()), (8080, "127.0.0.1:8080", "/v1/chat/completions"));
        assert_eq!(target("http://[::1]/v1/embeddings").unwrap().0.port(), 80);
        assert!(target("https://127.0.0.1").is_err());
    }
}
