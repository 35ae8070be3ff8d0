//! What is drawn for a story before it is told: the node, what may go wrong, and how each client behaves and what it
//! asks, so that stories differ in kind and not only in order.

use ringway::net::sim::{World, between};

use crate::client::{BodyFrame, Habit, ProbeRequest, Secrecy, Version, Wish};
use crate::house::{Setup, TenantLimits};
use crate::message::{AT_ONCE, Pace};
use crate::prompt::Form;

/// What may go wrong in a story.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub clients: u64,
    pub wishes: u64,
    pub prompts: u64,
    /// Clients are slow, stall, half-close, and send in pieces.
    pub odd_clients: bool,
    /// Clients leave.
    pub leavers: bool,
    /// Requests name time-outs that are too short.
    pub hurried: bool,
    pub directives: bool,
    /// Requests that are no prompts come between.
    pub probe_requests: bool,
    pub faulty_backends: bool,
    /// Backends cannot be reached at times.
    pub unreachable: bool,
    pub paused_cores: bool,
    /// Calls die, as by a panic.
    pub crashes: bool,
    /// The names of backends lead elsewhere at times. No fault: nobody notices.
    pub moves: bool,
    /// The node drains in the middle.
    pub drains: bool,
    /// Answers are purged at times.
    pub purges: bool,
    /// The node's process ends at times, and another one begins.
    pub restarts: bool,
    /// The configuration changes at times. No fault: nobody notices but whose tenant is gone.
    pub reloads: bool,
    /// Everybody asks for the same form.
    pub one_form: bool,
    /// All clients come at once.
    pub together: bool,
}

impl Scenario {
    /// Whether nothing goes wrong.
    pub fn is_calm(&self) -> bool {
        !(self.faulty_backends
            || self.unreachable
            || self.paused_cores
            || self.leavers
            || self.hurried
            || self.drains
            || self.restarts
            || self.crashes)
    }
}

/// One of them.
pub fn pick<T: Copy>(from: &[T]) -> T {
    from[between(0, from.len() as u64 - 1) as usize]
}

/// True in so many of 100 cases.
pub fn chance(percent: u64) -> bool {
    between(1, 100) <= percent
}

/// A node for `scenario`.
pub fn setup(scenario: &Scenario) -> Setup {
    let setup = draw(scenario);
    if setup.hedge == 0 {
        return setup;
    }
    // What is usual has to be learnt, by many calls of one core.
    Setup { cores: 1, backends: 3, ttl_ms: 50, ..setup }
}

fn draw(scenario: &Scenario) -> Setup {
    let backends = pick(&[1, 1, 2, 3]);
    Setup {
        secure: chance(50),
        cores: pick(&[1, 2, 2, 3, 4]),
        backends: backends as usize,
        tenants: pick(&[0, 0, 1, 2]),
        cache_bytes: pick(&[64 << 20, 64 << 20, 200 << 10, 20 << 10]),
        ttl_ms: pick(&[300_000, 300_000, 1000, 50]),
        max_entry_bytes: pick(&[2 << 20, 2 << 20, 4 << 10]),
        follow_ms: pick(&[500, 2000, 10_000]),
        total_ms: pick(&[3000, 10_000]),
        gap_ms: pick(&[2000, 5000]),
        balance: pick(&["round-robin", "least-connections", "p2c", "sticky", "prefix"]),
        retries: pick(&[0, 2, 2, 4]),
        fallback: chance(20),
        hedge: if chance(25) { pick(&[5, 50]) } else { 0 },
        turns: if scenario.is_calm() { None } else { pick(&[None, None, Some((1, 2)), Some((3, 0)), Some((4, 20))]) },
        eject_errors: pick(&[1, 3, 5, 1000]),
        adapts: !scenario.is_calm() && chance(40),
        stale_ms: pick(&[0, 60_000]),
        log: chance(30),
        http2: pick(&[0, 0, between(0, backends), backends]) as usize,
        limits: match pick(&[0, 0, 1, 2]) {
            0 => TenantLimits::None,
            2 if !scenario.is_calm() => TenantLimits::Narrow,
            _ => TenantLimits::Wide,
        },
        gives: chance(50),
        streams: if scenario.is_calm() { (100, 100) } else { pick(&[(100, 100), (4, 2), (2, 1), (4, 100)]) },
        second: chance(35),
    }
}

/// What may go wrong.
pub fn scenario() -> Scenario {
    // One story in six has no faults at all: there nothing but the right answer will do.
    let (calm, reloads) = (chance(17), chance(30));
    let restarts = !calm && !reloads && chance(30);
    Scenario {
        clients: between(1, 12),
        wishes: pick(&[between(1, 6), between(1, 6), between(1, 6), 20]),
        prompts: pick(&[1, 1, 3, 10]),
        odd_clients: chance(50),
        leavers: !calm && chance(50),
        hurried: !calm && chance(60),
        directives: chance(30),
        probe_requests: chance(30),
        faulty_backends: !calm && chance(60),
        unreachable: !calm && chance(30),
        paused_cores: !calm && chance(30),
        crashes: !calm && chance(20),
        moves: !(reloads || restarts) && chance(30),
        reloads,
        drains: !(calm || restarts) && chance(20),
        purges: chance(25),
        restarts,
        one_form: chance(50),
        together: chance(50),
    }
}

/// How one client behaves.
pub fn habit(scenario: &Scenario, setup: &Setup, world: &World) -> Habit {
    // A client that reads nothing while it sends would wait for a gateway that waits for it, in narrow windows.
    let roomy = world.network().window_bytes.0 >= 4 << 10;
    let plain = Habit {
        pace: AT_ONCE,
        pipelined: if roomy { pick(&[1, 1, 2, 4, 12]) } else { 1 },
        half_closes: false,
        version: Version::Http11,
        pieces: 1,
        body: BodyFrame::Length,
        stall_ms: 0,
        rest_ms: pick(&[0, 20, 500]),
        secrecy: if setup.secure && chance(40) { Secrecy::Tls } else { Secrecy::Plain },
        window_bytes: 64 << 10,
        resets: false,
    };
    let plain = if roomy && chance(30) {
        Habit { version: Version::Http2, resets: scenario.leavers && chance(50), ..plain }
    } else {
        plain
    };
    if !scenario.odd_clients {
        return plain;
    }
    if plain.version == Version::Http2 {
        return Habit {
            pace: pick(&[AT_ONCE, Pace { bytes: 300, rest_ms: 5 }, Pace { bytes: 4000, rest_ms: 50 }]),
            pieces: pick(&[1, 1, 3, 10]),
            stall_ms: if scenario.is_calm() { 0 } else { pick(&[0, 0, 0, 1000, 10_000]) },
            window_bytes: pick(&[1000, 4 << 10, 64 << 10]),
            ..plain
        };
    }
    Habit {
        pace: pick(&[AT_ONCE, Pace { bytes: 300, rest_ms: 5 }, Pace { bytes: 4000, rest_ms: 50 }]),
        half_closes: chance(20),
        version: if chance(10) { Version::Http10 } else { Version::Http11 },
        pieces: pick(&[1, 1, 3, 10]),
        body: pick(&[BodyFrame::Length, BodyFrame::Length, BodyFrame::Chunked, BodyFrame::Expected]),
        stall_ms: if scenario.is_calm() { 0 } else { pick(&[0, 0, 0, 1000, 10_000]) },
        ..plain
    }
}

/// What a client asks.
pub fn wish(scenario: &Scenario, setup: &Setup, form: Form) -> Wish {
    let form = if scenario.one_form {
        form
    } else {
        pick(&[Form::NonStreaming, Form::Streaming { usage: false }, Form::Streaming { usage: true }])
    };
    let directive = if scenario.directives && chance(30) {
        Some(pick(&["no-store", "no-cache", "only-if-cached", "max-age=1"]))
    } else {
        None
    };
    // Short answers mostly, now and then a long one.
    let prompt = between(0, scenario.prompts - 1) * 7 % 10;
    let probe_request = match between(0, 6) {
        _ if !scenario.probe_requests || chance(60) => ProbeRequest::Prompt,
        0 => ProbeRequest::Health,
        1 => ProbeRequest::Models,
        2 => ProbeRequest::BadJson,
        3 if setup.tenants > 0 => ProbeRequest::Stranger,
        4 => ProbeRequest::UnknownModel,
        5 => ProbeRequest::WrongMethod,
        _ => ProbeRequest::Prompt,
    };
    let urgency = match between(0, 9) {
        0..=2 => Some(pick(&["x-request-priority: batch", "x-request-priority: 2", "x-request-timeout: 60"])),
        3..=5 if scenario.hurried => {
            Some(pick(&["x-request-timeout: 1ms", "x-request-timeout: 100ms", "x-request-timeout: 1.5"]))
        }
        _ => None,
    };
    Wish { probe_request, prompt, form, directive, urgency }
}
