//! One seed, one story: a node, its clients and backends, a storm of faults, and the calm after it, with the laws that
//! hold at every moment and at the end.

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::Rc;

use ringway::config::snapshot::PurgeScope;
use ringway::net::sim::{Ended, Place, Reachability, TaskId, World, between, spawn_at};

use crate::backend::{FaultProfile, GOOD, start};
use crate::client::{Client, Habit, Wish};
use crate::house::{House, Setup, TenantLimits, homes, key};
use crate::keep::Disk;
use crate::laws::{
    check_attempts, check_budgets, check_calls, check_calm, check_freshness, check_lateness, check_log, check_moves,
    check_over, check_table,
};
use crate::ledger::{End, Keeping, Ledger, Outcome};
use crate::prompt::Form;
use crate::redis::{self, MOODS, Mood, Redis};
use crate::reload::check_generations;
use crate::scenario::{Scenario, chance, habit, pick, scenario, setup, wish};

/// Everything has to be over by then: the longest chain of time-outs of a setup, behind a client that takes ten seconds for
/// each of its twenty wishes.
const PATIENCE_MS: u64 = 400_000;

/// How stories went, for those who tell many.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    pub requests: usize,
    pub answers: usize,
    pub hits: usize,
    pub calls: usize,
    pub errors: usize,
    pub cut: usize,
    /// How often what is rare has happened, over all cores.
    pub rare: Rare,
    pub steps: u64,
    pub trace: u64,
}

impl Outline {
    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Outline) {
        self.requests += other.requests;
        self.answers += other.answers;
        self.hits += other.hits;
        self.calls += other.calls;
        self.errors += other.errors;
        self.cut += other.cut;
        self.rare.add(&other.rare);
        self.steps += other.steps;
        self.trace ^= other.trace;
    }
}

/// What a thousand stories have to have seen, or they prove little.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rare {
    pub retries: u64,
    pub fallbacks: u64,
    pub hedges: u64,
    pub hedge_wins: u64,
    pub queue_full: u64,
    pub queue_timeouts: u64,
    pub queue_sheds: u64,
    pub queue_expired: u64,
    pub trips: u64,
    pub restorations: u64,
    pub stale: u64,
    /// Calls that died.
    pub crashes: u64,
    /// Calls that an HTTP/2 backend refused.
    pub refusals: u64,
    /// Limits that something was spent of.
    pub spent: u64,
    /// Connections that went from one core to another.
    pub moved: u64,
    /// Look-ups in Redis that brought an answer; that brought none in time, or an error, or what is none.
    pub second_hits: u64,
    pub second_failed: u64,
    /// Processes that ended, and answers that came back from their snapshots.
    pub restarts: u64,
    pub restored: u64,
}

impl Rare {
    fn of(house: &House) -> Rare {
        let mut sum = Rare::default();
        for core in &house.cores {
            let counters = &core.core().counters;
            sum.add(&Rare {
                retries: counters.retries.get(),
                fallbacks: counters.fallbacks.get(),
                hedges: counters.hedges.get(),
                hedge_wins: counters.hedge_wins.get(),
                queue_full: counters.queue_full.get(),
                queue_timeouts: counters.queue_timeouts.get(),
                queue_sheds: counters.queue_sheds.get(),
                queue_expired: counters.queue_expired.get(),
                trips: counters.trips.get(),
                restorations: counters.restorations.get(),
                stale: counters.stale.get(),
                moved: counters.connections_moved.get(),
                second_hits: counters.second.hits.get(),
                second_failed: counters.second.failed.get()
                    + counters.second.late.get()
                    + counters.second.damaged.get(),
                ..Rare::default()
            });
        }
        sum
    }

    fn all(&mut self) -> [&mut u64; 19] {
        let Rare { retries, fallbacks, hedges, hedge_wins, queue_full, queue_timeouts, .. } = self;
        let Rare { trips, restorations, stale, crashes, refusals, spent, queue_sheds, queue_expired, moved, .. } = self;
        let Rare { second_hits, second_failed, restarts, restored, .. } = self;
        let [a, b, c, d, e, f] = [retries, fallbacks, hedges, hedge_wins, queue_full, queue_timeouts];
        let [g, h, i, j, k] = [second_hits, second_failed, moved, restarts, restored];
        let [m, n, o, p] = [trips, restorations, stale, crashes];
        [a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, refusals, spent, queue_sheds, queue_expired]
    }

    fn add(&mut self, other: &Rare) {
        let mut other = *other;
        for (sum, more) in self.all().into_iter().zip(other.all()) {
            *sum += *more;
        }
    }

    /// Whether each has happened at least once.
    pub fn is_everything(mut self) -> bool {
        self.all().into_iter().all(|count| *count > 0)
    }
}

/// Tells the story of `seed` and checks its laws.
pub fn tell(seed: u64) -> Outline {
    let world = World::new(seed);
    let scenario = scenario();
    let setup = setup(&scenario);
    if std::env::var_os("SEED").is_some() {
        println!("{setup:?}\n{scenario:?}\n{:?}", world.network());
    }
    tell_of(&world, setup, scenario)
}

/// Tells one of the stories that `setup` and `scenario` leave open.
pub fn tell_of(world: &World, setup: Setup, scenario: Scenario) -> Outline {
    let mut story = Story::begin(world, setup, scenario);
    story.storm();
    story.calm();
    check_lateness(&story.ledger, &story.scenario);
    check_calls(&story.ledger, &story.setup, &story.scenario);
    check_freshness(&story.ledger, &story.setup, &story.scenario);
    check_generations(&story.ledger);
    if !story.scenario.restarts {
        check_attempts(&story.ledger, &story.setup, &story.house);
    }
    if !(story.scenario.reloads || story.scenario.restarts) {
        check_budgets(&story.ledger, &story.setup, &story.house);
    }
    if !story.scenario.paused_cores {
        check_table(&story.ledger, &story.setup);
    }
    if story.scenario.is_calm() {
        check_calm(&story.ledger, &story.setup, &story.scenario);
    }
    if !story.scenario.drains && story.setup.limits != TenantLimits::Narrow {
        story.fresh_requests();
    }
    story.end()
}

/// A story while it is told.
pub struct Story<'a> {
    pub world: &'a World,
    pub setup: Setup,
    pub scenario: Scenario,
    pub ledger: Ledger,
    pub fault_profile: Rc<Cell<FaultProfile>>,
    pub house: House,
    pub clients: Vec<TaskId>,
    /// What everybody asks for in a scenario of one form.
    form: Form,
    drained: bool,
    /// Calls that were killed.
    crashed: u64,
    pub redis: Option<Redis>,
    /// Purges that Redis has not been told of.
    untold: RefCell<Vec<String>>,
    disk: Disk,
    /// Of the processes that have ended.
    before: Rare,
}

impl<'a> Story<'a> {
    /// Builds the node and its backends.
    pub fn begin(world: &'a World, setup: Setup, scenario: Scenario) -> Story<'a> {
        // What a core that stands still keeps, it may keep in its mail.
        let slack_ms = if scenario.paused_cores { u64::MAX / 4 } else { 3000 };
        let ledger = Ledger::new(Keeping { ttl_ms: setup.ttl_ms, stale_ms: setup.stale_ms, slack_ms });
        let fault_profile = Rc::new(Cell::new(FaultProfile {
            faults_percent: if scenario.faulty_backends { pick(&[5, 30, 80]) } else { 0 },
            rest_ms: pick(&[0, 5, 100]),
            pause_ms: 0,
            closes_percent: pick(&[0, 20]),
            window_bytes: if world.network().latency_us.1 + world.network().jitter_us < 1000 { 1 } else { 200 },
            streams_max: 100,
            streams_later: None,
            only: None,
        }));
        for index in 0..setup.backends {
            // Each fails in its own measure, wherever it is.
            let measure = pick(&[0, 50, 100, 100, 300]);
            for home in homes(index) {
                start(index, home, setup.speaks(index), ledger.clone(), fault_profile.clone(), measure);
            }
        }
        let redis = setup.second.then(Redis::start);
        let disk = Disk::default();
        let house = House::build(world, &setup, &ledger, &disk);
        let form = pick(&[Form::NonStreaming, Form::Streaming { usage: false }, Form::Streaming { usage: true }]);
        Story {
            world,
            setup,
            scenario,
            ledger,
            fault_profile,
            house,
            clients: Vec::new(),
            form,
            drained: false,
            crashed: 0,
            redis,
            untold: RefCell::default(),
            disk,
            before: Rare::default(),
        }
    }

    /// Lets a client come, with its wishes.
    pub fn invite(&mut self, habit: Habit, wishes: Vec<Wish>) -> TaskId {
        let tenant = if self.setup.tenants == 0 { 0 } else { between(0, self.setup.tenants as u64 - 1) as usize };
        self.invite_of(tenant, habit, wishes)
    }

    /// The same, of this tenant.
    pub fn invite_of(&mut self, tenant: usize, habit: Habit, wishes: Vec<Wish>) -> TaskId {
        let client = Client {
            ledger: self.ledger.clone(),
            tenant,
            key: (self.setup.tenants > 0).then(|| key(tenant)),
            habit,
            wishes,
        };
        let client = spawn_at(Place::Outside, client.run());
        self.clients.push(client);
        client
    }

    fn invite_some(&mut self, count: u64) {
        for _ in 0..count {
            let habit = habit(&self.scenario, &self.setup, self.world);
            let wishes =
                (0..between(1, self.scenario.wishes)).map(|_| wish(&self.scenario, &self.setup, self.form)).collect();
            self.invite(habit, wishes);
        }
    }

    /// Clients come, and what may go wrong does.
    pub fn storm(&mut self) {
        if self.scenario.together {
            self.invite_some(self.scenario.clients);
        }
        let slices = between(3, 30);
        for slice in 0..slices {
            if !self.scenario.together {
                self.invite_some(self.scenario.clients.div_ceil(slices));
            }
            self.upset();
            if self.scenario.drains && slice == slices / 2 {
                self.drain();
            }
            self.house.check();
            self.check_removed();
            self.house.watch(self.world);
            let steps = Cell::new(0);
            let until = between(1, 300);
            self.world.run_until(pick(&[5, 100, 1000]), || {
                steps.set(steps.get() + 1);
                self.house.watch(self.world);
                steps.get() > until
            });
        }
    }

    /// As `House::check_removed`, where that holds.
    pub fn check_removed(&self) {
        if !self.scenario.paused_cores {
            self.house.check_removed(self.world, &self.setup);
        }
    }

    /// Lets something go wrong, or heal.
    fn upset(&mut self) {
        let (world, setup, scenario) = (self.world, &self.setup, self.scenario);
        if scenario.unreachable && chance(40) {
            let slow = [Reachability::Slow { ms: 500 }, Reachability::Slow { ms: 3000 }];
            let reachability =
                pick(&[Reachability::Welcome, Reachability::Refuse, Reachability::BlackHole, slow[0], slow[1]]);
            let index = between(0, setup.backends as u64 - 1) as usize;
            // Where it is at first, or everywhere.
            homes(index).iter().take(pick(&[1, 2])).for_each(|home| world.set_reachability(home, reachability));
        }
        if scenario.moves && chance(40) {
            let index = between(0, setup.backends as u64 - 1) as usize;
            let [one, two] = homes(index);
            let both = [one.clone(), two.clone()];
            self.house.moves(
                index,
                match between(0, 3) {
                    0 => vec![one],
                    1 => vec![two],
                    2 => both.into(),
                    _ => both.into_iter().rev().collect(),
                },
            );
        }
        if scenario.reloads && chance(50) {
            self.house.reload(setup, &self.ledger, !scenario.is_calm());
        }
        if scenario.purges && chance(40) {
            self.purge();
        }
        if scenario.paused_cores && chance(40) {
            let core = Place::Core(between(0, setup.cores as u64 - 1) as usize);
            if chance(50) { world.pause(core) } else { world.resume(core) }
        }
        if scenario.crashes && chance(40) {
            self.crash();
        }
        // No fault either: whatever Redis does, nobody notices.
        if let Some(redis) = &self.redis {
            if chance(40) {
                redis.set_mood(pick(&MOODS));
            }
            if chance(20) {
                let reachability = [Reachability::Welcome, Reachability::Refuse, Reachability::BlackHole];
                world.set_reachability(&redis::address(), pick(&reachability));
            }
            if chance(10) {
                redis.flush();
            }
            if chance(30) {
                self.tell_redis();
            }
        }
        if scenario.leavers && !self.clients.is_empty() && chance(40) {
            let client = pick(&self.clients);
            if chance(50) {
                world.kill(client);
            } else {
                world.kill_after(client, between(1, 40));
            }
        }
        if scenario.restarts {
            if chance(30) {
                self.house.snapshot();
            }
            if chance(15) {
                self.restart(pick(&[End::Stopped, End::Killed]));
            }
        }
    }

    /// The node's process ends, at this very moment or as a supervisor wishes it, and another one begins.
    pub fn restart(&mut self, end: End) {
        let mut is_whole = false;
        if end == End::Stopped {
            self.house.drain(self.world);
            let is_idle = || self.house.cores.iter().all(|core| core.core().is_idle());
            let rest = self.world.run_until(35_000, is_idle);
            self.house.snapshot();
            is_whole = self.world.run_until(5_000, || self.disk.is_written()) == Ended::Met && rest == Ended::Met;
        }
        self.ledger.restart(if is_whole { End::Stopped } else { End::Killed });
        self.before.add(&Rare::of(&self.house));
        self.before.restarts += 1;
        self.house.kill(self.world);
        self.house = House::build(self.world, &self.setup, &self.ledger, &self.disk);
        if !self.untold.borrow().is_empty() {
            self.house.purges_are_untold();
        }
    }

    /// Purges what one tenant has, or everything.
    pub fn purge(&self) {
        let tenant = match self.setup.tenants {
            0 => None,
            tenants => chance(50).then(|| between(0, tenants as u64 - 1) as usize),
        };
        let scope = match tenant {
            Some(tenant) => PurgeScope::Tenant(format!("t{tenant}")),
            None => {
                if chance(50) {
                    PurgeScope::All
                } else {
                    PurgeScope::Model("m".to_owned())
                }
            }
        };
        self.untold.borrow_mut().push(self.house.purge(&scope));
        self.ledger.purge(tenant);
        if chance(70) {
            self.tell_redis();
        }
    }

    /// Tells Redis what was purged: until then nothing of it serves. And again what it has lost of that.
    pub fn tell_redis(&self) {
        if let Some(redis) = &self.redis {
            self.disk.take_lost().iter().for_each(|(name, number)| redis.purged_again(name, *number));
            let untold = self.untold.take().into_iter();
            self.house.purges_are_told(untold.map(|name| (name.clone(), redis.purged(&name))).collect());
        }
    }

    /// Lets one of the calls that run by themselves die, at whatever it waits for: the same as a panic, but for the counter. How many
    /// have died so far.
    pub fn crash(&mut self) -> u64 {
        let places = (0..self.setup.cores).map(Place::Core);
        let calls: Vec<TaskId> = places.flat_map(|place| self.world.tasks_born(place, "net/spawn.rs")).collect();
        if !calls.is_empty() {
            self.crashed += u64::from(self.world.kill(pick(&calls)));
        }
        self.crashed
    }

    /// Nothing fails any more, and everything that is open comes to its end.
    pub fn calm(&mut self) {
        self.fault_profile.set(FaultProfile { window_bytes: self.fault_profile.get().window_bytes, ..GOOD });
        for index in 0..self.setup.backends {
            homes(index).iter().for_each(|home| self.world.set_reachability(home, Reachability::Welcome));
        }
        for index in 0..self.setup.cores {
            self.world.resume(Place::Core(index));
        }
        if let Some(redis) = &self.redis {
            redis.set_mood(Mood::Well);
            self.world.set_reachability(&redis::address(), Reachability::Welcome);
        }
        if self.scenario.reloads {
            self.house.restore(&self.setup, &self.ledger);
        }
        self.finish_clients();
        // A call that hangs ends by its time-outs, even where nobody could tell that its client has left.
        let calls = || self.house.cores.iter().all(|core| core.core().counters.flights.get() == 0);
        assert_eq!(self.world.run_until(PATIENCE_MS, calls), Ended::Met, "every call ends: {}", self.house.describe());
    }

    /// Runs until no client waits any more, and checks the node on the way.
    pub fn finish_clients(&mut self) {
        let mut checks = 0;
        let over = self.world.run_until(PATIENCE_MS, || {
            checks += 1;
            self.house.watch(self.world);
            if checks % 64 == 0 {
                self.house.check();
                self.check_removed();
            }
            self.clients.iter().all(|&client| !self.world.is_live(client))
        });
        if over != Ended::Met {
            println!("{}\n{}", self.house.describe(), self.world.describe_sockets());
            self.ledger.look(|book| println!("{:#?}", book.calls));
        }
        let open = self.ledger.look(|book| {
            let open = book.requests.iter().filter(|(_, request)| request.outcome == Outcome::Open);
            open.map(|(id, request)| format!("\n{id} {request:?}")).collect::<String>()
        });
        assert_eq!(over, Ended::Met, "every exchange ends: {open}");
    }

    /// Requests of every kind succeed again, whatever has been.
    pub fn fresh_requests(&mut self) {
        let before = self.ledger.look(|book| book.requests.len());
        let scenario = Scenario {
            odd_clients: false,
            directives: false,
            probe_requests: false,
            hurried: false,
            one_form: false,
            ..self.scenario
        };
        let habit = Habit { pipelined: 1, resets: false, ..habit(&scenario, &self.setup, self.world) };
        let wishes = (0..8).map(|_| wish(&scenario, &self.setup, self.form)).collect();
        self.invite(habit, wishes);
        self.finish_clients();
        self.ledger.look(|book| {
            for request in book.requests.values().filter(|request| request.number >= before) {
                assert!(matches!(request.outcome, Outcome::Answer { .. }), "a fresh request succeeds: {request:?}");
            }
        });
    }

    pub fn drain(&mut self) {
        if !std::mem::replace(&mut self.drained, true) {
            self.house.drain(self.world);
        }
    }

    /// The drain: what idles is let go, what was taken has been given back, and nothing is left of the node.
    pub fn end(mut self) -> Outline {
        self.drain();
        let world = self.world;
        let rest = world.run_until(60_000, || self.house.cores.iter().all(|core| core.core().is_idle()));
        assert_eq!(rest, Ended::Met, "a drained node comes to rest: {}", self.house.describe());
        world.run_ms(4000); // time for what idle cores hold to go back
        self.house.check();
        self.house.check_idle();
        if !self.scenario.paused_cores {
            check_over(&self.ledger);
        }
        if self.setup.log && !self.scenario.restarts {
            check_log(&self.ledger, &self.house.logged(world));
        }
        let mut rare = self.before;
        rare.add(&Rare::of(&self.house));
        rare.restored = self.disk.restored();
        rare.crashes = self.crashed;
        rare.spent = self.house.check_limits();
        rare.refusals = self.ledger.look(|book| book.calls.iter().filter(|call| call.refused).count() as u64);
        check_moves(&self.ledger, &self.setup);
        let steps = world.steps();
        self.house.close(world);
        world.run_ms(6000);
        for index in 0..self.setup.cores {
            let place = Place::Core(index);
            if !world.live_tasks(place).is_empty() {
                println!("{}", world.describe_sockets());
            }
            assert_eq!(world.live_tasks(place), Vec::<&Location>::new(), "tasks left on core {index}");
            assert!(world.open_sockets(place).is_empty(), "sockets left on core {index}");
        }
        self.ledger.look(|book| {
            let count =
                |wanted: fn(&Outcome) -> bool| book.requests.values().filter(|asked| wanted(&asked.outcome)).count();
            Outline {
                requests: book.requests.len(),
                answers: count(|outcome| matches!(outcome, Outcome::Answer { .. })),
                hits: book.requests.values().filter(|request| request.cache.as_deref() == Some("HIT")).count(),
                calls: book.calls.len(),
                errors: count(|outcome| matches!(outcome, Outcome::Error { .. } | Outcome::ErrorEvent { .. })),
                cut: count(|outcome| matches!(outcome, Outcome::Cut | Outcome::Nothing)),
                rare,
                steps,
                trace: world.trace(),
            }
        })
    }
}
