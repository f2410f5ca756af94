//! The example `forward_auth` with a PostgreSQL, by itself and behind real proxies with the settings of the guide.

mod client;
mod database;
mod proxies;
mod service;
mod tap;
mod verifier;
