//! One direction of a WebSocket: what comes from one side goes to the other as it is, and nothing more is read before that
//! has been taken. Holds a buffer only while there are bytes in it.

use std::io;
use std::task::{Context, Poll, ready};

use crate::exchange::buffers::Buffers;
use crate::net::{Duplex, Transport, now_ms};
use crate::observe::counters::Counter;
use crate::wire::websocket::Frames;

/// A side of a WebSocket: what both kinds of connection can do alike.
pub trait Side {
    /// Reads into a buffer that `make` gives once there is something; 0 is the end.
    fn poll_read(
        &mut self,
        buffer: &mut Vec<u8>,
        make: impl FnOnce() -> Vec<u8>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>;
    /// Takes a part of `bytes`.
    fn poll_write(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>>;
    /// Sends what was taken.
    fn poll_pass_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Nothing more will be written.
    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

macro_rules! side {
    ($($side:ty),*) => {$(
        impl Side for $side {
            fn poll_read(
                &mut self,
                buffer: &mut Vec<u8>,
                make: impl FnOnce() -> Vec<u8>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<usize>> {
                self.poll_read_new(buffer, make, context)
            }

            fn poll_write(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
                self.poll_write_part(bytes, context)
            }

            fn poll_pass_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                <$side>::poll_pass_on(self, context)
            }

            fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                <$side>::poll_finish(self, context)
            }
        }
    )*};
}

side!(Transport, Duplex);

/// Which end of a direction broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Reading,
    Writing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The one side has ended; the other is not told yet.
    Ending,
    Over,
}

/// One direction.
#[derive(Debug)]
pub struct Flow {
    bytes: Vec<u8>,
    /// So many of them were taken.
    at: usize,
    /// Something that was taken may not have been sent.
    is_held_back: bool,
    state: State,
    /// What was taken of it.
    pub frames: Frames,
    /// Bytes that were read and taken.
    pub total: u64,
    /// When it last moved on.
    pub moved_ms: u64,
}

impl Flow {
    /// With `bytes` that were read already.
    pub fn new(bytes: Vec<u8>) -> Flow {
        Flow {
            bytes,
            at: 0,
            is_held_back: false,
            state: State::Open,
            frames: Frames::default(),
            total: 0,
            moved_ms: now_ms(),
        }
    }

    /// Whether there is something that the other side does not take.
    pub fn is_blocked(&self) -> bool {
        self.at < self.bytes.len() || self.is_held_back || self.state == State::Ending
    }

    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// It ends here.
    pub fn break_off(&mut self) {
        (self.state, self.is_held_back, self.at) = (State::Over, false, self.bytes.len());
    }

    /// Moves on as far as both sides let it; ready when it is over.
    pub fn poll(
        &mut self,
        from: &mut impl Side,
        to: &mut impl Side,
        buffers: &Buffers,
        counter: &Counter,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            while self.at < self.bytes.len() {
                let taken = match ready!(to.poll_write(&self.bytes[self.at..], context)) {
                    Ok(taken) if taken > 0 => taken,
                    Ok(_) | Err(_) => return Poll::Ready(Err(Broken::Writing)),
                };
                self.frames.advance(&self.bytes[self.at..self.at + taken]);
                self.at += taken;
                self.total += taken as u64;
                counter.add(taken as u64);
                (self.is_held_back, self.moved_ms) = (true, now_ms());
            }
            if self.bytes.capacity() > 0 {
                self.at = 0;
                buffers.give(std::mem::take(&mut self.bytes));
            }
            if self.is_held_back {
                ready!(to.poll_pass_on(context)).map_err(|_| Broken::Writing)?;
                self.is_held_back = false;
            }
            match self.state {
                State::Over => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(to.poll_finish(context)).map_err(|_| Broken::Writing)?;
                    self.state = State::Over;
                }
                State::Open => match ready!(from.poll_read(&mut self.bytes, || buffers.take(), context)) {
                    Ok(0) => self.state = State::Ending,
                    Ok(_) => self.moved_ms = now_ms(),
                    Err(_) => return Poll::Ready(Err(Broken::Reading)),
                },
            }
        }
    }
}
