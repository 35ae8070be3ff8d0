//! What one core has asked others about stored embeddings, and what they have said so far.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use hashbrown::HashMap;

use super::entry::Entry;

/// The questions of a core, by number.
#[derive(Default)]
pub struct Questions {
    last: Cell<u64>,
    open: RefCell<HashMap<u64, Rc<Question>>>,
}

/// Stored embeddings by their places in a request.
pub type Parts = Vec<(u32, Arc<Entry>)>;

/// One question to several cores.
#[derive(Default)]
struct Question {
    /// Cores that have not answered.
    left: Cell<usize>,
    found: RefCell<Parts>,
    waker: RefCell<Option<Waker>>,
}

/// A question that is open. Dropped, its answers are no longer wanted.
pub struct Asking<'a> {
    questions: &'a Questions,
    number: u64,
    question: Rc<Question>,
}

impl Questions {
    /// A question to so many cores.
    pub fn begin(&self, cores: usize) -> Asking<'_> {
        let number = self.last.get() + 1;
        self.last.set(number);
        let question = Rc::<Question>::default();
        question.left.set(cores);
        self.open.borrow_mut().insert(number, question.clone());
        Asking { questions: self, number, question }
    }

    /// A core has answered.
    pub fn answered(&self, number: u64, found: Parts) {
        let Some(question) = self.open.borrow().get(&number).cloned() else { return };
        question.found.borrow_mut().extend(found);
        question.left.set(question.left.get().saturating_sub(1));
        if let Some(waker) = question.waker.take() {
            waker.wake();
        }
    }
}

impl Asking<'_> {
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits until every core has answered.
    pub async fn all(&self) {
        poll_fn(|context| {
            if self.question.left.get() == 0 {
                return Poll::Ready(());
            }
            self.question.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// What was said.
    pub fn found(&self) -> Parts {
        self.question.found.take()
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.questions.open.borrow_mut().remove(&self.number);
    }
}
