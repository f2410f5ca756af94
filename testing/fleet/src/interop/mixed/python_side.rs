//! A running Python node: the thread that simulates its database and processes its reports.

use std::str::FromStr;
use std::thread;

use serde_json::{Value, json};
use test_support::{Dice, RedisServer};

use super::books::Books;
use super::clock::now;
use super::judge::{Answered, Said};
use super::ledger::{By, Found, Id, Key, SCOPES, tenant_name, tenant_of, token_text};
use super::settings::{TOKENS, database_pause};
use crate::interop::python::{self, Message, Python, Query, Version};

/// The mean pause between two requests.
const PAUSE_MS: f64 = 4.0;

/// Serves until the run ends.
pub fn work(books: &Books, redis: &RedisServer, version: Version, seed: u64) {
    let _guard = books.end_with_a_panic();
    let mut node = Python::new(version, redis);
    let mut dice = Dice::new(seed, 2_000);
    let tokens: Vec<String> = (0..TOKENS).map(token_text).collect();
    node.start(&json!({
        "do": "serve",
        "tokens": tokens,
        "scopes": SCOPES,
        "seed": seed,
        "pause_ms": PAUSE_MS,
    }));
    let mut told = false;
    loop {
        if books.is_stopping() && !told {
            node.start(&json!({ "do": "stop" }));
            told = true;
        }
        match node.hear() {
            Message::Query(query) => answer(books, &mut node, &mut dice, &query),
            Message::Asked(asked) => books.answered(answered(version, &asked)),
            Message::Wrote(wrote) => {
                let load = usize::try_from(wrote.load).expect("a number of ours");
                books.ledger().written(load, wrote.sent, wrote.replied);
            }
            Message::Done(_) => return,
            other => panic!("a serving node said {other:?}"),
        }
    }
}

/// Returns the database's answer, with random delays before and after the read.
fn answer(books: &Books, node: &mut Python, dice: &mut Dice, query: &Query) {
    let key = Key::of(&query.token, query.scope.as_deref()).expect("a token of ours");
    // The delays of a database, not waits for an event.
    thread::sleep(database_pause(dice));
    let by = By::Python(node.version());
    let (load, found) = books.ledger().load(key, by, now());
    thread::sleep(database_pause(dice));
    books.ledger().answered(load, now());
    let row = match found {
        Found::Record(id) => row(key.token, id),
        Found::Absent => Value::Null,
        Found::Denied(id) => {
            node.start(&json!({ "answer": { "denied": id.to_string() } }));
            return;
        }
    };
    node.start(&json!({ "answer": { "row": row, "load": load } }));
}

fn row(token: usize, id: Id) -> Value {
    json!({
        "id": id.to_string(),
        "app_id": null,
        "tenant_id": tenant_name(tenant_of(token)),
        "type": "app",
        "token": token_text(token),
        "last_used_at": null,
        "created_at": "2026-01-02T03:04:05.000006",
    })
}

fn answered(version: Version, asked: &python::Asked) -> Answered {
    let id = |text: &str| Id::from_str(text).expect("a record of ours or of Python's");
    Answered {
        by: By::Python(version),
        local: false,
        key: Key::of(&asked.token, asked.scope.as_deref()).expect("a token of ours"),
        start: asked.start,
        end: asked.end,
        said: match &asked.said {
            python::Said::Found(text) => Said::Found(id(text)),
            python::Said::Absent => Said::Absent,
            python::Said::Denied(text) => Said::Denied(id(text)),
            python::Said::Unavailable => Said::Unavailable,
        },
    }
}
