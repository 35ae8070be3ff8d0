//! Notifications to the service manager (`sd_notify(3)`); without `NOTIFY_SOCKET` they do nothing. Each is a datagram
//! to a local socket, a blocking call: not for data cores.

use sd_notify::NotifyState;

/// Every core serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The drain has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Watchdog: every data core has made progress since the last call.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState<'_>]) {
    // A failed notification does not affect serving.
    let _ = sd_notify::notify(states);
}
