//! Which data core serves a connection.

use std::sync::atomic::{AtomicBool, Ordering};

use super::kit::*;
use super::secure::{Authority, FILES, files};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

/// Whether two data cores can have a CPU each.
fn has_two_cpus() -> bool {
    core_affinity::get_core_ids().is_some_and(|cpus| cpus.len() >= 2)
}

/// A connection that is made on a CPU. On loopback what is sent there is received there.
fn connected_on(cpu: usize, gateway: &Gateway) -> Client {
    let address = gateway.address;
    made_on(cpu, move || Client::connect(address))
}

fn made_on(cpu: usize, connect: impl FnOnce() -> Client + Send + 'static) -> Client {
    let pinned = move || {
        assert!(core_affinity::set_for_current(core_affinity::CoreId { id: cpu }));
        connect()
    };
    let mut client = std::thread::spawn(pinned).join().unwrap();
    client.send(HEALTH);
    client.response().expect(200);
    client
}

/// What the status says of each core.
fn cores(gateway: &Gateway, field: &str) -> Vec<u64> {
    let status = status(gateway);
    status["cores"].as_array().unwrap().iter().map(|core| core[field].as_u64().unwrap()).collect()
}

fn status(gateway: &Gateway) -> serde_json::Value {
    let mut admin = Client::connect(gateway.admin.unwrap());
    admin.send("GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    serde_json::from_str(admin.response().expect(200).text()).unwrap()
}

fn setup(cores: usize, steering: &str) -> Setup {
    let setup = Setup::bare().cores_with(cores, &format!("steering = \"{steering}\""));
    setup.server("control_socket = \"$DIRECTORY/control.sock\"").admin("listen = \"127.0.0.1:0\"")
}

#[test]
fn connections_come_to_the_core_on_whose_cpu_they_are_received() {
    if !has_two_cpus() {
        return;
    }
    let mut gateway = setup(1, "cpu").start();
    let mut cpus = Vec::new();
    // By a group of sockets that grows from one process to the next, or stays.
    for cores_next in [2, 2, 1, 2] {
        let shown = status(&gateway)["core_plan"].clone();
        cpus = shown["data"].as_array().unwrap().iter().map(|cpu| cpu.as_u64().unwrap() as usize).collect();
        let is_alone = cpus.len() == 1;
        assert_eq!(shown["steering"], if is_alone { "hash" } else { "cpu" }, "{shown}");
        let mut held = Vec::new();
        for place in [0, 1, 1, 0, 0, 0, 1, 1].map(|place| place % cpus.len()) {
            let before = cores(&gateway, "connections");
            held.push(connected_on(cpus[place], &gateway));
            let mut expected = before.clone();
            expected[place] += 1;
            assert_eq!(cores(&gateway, "connections"), expected, "after {before:?} on CPU {}", cpus[place]);
        }
        gateway.rewrite(setup(cores_next, "cpu"));
        let successor = gateway.successor().unwrap();
        drop(held);
        let (status, said) = gateway.ended();
        assert!(status.success(), "{said}");
        gateway = successor;
    }
    // What the predecessor has attached is taken off.
    gateway.rewrite(setup(2, "hash"));
    let successor = gateway.successor().unwrap();
    let held: Vec<Client> = (0..32).map(|_| connected_on(cpus[0], &successor)).collect();
    assert!(cores(&successor, "connections")[1] > 0, "all of 32 on one core");
    drop(held);
}

/// Asks again and again for as long as `go_on` says, at a length that keeps the gateway busier than its clients.
fn busy(mut client: Client, go_on: &AtomicBool) {
    for round in (0..20).cycle() {
        if !go_on.load(Ordering::Relaxed) {
            return;
        }
        let content = format!("{round} {}", "and so on ".repeat(2000));
        client.send(chat(&content));
        assert_eq!(client.response().expect(200).text(), completion(&format!("{content}!")));
    }
}

#[test]
fn busy_connections_of_one_core_come_to_the_other_and_lose_nothing() {
    if !has_two_cpus() {
        return;
    }
    let (backend, authority) = (Backend::answering(echo), Authority::new());
    let own = authority.sign(&["gateway.test"]);
    let setup = |rebalance: bool| {
        let lines = format!("steering = \"cpu\"\nrebalance = {rebalance}");
        let server = "max_connections = 5\nmax_connections_per_client = 5";
        let setup = Setup::with(&backend).cores_with(2, &lines).server(server).listener(FILES);
        setup.admin("listen = \"127.0.0.1:0\"")
    };
    let gateway = setup(false).start_after(|directory| files(directory, &own));
    let cpu = status(&gateway)["core_plan"]["data"][0].as_u64().unwrap() as usize;
    let secured = || {
        let (address, config) = (gateway.listener(), authority.client());
        made_on(cpu, move || Client::connect_tls(address, &config, "gateway.test").unwrap())
    };
    let clients = [connected_on(cpu, &gateway), secured(), connected_on(cpu, &gateway), secured()];
    let go_on = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for client in clients {
            scope.spawn(|| busy(client, &go_on));
        }
        eventually("they are busy", || cores(&gateway, "requests")[0] > 500);
        assert_eq!(cores(&gateway, "connections"), [4, 0]);
        gateway.rewrite(setup(true));
        gateway.signal(rustix::process::Signal::HUP);
        eventually("the other core helps", || cores(&gateway, "connections") == [2, 2]);
        assert!(cores(&gateway, "connections_moved")[1] >= 2);
        // They count as before: there is room for one more.
        let fifth = connected_on(cpu, &gateway);
        let mut sixth = gateway.client();
        sixth.expect_closed();
        drop(fifth);
        go_on.store(false, Ordering::Relaxed);
    });
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
}

/// Asks on four streams at a time, on another connection once the gateway says that it takes no more on this one; how often.
fn busy_streams(connect: &(dyn Fn() -> Http2 + Sync), go_on: &AtomicBool) -> usize {
    let (mut client, mut connections) = (connect(), 1);
    for round in (0..20).cycle() {
        if !go_on.load(Ordering::Relaxed) {
            break;
        }
        let contents = [0; 4].map(|_| format!("{round} {}", "and so on ".repeat(2000)));
        let asked = contents.each_ref().map(|content| {
            if !client.is_open() {
                return None;
            }
            Some(client.send(chat(content)))
        });
        let is_over = asked.iter().any(Option::is_none);
        for (asked, content) in asked.into_iter().flatten().zip(&contents) {
            assert_eq!(client.response(asked).expect(200).text(), completion(&format!("{content}!")));
        }
        if is_over {
            (client, connections) = (connect(), connections + 1);
        }
    }
    connections
}

#[test]
fn clients_of_http2_are_asked_to_connect_anew_and_come_to_the_other_core() {
    if !has_two_cpus() {
        return;
    }
    let (backend, authority) = (Backend::answering(echo), Authority::new());
    let own = authority.sign(&["gateway.test"]);
    let setup = Setup::with(&backend).cores_with(2, "steering = \"cpu\"").listener(FILES);
    let gateway = setup.admin("listen = \"127.0.0.1:0\"").start_after(|directory| files(directory, &own));
    let cpu = status(&gateway)["core_plan"]["data"][0].as_u64().unwrap() as usize;
    let pinned = |connect: &(dyn Fn() -> Http2 + Sync)| {
        std::thread::scope(|scope| {
            let connect = scope.spawn(|| {
                assert!(core_affinity::set_for_current(core_affinity::CoreId { id: cpu }));
                connect()
            });
            connect.join().unwrap()
        })
    };
    let secured = || Http2::connect_tls(gateway.listener(), &authority.client(), "gateway.test").unwrap();
    let (plain, secured) = (|| pinned(&|| Http2::connect(gateway.address)), || pinned(&secured));
    let go_on = AtomicBool::new(true);
    let connections: usize = std::thread::scope(|scope| {
        let clients: [&(dyn Fn() -> Http2 + Sync); 2] = [&plain, &secured];
        let clients = clients.map(|connect| scope.spawn(|| busy_streams(connect, &go_on)));
        eventually("the other core helps", || cores(&gateway, "connections") == [1, 1]);
        assert!(cores(&gateway, "connections_moved").iter().sum::<u64>() >= 1);
        go_on.store(false, Ordering::Relaxed);
        clients.map(|client| client.join().unwrap()).iter().sum()
    });
    assert!(connections > 2, "one has connected anew");
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
}
