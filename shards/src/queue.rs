//! Stub.
use alloc::collections::VecDeque;
pub struct Queue<W> {
    free: u32,
    waiting_max: u32,
    next: u64,
    waiting: VecDeque<(u64, W)>,
    granted: alloc::vec::Vec<u64>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enter {
    Go,
    Wait,
    Full,
}
impl<W> Queue<W> {
    pub const fn new(in_flight_max: u32, waiting_max: u32) -> Self {
        Self { free: in_flight_max, waiting_max, next: 0, waiting: VecDeque::new(), granted: alloc::vec::Vec::new() }
    }
    pub fn enter(&mut self) -> Enter {
        if self.free > 0 && self.waiting.is_empty() {
            self.free -= 1;
            Enter::Go
        } else if self.waiting.len() < self.waiting_max as usize {
            Enter::Wait
        } else {
            Enter::Full
        }
    }
    pub fn wait(&mut self, waiter: W) -> Ticket {
        self.next += 1;
        self.waiting.push_back((self.next, waiter));
        Ticket(self.next)
    }
    pub fn leave(&mut self) -> Option<W> {
        match self.waiting.pop_front() {
            Some((t, w)) => {
                self.granted.push(t);
                Some(w)
            }
            None => {
                self.free += 1;
                None
            }
        }
    }
    pub fn take_grant(&mut self, ticket: Ticket) -> bool {
        match self.granted.iter().position(|t| *t == ticket.0) {
            Some(p) => {
                self.granted.swap_remove(p);
                true
            }
            None => false,
        }
    }
    pub fn replace(&mut self, ticket: Ticket, waiter: W) {
        if let Some(place) = self.waiting.iter_mut().find(|(t, _)| *t == ticket.0) {
            place.1 = waiter;
        }
    }
    pub fn give_up(&mut self, ticket: Ticket) -> Option<W> {
        if self.take_grant(ticket) {
            return self.leave();
        }
        self.waiting.retain(|(t, _)| *t != ticket.0);
        None
    }
}
