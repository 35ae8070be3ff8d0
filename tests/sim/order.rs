//! Who is served first when requests wait on several cores.

use ringway::net::sim::NetworkFaults;

use crate::backend::FaultProfile;
use crate::client::{Habit, PLAIN, Wish};
use crate::house::Setup;
use crate::scenes::{CROWD, NODE, WHOLE, each_seed, is_answer, outcomes, prompt};
use crate::story::Story;

/// Prompts from here on are batches.
const BATCH: u64 = 100;
/// How many permits there are, and how long each is used.
const PERMITS: u32 = 4;
const SERVICE_MS: u64 = 100;

#[test]
fn what_is_urgent_goes_before_batches_on_whichever_core() {
    each_seed(20, |world, _| {
        world.set_network(NetworkFaults { poll_cost_us: 0, ..NetworkFaults::CALM });
        let mut story = Story::begin(world, Setup { cores: 3, turns: Some((PERMITS, 300)), retries: 0, ..NODE }, CROWD);
        story.fault_profile.set(FaultProfile { pause_ms: SERVICE_MS, rest_ms: 0, ..story.fault_profile.get() });
        for number in 0..40 {
            let urgency = Some("x-request-priority: batch");
            story.invite(PLAIN, vec![Wish { urgency, ..prompt(BATCH + number, WHOLE) }]);
        }
        world.run_ms(SERVICE_MS);
        for number in 0..20 {
            story.invite(PLAIN, vec![prompt(number, WHOLE)]);
        }
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        story.ledger.look(|book| {
            let urgent = || book.calls.iter().filter(|call| call.prompt < BATCH).map(|call| call.called_us);
            let (first, last) = (urgent().min().unwrap(), urgent().max().unwrap());
            let between =
                book.calls.iter().filter(|call| call.prompt >= BATCH && (first..last).contains(&call.called_us));
            // Each core takes one turn of 17, and a core may take one before it has looked.
            assert!(between.clone().count() <= 6, "{} batches in between", between.count());
            // As fast as if there were nothing else.
            assert!(last - first < 1000 * SERVICE_MS * (20 / u64::from(PERMITS) + 3), "{} us", last - first);
        });
        story.end();
    });
}

/// One tenant has all of its requests on one connection, and so on one core; the other has many connections on all cores. Of two
/// tenants with weights 1 and 3, each gets its share of all permits, whichever of them it is.
#[test]
fn a_tenant_on_one_core_gets_its_share_of_the_permits_of_all() {
    each_seed(10, |world, seed| {
        world.set_network(NetworkFaults { poll_cost_us: 0, ..NetworkFaults::CALM });
        let setup = Setup { cores: 3, tenants: 3, turns: Some((8, 300)), retries: 0, total_ms: 60_000, ..NODE };
        let mut story = Story::begin(world, setup, CROWD);
        story.fault_profile.set(FaultProfile { pause_ms: SERVICE_MS, rest_ms: 0, ..story.fault_profile.get() });
        // Tenants 0 and 2 have the same priority, and the weights 1 and 3.
        let (one, flood) = if seed % 2 == 0 { (0, 2) } else { (2, 0) };
        for client in 0..60 {
            story.invite_of(flood, PLAIN, (0..6).map(|number| prompt(100 + client * 10 + number, WHOLE)).collect());
        }
        world.run_ms(SERVICE_MS);
        let habit = Habit { pipelined: 8, ..PLAIN };
        story.invite_of(one, habit, (0..24).map(|number| prompt(number, WHOLE)).collect());
        story.finish_clients();
        assert!(outcomes(&story).iter().all(is_answer), "{:?}", outcomes(&story));
        story.ledger.look(|book| {
            let called = || book.calls.iter().filter(|call| call.prompt < 100).map(|call| call.called_us);
            let took_ms = (called().max().unwrap() - called().min().unwrap()) / 1000;
            // Of eight permits two, or six; eight at a time, each time all of them.
            let alone_ms = if one == 0 { 24 / 2 * SERVICE_MS } else { 24 / 6 * SERVICE_MS };
            assert!(took_ms < alone_ms * 2, "{took_ms} ms, where its share takes {alone_ms}");
        });
        story.end();
    });
}
