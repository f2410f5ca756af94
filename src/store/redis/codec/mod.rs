//! How values are written in Redis.

pub(crate) mod digest;
pub(crate) mod shared;
pub(crate) mod times;
