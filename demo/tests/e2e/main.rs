//! Tests of the demo server's binary, over HTTP, with real databases and a real Redis.

mod administration;
mod answer;
mod browser;
mod configuration;
mod connections;
mod database;
mod deployments;
mod dify_layout;
mod last_use;
mod live;
mod live_page;
mod openapi;
mod operation;
mod ops;
mod outage;
mod rotation;
mod secrets;
mod server;
#[cfg(target_os = "linux")]
mod soak;
mod spans;
mod token_format;
mod token_list;
mod transcript;
