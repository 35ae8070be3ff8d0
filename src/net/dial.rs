//! Connects to the first of several addresses that answers (RFC 8305), over real or simulated sockets. The caller owns
//! the futures of all attempts; dropping it closes every socket but the one that was returned.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

use super::{Dial, Socket, dial_with, now_ms, sleep_ms};

#[cfg(all(test, not(sim)))]
mod tests;

/// How a connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialOptions {
    /// For all attempts together.
    pub timeout_ms: u64,
    pub fast_open: FastOpen,
    /// How long an attempt runs before the next one starts in parallel; RFC 8305 5 recommends 250.
    pub stagger_ms: u64,
}

/// Whether the first bytes written may travel with the SYN (RFC 7413); a refusal then shows in the first write or read.
/// Without support in the kernel or the server, an ordinary connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOpen {
    On,
    Off,
}

/// Connects to one of `addresses`. Address families alternate, starting with that of the first address. Each attempt
/// starts `stagger_ms` after the previous one, or as soon as one fails; the first to connect wins. Also returns its
/// address.
/// Errors: the last error, with its address family but without its address; `TimedOut` once the time is up.
pub async fn dial_any(addresses: &[Dial], options: DialOptions) -> io::Result<(Socket, Dial)> {
    let deadline_ms = now_ms().saturating_add(options.timeout_ms);
    let attempt = |to: &Dial| {
        let to = to.clone();
        async move {
            let left_ms = deadline_ms.saturating_sub(now_ms());
            match dial_with(&to, left_ms, options.fast_open).await {
                Ok(socket) => Ok((socket, to)),
                Err(error) => Err(told(&to, &error)),
            }
        }
    };
    // Most backends have one address and need no race.
    if let [only] = addresses {
        return attempt(only).await;
    }
    race(in_turns(addresses), options.stagger_ms, deadline_ms, attempt).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Four,
    Six,
    Unix,
}

fn family(to: &Dial) -> Family {
    match to {
        Dial::Tcp(address) if address.is_ipv4() => Family::Four,
        Dial::Tcp(_) => Family::Six,
        Dial::Unix(_) => Family::Unix,
    }
}

fn told(to: &Dial, error: &io::Error) -> io::Error {
    let family = match family(to) {
        Family::Four => "IPv4",
        Family::Six => "IPv6",
        Family::Unix => "a Unix socket",
    };
    io::Error::new(error.kind(), format!("over {family}: {error}"))
}

/// The order of RFC 8305 4 with a First Address Family Count of 1.
fn in_turns(addresses: &[Dial]) -> Vec<&Dial> {
    let Some(first) = addresses.first().map(family) else { return Vec::new() };
    let (mut same, mut other) = addresses.iter().partition::<Vec<_>, _>(|to| family(to) == first);
    let (mut same, mut other) = (same.drain(..), other.drain(..));
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        order.extend(same.next());
        order.extend(other.next());
    }
    order
}

/// The first of `attempt(to)` to succeed. Each poll polls all running attempts; there are few, one per `stagger_ms`.
async fn race<T, F: Future<Output = io::Result<T>>>(
    order: Vec<&Dial>,
    stagger_ms: u64,
    deadline_ms: u64,
    attempt: impl Fn(&Dial) -> F,
) -> io::Result<T> {
    let mut waiting = order.into_iter();
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    // `None`: the next attempt may start.
    let mut stagger = None;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address to connect to");
    poll_fn(|context| {
        loop {
            if stagger.is_none() {
                // No new attempts after the deadline.
                let next = if running.is_empty() || now_ms() < deadline_ms { waiting.next() } else { None };
                if let Some(to) = next {
                    running.push(Box::pin(attempt(to)));
                    stagger = Some(Box::pin(sleep_ms(stagger_ms)));
                }
            }
            let mut index = 0;
            while index < running.len() {
                match running[index].as_mut().poll(context) {
                    Poll::Ready(Ok(winner)) => return Poll::Ready(Ok(winner)),
                    Poll::Ready(Err(error)) => {
                        drop(running.remove(index));
                        failure = error;
                        stagger = None;
                    }
                    Poll::Pending => index += 1,
                }
            }
            let over = waiting.len() == 0 || now_ms() >= deadline_ms;
            match &mut stagger {
                None if over && running.is_empty() => {
                    let nobody = io::Error::from(io::ErrorKind::TimedOut);
                    return Poll::Ready(Err(std::mem::replace(&mut failure, nobody)));
                }
                None if over => return Poll::Pending,
                None => {}
                Some(sleep) => match sleep.as_mut().poll(context) {
                    Poll::Ready(()) => stagger = None,
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    })
    .await
}
