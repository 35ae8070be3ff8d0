//! Random requests in one connection, cut into random pieces: each gets its own answer, in order, whatever came together.
//! The seed is printed; RINGWAY_SEED takes it back.

use super::kit::*;

/// splitmix64.
struct Rng(u64);

impl Rng {
    fn random_u64(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

fn seed() -> u64 {
    let seed = match std::env::var("RINGWAY_SEED") {
        Ok(seed) => seed.parse().expect("RINGWAY_SEED is a number"),
        Err(_) => getrandom::u64().unwrap(),
    };
    println!("RINGWAY_SEED={seed}");
    seed
}

/// A request and what its answer must be: the status, and the body where it is known.
fn throw_request(rng: &mut Rng) -> (Vec<u8>, u16, Option<String>) {
    let what = format!("question {}", rng.random_u64(12));
    match rng.random_u64(12) {
        0..=2 => (chat(&what), 200, Some(completion(&format!("{what}!")))),
        3 | 4 => {
            // Its own questions: a stream of a stored whole answer has other pieces.
            let what = format!("streamed {what}");
            (chat_stream(&what), 200, Some(stream_seen(&[&what, "!"])))
        }
        5 | 6 => {
            let body = question(&what);
            let mut bytes = format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut rest = body.as_str();
            while !rest.is_empty() {
                let (part, left) = rest.split_at(1 + rng.random_u64(rest.len()));
                bytes += &chunk(part);
                rest = left;
            }
            (format!("{bytes}{LAST_CHUNK}").into_bytes(), 200, Some(completion(&format!("{what}!"))))
        }
        7 => ("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".into(), 200, Some("ok\n".to_owned())),
        // Without a body: where no credential is asked for, none is waited for.
        8 => ("PUT /nothing HTTP/1.1\r\nHost: h\r\n\r\n".into(), 404, None),
        9 => (post(CHAT, "{\"model\":\"unknown\"}"), 404, None),
        10 => (post(CHAT, "{\"model\":"), 400, None),
        _ => (
            post_with(CHAT, "Cache-Control: no-store\r\n", &question(&what)),
            200,
            Some(completion(&format!("{what}!"))),
        ),
    }
}

fn play(gateway: &Gateway, rng: &mut Rng) {
    let requests: Vec<_> = (0..1 + rng.random_u64(30)).map(|_| throw_request(rng)).collect();
    let bytes: Vec<u8> = requests.iter().flat_map(|(bytes, ..)| bytes.clone()).collect();
    let mut client = gateway.client();
    // Small pieces or none, as it happens.
    let largest = [1, 10, 100, 1000, bytes.len()][rng.random_u64(5)];
    let mut left = &bytes[..];
    while !left.is_empty() {
        let (piece, rest) = left.split_at((1 + rng.random_u64(largest)).min(left.len()));
        client.send(piece);
        left = rest;
    }
    for (place, (bytes, status, body)) in requests.iter().enumerate() {
        let response = client.response();
        let asked = String::from_utf8_lossy(bytes);
        assert_eq!(response.status, *status, "request {place}: {asked}\n{}{}", response.head, response.text());
        if let Some(body) = body {
            assert_eq!(response.text(), body, "request {place}: {asked}");
        }
    }
    client.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response().expect(200).text(), "ok\n");
}

#[test]
fn whatever_comes_together_is_answered_one_by_one() {
    let mut rng = Rng(seed());
    let backend = Backend::answering(echo);
    for cores in [1, 2] {
        let gateway = Setup::with(&backend).cores(cores).start();
        for _ in 0..40 {
            play(&gateway, &mut rng);
        }
    }
}

#[test]
fn many_connections_do_not_mix() {
    let seed = seed();
    let backend = Backend::answering(echo);
    let gateway = Setup::with(&backend).cores(2).start();
    std::thread::scope(|scope| {
        for player in 0..16 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut rng = Rng(seed ^ (player << 32));
                (0..8).for_each(|_| play(gateway, &mut rng));
            });
        }
    });
}
