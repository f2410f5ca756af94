//! Guides, and the documents for those who change the crate.
//!
//! | to | read |
//! |---|---|
//! | make, keep and revoke keys | [tower-api-token-sqlx](https://docs.rs/tower-api-token-sqlx) |
//! | adopt the crate with the keys that you have | [`existing_table`] |
//! | use it with axum, tonic, poem, actix-web and others | [`frameworks`] |
//! | serve OpenAI's SDKs | [`openai`] |
//! | know what an answer means and when a change takes effect | [`semantics`], and the words in [`glossary`] |
//! | set up Redis, size it, start, stop and upgrade | [`deployment`] |
//! | verify tokens for services behind nginx, Caddy, HAProxy, Traefik or Envoy | [`forward_auth`] |
//! | test handlers and routes | [`testing`] |
//! | create, store and revoke tokens safely | [`security`], and what is protected in [`security_policy`] |
//! | see what happens when Redis or the database fail | [`failures`] |
//! | monitor it | [`metrics`] |
//! | know when a token was last used | [`last_use`] |
//! | know what it costs | [`performance`] |
//! | move from Dify's Python cache, route by route | [`migrating_from_dify`] |
//! | change the crate | [`architecture`], [`protocol`], [`tracking`], [`wire`], [`http`] |
//!
//! This module exists in the documentation only.

// In the repository the guides are Markdown files that link to each other. Of two definitions of a link the first
// counts, so that `links.md`, which precedes each text, points to the modules instead.

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/existing-table.md")]
pub mod existing_table {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/frameworks.md")]
pub mod frameworks {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/openai.md")]
pub mod openai {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/semantics.md")]
pub mod semantics {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/glossary.md")]
pub mod glossary {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/deployment.md")]
pub mod deployment {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/forward-auth.md")]
pub mod forward_auth {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/testing.md")]
pub mod testing {}

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
#[doc = include_str!("../../docs/last-use.md")]
pub mod last_use {}

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
#[doc = include_str!("../../docs/internals/tracking.md")]
pub mod tracking {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/internals/wire.md")]
pub mod wire {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/http.md")]
pub mod http {}
