//! A core that is never idle still runs its timers.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use super::{LONG_MS, listener, on_core};
use crate::net::{Dial, Listener, Socket, dial, sleep_ms, spawn_raw};

/// Far more than fit between two timer checks.
const ROUND_TRIPS: usize = 1_000_000;

async fn answer(mut socket: Socket, over: Rc<Cell<bool>>) {
    let mut buffer = Vec::with_capacity(10);
    for _ in 0..ROUND_TRIPS {
        let (read, filled) = socket.read(buffer).await;
        if over.get() || !matches!(read, Ok(1..)) {
            return;
        }
        buffer = filled;
        socket.post(&buffer).expect("nothing is on its way").unwrap();
        buffer.clear();
    }
    over.set(true);
    panic!("no timer fired");
}

#[test]
fn timers_come_to_their_turn_whatever_the_sockets_do() {
    on_core(async move {
        let listener = listener();
        let own = Listener::new(listener.try_clone().unwrap().into(), true).unwrap();
        let (over, slept) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        // Several, so that the core never waits in any round.
        for _ in 0..4 {
            let mut first = dial(&Dial::Tcp(listener.local_addr().unwrap()), LONG_MS).await.unwrap();
            let second = own.accept().await.unwrap();
            first.post(b"1").unwrap().unwrap();
            spawn_raw(answer(first, over.clone()));
            spawn_raw(answer(second, over.clone()));
        }
        let sleeps = slept.clone();
        spawn_raw(async move {
            for _ in 0..20 {
                sleep_ms(1).await;
                sleeps.set(sleeps.get() + 1);
            }
        });
        while slept.get() < 20 {
            assert!(!over.get(), "only {} of 20 sleeps ended", slept.get());
            sleep_ms(1).await;
        }
        over.set(true);
    });
}

/// Uses the ring in its destructor, as a TLS connection does.
struct LastWord(Socket, Rc<Cell<bool>>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.post(b"good bye").expect("nothing is on its way").unwrap();
        self.1.set(true);
    }
}

#[test]
fn who_waits_when_the_core_ends_is_dropped_while_there_is_a_ring() {
    let listener = listener();
    let said = Rc::new(Cell::new(false));
    let (at, word) = (Dial::Tcp(listener.local_addr().unwrap()), said.clone());
    on_core(async move {
        let waiting = LastWord(dial(&at, LONG_MS).await.unwrap(), word);
        spawn_raw(async move {
            sleep_ms(LONG_MS).await;
            drop(waiting);
        });
        sleep_ms(1).await; // let it wait
    });
    assert!(said.get(), "it was left to the end of the thread");
    let mut heard = String::new();
    listener.accept().unwrap().0.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "good bye");
}
