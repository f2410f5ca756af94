//! Both sides under load on one Redis, and an oracle that measures how long each accepts revoked tokens.
//!
//! The shared database numbers every load. The id of every record contains that number, and the versions of the
//! token and the tenant that were read ([`Id`](ledger::Id)). So every answer identifies the load that it is based
//! on, and the cause of a late answer is known ([`judge`]).
//!
//! | module | |
//! |---|---|
//! | [`ledger`] | every commit, every completed invalidation, every load with its write |
//! | [`judge`] | judges an answer by the ledger |
//! | [`books`] | the shared state: the ledger, and answers to be judged |
//! | [`rust_side`], [`python_side`] | the nodes |
//! | [`operator`] | random changes, invalidated from both sides |
//! | [`summary`] | the output of a run |

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

/// The number of tokens, which is small, so that a change meets loads and answers of all nodes.
pub const TOKENS: usize = 24;

/// The number of tenants. A token's tenant does not change.
pub const TENANTS: usize = 4;

/// S of our local levels.
pub const BOUND: Duration = Duration::from_millis(300);

/// The parameters of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The duration.
    pub lasts: Duration,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The number of our engines.
    pub engines: usize,
    /// The Python nodes.
    pub nodes: Vec<Version>,
    /// The sides that invalidate.
    pub executors: Executors,
}

/// Performs a run with a private Redis.
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
            // The interval of judging, which nothing depends on.
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

/// Returns the database's delay before or after it reads: usually short, sometimes long, so that changes happen
/// during loads of both sides.
fn database_pause(dice: &mut Dice) -> Duration {
    match dice.below(100) {
        0..70 => Duration::ZERO,
        70..95 => dice.up_to(Duration::from_millis(15)),
        _ => dice.up_to(Duration::from_millis(250)),
    }
}
