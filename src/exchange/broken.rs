//! How an exchange ends without a whole answer.

use crate::error::Failure;

/// Why there is no answer. Boxed: it is rare, and an answer's way out is as wide as this is.
pub enum Broken {
    /// Nothing was sent: the client is told.
    Refused(Box<Failure>),
    /// A part was sent.
    Cut(Box<Failure>),
}

impl Broken {
    pub fn cut(failure: Failure) -> Broken {
        Broken::Cut(Box::new(failure))
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Broken {
        Broken::Refused(Box::new(failure))
    }
}
