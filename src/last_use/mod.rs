//! When tokens were last used: noted on the request's way, written off it.
//!
//! ```text
//! request ── note ──► pending (this process, bounded) ──► the store's copy, for other instances
//!             once a token and interval      └──────────► LastUseSink: your database, in batches
//! ```
//!
//! Each instance takes its own uses to the database. The store is no queue between the two: what it
//! gets is a copy, from which [`effective_last_used_at`](crate::ApiTokenCache::effective_last_used_at)
//! of another instance learns of a use before that instance's cached record does. Why:
//!
//! * A use is pending in one place only, with whoever saw it, so any number of instances flush at once
//!   and each use is written once, without leases on work and without an index to find it by.
//! * Nothing of ours deletes from the store: the copy ends by itself after an hour, when every cached
//!   record has been read anew. So no use is lost between a read of the store and a deletion, neither
//!   one of ours nor one of the Python service's, which shares the keys of the
//!   [seed layout](crate::store::KeyLayout::seed) and has a flusher of its own.
//! * It works in every layout: with a pepper no key could be led back to a row.
//!
//! The price: what a process has not flushed dies with it. It is bounded by the
//! [flush interval](LastUseRecorder::flush_interval) while the sink works.
//!
//! Within the process, a flush *reads* what is pending, writes it, and then *deletes* each use only if
//! it is still the one that was written: a newer one that came in between stays for the next flush.
//! What failed stays too. A write may be repeated, after an error whose reply was lost, and times of
//! several instances arrive in any order: the sink's statement goes forward only
//! (`last_used_at IS NULL OR last_used_at < new`), which makes both harmless.

mod pending;
mod recorder;
mod settings;
mod sink;
mod turn;

pub(crate) use recorder::{Recorder, Used};
pub use settings::LastUseRecorder;
pub use sink::{LastUse, LastUseSink};
