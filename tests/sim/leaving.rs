//! Stories of clients that leave calls behind which go on without them.

use ringway::limits::DRAINED_CALLS;
use ringway::net::sim::{Ended, NetworkFaults};

use crate::backend::{Act, FaultProfile, When};
use crate::client::PLAIN;
use crate::house::Setup;
use crate::scenes::{CROWD, NODE, STREAMED, each_seed, prompt};
use crate::story::Story;

#[test]
fn calls_that_go_on_for_nobody_are_bounded_in_number() {
    const MORE: usize = 20;
    each_seed(2, |world, seed| {
        world.set_network(NetworkFaults::CALM);
        // Its calls are read on: see `house::snapshot`.
        let setup = Setup { cores: 1, gives: true, stale_ms: 0, total_ms: 60_000, gap_ms: 60_000, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { only: Some(Act::Hang(When::InBody)), ..story.fault_profile.get() });
        for number in 0..DRAINED_CALLS + MORE {
            story.invite(PLAIN, vec![prompt(number as u64, STREAMED)]);
        }
        let all = |story: &Story<'_>| story.ledger.look(|book| book.calls.len()) == DRAINED_CALLS + MORE;
        assert_eq!(world.run_until(10_000, || all(&story)), Ended::Met, "SEED={seed}: {}", story.house.describe());
        for &client in &story.clients {
            world.kill(client);
        }
        world.run_ms(5_000);
        let (calls, refused) =
            (story.house.sum(|counters| &counters.flights), story.house.sum(|counters| &counters.drained.refused));
        assert_eq!((calls, refused), (DRAINED_CALLS as u64, MORE as u64), "SEED={seed}");
        story.calm();
        story.end();
    });
}
