//! Callers of one key beside the task that drives its call.

use loom::thread::spawn;

use super::*;
use crate::util::sync::{block_on, explore, explore_up_to};

const NEVER: Duration = Duration::from_secs(3_600);

type Calls = SingleFlight<(), u32, &'static str>;

type Led = Leader<(), u32, &'static str>;

/// A database, whose every read and change is one step.
struct World {
    calls: Arc<Calls>,
    version: AtomicU32,
    drivers: AtomicU32,
}

impl World {
    fn new(stall_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            calls: Arc::new(Calls::new(stall_after)),
            version: AtomicU32::new(0),
            drivers: AtomicU32::new(0),
        })
    }

    fn change(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn load(&self) -> u32 {
        self.version.fetch_add(0, Ordering::AcqRel)
    }

    /// Drives a call, and those that follow it.
    fn drive(self: &Arc<Self>, leader: Led) -> Work {
        let world = Arc::clone(self);
        Work::new(async move {
            let mut next = Some(leader);
            while let Some(leader) = next {
                let others = world.drivers.fetch_add(1, Ordering::AcqRel);
                assert!(
                    others == 0 || leader.call.stall_after.is_zero(),
                    "another drives"
                );
                let proof = leader.send();
                let answer = world.load();
                world.drivers.fetch_sub(1, Ordering::AcqRel);
                next = leader.complete(Completion::Answered { answer, proof });
            }
        })
    }

    fn look_up(self: &Arc<Self>) -> Result<u32, CallError<&'static str>> {
        block_on(self.calls.run(&(), |leader| self.drive(leader), || {}))
    }

    /// Drives an own call in this thread.
    fn look_up_here(self: &Arc<Self>) -> Waited<u32, &'static str> {
        let waiter = match self.calls.join(&()) {
            Joined::New(leader, waiter) => {
                block_on(self.drive(leader));
                waiter
            }
            Joined::Existing(waiter) => waiter,
        };
        block_on(waiter.wait())
    }

    fn assert_that_nothing_is_left(&self) {
        assert!(self.calls.shards[0].lock().unwrap().is_empty());
        assert_eq!(self.calls.present[0].load(Ordering::Relaxed), 0);
    }
}

/// N6, and nobody waits for ever: loom finds that all threads wait.
#[test]
fn an_answer_is_not_older_than_its_lookup() {
    explore_up_to(2, || {
        let world = World::new(NEVER);
        let other = Arc::clone(&world);
        let looks = spawn(move || other.look_up());
        world.change();
        assert_eq!(world.look_up(), Ok(1));
        assert!(looks.join().unwrap().is_ok());
    });
}

#[test]
fn who_joins_a_refresh_that_fails_gets_an_answer() {
    explore_up_to(3, || {
        let world = World::new(NEVER);
        let other = Arc::clone(&world);
        let refreshes = spawn(move || {
            if let Some(leader) = other.calls.lead(&()) {
                leader.send();
                if let Some(next) = leader.complete(Completion::Abandoned) {
                    block_on(other.drive(next));
                }
            }
        });
        world.change();
        assert_eq!(world.look_up(), Ok(1));
        refreshes.join().unwrap();
    });
}

#[test]
fn a_driver_that_is_dropped_releases_everybody() {
    explore_up_to(3, || {
        let world = World::new(NEVER);
        let looks = {
            let world = Arc::clone(&world);
            move || {
                let drops = |leader: Led| {
                    Work::new(async move {
                        leader.send();
                    })
                };
                let answer = block_on(world.calls.run(&(), drops, || {}));
                assert_eq!(answer, Err(CallError::Broken));
            }
        };
        let other = spawn(looks.clone());
        looks();
        other.join().unwrap();
        assert!(world.calls.shards[0].lock().unwrap().is_empty());
    });
}

#[test]
fn a_stalled_call_that_ends_leaves_its_successor() {
    explore_up_to(3, || {
        let world = World::new(Duration::ZERO);
        let other = Arc::clone(&world);
        let stalled = world.calls.lead(&()).unwrap();
        let drives = spawn(move || block_on(other.drive(stalled)));
        // It counts as stalled, unless it sends something just then.
        let Joined::New(leader, _) = world.calls.join(&()) else {
            return;
        };
        drives.join().unwrap();
        let is_found = world.calls.shards[0].lock().unwrap().contains_key(&());
        assert!(is_found);
        drop(leader);
        world.assert_that_nothing_is_left();
    });
}

#[test]
fn calls_that_all_count_as_stalled_end_and_leave_nothing() {
    explore_up_to(3, || {
        let world = World::new(Duration::ZERO);
        let other = Arc::clone(&world);
        let looks = spawn(move || other.look_up_here());
        world.change();
        match world.look_up_here() {
            Waited::Served(answer) => assert_eq!(answer, Ok(1)),
            Waited::Next(_) | Waited::Stalled => {}
        }
        looks.join().unwrap();
        world.assert_that_nothing_is_left();
    });
}

#[test]
fn a_call_ends_and_leaves_nothing() {
    explore_up_to(3, || {
        let world = World::new(NEVER);
        let other = Arc::clone(&world);
        let looks = spawn(move || other.look_up_here());
        world.look_up_here();
        looks.join().unwrap();
        world.assert_that_nothing_is_left();
    });
}

#[test]
fn one_lookup_of_a_key_is_alone() {
    explore(|| {
        let world = World::new(NEVER);
        let looks = {
            let world = Arc::clone(&world);
            move || {
                if let Some(_alone) = world.calls.begin_alone(&()) {
                    assert_eq!(world.drivers.fetch_add(1, Ordering::AcqRel), 0);
                    world.drivers.fetch_sub(1, Ordering::AcqRel);
                }
            }
        };
        let other = spawn(looks.clone());
        looks();
        other.join().unwrap();
        world.assert_that_nothing_is_left();
    });
}
