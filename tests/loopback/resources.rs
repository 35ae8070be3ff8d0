//! What connections cost: descriptors come back, idle ones take next to no memory.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::kit::*;

/// One connection of each kind.
fn mix(gateway: &Gateway, round: usize) {
    let fresh = format!("round {round}");
    let mut client = gateway.client();
    client.send(chat("known"));
    client.response().expect(200);
    drop(client);

    let mut client = gateway.client();
    client.send(chat_stream(&fresh));
    client.response().expect(200);
    client.reset();

    let mut client = gateway.client();
    client.send(chat(&format!("{fresh} silence")));
    drop(client);

    let mut client = gateway.client();
    client.send(chat_stream(&format!("{fresh} half")));
    client.head();
    client.reset();

    gateway.client().reset();
    let mut client = gateway.client();
    client.send("GET /healthz HTTP/1.1\r\nHo");
    drop(client);

    let mut client = gateway.client();
    client.send("nonsense\r\n\r\n");
    client.response().expect(400);

    let mut client = gateway.client();
    client.send(chat("break"));
    client.response().expect(502);
}

#[test]
fn descriptors_come_back() {
    let backend = Backend::run(|peer| {
        while let Some(request) = peer.request() {
            match request.text() {
                text if text.contains("silence") => return peer.await_close(),
                text if text.contains("half") => {
                    peer.write(STREAM_HEAD);
                    peer.write(chunk(&piece("a")));
                    return peer.await_close();
                }
                text if text.contains("break") => return,
                _ => _ = peer.write(echo(&request)),
            }
        }
    });
    let gateway = Setup::bare()
        .backend("b", &backend, "connections_max = 8")
        .model("m", "backends = [\"b\"]\nretries = 0")
        .cores(2)
        .start();
    for round in 0..20 {
        mix(&gateway, round);
    }
    let idle = gateway.client();
    let mut before = usize::MAX;
    // What is being closed when the rounds end is closed soon.
    for _ in 0..100 {
        before = before.min(gateway.descriptors());
        gateway.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
    }
    for round in 20..420 {
        mix(&gateway, round);
    }
    eventually("as many descriptors as before", || gateway.descriptors() <= before);
    drop(idle);
}

const CONNECTIONS: usize = 10_000;
/// What an idle kept-alive connection may add to resident memory.
const KIB_A_CONNECTION: u64 = 2;

/// As many connections as the limit allows, up to `CONNECTIONS`.
fn allowed() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
    // Other tests of this process need some as well.
    let allowed = limit.maximum.map_or(CONNECTIONS, |hard| (hard as usize).saturating_sub(3000).min(CONNECTIONS));
    if allowed < CONNECTIONS {
        eprintln!("only {allowed} connections: the hard limit of open files is {:?}", limit.maximum);
    }
    allowed
}

fn grown_kib(gateway: &Gateway, before_kib: u64) -> u64 {
    gateway.resident_kib().saturating_sub(before_kib)
}

#[test]
fn idle_connections_take_little_memory() {
    let count = allowed();
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).start();
    gateway.ask(chat("known")).expect(200);
    let bound_kib = count as u64 * KIB_A_CONNECTION;

    // Never used.
    let (before_kib, descriptors) = (gateway.resident_kib(), gateway.descriptors());
    let mut clients: Vec<Client> = (0..count).map(|_| gateway.client()).collect();
    eventually("every connection is accepted", || gateway.descriptors() + 1 >= descriptors + count);
    let grown = grown_kib(&gateway, before_kib);
    println!("{count} connections never used: {grown} KiB, {} bytes each", grown * 1024 / count as u64);
    assert!(grown <= bound_kib, "{grown} KiB for {count} connections");

    // Each used for a hit, then quiet: the buffers go back after about a second.
    for client in &mut clients {
        client.send(chat("known"));
        assert_eq!(client.response().expect(200).cache(), "HIT");
    }
    // Those that wait for their next request hold no buffers, but for a moment the task of the last one: 4 KiB.
    let grown = grown_kib(&gateway, before_kib);
    println!("right after a hit on each: {grown} KiB");
    assert!(grown <= 2 * bound_kib, "{grown} KiB right after a hit on each of {count} connections");
    eventually("quiet connections take no more than the bound", || grown_kib(&gateway, before_kib) <= bound_kib);
    println!("quiet: {} KiB", grown_kib(&gateway, before_kib));
    // And they are alive.
    for client in clients.iter_mut().step_by(97) {
        client.send(chat("known"));
        assert_eq!(client.response().expect(200).cache(), "HIT");
    }
}
