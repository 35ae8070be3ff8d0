//! Backends whose names lead elsewhere: what is open to the old server gets no new request, and nobody is cut off.
//! A data core runs in this process, over real sockets; its messages come from the script instead of a resolver.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use ringway::config::load::load;
use ringway::cores::data::{self, ListeningSocket, Owner, Parts};
use ringway::upstream::message::UpstreamMessage;

use ringway::cores::supervise::{self, Beat};
use ringway::exchange::board::Board;
use ringway::exchange::message::Message;
use ringway::net::Dial;
use ringway::net::channel::{Inbox, Notifier, Outbox, connect};
use ringway::net::runtime::run_data_core;
use ringway::net::tls::TicketSeed;
use ringway::upstream::node::{self, BackendId, NodeGeneration};
use shards::{CoreId, Fingerprint};

use super::kit::*;
use super::upstreams::server::Server;

/// The places in the mail behind the only data core.
const BACKGROUND: u16 = 2;

/// A node of one data core whose backend `b` has a name.
struct Node {
    address: SocketAddr,
    outbox: Outbox<Message>,
    inbox: RefCell<Inbox<Message>>,
    core: Option<JoinHandle<()>>,
}

impl Node {
    fn start(lines: &str, addresses: &[SocketAddr]) -> Node {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[cache]\nenabled = false\n\
             [[backend]]\nname = \"b\"\nurl = \"http://model.test\"\nhealth_interval = \"0s\"\n{lines}\n\
             [[model]]\nname = \"m\"\nbackends = [\"b\"]\nretries = 0\n"
        );
        let nothing = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        let snapshot = load(&text, Path::new("moves.toml"), &|_| None, &nothing);
        let snapshot = Arc::new(snapshot.unwrap_or_else(|problems| panic!("{problems}")));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let notifiers = [Notifier::ring().unwrap(), Notifier::waker(), Notifier::waker()];
        let mut posts = connect(&notifiers).into_iter();
        let (core_out, core_in) = posts.next().unwrap();
        let (outbox, inbox) = posts.nth(1).unwrap();
        let gate = supervise::Gate::default();
        gate.open();
        let parts = Parts {
            id: CoreId(0),
            count: 1,
            board: Arc::new(Board::new(1)),
            generation: Arc::new(NodeGeneration::first(
                1,
                node::Parts { snapshot, addresses: vec![list(addresses)], tls: vec![None], listeners: Vec::new() },
            )),
            second: None,
            counted: None,
            tickets: TicketSeed::random().unwrap(),
            outbox: core_out,
            inbox: core_in,
            gate,
            peers: Arc::default(),
            listening: vec![ListeningSocket {
                fd: listener.into(),
                is_tcp: true,
                address: 0,
                listener: None,
                owner: Owner::Gateway,
                member: None,
            }],
            beat: Beat::default(),
        };
        let core = std::thread::spawn(move || {
            run_data_core(data::run(parts, |ready| ready.unwrap())).unwrap();
        });
        Node { address, outbox, inbox: RefCell::new(inbox), core: Some(core) }
    }

    fn post(&self, message: Message) {
        assert!(self.outbox.post(0, message).is_ok());
    }

    /// The name leads to `addresses`, and the core knows.
    fn moves(&self, addresses: &[SocketAddr]) {
        self.post(Message::Upstream(UpstreamMessage::Addresses { backend: BackendId(0), addresses: list(addresses) }));
        // It answers what comes behind; nobody flies by this number.
        let fingerprint = Fingerprint([0; 32]);
        self.post(Message::Join { fingerprint, number: u64::MAX, follower: CoreId(BACKGROUND) });
        let answered = || matches!(self.inbox.borrow_mut().take(), Some(Message::Gone { number: u64::MAX, .. }));
        eventually("the core reads its messages", answered);
    }

    fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        let mut client = Client::connect(self.address);
        client.send(request);
        client.response()
    }

    /// Asks for an answer that its backend holds back, and waits until the request is there.
    fn hold(&self, what: &str, at: &Backend) -> Client {
        let before = at.count();
        let mut client = Client::connect(self.address);
        client.send(chat(what));
        at.await_requests(before + 1);
        client
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.post(Message::Drain);
        self.post(Message::Stop);
        let ended = self.core.take().unwrap().join();
        assert!(std::thread::panicking() || ended.is_ok());
    }
}

fn list(addresses: &[SocketAddr]) -> Arc<[Dial]> {
    addresses.iter().map(|address| Dial::Tcp(*address)).collect()
}

/// Lets answers go that are held back.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    fn release(&self, answers: usize) {
        *self.0.0.lock().unwrap() += answers;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let free = self.0.0.lock().unwrap();
        let (mut free, late) = self.0.1.wait_timeout_while(free, GUARD, |free| *free == 0).unwrap();
        assert!(!late.timed_out(), "it is let go");
        *free -= 1;
    }
}

/// Answers, after a while where it is asked to hold, and counts those who leave.
fn server(gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::run(move |peer| {
        while let Some(request) = peer.request() {
            if request.text().contains("hold") {
                gate.pass();
            }
            peer.write(echo(&request));
        }
        peer.left();
    })
}

#[test]
fn connections_to_an_address_that_is_gone_end_and_the_others_stay() {
    let gate = Gate::default();
    let [a, b, c] = [0; 3].map(|_| server(&gate));
    let node = Node::start("connections_min = 0", &[a.address, b.address]);
    let counts = || [&a, &b, &c].map(Backend::connections);
    // One connection to each, both idle then.
    let both = |what: &str| {
        let clients = [node.hold(&format!("hold {what} 1"), &a), node.hold(&format!("hold {what} 2"), &b)];
        gate.release(2);
        for mut client in clients {
            client.response().expect(200);
        }
    };
    both("one");
    node.moves(&[b.address, a.address]);
    for round in 0..4 {
        node.ask(chat(&format!("{round}"))).expect(200);
    }
    assert_eq!(counts(), [1, 1, 0], "another order is no move");

    // What was last given back is on top.
    let mut held = node.hold("hold this", if b.count() > a.count() { &b } else { &a });
    let (kept, gone) = if b.count() > a.count() { (&a, &b) } else { (&b, &a) };
    node.moves(&[kept.address, c.address]);
    let before = gone.count();
    for round in 0..4 {
        node.ask(chat(&format!("again {round}"))).expect(200);
    }
    assert_eq!((counts(), gone.count()), ([1, 1, 0], before), "the other connection stays and serves");
    gate.release(1);
    held.response().expect(200);
    gone.await_left(1);
    assert_eq!(gone.count(), before, "what was in use ends when it comes home");

    node.moves(&[c.address]);
    kept.await_left(1);
    for round in 0..4 {
        node.ask(chat(&format!("new {round}"))).expect(200);
    }
    assert_eq!((counts(), c.count()), ([1, 1, 1], 4));
}

#[test]
fn connections_ahead_of_need_follow_the_name() {
    let gate = Gate::default();
    let [old, new] = [0; 2].map(|_| server(&gate));
    let node = Node::start("connections_min = 2", &[old.address]);
    eventually("two connections wait", || old.connections() == 2);
    node.moves(&[new.address]);
    old.await_left(2);
    eventually("two others wait", || new.connections() == 2);
    for round in 0..4 {
        node.ask(chat(&format!("{round}"))).expect(200);
    }
    assert_eq!((old.count(), new.count(), new.connections()), (0, 4, 2));
}

#[test]
fn streams_that_run_finish_where_they_are_and_new_ones_begin_elsewhere() {
    let [old, new] = [0; 2].map(|_| Server::start(None, 100));
    let lines = "protocol = \"http2\"\nhttp2_connections_min = 1\nhttp2_connections_max = 1";
    let node = Node::start(lines, &[old.address]);
    let mut held = Client::connect(node.address);
    held.send(chat_stream("hold it"));
    let mut response = held.head();
    response.body = held.chunk().unwrap();
    node.ask(chat("beside it")).expect(200);
    assert_eq!((old.accepted(), old.connections().len()), (1, 2));

    node.moves(&[new.address]);
    for round in 0..4 {
        node.ask(chat(&format!("{round}"))).expect(200);
    }
    assert_eq!((old.connections().len(), new.connections().len(), new.accepted()), (2, 4, 1));
    assert_eq!((old.running(), old.ended()), (1, 0), "what runs goes on");
    old.release(1);
    held.body(&mut response);
    assert_eq!((response.text(), response.ending), (&*stream_seen(&["hold it", "!"]), Ending::Whole));
    eventually("then its connection ends", || old.ended() == 1);

    // With nothing on it, it ends at once.
    node.moves(&[old.address, new.address]);
    assert_eq!(new.ended(), 0);
    node.moves(&[old.address]);
    eventually("the idle one ends", || new.ended() == 1);
    node.ask(chat("back")).expect(200);
    assert_eq!((old.accepted(), new.accepted()), (2, 1));
}
