//! How urgent a request is where it waits for a backend: by its tenant, and by what its head says. Parses only.

use shards::Who;

use super::client::ClientConnection;
use super::generation::Generation;
use crate::error::Failure;

/// Of requests without a tenant.
const PRIORITY: u8 = 5;
const PRIORITY_LAST: u8 = 9;

/// What the head says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urgency {
    /// The most urgent priority that the request wants.
    pub priority: Option<u8>,
}

impl Urgency {
    /// Errors: a field that cannot be understood.
    pub fn of(client: &ClientConnection<'_>) -> Result<Urgency, Failure> {
        let priority = one(client, "x-request-priority")?.map(|value| match value {
            b"interactive" => Ok(0),
            b"batch" => Ok(PRIORITY_LAST),
            [digit @ b'0'..=b'9'] => Ok(digit - b'0'),
            _ => Err(bad("x-request-priority is a number from 0 (first) to 9 (last), \"interactive\" or \"batch\".")),
        });
        Ok(Urgency { priority: priority.transpose()? })
    }

    /// Whose turn it waits for. A request may be less urgent than its tenant, never more.
    pub fn who(self, core: &Generation, tenant: Option<usize>) -> Who {
        let (number, priority, weight) = tenant.map_or((u32::MAX, PRIORITY, 1), |tenant| {
            let settings = &core.snapshot.tenants[tenant];
            (core.tenant_series(tenant), settings.priority, settings.weight)
        });
        Who { priority: priority.max(self.priority.unwrap_or(0)), tenant: number, weight }
    }
}

/// The value of a field that may stand once.
fn one<'a>(client: &'a ClientConnection<'_>, name: &'static str) -> Result<Option<&'a [u8]>, Failure> {
    let mut values = client.head.fields.get_all(client.pending(), name);
    let first = values.next();
    match first.and_then(|_| values.next()) {
        Some(_) => Err(bad(&format!("The header field {name} stands twice."))),
        None => Ok(first),
    }
}

fn bad(why: &str) -> Failure {
    Failure::BadHead { status: 400, why: why.to_owned() }
}
