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
mod plan;
pub mod python_side;
pub mod rust_side;
mod settings;
pub mod summary;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use test_support::RedisServer;

use books::Books;
pub use plan::{Executors, Plan};
use rust_side::RustSide;
pub use settings::BOUND;
use summary::Summary;

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
