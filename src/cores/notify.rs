//! What the service manager is told (`sd_notify(3)`). Without one, where `NOTIFY_SOCKET` is not set, nothing happens. A datagram to
//! a local socket: it may be sent from any thread but those of data cores, which make no blocking call.

use sd_notify::NotifyState;

/// Every core serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The drain has pending.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Every data core has been seen at work since the last time.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState<'_>]) {
    // A manager that does not listen changes nothing about serving.
    let _ = sd_notify::notify(states);
}
