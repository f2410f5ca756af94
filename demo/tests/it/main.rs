//! The demo server as its users have it: the real binary, spoken to by HTTP, on real databases and
//! a real Redis.

mod administration;
mod answer;
mod browser;
mod configuration;
mod connections;
mod database;
mod deployments;
mod last_use;
mod live;
mod live_page;
mod openapi;
mod operation;
mod ops;
mod outage;
mod rotation;
mod secrets;
mod seed_layout;
mod server;
mod spans;
mod token_format;
mod token_list;
mod transcript;
