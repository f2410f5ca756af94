//! The cost of each fault: about 500 requests per second for 200 known tokens, with the default settings and
//! without a local level, so that every request depends on Redis. docs/failures.md has the table that this
//! prints.
//!
//! `cargo bench --bench outages --all-features` takes less than four minutes. A word after `--` selects the
//! faults whose names contain it.

mod database;
mod db;
mod deployments;
mod load;
mod row;
mod server;
mod special;
mod world;

use tokio::time::Instant;

use row::Row;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let words = std::env::args().skip(1);
    let chosen = Chosen(words.filter(|word| !word.starts_with('-')).collect());
    let start = Instant::now();
    println!("{}", Row::HEAD);
    server::breaks(&chosen).await;
    server::refuses(&chosen).await;
    deployments::lose_masters(&chosen).await;
    database::breaks(&chosen).await;
    special::run(&chosen).await;
    println!("{:.0} s in all", start.elapsed().as_secs_f64());
}

/// The faults that the command line selects, or all.
struct Chosen(Vec<String>);

impl Chosen {
    async fn run(&self, name: &'static str, fault: impl AsyncFnOnce(&'static str)) {
        if self.0.is_empty() || self.0.iter().any(|word| name.contains(word)) {
            fault(name).await;
        }
    }
}
