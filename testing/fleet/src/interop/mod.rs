//! The other side of `KeyLayout::seed`: a Python node on the same Redis.
//!
//! `python/seed` is a program of our own that behaves as the published `api_token_cache.py` does, in
//! its first version, its second and its current one, through the real packages `redis` and `pydantic`. The
//! tests drive it line by line, and play its database; so every order of events is made, not hoped
//! for. The mixed run puts nodes of both sides under load together.
//!
//! | module | |
//! |---|---|
//! | [`python`] | one Python node, as a test holds it |
//! | [`database`] | rows for both sides, counted loads, a gate |
//! | [`mixed`] | both sides under load, and an oracle that tells how long a revoked token was accepted |

pub mod database;
pub mod mixed;
pub mod python;
