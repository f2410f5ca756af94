//! Both sides under load on one Redis, and an oracle that tells how long each accepted what was
//! revoked.
//!
//! The shared database gives every load a number, and every record carries it in its id, together
//! with the versions of the token and of the tenant that were read ([`Id`](ledger::Id)). So an answer
//! tells which load it goes back to, whoever loaded, wrote and read it: a late answer has a cause
//! that is known and not guessed ([`judge`]).
//!
//! | module | |
//! |---|---|
//! | [`ledger`] | every commit, every completed invalidation, every load with its write |
//! | [`judge`] | judges one answer by the ledger |
//! | [`books`] | what the parts share: the ledger, and answers that wait to be judged |
//! | [`rust_side`], [`python_side`] | the nodes |
//! | [`operator`] | random changes, invalidated from both sides |
//! | [`summary`] | what is printed |

pub mod books;
pub mod clock;
pub mod judge;
pub mod ledger;
pub mod operator;
pub mod python_side;
pub mod rust_side;
pub mod summary;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use test_support::{Dice, RedisServer};

use crate::interop::python::Version;
use books::Books;
use operator::Executors;
use rust_side::RustSide;
use summary::Summary;

/// How many tokens there are: few, so that a change meets loads and answers of all nodes.
pub const TOKENS: usize = 24;

/// How many tenants; a token stays with one.
pub const TENANTS: usize = 4;

/// S of our local levels.
pub const BOUND: Duration = Duration::from_millis(300);

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For how long.
    pub lasts: Duration,
    /// What decides what is done; not when.
    pub seed: u64,
    /// How many engines of ours.
    pub engines: usize,
    /// The Python nodes.
    pub nodes: Vec<Version>,
    /// Who invalidates.
    pub executors: Executors,
}

/// Runs it on a Redis of its own.
pub fn run(plan: &Plan) -> Summary {
    let redis = RedisServer::start();
    let books = Arc::new(Books::new());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let rust = RustSide::new(&redis, &books, plan.engines);
    let asking = rust.ask(&runtime, plan.seed);
    thread::scope(|scope| {
        for (number, version) in plan.nodes.iter().enumerate() {
            let (books, redis) = (&books, &redis);
            let seed = plan.seed.wrapping_add(number as u64);
            scope.spawn(move || python_side::work(books, redis, *version, seed));
        }
        for number in 0..operator::OPERATORS {
            let (books, redis, rust, runtime) = (&books, &redis, &rust, &runtime);
            scope.spawn(move || {
                operator::work(number, books, redis, rust, runtime.handle(), plan);
            });
        }
        let end = Instant::now() + plan.lasts;
        while Instant::now() < end && !books.is_stopping() {
            // How often what is old enough is judged; nothing waits for it.
            thread::sleep(Duration::from_millis(200));
            books.judge_what_is_settled();
        }
        books.stop();
    });
    runtime.block_on(async {
        for task in asking {
            task.await.expect("an asker does not panic");
        }
    });
    books.judge_the_rest();
    Summary::of(&books, &rust, plan)
}

/// How long the database takes before or after it reads: mostly little, at times much, so that loads of
/// both sides cross changes.
fn database_pause(dice: &mut Dice) -> Duration {
    match dice.below(100) {
        0..70 => Duration::ZERO,
        70..95 => dice.up_to(Duration::from_millis(15)),
        _ => dice.up_to(Duration::from_millis(250)),
    }
}
