//! The driver: Redis, the database, the operator, the workers, the faults, and the verdict.

mod breaker;
mod faults;
mod fleet;
mod operator;
mod plan;
mod redis;
mod summary;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use test_support::Dice;

use self::breaker::Breaker;
use self::fleet::Fleet;
use self::operator::Operator;
pub use self::plan::Plan;
use self::redis::Redis;
pub use self::summary::Summary;
use crate::chaos::books::{Shared, lock};
use crate::chaos::database::{Database, Pace};
use crate::chaos::settings::Mode;

/// How long changes may take to be confirmed after the last fault has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time after the last change, long enough for every answer to have the newest state.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Performs a run.
///
/// # Errors
/// Returns an error if a part could not be started.
pub fn run(plan: &Plan) -> io::Result<Summary> {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let redis = Redis::start(plan.mode);
    let operators_wire = redis.wire();
    let books = Shared::default();
    let pace = Pace::Wild { seed: plan.seed };
    let database = runtime.block_on(Database::start(Arc::clone(&books), pace))?;
    let fleet = Arc::new(Fleet::start(plan, &redis, database.addr(), &books)?);
    let ways = [redis.url(), operators_wire.url.clone()];
    let operator = Operator::new(&books, &fleet, plan.mode, ways, redis.replicas());
    runtime.spawn(Arc::clone(&operator).work(plan.seed));

    let end = began + plan.lasts;
    if plan.mode != Mode::Calm {
        let mut breaker = Breaker {
            mode: plan.mode,
            redis: &redis,
            fleet: &fleet,
            operators_wire: &operators_wire,
            books: &books,
            dice: Dice::new(plan.seed, 2),
        };
        breaker.break_until(end);
    } else {
        thread::sleep(end.saturating_duration_since(Instant::now()));
    }

    operator.end();
    let deadline = Instant::now() + PATIENCE;
    while operator.unconfirmed() > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let unconfirmed = operator.unconfirmed();
    thread::sleep(AFTERWARDS);
    fleet.finish();
    let books = lock(&books);
    Ok(Summary::of(
        &books,
        plan,
        began.elapsed(),
        database.loads(),
        unconfirmed,
    ))
}
