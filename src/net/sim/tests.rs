//! What the simulated world guarantees: socket behaviour of Linux, virtual time, and reproducibility by seed.

mod streams; // polled sockets, duplex streams, the race of addresses

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;

use super::*;
use crate::net::{now_ms, spawn, watch::Interrupt};

fn address(number: u8) -> Dial {
    Dial::Tcp(std::net::SocketAddr::from(([10, 0, 0, number], 80)))
}

/// Runs `test` with several seeds; `SEED` picks one.
fn each_seed(test: impl Fn(&World)) {
    let seeds = match std::env::var("SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..40u64,
    };
    for seed in seeds {
        println!("SEED={seed}");
        let world = World::new(seed);
        test(&world);
        world.run_ms(10_000);
        for place in [Place::Outside, Place::Core(0), Place::Core(1)] {
            assert!(world.open_sockets(place).is_empty());
            assert_eq!(world.live_tasks(place), Vec::<&std::panic::Location>::new());
        }
    }
}

/// Two connected sockets, each in its own task, run to completion.
fn pair<L: Future<Output = ()>, R: Future<Output = ()>>(
    world: &World,
    left: impl FnOnce(Socket) -> L + 'static,
    right: impl FnOnce(Socket) -> R + 'static,
) {
    let listener = Listener::bind(&address(1));
    let done = Rc::new(Cell::new(0));
    let count = done.clone();
    world.spawn(Place::Core(0), async move {
        right(listener.accept().await.unwrap()).await;
        count.set(count.get() + 1);
    });
    let count = done.clone();
    world.spawn(Place::Outside, async move {
        left(dial(&address(1), 5000).await.unwrap()).await;
        count.set(count.get() + 1);
    });
    assert_eq!(world.run_until(60_000, || done.get() == 2), Ended::Met);
}

/// Everything up to the end, or the error and what was read before it.
async fn read_all(socket: &mut Socket) -> Result<Vec<u8>, (Option<i32>, Vec<u8>)> {
    let mut buffer = Vec::with_capacity(16);
    loop {
        buffer.reserve(16);
        let (result, back) = socket.read(buffer).await;
        buffer = back;
        match result {
            Ok(0) => return Ok(buffer),
            Ok(_) => {}
            Err(error) => return Err((error.raw_os_error(), buffer)),
        }
    }
}

fn messages(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 251) as u8).collect()
}

#[test]
fn bytes_arrive_whole_and_in_order_through_any_pieces() {
    each_seed(|world| {
        let left = async |mut socket: Socket| {
            socket.write(messages(3000)).await.0.unwrap();
            socket.write_bytes(Bytes::from(messages(5))).await.unwrap();
            socket.finish_writing();
            assert_eq!(read_all(&mut socket).await.unwrap(), b"thanks");
        };
        let right = async |mut socket: Socket| {
            let got = read_all(&mut socket).await.unwrap();
            assert_eq!(got, [messages(3000), messages(5)].concat());
            socket.write(b"thanks".to_vec()).await.0.unwrap();
        };
        pair(world, left, right);
    });
}

#[test]
fn a_writer_waits_for_a_reader_that_does_not_read() {
    each_seed(|world| {
        world.set_network(NetworkFaults { window_bytes: (100, 1000), ..world.network() });
        let written = Rc::new(Cell::new(false));
        let seen = written.clone();
        let left = async move |mut socket: Socket| {
            socket.write(messages(1001)).await.0.unwrap();
            written.set(true);
        };
        let right = async move |mut socket: Socket| {
            sleep_ms(1000).await;
            assert!(!seen.get());
            assert_eq!(read_all(&mut socket).await.unwrap(), messages(1001));
        };
        pair(world, left, right);
    });
}

#[test]
fn an_unclean_close_is_a_reset() {
    each_seed(|world| {
        let left = async |mut socket: Socket| {
            socket.write(messages(100)).await.0.unwrap();
            socket.make_close_unclean();
        };
        let right = async |mut socket: Socket| {
            let (error, got) = read_all(&mut socket).await.unwrap_err();
            assert_eq!(error, Some(libc::ECONNRESET));
            assert!(messages(100).starts_with(&got));
            assert_eq!(socket.write(vec![1]).await.0.unwrap_err().raw_os_error(), Some(libc::EPIPE));
            assert!(read_all(&mut socket).await.unwrap().is_empty());
        };
        pair(world, left, right);
    });
}

#[test]
fn closing_with_unread_bytes_resets_the_peer() {
    each_seed(|world| {
        let left = async |mut socket: Socket| {
            socket.write(b"question".to_vec()).await.0.unwrap();
            let (error, _) = read_all(&mut socket).await.unwrap_err();
            assert_eq!(error, Some(libc::ECONNRESET));
        };
        let right = async |socket: Socket| {
            socket.readable().await.unwrap();
            drop(socket);
        };
        pair(world, left, right);
    });
}

#[test]
fn a_clean_close_delivers_what_was_sent() {
    each_seed(|world| {
        let left = async |mut socket: Socket| {
            socket.write(messages(150)).await.0.unwrap();
        };
        let right = async |mut socket: Socket| {
            assert_eq!(read_all(&mut socket).await.unwrap(), messages(150));
            // The peer is gone: a write now triggers a reset.
            socket.write(vec![1]).await.0.unwrap();
            sleep_ms(500).await;
            assert_eq!(socket.write(vec![1]).await.0.unwrap_err().raw_os_error(), Some(libc::EPIPE));
        };
        pair(world, left, right);
    });
}

#[test]
fn shutting_down_ends_pending_reads_and_writes() {
    each_seed(|world| {
        world.set_network(NetworkFaults { window_bytes: (50, 50), ..world.network() });
        let left = async |mut socket: Socket| {
            socket.watch().shut_down_at(now_ms() + 200);
            let error = socket.write(messages(1000)).await.0.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
            assert_eq!(socket.watch().take_interrupt(), Some(Interrupt::Deadline));
        };
        let right = async |mut socket: Socket| {
            socket.readable().await.unwrap();
            sleep_ms(2000).await;
            assert!(read_all(&mut socket).await.unwrap().len() <= 50);
        };
        pair(world, left, right);
        let left = async |mut socket: Socket| {
            socket.watch().shut_down_at(now_ms() + 200);
            assert!(read_all(&mut socket).await.unwrap().is_empty());
        };
        pair(world, left, async |_| sleep_ms(2000).await);
    });
}

#[test]
fn a_wait_taken_back_loses_nothing() {
    each_seed(|world| {
        let cancel = Rc::new(RefCell::new(Cancel::new()));
        let left = async |mut socket: Socket| {
            for byte in 0..50 {
                socket.write(vec![byte]).await.0.unwrap();
                sleep_ms(u64::from(byte % 3)).await;
            }
        };
        let right = async move |mut socket: Socket| {
            let other = cancel.clone();
            spawn_raw(async move {
                for _ in 0..60 {
                    sleep_ms(1).await;
                    other.borrow_mut().cancel();
                }
            });
            let (mut got, mut cancels) = (Vec::with_capacity(64), 0);
            loop {
                if let Err(error) = socket.readable_or_cancelled(&cancel).await {
                    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
                    cancels += 1;
                    continue;
                }
                let (result, back) = socket.read(got).await;
                got = back;
                match result {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(got, (0..50).collect::<Vec<u8>>());
            assert!(cancels > 0);
        };
        pair(world, left, right);
    });
}

#[test]
fn hangups_are_what_poll_would_say() {
    each_seed(|world| {
        let left = async |mut socket: Socket| {
            sleep_ms(500).await;
            socket.finish_writing();
            assert_eq!(read_all(&mut socket).await.unwrap(), b"late");
            sleep_ms(500).await;
            socket.make_close_unclean();
        };
        let right = async |mut socket: Socket| {
            assert!(socket.is_quiet());
            socket.watch().guard();
            let interrupt = std::future::poll_fn(|context| match socket.watch().poll_interrupt(context.waker()) {
                Some(interrupt) => std::task::Poll::Ready(interrupt),
                None => std::task::Poll::Pending,
            });
            assert_eq!(interrupt.await, Interrupt::HalfClosed);
            assert!(!socket.is_quiet());
            socket.write(b"late".to_vec()).await.0.unwrap();
            socket.finish_writing();
            let interrupt = std::future::poll_fn(|context| match socket.watch().poll_interrupt(context.waker()) {
                Some(interrupt) => std::task::Poll::Ready(interrupt),
                None => std::task::Poll::Pending,
            });
            assert_eq!(interrupt.await, Interrupt::Gone);
        };
        pair(world, left, right);
    });
}

#[test]
fn dialling_meets_every_reachability() {
    each_seed(|world| {
        let done = Rc::new(Cell::new(false));
        let end = done.clone();
        world.set_reachability(&address(2), Reachability::BlackHole);
        world.set_reachability(&address(3), Reachability::Slow { ms: 700 });
        world.set_reachability(&address(4), Reachability::Refuse);
        let listeners: Vec<Listener> = (3..5).map(|number| Listener::bind(&address(number))).collect();
        world.spawn(Place::Core(1), async move {
            let error = dial(&address(2), 1000).await.err().unwrap();
            assert_eq!((error.kind(), now_ms() / 500), (io::ErrorKind::TimedOut, 2));
            for number in [4, 5] {
                let error = dial(&address(number), 1000).await.err().unwrap();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            }
            let before = now_ms();
            assert!(dial(&address(3), 5000).await.is_ok());
            assert!(now_ms() >= before + 700);
            let error = dial(&address(3), 400).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            end.set(true);
        });
        assert_eq!(world.run_until(60_000, || done.get()), Ended::Met);
        drop(listeners);
    });
}

#[test]
fn dropping_a_listener_resets_what_it_had_not_accepted() {
    each_seed(|world| {
        let listener = Listener::bind(&address(1));
        let done = Rc::new(Cell::new(false));
        let end = done.clone();
        world.spawn(Place::Outside, async move {
            let mut socket = dial(&address(1), 1000).await.unwrap();
            assert_eq!(read_all(&mut socket).await.unwrap_err().0, Some(libc::ECONNRESET));
            end.set(true);
        });
        world.run_ms(300);
        drop(listener);
        assert_eq!(world.run_until(60_000, || done.get()), Ended::Met);
    });
}

#[test]
fn a_killed_task_closes_its_socket_wherever_it_stood() {
    each_seed(|world| {
        for polls in 0..12 {
            let listener = Listener::bind(&address(1));
            let served = Rc::new(Cell::new(false));
            let end = served.clone();
            let server = world.spawn(Place::Core(0), async move {
                let mut socket = listener.accept().await.unwrap();
                let _ = read_all(&mut socket).await;
                end.set(true);
            });
            let client = world.spawn(Place::Outside, async move {
                let mut socket = dial(&address(1), 1000).await.unwrap();
                for byte in 0..3 {
                    sleep_ms(1).await;
                    socket.write(vec![byte]).await.0.unwrap();
                }
                let _ = read_all(&mut socket).await;
            });
            world.kill_after(client, polls);
            world.run_until(1000, || served.get());
            // It may be waiting for an answer that never comes.
            world.kill(client);
            assert!(!world.is_live(client));
            assert!(world.open_sockets(Place::Outside).is_empty());
            world.kill(server);
        }
    });
}

#[test]
#[should_panic(expected = "its bytes would be lost")]
fn a_dropped_read_is_found() {
    let world = World::new(1);
    let left = async |_socket: Socket| sleep_ms(1000).await;
    let right = async |mut socket: Socket| {
        {
            let mut read = std::pin::pin!(socket.read(Vec::with_capacity(8)));
            std::future::poll_fn(|context| {
                assert!(read.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
        }
        let _ = socket.read(Vec::with_capacity(8)).await;
    };
    pair(&world, left, right);
}

#[test]
fn a_paused_core_stands_still_and_goes_on() {
    each_seed(|world| {
        let ticks = Rc::new(Cell::new(0));
        let count = ticks.clone();
        world.spawn(Place::Core(1), async move {
            for _ in 0..100 {
                sleep_ms(10).await;
                count.set(count.get() + 1);
            }
        });
        world.run_ms(500);
        world.pause(Place::Core(1));
        let before = ticks.get();
        world.run_ms(5000);
        assert_eq!(ticks.get(), before);
        world.resume(Place::Core(1));
        world.run_ms(2000);
        assert_eq!(ticks.get(), 100);
    });
}

#[test]
fn places_have_their_own_watches() {
    each_seed(|world| {
        // A socket of one place may be dropped from another, for example by a test's teardown.
        let kept: Rc<RefCell<Vec<Socket>>> = Rc::default();
        let listener = Listener::bind(&address(1));
        for place in [Place::Core(0), Place::Core(1), Place::Outside] {
            let kept = kept.clone();
            world.spawn(place, async move {
                let socket = dial(&address(1), 1000).await.unwrap();
                kept.borrow_mut().push(socket);
                let panics = crate::net::Panics::default();
                spawn(&panics, async {});
                assert_eq!(here(), place);
            });
        }
        world.run_ms(1000);
        assert_eq!(kept.borrow().len(), 3);
        kept.borrow_mut().clear();
        drop(listener);
    });
}

#[test]
fn mail_crosses_cores() {
    use crate::net::channel::{Class, Notifier, Payload, connect};
    impl Payload for u32 {
        fn class(&self) -> Class {
            Class::Request
        }

        fn bytes(&self) -> u64 {
            0
        }
    }
    each_seed(|world| {
        let notifiers = [Notifier::waker(), Notifier::waker()];
        let mut boxes = connect::<u32>(&notifiers).into_iter();
        let ((left, _), (_, mut right)) = (boxes.next().unwrap(), boxes.next().unwrap());
        let got = Rc::new(RefCell::new(Vec::new()));
        let seen = got.clone();
        let reader = world.spawn(Place::Core(1), async move {
            let mut reader = EventFdReader;
            loop {
                right.wait(&mut reader).await;
                while let Some(message) = right.take() {
                    seen.borrow_mut().push(message);
                }
            }
        });
        world.spawn(Place::Core(0), async move {
            for message in 0..50 {
                left.post(1, message).unwrap();
                if message % 7 == 0 {
                    sleep_ms(1).await;
                }
            }
        });
        assert_eq!(world.run_until(1000, || got.borrow().len() == 50), Ended::Met);
        assert!(got.borrow().iter().copied().eq(0..50));
        world.kill(reader);
    });
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    let story = |seed| {
        let world = World::new(seed);
        let listener = Listener::bind(&address(1));
        world.spawn(Place::Core(0), async move {
            while let Ok(mut socket) = listener.accept().await {
                spawn_raw(async move {
                    let _ = read_all(&mut socket).await;
                    let _ = socket.write(messages(random_u64() as usize % 500)).await;
                });
            }
        });
        for _ in 0..5 {
            world.spawn(Place::Outside, async {
                let mut socket = dial(&address(1), 1000).await.unwrap();
                socket.write(messages(400)).await.0.unwrap();
                socket.finish_writing();
                let _ = read_all(&mut socket).await;
            });
        }
        world.run_ms(3000);
        (world.trace(), world.steps())
    };
    assert_eq!(story(7), story(7));
    assert_ne!(story(7), story(8));
}
