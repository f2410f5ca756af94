//! Random changes, each committed and then invalidated by one side or the other.

use std::future::IntoFuture;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Dice, RedisServer};
use tokio::runtime::Handle;

use super::books::Books;
use super::clock::now;
use super::ledger::{By, Completed, SCOPES, Target, tenant_name, token_text};
use super::plan::Plan;
use super::rust_side::RustSide;
use super::settings::{TENANTS, TOKENS};
use crate::interop::python::Python;

/// The number of operators, each with its own targets.
pub const OPERATORS: usize = 2;

/// The longest pause between two changes of one operator.
const PAUSE: Duration = Duration::from_millis(160);

/// Changes and invalidates until the run ends.
pub fn work(
    number: usize,
    books: &Books,
    redis: &RedisServer,
    rust: &RustSide,
    runtime: &Handle,
    plan: &Plan,
) {
    let _guard = books.end_with_a_panic();
    let mut dice = Dice::new(plan.seed, 3_000 + number as u64);
    let versions = plan.executors.python.iter();
    let mut pythons: Vec<Python> = versions
        .map(|version| Python::new(*version, redis))
        .collect();
    while !books.is_stopping() {
        let target = if dice.percent(75) {
            Target::Token(number + OPERATORS * dice.below(TOKENS / OPERATORS))
        } else {
            Target::Tenant(number + OPERATORS * dice.below(TENANTS / OPERATORS))
        };
        // Sometimes of one type only, so that the token's entry of the other is not judged by it.
        let only_app = matches!(target, Target::Token(_)) && dice.percent(25);
        let version = {
            let mut ledger = books.ledger();
            let history = ledger.of(target);
            history.states.push(dice.percent(65));
            history.newest()
        };
        let started = now();
        let executor = dice.below(usize::from(plan.executors.rust) + pythons.len());
        let by = match pythons.get_mut(executor) {
            Some(python) => by_python(python, target, only_app),
            None => {
                let engine = rust.engine(&mut dice);
                runtime.block_on(by_us(engine, target, only_app));
                By::Rust
            }
        };
        books.ledger().of(target).completed.push(Completed {
            version,
            started,
            returned: now(),
            by,
            scope: only_app.then_some(0),
        });
        // Limits the rate of changes.
        thread::sleep(dice.up_to(PAUSE));
    }
}

/// Invalidates, and repeats that until it is confirmed.
async fn by_us(engine: &tower_api_token::ApiTokenCache, target: Target, only_app: bool) {
    loop {
        let invalidation = match target {
            Target::Token(token) => engine.invalidate(&token_text(token)),
            Target::Tenant(tenant) => engine.invalidate_tenant(&tenant_name(tenant)),
        };
        let invalidation = match SCOPES[0] {
            Some(scope) if only_app => invalidation.of_type(scope),
            _ => invalidation,
        };
        if invalidation.into_future().await.is_ok() {
            return;
        }
    }
}

fn by_python(python: &mut Python, target: Target, only_app: bool) -> By {
    let command = command(target, only_app);
    while python.try_run(&command).is_err() {}
    By::Python(python.version())
}

fn command(target: Target, only_app: bool) -> Value {
    match target {
        Target::Token(token) if only_app => {
            json!({ "do": "delete", "token": token_text(token), "scope": SCOPES[0] })
        }
        Target::Token(token) => json!({ "do": "delete_all_scopes", "token": token_text(token) }),
        Target::Tenant(tenant) => {
            json!({ "do": "invalidate_tenant", "tenant": tenant_name(tenant) })
        }
    }
}
