//! Reading tokens from requests, and removing them.

pub(crate) mod bearer;
mod cookie;
mod presented;
mod query;
mod source;
mod sources;
pub(crate) mod strip;

pub(crate) use bearer::Limits;
pub(crate) use presented::Presented;
pub use source::TokenSource;
pub(crate) use sources::Sources;
