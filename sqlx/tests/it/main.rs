//! The crate on SQLite and PostgreSQL, with a real Redis where it matters.

mod admin;
mod cache;
mod cli;
mod cli_changes;
mod cli_outages;
mod cli_reading;
mod cli_secrets;
mod contract;
mod crash;
mod from_demo;
mod last_use;
mod list;
mod load;
mod migrations;
mod operations;
mod operators;
mod outbox;
mod outbox_failures;
mod outbox_task;
mod own_tenant;
mod races;
mod rotation;
mod tenants;
mod world;

/// Makes a test for each database of an async function that takes a [`World`](world::World).
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::world::World::sqlite()).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::world::World::postgres()).await;
            })*
        }
    };
}
use on_both;
