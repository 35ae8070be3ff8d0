//! Random programs against the fake kernel. Laws: a reader gets what its peer sent, once, in order, to the end; a peer
//! gets what was posted to it and nothing of another socket; each buffer is either the kernel's or held; nothing of a
//! closed socket remains; every wait ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::super::fake::{Fake, Random};
use super::super::kernel::Kernel;
use super::super::ready::{Ready, ready_at};
use super::super::{REACTOR, Reactor, SocketHandle, with, work};

const STEPS: usize = 600;
const SEEDS: u64 = 500;
const SOCKETS: usize = 6;

#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One socket, as the program models it.
struct Side {
    handle: SocketHandle,
    fd: i32,
    file: usize,
    /// All bytes that the peer has sent, and how many were read.
    sent: Vec<u8>,
    read: usize,
    end_seen: bool,
    posted: Vec<u8>,
    failed: bool,
    woken: Arc<Woken>,
    /// The wake count when the reader began to wait.
    waits: Option<u64>,
}

fn fake<R>(act: impl FnOnce(&mut Fake) -> R) -> R {
    with(|reactor| match &mut reactor.kernel {
        Kernel::Fake(fake) => act(fake),
        Kernel::Ring(_) => unreachable!("the fake is in place"),
    })
    .unwrap()
}

fn open() -> Side {
    let (fd, file) = fake(Fake::open);
    Side {
        handle: SocketHandle::new(fd).unwrap(),
        fd,
        file,
        sent: Vec::new(),
        read: 0,
        end_seen: false,
        posted: Vec::new(),
        failed: false,
        woken: Arc::default(),
        waits: None,
    }
}

impl Side {
    fn read(&mut self, random: &mut Random) {
        let waker = Waker::from(self.woken.clone());
        let mut context = Context::from_waker(&waker);
        let most = 1 + random.below(100);
        let mut buffer = Vec::with_capacity(most);
        let before = self.woken.0.load(Ordering::Relaxed);
        match self.handle.poll_read(&mut buffer, &mut context) {
            Poll::Pending => self.waits = Some(before),
            Poll::Ready(Ok(0)) => {
                let file = self.file;
                let (left, ended, down) = fake(|fake| {
                    let file = &fake.files[file];
                    (file.incoming.len(), file.ended.is_some(), file.shut_down)
                });
                assert!(down || ended && left == 0 && self.read == self.sent.len(), "an end before the last byte");
                self.end_seen = true;
                self.waits = None;
            }
            Poll::Ready(Ok(length)) => {
                assert_eq!(buffer[..length], self.sent[self.read..self.read + length], "other bytes, or another order");
                self.read += length;
                self.waits = None;
            }
            Poll::Ready(Err(error)) => {
                assert_eq!(error.raw_os_error(), Some(Errno::CONNRESET.raw_os_error()));
                self.end_seen = true;
                self.waits = None;
            }
        }
    }

    fn post(&mut self, random: &mut Random) {
        let bytes: Vec<u8> = (0..1 + random.below(150)).map(|_| random.next() as u8).collect();
        match self.handle.post(&bytes, u64::MAX) {
            None => {}
            Some(Ok(())) => self.posted.extend(bytes),
            Some(Err(_)) => self.failed = true,
        }
    }

    /// Goes on by another handle, as on another core, if it may.
    fn move_on(&mut self) {
        let waker = Waker::from(self.woken.clone());
        let mut context = Context::from_waker(&waker);
        if self.handle.poll_settled(&mut context).is_pending() {
            return;
        }
        if let Poll::Ready(Some(early)) = self.handle.poll_detach(&mut context) {
            self.handle = SocketHandle::new(self.fd).unwrap();
            self.handle.put_first(early);
            self.waits = None;
        }
    }

    /// The peer got a prefix of what was posted, and all of it if `whole`.
    fn check_peer(&self, whole: bool) {
        let (got, broken) = fake(|fake| {
            let file = &fake.files[self.file];
            (file.outgoing.clone(), file.broken.is_some() || file.shut_down)
        });
        assert!(self.posted.starts_with(&got), "the peer got what was not posted to it");
        if whole && !broken && !self.failed {
            assert_eq!(got.len(), self.posted.len(), "something never left");
        }
    }

    fn close(self) {
        drop(self.handle);
        let (fd, file) = (self.fd, self.file);
        let (outgoing, reset) = fake(|fake| {
            fake.close(fd);
            assert!(!fake.fixed_holds(file), "a closed socket keeps its number");
            (fake.files[file].outgoing.clone(), fake.files[file].reset_by_close)
        });
        assert!(self.posted.starts_with(&outgoing));
        let broken = fake(|fake| fake.files[file].broken.is_some() || fake.files[file].shut_down);
        assert!(
            broken || self.failed || reset || outgoing.len() == self.posted.len(),
            "a close in order, and {} of {} bytes left",
            outgoing.len(),
            self.posted.len()
        );
    }
}

fn check_buffers() {
    with(|reactor: &mut Reactor| {
        let Kernel::Fake(fake) = &reactor.kernel else { unreachable!("the fake is in place") };
        assert_eq!(fake.available() + reactor.held + fake.filled(), fake.buffers_used(), "a buffer is lost or doubled");
    })
    .unwrap();
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let chaos = [0, 2, 3, 8, 30][random.below(5)];
    REACTOR.with(|reactor| *reactor.borrow_mut() = Some(Reactor::new(Kernel::Fake(Fake::new(random.clone(), chaos)))));
    let mut sides: Vec<Side> = (0..SOCKETS).map(|_| open()).collect();
    let mut waits: Vec<(Ready, usize)> = Vec::new();
    for _ in 0..STEPS {
        let at = random.below(sides.len());
        let side = &mut sides[at];
        let file = side.file;
        match random.below(20) {
            0..=3 => {
                let bytes: Vec<u8> = (0..1 + random.below(200)).map(|_| random.next() as u8).collect();
                let is_open = fake(|fake| {
                    let is_open = fake.files[file].ended.is_none();
                    if is_open {
                        fake.files[file].incoming.extend(&bytes);
                    }
                    is_open
                });
                if is_open {
                    side.sent.extend(bytes);
                }
            }
            4..=7 => side.read(&mut random),
            8..=10 => side.post(&mut random),
            11 => fake(|fake| fake.files[file].room = [0, 10, 1000, usize::MAX][fake.random.below(4)]),
            12 => {
                let waker = Waker::from(side.woken.clone());
                let _ = side.handle.poll_settled(&mut Context::from_waker(&waker));
            }
            13 => side.handle.arm(),
            14 => _ = side.handle.is_quiet(),
            15 => {
                let waits_for = if random.one_in(2) { PollFlags::OUT } else { PollFlags::IN };
                // A wait has to end before its descriptor closes, so each belongs to one socket.
                waits.push((ready_at(side.fd, waits_for), at));
            }
            16 if !waits.is_empty() => {
                let (mut wait, _) = waits.swap_remove(random.below(waits.len()));
                let waker = Waker::from(side.woken.clone());
                let _ = Pin::new(&mut wait).poll(&mut Context::from_waker(&waker));
            }
            17 => fake(|fake| match fake.random.below(12) {
                0 => fake.files[file].ended = fake.files[file].ended.or(Some(Ok(()))),
                1 => fake.files[file].ended = fake.files[file].ended.or(Some(Err(Errno::CONNRESET))),
                2 => fake.files[file].broken = Some(Errno::PIPE),
                _ => {}
            }),
            19 if random.one_in(2) => side.move_on(),
            18 if random.one_in(3) => {
                waits.retain(|(_, owner)| *owner != at);
                let old = std::mem::replace(&mut sides[at], {
                    // The next socket reuses the descriptor of the closing one as soon as possible.
                    open()
                });
                old.close();
            }
            _ => work(random.one_in(2)),
        }
        for side in &sides {
            side.check_peer(false);
        }
        check_buffers();
    }
    // A kernel without faults: everything completes.
    fake(|fake| {
        fake.chaos = 0;
        fake.files.iter_mut().for_each(|file| file.room = usize::MAX);
    });
    drop(waits);
    for _ in 0..400 {
        for side in &mut sides {
            if !side.end_seen {
                side.read(&mut random);
            }
        }
        work(false);
    }
    for side in &sides {
        side.check_peer(true);
        let was_reset = fake(|fake| fake.files[side.file].shut_down || side.end_seen);
        assert!(was_reset || side.read == side.sent.len(), "{} of {} bytes were read", side.read, side.sent.len());
        if let Some(before) = side.waits {
            let has_more = fake(|fake| {
                let file = &fake.files[side.file];
                !file.incoming.is_empty() || file.ended.is_some()
            });
            assert!(!has_more || side.woken.0.load(Ordering::Relaxed) > before, "a reader that waits was not woken");
        }
    }
    let files: Vec<usize> = sides.iter().map(|side| side.file).collect();
    sides.into_iter().for_each(Side::close);
    for _ in 0..20 {
        work(false);
    }
    fake(|fake| {
        for &file in &files {
            assert!(fake.holders(file).is_empty(), "{:?} holds a closed socket open", fake.holders(file));
        }
    });
    with(|reactor| {
        assert_eq!(reactor.free.len(), reactor.slots.len(), "a slot is lost");
        assert_eq!(reactor.waits_free.len(), reactor.waits.len(), "a wait is lost");
        assert_eq!(reactor.held, 0);
    })
    .unwrap();
    check_buffers();
    REACTOR.with(|reactor| *reactor.borrow_mut() = None);
}

#[test]
fn whatever_the_kernel_does_no_byte_is_lost_or_goes_astray() {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse::<u64>().expect("SEED is a number"));
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            eprintln!("SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Owns a socket and a wait, as a task does.
#[derive(Default)]
struct Owner(std::sync::OnceLock<SocketHandle>, std::sync::OnceLock<Ready>);

impl Wake for Owner {
    fn wake(self: Arc<Owner>) {}
}

#[test]
fn a_task_that_goes_with_its_last_waker_ends_what_it_owned() {
    REACTOR.with(|reactor| *reactor.borrow_mut() = Some(Reactor::new(Kernel::Fake(Fake::new(Random(1), 0)))));
    let (first, second) = (open(), open());
    let owner = Arc::new(Owner::default());
    let _ = owner.1.set(ready_at(second.fd, PollFlags::IN));
    let _ = owner.0.set(second.handle);
    let waker = Waker::from(owner); // nothing else holds the owner
    let pending = first.handle.poll_read(&mut Vec::with_capacity(1), &mut Context::from_waker(&waker));
    assert!(pending.is_pending());
    drop(waker);
    drop(first.handle); // and with it the waker, the owner, its socket and its wait
    work(false);
    with(|reactor| {
        assert_eq!(reactor.free.len(), 2, "a socket was left");
        assert_eq!(reactor.waits_free.len(), 1, "a wait was left");
    })
    .unwrap();
    REACTOR.with(|reactor| *reactor.borrow_mut() = None);
}
