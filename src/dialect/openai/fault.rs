//! Stub.
use crate::wire::json::Tape;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    ContextWindow,
    RateLimited,
    Overloaded,
    QuotaExhausted,
    Server,
    Client,
    Unknown,
}
pub fn error_kind(_body: &[u8], _tape: &mut Tape) -> Option<ErrorKind> {
    None
}
