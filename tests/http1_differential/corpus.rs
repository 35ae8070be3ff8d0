//! Messages put together from good and odd parts, then damaged here and there.

/// A small generator with a seed (SplitMix64): the same seed gives the same corpus everywhere.
pub struct Rng {
    state: u64,
}

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, parts: &[&'a T]) -> &'a T {
        parts[self.below(parts.len())]
    }

    /// Mostly one of the good parts, sometimes one of the odd.
    fn mostly<'a>(&mut self, good: &[&'a str], odd: &[&'a str]) -> &'a str {
        if self.one_in(25) { self.pick(odd) } else { self.pick(good) }
    }
}

const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const ODD_METHODS: &[&str] = &["CONNECT", "PRI", "get", "M-SEARCH", "", "G T", "POST\t", "HEAD", "TRACE"];
const TARGETS: &[&str] = &[
    "/",
    "/v1/chat/completions",
    "/v1/models/a%20b?include[]=x&y={z}|1",
    "/v1/../v1//x;y=1,2:@!$'()*+~",
    "http://a.example/v1?x",
    "HTTP://a.example",
    "https://a.example/?",
];
const ODD_TARGETS: &[&str] = &[
    "*",
    "",
    "/a#b",
    "/a b",
    "/\"a\"",
    "/a\\b",
    "/<a>",
    "/^`",
    "/\u{e9}",
    "a.example:80",
    "http://b.example/",
    "http://u@a.example/",
    "http://",
    "http://a.example?x",
    "ftp://a.example/",
    "//a.example/x",
    "?x",
    "/?a?b",
    "/%",
    "/%zz",
    "http://a.example:80/",
    "http://[::1]/",
];
const VERSIONS: &[&str] = &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"];
const ODD_VERSIONS: &[&str] = &["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", "HTTP/11", "", "X"];
const HOSTS: &[&str] = &["Host: a.example", "host: A.EXAMPLE", "HOST:a.example"];
const ODD_HOSTS: &[&str] = &[
    "Host: ",
    "Host: a.example:80",
    "Host: a b",
    "Host: a@b",
    "X-No: host",
    "Host: a\r\nHost: a",
    "Host : a",
    "Host: [::1]",
    "Host: [::1]:80",
    "Host: :80",
];
const FIELDS: &[&str] = &[
    "Accept: */*",
    "Content-Type: application/json",
    "Authorization: Bearer sk-1234",
    "X-Empty:",
    "x-space: \t a  b \t",
    "X-Twice: 1\r\nx-twice: 2",
    "X-Text: \u{fc}\u{f6}",
    "!#$%&'*+-.^_`|~: token",
    "Expect: 100-continue",
    "Connection: keep-alive",
    "Connection: x, Keep-Alive",
    "Trailer: X",
    "TE: trailers",
];
const ODD_FIELDS: &[&str] = &[
    "Connection: close",
    "Connection: x,CLOSE , y",
    "Connection: Upgrade\r\nUpgrade: websocket",
    "Connection: \u{fc}, close",
    "Expect: x",
    "X: a\r\n folded",
    "X: a\r\n\tfolded",
    "X : a",
    ": a",
    "no colon",
    "X: a\0b",
    "X: a\u{1}b",
    "X: a\u{7f}b",
    "X: a\rb",
    "X: a\nY: b",
    "X(: a",
    "Upgrade: h2c",
    "Content-Length: 0",
    "Transfer-Encoding: chunked",
];
const LENGTHS: &[&str] = &["5", "5", "5", "05"];
const ODD_LENGTHS: &[&str] = &[
    "+5",
    "-5",
    "5, 5",
    "5,5",
    "5 5",
    "5;",
    "0x5",
    "",
    "5\r\nContent-Length: 5",
    "5\r\nContent-Length: 6",
    "99999999999999999999",
    "18446744073709551615",
    "9223372036854775808",
    "5\r\nTransfer-Encoding: chunked",
    "4",
    "6",
];
const CODINGS: &[&str] = &["chunked", "chunked", "Chunked"];
const ODD_CODINGS: &[&str] = &[
    "gzip, chunked",
    "chunked, gzip",
    "chunked, chunked",
    "chunked\r\nTransfer-Encoding: chunked",
    "identity\r\nTransfer-Encoding: chunked",
    "chunked\r\nTransfer-Encoding: identity",
    "gzip",
    "identity",
    "",
    "chunked,",
    ",chunked",
    "chunked;x",
    "xchunked",
    "\"chunked\"",
    "chun\tked",
    "chunked\r\nContent-Length: 5",
    "chunked\r\nContent-Length: x",
];
const CHUNKED: &[&str] = &[
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n006\r\n world\r\n0\r\n\r\n",
    "A;x=y\r\n0123456789\r\n0;z\r\n\r\n",
    "1\r\n\n\r\n0\r\nX: y\r\nz:\r\n\r\n",
    "0\r\n\r\n",
];
const ODD_CHUNKED: &[&str] = &[
    "5 \r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5\t;x\r\nhello\r\n0\r\n\r\n",
    "5;\u{1}\r\nhello\r\n0\r\n\r\n",
    "5;x\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "5\r\nhello\r\n0\n\r\n",
    "5\r\nhello\r\n",
    "00000000000000000005\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "g\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\nX: y\nZ: z\r\n\r\n",
    "0\r\nX: y\r\n z\r\n\r\n",
    "0\r\n: y\r\n\r\n",
    "0\r\nno colon\r\n\r\n",
    "0\r\nX: \u{1}\r\n\r\n",
    "0\r\nX: y\rz\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
];
const STATUSES: &[&str] =
    &["200 OK", "200", "200 ", "201 \u{fc}", "204 No Content", "304 Not Modified", "404 X", "500 X"];
const ODD_STATUSES: &[&str] =
    &["20 OK", "2000 OK", "099 X", "600 X", "999 X", "200  OK", "+20 X", "101 X", "200 O\0K", ""];
const INTERIM: &[&str] = &[
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    "HTTP/1.1 102 Processing\r\n\r\n",
];
const SPLINTERS: &[&str] =
    &["\r", "\n", "\r\n", "\r\n\r\n", " ", "\t", ":", ",", ";", "0", "\0", "\u{7f}", "\u{e9}", "A", "#", "/"];

/// One to three requests on one connection, in one case of three damaged.
pub fn requests(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..1 + rng.below(3) {
        if rng.one_in(20) {
            text += rng.pick(&["\r\n", "\n", "\r\n\r\n"]);
        }
        let (method, target) = (rng.mostly(METHODS, ODD_METHODS), rng.mostly(TARGETS, ODD_TARGETS));
        let version = rng.mostly(VERSIONS, ODD_VERSIONS);
        text += &format!("{method} {target} {version}\r\n");
        text += rng.mostly(HOSTS, ODD_HOSTS);
        text += "\r\n";
        add_fields(rng, &mut text);
    }
    damage(rng, text.into_bytes())
}

/// Perhaps interim responses, then a final one.
pub fn response(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..rng.below(6).saturating_sub(3) {
        text += rng.pick(INTERIM);
    }
    let (version, status) = (rng.mostly(VERSIONS, ODD_VERSIONS), rng.mostly(STATUSES, ODD_STATUSES));
    text += &format!("{version} {status}\r\n");
    add_fields(rng, &mut text);
    damage(rng, text.into_bytes())
}

/// Fields, the blank line and a body that mostly fits them.
fn add_fields(rng: &mut Rng, text: &mut String) {
    for _ in 0..rng.below(4) {
        *text += rng.mostly(FIELDS, ODD_FIELDS);
        *text += "\r\n";
    }
    match rng.below(4) {
        0 => *text += "\r\n",
        1 => {
            let length = rng.mostly(LENGTHS, ODD_LENGTHS);
            *text += &format!("Content-Length: {length}\r\n\r\nhello");
        }
        2 => {
            let (coding, body) = (rng.mostly(CODINGS, ODD_CODINGS), rng.mostly(CHUNKED, ODD_CHUNKED));
            *text += &format!("Transfer-Encoding: {coding}\r\n\r\n{body}");
        }
        _ => {
            let (coding, body) = (rng.pick(CODINGS), rng.mostly(CHUNKED, ODD_CHUNKED));
            *text += &format!("transfer-encoding:{coding} \r\nX-Last: 1\r\n\r\n{body}");
        }
    }
}

fn damage(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    if !rng.one_in(3) {
        return bytes;
    }
    for _ in 0..1 + rng.below(3) {
        let at = rng.below(bytes.len() + 1);
        let end = (at + rng.below(12)).min(bytes.len());
        match rng.below(6) {
            0 => bytes.truncate(at.max(1)),
            1 => drop(bytes.drain(at..(at + 1).min(bytes.len()))),
            2 => drop(bytes.drain(at..end)),
            3 => drop(bytes.splice(at..at, rng.pick(SPLINTERS).bytes())),
            4 => {
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            _ if at < bytes.len() => bytes[at] = rng.next() as u8,
            _ => {}
        }
        if bytes.is_empty() {
            return bytes;
        }
    }
    bytes
}
