//! The other side of `KeyLayout::dify`: a Python node on the same Redis.
//!
//! `python/dify` is a program of our own that behaves like the published `api_token_cache.py` in its first, second
//! and current version, with the real packages `redis` and `pydantic`. The tests control it line by line, and
//! simulate its database, so they determine the order of events. The mixed run puts nodes of both sides under load.
//!
//! | module | |
//! |---|---|
//! | [`python`] | a Python node, controlled by a test |
//! | [`database`] | rows for both sides, counted loads, a gate |
//! | [`mixed`] | both sides under load, and an oracle that measures how long a revoked token is accepted |

pub mod database;
pub mod mixed;
pub mod python;
