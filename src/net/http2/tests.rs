//! HTTP/2 against the library's own server half, and against a peer that writes its frames by hand, over an in-memory
//! pipe. In the real world they run on a ring; under `--cfg sim` in virtual time, in an order chosen by a seed.

mod life; // the connection: changes, endings, silence
mod peer; // a server under full control of a test
mod pipe; // two ends in memory
mod streams; // complete and broken answers
mod windows; // flow control, and bodies in transit

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;

use super::*;
use crate::net::spawn_raw;
use peer::Peer;
use pipe::{End, pipe};

const PIPE_BYTES: usize = 64 << 10;

#[cfg(not(sim))]
fn run<F: Future<Output = ()> + 'static>(test: impl Fn() -> F) {
    crate::net::runtime::run_data_core(test()).expect("a ring");
}

#[cfg(sim)]
fn run<F: Future<Output = ()> + 'static>(test: impl Fn() -> F) {
    use crate::net::sim::{Ended, Place, World};
    let seeds = match std::env::var("SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..20u64,
    };
    for seed in seeds {
        println!("SEED={seed}");
        let world = World::new(seed);
        let done = Rc::new(Cell::new(false));
        let (test, finished) = (test(), done.clone());
        world.spawn(Place::Core(0), async move {
            test.await;
            finished.set(true);
        });
        assert_eq!(world.run_until(3_600_000, || done.get()), Ended::Met);
    }
}

/// Runs all futures in this task.
async fn join<T>(futures: Vec<Pin<Box<dyn Future<Output = T>>>>) -> Vec<T> {
    let mut slots: Vec<_> = futures.into_iter().map(|future| (Some(future), None)).collect();
    poll_fn(|context| {
        for (future, result) in &mut slots {
            if let Some(Poll::Ready(value)) = future.as_mut().map(|future| future.as_mut().poll(context)) {
                (*future, *result) = (None, Some(value));
            }
        }
        if slots.iter().all(|(future, _)| future.is_none()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    slots.into_iter().filter_map(|(_, result)| result).collect()
}

type Ending = Rc<Cell<Option<Result<(), Http2Fault>>>>;

/// A connection with a running driver, to a peer with these settings.
async fn open(settings: Http2Settings, announced: &[(u16, u32)]) -> (Connection, Peer, Ending) {
    let (ours, theirs) = pipe(PIPE_BYTES);
    let mut peer = Peer::new(theirs);
    peer.settings(announced).await;
    let (connection, ending) = begin(ours, settings).await;
    peer.preface().await;
    (connection, peer, ending)
}

async fn begin(io: End, settings: Http2Settings) -> (Connection, Ending) {
    let (connection, driver) = handshake(io, settings).await.unwrap();
    let ending = Ending::default();
    let result = ending.clone();
    spawn_raw(async move { result.set(Some(driver.await)) });
    (connection, ending)
}

async fn dead(lookout: &mut Lookout) {
    while lookout.news().await != News::Dead {}
}

/// A connection to the library's server, which passes each request to `handler`.
async fn served<F>(
    settings: Http2Settings,
    server: h2::server::Builder,
    handler: impl Fn(http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> F + 'static,
) -> (Connection, Ending)
where
    F: Future<Output = ()> + 'static,
{
    let (ours, theirs) = pipe(PIPE_BYTES);
    spawn_raw(async move {
        let mut server: h2::server::Connection<End, Bytes> = server.handshake(theirs).await.unwrap();
        while let Some(Ok((request, respond))) = server.accept().await {
            spawn_raw(handler(request, respond));
        }
    });
    begin(ours, settings).await
}

fn post() -> http::Request<()> {
    http::Request::post("https://backend.test/v1/chat/completions").header("x-request-id", "r1").body(()).unwrap()
}

fn get() -> http::Request<()> {
    http::Request::get("https://backend.test/v1/models").body(()).unwrap()
}

/// Everything up to the end, and how it ended.
async fn read_all(stream: &mut Stream, buffer_bytes: usize) -> (String, Result<(), io::ErrorKind>) {
    let mut all = Vec::new();
    loop {
        let (result, got) = stream.read(Vec::with_capacity(buffer_bytes)).await;
        all.extend_from_slice(&got);
        let end = match result {
            Ok(0) => Ok(()),
            Ok(_) => continue,
            Err(error) => Err(error.kind()),
        };
        return (String::from_utf8(all).unwrap(), end);
    }
}

/// Reads once.
async fn read_once(stream: &mut Stream) -> Result<String, io::ErrorKind> {
    let (result, got) = stream.read(Vec::with_capacity(64 << 10)).await;
    result.map(|_| String::from_utf8(got).unwrap()).map_err(|error| error.kind())
}

fn messages(count: usize) -> Bytes {
    (0..count).map(|index| b'a' + (index % 26) as u8).collect()
}
