//! Changes a host to what a profile says, and back. One change is one transaction: everything of it happens or nothing does.
//! Undoing is changing to no profile at all; changing to another profile first takes back what only the old one wanted.

use std::path::Path;

use super::profile::Profile;
use super::sight::Sight;

mod apply; // writes, and takes back on a failure
mod files; // what makes it last: sysctl.d, tmpfiles.d, limits.d, units
mod intent; // what there is to change
mod show; // the difference, for people
mod state; // what was there before

pub use apply::apply;
pub use intent::{Change, Intent};
pub use show::show;
pub use state::{Lock, Saved};

/// Where the state is unless one says otherwise.
pub const STATE: &str = "/var/lib/ringway/tune.json";

/// What changing to `profile` would do, or to none, where `saved` is what an earlier change has left to undo.
///
/// # Errors
/// A file in the way that could not be put back later.
pub fn intend(sight: &Sight<'_>, profile: Option<&Profile>, saved: &Saved) -> Result<Intent, String> {
    intent::intend(sight, profile, saved)
}

/// Reads the state. One that is not there says that nothing was changed.
///
/// # Errors
/// It cannot be read, or is none.
pub fn saved(path: &Path) -> Result<Saved, String> {
    state::read(path)
}
