//! Reading tokens from requests, and removing them.

mod cookie;
mod grammar;
mod place;
mod presented;
mod query;
pub(crate) mod scheme;
mod source;
mod sources;
pub(crate) mod strip;

pub(crate) use grammar::Limits;
pub(crate) use presented::Presented;
pub use source::TokenSource;
pub(crate) use sources::Sources;
