//! The guides, as they lie in the repository. There is nothing to call here: this module is made for
//! documentation alone.
//!
//! | to | read |
//! |---|---|
//! | know what an answer means, and when a change holds | [`semantics`] |
//! | choose and set up Redis, size, start, stop, upgrade | [`deployment`] |
//! | give out tokens, keep and revoke them safely | [`security`], and the policy with the list of threats, [`security_policy`] |
//! | see what happens when Redis or the database break | [`failures`] |
//! | watch it | [`metrics`] |
//! | know when a token was last used | [`usage`] |
//! | know what it costs | [`performance`] |
//! | move from Dify's Python cache, route by route | [`migrating_from_dify`] |
//! | change the crate | [`architecture`], [`protocol`], [`wire`], [`http`] |
//!
//! In the repository they are Markdown that links to its neighbours. Of two definitions of a link the
//! first counts, so that `links.md`, which comes before each text here, leads to the modules instead.

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/semantics.md")]
pub mod semantics {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/deployment.md")]
pub mod deployment {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/security.md")]
pub mod security {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../SECURITY.md")]
pub mod security_policy {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/failures.md")]
pub mod failures {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/metrics.md")]
pub mod metrics {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/usage.md")]
pub mod usage {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/performance.md")]
pub mod performance {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/migrating-from-dify.md")]
pub mod migrating_from_dify {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../ARCHITECTURE.md")]
pub mod architecture {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/internals/protocol.md")]
pub mod protocol {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/internals/wire.md")]
pub mod wire {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/http.md")]
pub mod http {}
