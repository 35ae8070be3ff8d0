//! The HTTP/1.1 codec against hyper: whatever our codec accepts, hyper reads as the same messages, and whatever we
//! refuse although hyper accepts it is of a kind that stands in a list here, with its reason and an example.
//! Both read the same generated and then damaged bytes; the seed is printed and taken back from `RINGWAY_SEED`.

#[path = "http1_differential/corpus.rs"]
mod corpus;
#[path = "http1_differential/oracle.rs"]
mod oracle;
#[path = "http1_differential/ours.rs"]
mod ours;

use corpus::Rng;
use ours::{Refusal, Stop};
use ringway::wire::body::BodyFault;
use ringway::wire::http1::{Asked, FieldFault, RequestFault, ResponseFault};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

const CASES: usize = 20_000;

/// One message as both sides tell it. Names are in lower case and sorted, since hyper keeps no order between
/// different names; values of one name keep theirs.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Method and target, or the status.
    pub start: String,
    pub fields: Vec<(String, Vec<u8>)>,
    pub content: Vec<u8>,
}

fn rng() -> Rng {
    let seed = match std::env::var("RINGWAY_SEED") {
        Ok(text) => text.parse().expect("RINGWAY_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0u8),
    };
    println!("RINGWAY_SEED={seed}");
    Rng::new(seed)
}

/// Where we are stricter than hyper on requests, why, and bytes that show it. An example that hyper comes to refuse
/// fails `the_list_is_true`, so that the list cannot outlive its reasons.
fn stricter_on_requests() -> Vec<(Refusal, &'static str, &'static str)> {
    use FieldFault as F;
    use RequestFault as R;
    let field = |fault: F| Refusal::Request(R::Field(fault));
    vec![
        (field(F::LineEnd), "a bare LF ends a line for some readers only", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        (
            field(F::LengthRepeated),
            "two equal lengths mean that two hands wrote the framing",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        ),
        (
            field(F::LengthInvalid),
            "hyper does not read the length at all once Transfer-Encoding stands before it",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n0\r\n\r\n",
        ),
        (
            field(F::FramingConflict),
            "hyper lets Transfer-Encoding win, as RFC 9112 6.1 allows; others do not",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            field(F::CodingInvalid),
            "hyper looks at the last coding of the last field only",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            field(F::CodingUnsupported),
            "hyper hands the inner coding to its user; we have no use for it",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            Refusal::Request(R::LeadingLines),
            "RFC 9112 2.2 asks for one empty line to be ignored, not for any number",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (Refusal::Request(R::Connect), "we are no tunnel", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
        (
            Refusal::Request(R::Target),
            "hyper drops fragments and takes authority form with any method",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (Refusal::Request(R::HostMissing), "hyper leaves Host to its user", "GET / HTTP/1.1\r\n\r\n"),
        (
            Refusal::Request(R::HostRepeated),
            "hyper leaves Host to its user",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        ),
        (Refusal::Request(R::HostInvalid), "hyper leaves Host to its user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
        (
            Refusal::Request(R::HostDiffers),
            "hyper leaves Host to its user",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            Refusal::Request(R::Expectation),
            "hyper ignores expectations it does not know",
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n",
        ),
        (
            Refusal::Body(BodyFault::ChunkSize),
            "hyper skips white space behind a size and any number of leading zeros",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
        ),
        (
            Refusal::Body(BodyFault::Extension),
            "hyper lets control characters stand in extensions",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\u{1}\r\nx\r\n0\r\n\r\n",
        ),
        (
            Refusal::Body(BodyFault::LineEnd),
            "behind a bare LF hyper takes the head of the next message for a trailer",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\nX: y\r\n\r\n",
        ),
    ]
}

/// The same for responses, as far as they differ.
fn stricter_on_responses() -> Vec<(Refusal, &'static str, &'static str)> {
    use FieldFault as F;
    use ResponseFault as R;
    let field = |fault: F| Refusal::Response(R::Field(fault));
    vec![
        (field(F::LineEnd), "a bare LF ends a line for some readers only", "HTTP/1.1 204 X\n\r\n"),
        (
            field(F::LengthRepeated),
            "two lengths, equal or not, mean that two hands wrote the framing",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        ),
        (
            field(F::LengthInvalid),
            "hyper does not read the length where no body follows",
            "HTTP/1.1 204 X\r\nContent-Length: 1;\r\n\r\n",
        ),
        (
            field(F::FramingConflict),
            "hyper lets Transfer-Encoding win, as RFC 9112 6.1 allows; others do not",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            field(F::CodingInvalid),
            "RFC 9112 6.3 has such bodies end by close; from a backend we asked for no coding they are a mistake",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nx",
        ),
        (
            field(F::CodingUnsupported),
            "hyper hands the inner coding to its user; we have no use for it",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            field(F::CodingInHttp10),
            "RFC 9112 6.1 calls the framing faulty; hyper does not look where no body follows",
            "HTTP/1.0 204 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            Refusal::Response(R::StatusLine),
            "RFC 9110 15 has no class above 5xx",
            "HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            Refusal::Response(R::Switching),
            "we never ask for another protocol; hyper leaves it to its user",
            "HTTP/1.1 101 X\r\n\r\n",
        ),
        (
            Refusal::Body(BodyFault::ChunkSize),
            "hyper skips white space behind a size and any number of leading zeros",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
        ),
        (
            Refusal::Body(BodyFault::Extension),
            "hyper lets control characters stand in extensions",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;\u{1}\r\nx\r\n0\r\n\r\n",
        ),
        (
            Refusal::Body(BodyFault::LineEnd),
            "behind a bare LF hyper takes the head of the next message for a trailer",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\nX: y\r\n\r\n",
        ),
    ]
}

#[test]
fn requests() {
    let mut rng = rng();
    let listed = stricter_on_requests();
    let is_listed = |refusal| listed.iter().any(|(kind, ..)| *kind == refusal);
    let mut tally = Tally::default();
    for _ in 0..CASES {
        let input = corpus::requests(&mut rng);
        let (ours, stop) = ours::requests(&input);
        let theirs = oracle::requests(&input, rng.below(40) + 1);
        tally.compare(&input, (&ours, stop), &theirs, is_listed);
    }
    tally.finish();
}

#[test]
fn responses() {
    let mut rng = rng();
    let listed = stricter_on_responses();
    let is_listed = |refusal| listed.iter().any(|(kind, ..)| *kind == refusal);
    let mut tally = Tally::default();
    for _ in 0..CASES {
        let input = corpus::response(&mut rng);
        let asked = if rng.below(8) == 0 { Asked::Head } else { Asked::Other };
        let (ours, stop) = ours::response(&input, asked);
        let theirs = oracle::response(&input, asked, rng.below(40) + 1);
        tally.compare(&input, (&ours, stop), &theirs, is_listed);
    }
    tally.finish();
}

/// What a run has seen.
#[derive(Default)]
struct Tally {
    accepted_by_both: usize,
    /// Refused by us alone, by kind.
    stricter: BTreeMap<String, usize>,
    /// Kinds that are not in the list, with the bytes that showed them first.
    unlisted: BTreeMap<String, String>,
}

impl Tally {
    /// Ours must be a beginning of theirs; where theirs goes on, our reason to stop must be in the list.
    fn compare(
        &mut self,
        input: &[u8],
        (ours, stop): (&[Message], Stop),
        theirs: &[Message],
        is_listed: impl Fn(Refusal) -> bool,
    ) {
        let text = input.escape_ascii().to_string();
        assert!(ours.len() <= theirs.len(), "hyper refuses what we accept: {ours:#?} {stop:?}\n{theirs:#?}\n{text}");
        assert_eq!(ours, &theirs[..ours.len()], "read differently\n{text}");
        self.accepted_by_both += ours.len();
        if ours.len() == theirs.len() {
            return;
        }
        match stop {
            Stop::Refused(refusal) if is_listed(refusal) => {
                *self.stricter.entry(format!("{refusal:?}")).or_default() += 1;
            }
            // We close on a Connection field with bytes above 0x7F in it, hyper does not look at it.
            Stop::Closed if !input.is_ascii() => {}
            stop => drop(self.unlisted.entry(format!("{stop:?}")).or_insert(text)),
        }
    }

    /// A run in which nothing was accepted or nothing refused would prove nothing.
    fn finish(self) {
        println!("accepted by both: {}, refused by us alone: {:#?}", self.accepted_by_both, self.stricter);
        assert!(self.unlisted.is_empty(), "refused by us alone for no listed reason: {:#?}", self.unlisted);
        assert!(self.accepted_by_both > CASES / 4 && self.stricter.len() > 3);
    }
}

#[test]
fn the_list_is_true() {
    for (refusal, reason, example) in stricter_on_requests() {
        let (ours, stop) = ours::requests(example.as_bytes());
        assert_eq!((ours.len(), stop), (0, Stop::Refused(refusal)), "{example:?}");
        assert_eq!(oracle::requests(example.as_bytes(), 4096).len(), 1, "no longer true: {reason} {example:?}");
    }
    for (refusal, reason, example) in stricter_on_responses() {
        let (ours, stop) = ours::response(example.as_bytes(), Asked::Other);
        assert_eq!((ours.len(), stop), (0, Stop::Refused(refusal)), "{example:?}");
        assert_eq!(oracle::response(example.as_bytes(), Asked::Other, 4096).len(), 1, "{reason} {example:?}");
    }
}
