//! Reading tokens from requests, and removing them.

mod basic;
mod cookie;
mod grammar;
mod query;
pub(crate) mod scheme;
mod sources;
mod token_source;
mod websocket;

pub(crate) use grammar::{Limits, Presented};
pub(crate) use sources::Sources;
pub use token_source::{MultipleTokens, TokenSource};
