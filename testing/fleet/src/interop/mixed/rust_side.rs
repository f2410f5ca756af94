//! Our nodes: engines in the shared layout with a local level, each with a few tasks that send requests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use test_support::{Dice, RedisServer};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tower_api_token::store::KeyLayout;
use tower_api_token::{Answer, ApiTokenCache, Lookup, Origin, TokenRecord};

use super::books::Books;
use super::clock::now;
use super::judge::{Answered, Said};
use super::ledger::{By, Found, Id, Key, SCOPES, tenant_name, tenant_of, token_text};
use super::settings::{BOUND, TOKENS, database_pause};
use crate::interop::database::patient;

/// The number of tasks per engine, so that some requests share a call.
const ASKERS: u64 = 4;

/// The longest pause between two requests of a task.
const PAUSE: Duration = Duration::from_millis(8);

/// All engines.
#[derive(Debug)]
pub struct RustSide {
    engines: Vec<ApiTokenCache>,
    books: Arc<Books>,
}

impl RustSide {
    /// Creates this number of engines with one Redis.
    pub fn new(redis: &RedisServer, books: &Arc<Books>, engines: usize) -> Self {
        let engines = (0..engines)
            .map(|engine| {
                let (books, loads) = (Arc::clone(books), AtomicU64::new(0));
                let loader = move |lookup: Lookup| {
                    let stream = loads.fetch_add(1, Ordering::Relaxed);
                    let dice = Dice::new(engine as u64, stream);
                    load(Arc::clone(&books), dice, lookup)
                };
                ApiTokenCache::builder(loader)
                    .store(patient(redis).key_layout(KeyLayout::dify()))
                    .token_types(["app"])
                    .max_staleness(BOUND)
                    .build()
                    .expect("the settings are good")
            })
            .collect();
        let books = Arc::clone(books);
        Self { engines, books }
    }

    /// Returns one of the engines.
    pub fn engine(&self, dice: &mut Dice) -> &ApiTokenCache {
        &self.engines[dice.below(self.engines.len())]
    }

    /// Returns the number of rejected fills of all engines.
    pub fn fills_refused(&self) -> u64 {
        let refused = |engine: &ApiTokenCache| engine.stats().fills_refused;
        self.engines.iter().map(refused).sum()
    }

    /// Starts the tasks, which send requests until the run ends.
    pub fn ask(&self, runtime: &Runtime, seed: u64) -> Vec<JoinHandle<()>> {
        let mut asking = Vec::new();
        for (number, engine) in self.engines.iter().enumerate() {
            for asker in 0..ASKERS {
                let dice = Dice::new(seed, 1_000 + number as u64 * ASKERS + asker);
                let (engine, books) = (engine.clone(), Arc::clone(&self.books));
                asking.push(runtime.spawn(keep_asking(engine, books, dice)));
            }
        }
        asking
    }
}

async fn load(
    books: Arc<Books>,
    mut dice: Dice,
    lookup: Lookup,
) -> io::Result<Option<TokenRecord>> {
    let key =
        Key::of(lookup.token().expose(), lookup.token_type()).ok_or(io::ErrorKind::NotFound)?;
    tokio::time::sleep(database_pause(&mut dice)).await;
    let (load, found) = books.ledger().load(key, By::Rust, now());
    tokio::time::sleep(database_pause(&mut dice)).await;
    books.ledger().answered(load, now());
    let tenant = tenant_name(tenant_of(key.token));
    let record = |id: Id| {
        TokenRecord::new(id.to_string())
            .token_type("app")
            .tenant_id(tenant)
    };
    Ok(match found {
        Found::Record(id) => Some(record(id)),
        Found::Absent => None,
        Found::Denied(id) => Some(record(id).denied(id.to_string())),
    })
}

async fn keep_asking(engine: ApiTokenCache, books: Arc<Books>, mut dice: Dice) {
    while !books.is_stopping() {
        let key = Key {
            token: dice.below(TOKENS),
            scope: dice.below(SCOPES.len()),
        };
        let text = token_text(key.token);
        let start = now();
        let answer = match SCOPES[key.scope] {
            Some(scope) => engine.authenticate_typed(&text, scope).await,
            None => engine.authenticate(&text).await,
        };
        let end = now();
        let (said, local) = match answer {
            Ok(Answer::Valid(token)) => {
                let id = token.id().parse().expect("a record of ours or of Python's");
                (Said::Found(id), token.origin() == Origin::Local)
            }
            // These have no origin.
            Ok(Answer::Denied(denial)) => {
                let id = denial.reason().parse().expect("a denial of ours");
                (Said::Denied(id), true)
            }
            Ok(_) => (Said::Absent, true),
            Err(_) => (Said::Unavailable, true),
        };
        books.answered(Answered {
            by: By::Rust,
            local,
            key,
            start,
            end,
            said,
        });
        tokio::time::sleep(dice.up_to(PAUSE)).await;
    }
}
