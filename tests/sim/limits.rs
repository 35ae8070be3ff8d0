//! Stories of what tenants may spend, where it is known too late that a request has used more than was reserved for it.

use ringway::net::sim::NetworkFaults;

use crate::backend::FaultProfile;
use crate::client::{PLAIN, Wish};
use crate::house::{Setup, TenantLimits};
use crate::ledger::Outcome;
use crate::prompt::LONG;
use crate::scenes::{CROWD, NODE, WHOLE, each_seed, is_answer, outcomes, prompt};
use crate::story::Story;

/// Four answers use up the limit, five times what was reserved for them. A moment later no core spends any more of it, whichever
/// core's answers these were.
#[test]
fn what_is_used_beyond_a_reservation_counts_at_once_on_all_cores() {
    each_seed(20, |world, seed| {
        world.set_network(NetworkFaults::CALM);
        let setup = Setup { cores: 2 + seed as usize % 3, tenants: 1, limits: TenantLimits::Narrow, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { rest_ms: 0, ..story.fault_profile.get() });
        for _ in 0..4 {
            story.invite(PLAIN, vec![Wish { directive: Some("no-store"), ..prompt(LONG, WHOLE) }]);
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "SEED={seed}: {:?}", outcomes(&story));
        // For messages between cores. What cores hold goes back once a second.
        world.run_ms(10);
        for number in 0..4 {
            story.invite(PLAIN, vec![prompt(number, WHOLE), prompt(number + 4, WHOLE)]);
        }
        story.finish_clients();
        for outcome in &outcomes(&story)[4..] {
            let is_refused =
                matches!(outcome, Outcome::Error { status: 429, code } if code == "tokens_per_day_exceeded");
            assert!(is_refused, "SEED={seed}: {outcome:?}");
        }
        story.end();
    });
}
