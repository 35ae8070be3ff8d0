//! Our codec's reading of a connection, told as messages.

use crate::Message;
use ringway::wire::body::{Body, BodyFault, Decoder};
use ringway::wire::http1::{
    Asked, Fields, Framing, Persistence, Progress, RequestFault, RequestHead, ResponseFault, ResponseHead,
    parse_request, parse_response,
};

/// Why no further message was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Refused(Refusal),
    Closed,
    Unfinished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Request(RequestFault),
    Response(ResponseFault),
    Body(BodyFault),
}

/// All requests of a connection that carries `input` and is then closed.
pub fn requests(mut input: &[u8]) -> (Vec<Message>, Stop) {
    let mut messages = Vec::new();
    let mut head = RequestHead::default();
    loop {
        match parse_request(input, &mut head) {
            Ok(Progress::Complete) => {}
            Ok(Progress::Partial) => return (messages, Stop::Unfinished),
            Err(fault) => return (messages, Stop::Refused(Refusal::Request(fault))),
        }
        let (content, consumed) = match body(head.framing, &input[head.length..]) {
            Ok(found) => found,
            Err(stop) => return (messages, stop),
        };
        let path = head.path.of(input);
        let path = if path.is_empty() { b"/" } else { path };
        let is_absolute = !matches!(head.target.of(input), [b'/' | b'*', ..]);
        let authority = if is_absolute { text(head.host.of(input)).to_lowercase() } else { String::new() };
        messages.push(Message {
            start: format!("{} {authority} {}", text(head.method_span.of(input)), text(path)),
            fields: fields(&head.fields, input),
            content,
        });
        if head.persistence == Persistence::Close {
            return (messages, Stop::Closed);
        }
        input = &input[head.length + consumed..];
    }
}

/// The final response of a connection that carries `input` and is then closed.
pub fn response(mut input: &[u8], asked: Asked) -> (Vec<Message>, Stop) {
    let mut head = ResponseHead::default();
    loop {
        match parse_response(input, asked, &mut head) {
            Ok(Progress::Complete) if head.status < 200 => input = &input[head.length..],
            Ok(Progress::Complete) => break,
            Ok(Progress::Partial) => return (Vec::new(), Stop::Unfinished),
            Err(fault) => return (Vec::new(), Stop::Refused(Refusal::Response(fault))),
        }
    }
    let content = match body(head.framing, &input[head.length..]) {
        Ok((content, _)) => content,
        Err(stop) => return (Vec::new(), stop),
    };
    let message = Message { start: head.status.to_string(), fields: fields(&head.fields, input), content };
    (vec![message], Stop::Closed)
}

/// Content, and the bytes it and its framing take.
fn body(framing: Framing, input: &[u8]) -> Result<(Vec<u8>, usize), Stop> {
    let mut decoder = Decoder::new(framing);
    let (mut content, mut consumed) = (Vec::new(), 0);
    while !decoder.is_done() && consumed < input.len() {
        let step = decoder.decode(&input[consumed..]).map_err(|fault| Stop::Refused(Refusal::Body(fault)))?;
        content.extend_from_slice(&input[consumed..][step.data]);
        consumed += step.consumed;
        if step.state == Body::Done {
            break;
        }
    }
    decoder.eof().map_err(|_| Stop::Unfinished)?;
    Ok((content, consumed))
}

fn fields(fields: &Fields, buffer: &[u8]) -> Vec<(String, Vec<u8>)> {
    let pairs =
        fields.iter().map(|field| (text(field.name.of(buffer)).to_lowercase(), field.value.of(buffer).to_vec()));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
