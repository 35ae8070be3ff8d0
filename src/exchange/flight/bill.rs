//! What the upstream call of a flight has used, for whoever made it: the call may end after the exchange of its client.

use super::Flight;
use crate::exchange::used::Bill;

impl Flight {
    pub fn bill(&self) -> Bill {
        self.state.borrow().bill
    }

    /// A call is made.
    pub fn open_bill(&self) {
        self.state.borrow_mut().bill = Bill::Open;
    }
}
