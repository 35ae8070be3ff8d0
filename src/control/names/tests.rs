//! Answers over time, from a server of names of our own.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::UdpSocket;

use super::*;

#[test]
fn answers_are_trusted_for_their_time_within_bounds() {
    let seconds = [0, 5, 60, 300, 86_400].map(|ttl| Pace::default().trusted(Duration::from_secs(ttl)).as_secs());
    assert_eq!(seconds, [5, 5, 60, 300, 300]);
    let waits: Vec<u64> = (1..8).map(|failed| Pace::default().retried(failed).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(Pace::default().retried(u32::MAX).as_secs(), 30);
}

#[test]
fn only_other_addresses_are_news() {
    let dial = |last: u8| Dial::Tcp((Ipv4Addr::new(10, 0, 0, last), 80).into());
    let ip = |last: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let known = [dial(1), dial(2)];
    assert_eq!(changed(&known, [ip(2), ip(1), ip(2)].into_iter(), 80), None, "in another order, and one twice");
    assert_eq!(changed(&known, [].into_iter(), 80), None, "no answer is no news");
    assert_eq!(changed(&known, [ip(1)].into_iter(), 80).as_deref(), Some(&[dial(1)][..]));
    assert_eq!(changed(&[], [ip(3)].into_iter(), 80).as_deref(), Some(&[dial(3)][..]));
    assert!(changed(&known, [ip(1), ip(2)].into_iter(), 81).is_some(), "another port is another address");
}

#[test]
fn a_name_with_a_dot_is_whole() {
    assert_eq!([fully("vllm"), fully("a.b"), fully("a.b.")], ["vllm", "a.b.", "a.b."]);
}

/// Answers every question for A with the address of the moment, and for AAAA with none; a time to live of 0.
async fn serve(socket: UdpSocket, now: Rc<Cell<Option<Ipv4Addr>>>) {
    let mut packet = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        let question = &packet[..length];
        let asks_a = question.windows(4).any(|window| window == [0, 1, 0, 1]);
        let address = now.get();
        let mut answer = question.to_vec();
        answer.truncate(12 + question[12..].iter().position(|&byte| byte == 0).unwrap() + 5);
        // A response, recursion available; SERVFAIL where there is no address. No additional records (RFC 1035 4.1.1).
        (answer[2], answer[3]) = (0x81, if address.is_some() { 0x80 } else { 0x82 });
        answer[6..12].copy_from_slice(&[0; 6]);
        if let (true, Some(address)) = (asks_a, address) {
            answer[7] = 1;
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend(address.octets());
        }
        let _ = socket.send_to(&answer, from).await;
    }
}

fn resolver(server: SocketAddr) -> TokioResolver {
    let mut connection = ConnectionConfig::new(ProtocolConfig::Udp);
    connection.port = server.port();
    let config =
        ResolverConfig::from_parts(None, Vec::new(), vec![NameServerConfig::new(server.ip(), true, vec![connection])]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().attempts = 1;
    builder.build().unwrap()
}

#[test]
fn a_name_is_followed_and_the_last_answer_kept() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = socket.local_addr().unwrap();
        let now = Rc::new(Cell::new(Some(Ipv4Addr::new(10, 0, 0, 1))));
        tokio::task::spawn_local(serve(socket, now.clone()));
        let addresses: Addresses = Rc::new(RefCell::new(vec![Vec::new().into()]));
        let told = Rc::new(RefCell::new(Vec::new()));
        let hear = told.clone();
        let name = Name { backend: 0, called: "b".to_owned(), host: "model.test".to_owned(), port: 80 };
        let ms = Duration::from_millis;
        let pace = Pace { ttl_min: ms(10), ttl_max: ms(10), retry_min: ms(10), retry_max: ms(10) };
        let tell = Rc::new(move |finding| hear.borrow_mut().push(finding));
        tokio::task::spawn_local(follow(name, pace, Rc::new(resolver(server)), addresses.clone(), tell));
        let dial = |last| Dial::Tcp((Ipv4Addr::new(10, 0, 0, last), 80).into());
        let heard = async |count: usize| {
            while told.borrow().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        heard(1).await;
        assert_eq!(told.borrow()[0], Finding::Addresses { backend: 0, addresses: [dial(1)].into() });
        now.set(None);
        heard(2).await;
        assert!(matches!(&told.borrow()[1], Finding::Said(text) if text.contains("the last addresses are kept")));
        assert_eq!(*addresses.borrow()[0], [dial(1)]);
        now.set(Some(Ipv4Addr::new(10, 0, 0, 2)));
        heard(4).await;
        assert!(matches!(&told.borrow()[2], Finding::Said(text) if text.contains("resolves again")));
        assert_eq!(told.borrow()[3], Finding::Addresses { backend: 0, addresses: [dial(2)].into() });
        assert_eq!(*addresses.borrow()[0], [dial(2)]);
    });
}
