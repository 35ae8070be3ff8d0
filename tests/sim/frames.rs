//! The transport of an HTTP/2 backend, frame by frame: it slips frames in and ends the connection at any byte, as a script
//! says, and holds the gateway to what was agreed. Owns the socket; never breaks a frame but by a cut.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use ringway::net::sim::{Place, spawn_at};
use ringway::net::{Duplex, Socket, sleep_ms};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::backend::FaultProfile;
use crate::message::Pace;

/// Frame types and flags (RFC 9113 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const HEAD_BYTES: usize = 9;
const PREFACE_BYTES: usize = 24;
const MAX_CONCURRENT_STREAMS: u16 = 3;
/// Most that waits for the socket before the server has to.
const LEAVING_BYTES: usize = 32 << 10;

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Close,
    Reset,
}

/// SETTINGS under way: the limit they set, if they set one, and who sent them.
struct Sent {
    limit: Option<usize>,
    slipped_in: bool,
}

/// Which sides of a stream have ended.
#[derive(Clone, Copy, Default)]
struct Sides {
    gateway: bool,
    server: bool,
}

/// What the transport shares with those who meddle with it.
#[derive(Default)]
pub struct Wire {
    /// Whole frames that wait for the socket.
    leaving: RefCell<VecDeque<u8>>,
    unacknowledged: RefCell<VecDeque<Sent>>,
    /// How many streams the gateway may have open; none: as many as it likes.
    limit: Cell<Option<usize>>,
    open: RefCell<BTreeMap<u32, Sides>>,
    /// The call on each stream whose answer has not begun.
    unanswered: RefCell<BTreeMap<u32, usize>>,
    /// Streams whose heads have left the server.
    begun: RefCell<BTreeSet<u32>>,
    newest: Cell<u32>,
    /// Streams above it were refused by GOAWAY.
    last: Cell<Option<u32>>,
    cut: Cell<Option<Cut>>,
    waker: RefCell<Option<Waker>>,
}

impl Wire {
    /// Sends `bytes` between two frames of the server.
    fn slip_in(&self, bytes: &[u8]) {
        self.leaving.borrow_mut().extend(bytes);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What is no HTTP/2.
    pub fn slip_in_garbage(&self) {
        self.slip_in(b"\0\0\x05\xee what is this\r\n\xff\r\n\r\n");
    }

    /// The gateway may have so many streams from now on.
    pub fn set_limit(&self, limit: u32) {
        let mut payload = MAX_CONCURRENT_STREAMS.to_be_bytes().to_vec();
        payload.extend(limit.to_be_bytes());
        self.unacknowledged.borrow_mut().push_back(Sent { limit: Some(limit as usize), slipped_in: true });
        self.slip_in(&frame(SETTINGS, 0, &payload));
    }

    /// Says goodbye, and that nothing is known of some of the youngest streams; `between` decides of how many. The calls on
    /// those.
    pub fn refuse_younger(&self, between: impl FnOnce(u64, u64) -> u64) -> Vec<usize> {
        if self.last.get().is_some() {
            return Vec::new();
        }
        let unanswered = std::mem::take(&mut *self.unanswered.borrow_mut());
        let numbers: Vec<u32> = unanswered.keys().copied().collect();
        // Nothing was said on the youngest ones alone: all above the oldest of those may go.
        let answered = self.open.borrow().keys().copied().filter(|id| !unanswered.contains_key(id)).max().unwrap_or(0);
        let silent: Vec<u32> = numbers.into_iter().filter(|&id| id > answered).collect();
        let refused = &silent[between(0, silent.len() as u64) as usize..];
        let last = refused.first().map_or(self.newest.get(), |&first| first.saturating_sub(2));
        self.last.set(Some(last));
        let calls = unanswered.iter().filter(|&(&id, _)| id > last).map(|(_, &call)| call).collect();
        *self.unanswered.borrow_mut() = unanswered;
        let payload = [last.to_be_bytes(), [0; 4]].concat();
        self.slip_in(&frame(GOAWAY, 0, &payload));
        calls
    }

    /// Whether there is a request on which nothing was said yet.
    pub fn owes_answers(&self) -> bool {
        !self.unanswered.borrow().is_empty()
    }

    pub fn is_refused(&self, stream: u32) -> bool {
        self.last.get().is_some_and(|last| stream > last)
    }

    /// A request was read whole; its answer has not begun.
    pub fn asked(&self, stream: u32, call: usize) {
        self.unanswered.borrow_mut().insert(stream, call);
    }

    /// The answer begins.
    pub fn answered(&self, stream: u32) {
        self.unanswered.borrow_mut().remove(&stream);
    }

    /// Whether a head was sent on it: the server forgets one that still waits where the stream is then reset.
    pub fn has_begun(&self, stream: u32) -> bool {
        self.begun.borrow().contains(&stream)
    }

    /// Ends the connection where it stands.
    pub fn cut(&self, cut: Cut) {
        self.cut.set(Some(cut));
        self.wake();
    }

    fn end_side(&self, stream: u32, side: impl FnOnce(&mut Sides)) {
        let mut open = self.open.borrow_mut();
        if let Some(sides) = open.get_mut(&stream) {
            side(sides);
            if sides.gateway && sides.server {
                open.remove(&stream);
            }
        }
    }

    /// Looks at a frame of the gateway; false: it is not for the server.
    fn came(&self, kind: u8, flags: u8, stream: u32) -> bool {
        match kind {
            HEADERS if stream > self.newest.get() => {
                self.newest.set(stream);
                let mut open = self.open.borrow_mut();
                let allowed = self.limit.get().is_none_or(|limit| open.len() < limit);
                assert!(allowed, "stream {stream} beyond the {:?} allowed: {:?}", self.limit.get(), open.keys());
                open.insert(stream, Sides::default());
            }
            RESET => drop(self.open.borrow_mut().remove(&stream)),
            SETTINGS if flags & ACK != 0 => {
                let sent = self.unacknowledged.borrow_mut().pop_front().expect("nothing is acknowledged unasked");
                self.limit.set(sent.limit.or(self.limit.get()));
                return !sent.slipped_in;
            }
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            self.end_side(stream, |sides| sides.gateway = true);
        }
        true
    }

    /// Looks at a frame of the server; false: it does not go out.
    fn goes(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        assert_ne!(kind, CONTINUATION, "heads are short: frames may be slipped in anywhere");
        if self.is_refused(stream) && matches!(kind, RESET | WINDOW | DATA) {
            self.open.borrow_mut().remove(&stream);
            return false;
        }
        assert!(!self.is_refused(stream) || kind != HEADERS, "an answer on a stream that was refused");
        if kind == HEADERS {
            self.begun.borrow_mut().insert(stream);
        }
        match kind {
            SETTINGS if flags & ACK == 0 => {
                let limit = payload.chunks_exact(6).find(|one| one[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
                let limit = limit.map(|one| u32::from_be_bytes([one[2], one[3], one[4], one[5]]) as usize);
                self.unacknowledged.borrow_mut().push_back(Sent { limit, slipped_in: false });
            }
            RESET => drop(self.open.borrow_mut().remove(&stream)),
            HEADERS | DATA if flags & END_STREAM != 0 => self.end_side(stream, |sides| sides.server = true),
            _ => {}
        }
        true
    }
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 0];
    bytes.extend_from_slice(payload);
    bytes
}

/// Takes a whole frame off `bytes`, if there is one: kind, flags, stream and all of it.
fn next_frame(bytes: &mut Vec<u8>) -> Option<(u8, u8, u32, Vec<u8>)> {
    let head = bytes.get(..HEAD_BYTES)?;
    let length = HEAD_BYTES + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (kind, flags, stream) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
    (bytes.len() >= length).then(|| (kind, flags, stream, bytes.drain(..length).collect()))
}

pub struct Transport {
    socket: Option<Duplex>,
    wire: Rc<Wire>,
    pace: Pace,
    /// Bytes both ways, after which it is cut; as long as anything fails.
    cut_after: Option<(usize, Cut)>,
    fault_profile: Rc<Cell<FaultProfile>>,
    since_rest: usize,
    resting: Option<Pin<Box<dyn Future<Output = ()>>>>,
    preface: usize,
    coming: Vec<u8>,
    ready: VecDeque<u8>,
    forming: Vec<u8>,
}

impl Transport {
    pub fn new(
        socket: Socket,
        wire: Rc<Wire>,
        pace: Pace,
        cut_after: Option<(usize, Cut)>,
        fault_profile: Rc<Cell<FaultProfile>>,
    ) -> Transport {
        Transport {
            socket: Some(socket.into()),
            wire,
            pace,
            cut_after,
            fault_profile,
            since_rest: 0,
            resting: None,
            preface: PREFACE_BYTES,
            coming: Vec::new(),
            ready: VecDeque::new(),
            forming: Vec::new(),
        }
    }

    /// The socket, as long as it is not cut.
    fn socket(&mut self) -> io::Result<&mut Duplex> {
        if let Some(cut) = self.wire.cut.get()
            && let Some(mut socket) = self.socket.take()
            && cut == Cut::Reset
        {
            socket.make_close_unclean();
        }
        self.socket.as_mut().ok_or(io::ErrorKind::BrokenPipe.into())
    }

    /// How many of `most` bytes go before the cut.
    fn before_cut(&mut self, most: usize) -> usize {
        if self.fault_profile.get().faults_percent == 0 {
            self.cut_after = None;
        }
        self.cut_after.map_or(most, |(left, _)| left.min(most))
    }

    fn moved(&mut self, count: usize) {
        if let Some((left, cut)) = &mut self.cut_after {
            *left -= count;
            if *left == 0 {
                self.wire.cut.set(Some(*cut));
            }
        }
    }

    fn poll_leave(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.waker.replace(Some(context.waker().clone()));
        loop {
            let wire = self.wire.clone();
            let most = self.before_cut(wire.leaving.borrow().len());
            let socket = self.socket()?;
            if most == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut leaving = wire.leaving.borrow_mut();
            let bytes = &leaving.make_contiguous()[..most];
            let count = ready!(Pin::new(socket).poll_write(context, bytes))?;
            leaving.drain(..count);
            drop(leaving);
            self.moved(count);
        }
    }

    fn poll_come(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(rest) = &mut self.resting {
            ready!(rest.as_mut().poll(context));
            self.resting = None;
        }
        let mut bytes = vec![0; self.before_cut(self.pace.bytes)];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(self.socket()?).poll_read(context, &mut buffer))?;
        let count = buffer.filled().len();
        self.coming.extend_from_slice(&bytes[..count]);
        self.moved(count);
        self.since_rest += count;
        if self.pace.rest_ms > 0 && self.since_rest >= self.pace.bytes {
            self.since_rest = 0;
            self.resting = Some(Box::pin(sleep_ms(self.pace.rest_ms)));
        }
        Poll::Ready(Ok(count))
    }
}

/// Closed at once, what the gateway still sends would bring a reset, and that the loss of what it has not read.
impl Drop for Transport {
    fn drop(&mut self) {
        let Some(mut socket) = self.socket.take().filter(|_| self.wire.cut.get().is_none()) else { return };
        spawn_at(Place::Outside, async move {
            let _ = socket.finish_writing().await;
            while matches!(socket.read(Vec::with_capacity(4096)).await.0, Ok(read) if read > 0) {}
        });
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_leave(context) {
            return Poll::Ready(Err(error));
        }
        while self.ready.is_empty() {
            if ready!(self.poll_come(context))? == 0 {
                return Poll::Ready(Ok(()));
            }
            let preface = self.preface.min(self.coming.len());
            self.preface -= preface;
            let Transport { coming, ready, wire, .. } = &mut *self;
            ready.extend(coming.drain(..preface));
            while let Some((kind, flags, stream, bytes)) = next_frame(coming) {
                if wire.came(kind, flags, stream) {
                    ready.extend(bytes);
                }
            }
        }
        let count = self.ready.len().min(buffer.remaining());
        let bytes: Vec<u8> = self.ready.drain(..count).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.wire.leaving.borrow().len() > LEAVING_BYTES {
            ready!(self.poll_leave(context))?;
        }
        let Transport { forming, wire, .. } = &mut *self;
        forming.extend_from_slice(bytes);
        while let Some((kind, flags, stream, whole)) = next_frame(forming) {
            if wire.goes(kind, flags, stream, &whole[HEAD_BYTES..]) {
                wire.leaving.borrow_mut().extend(whole);
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_leave(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(context))?;
        match &mut self.socket {
            Some(socket) => Pin::new(socket).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}
