//! When tokens were last used: noted on the request path, and written to your database off it.
//!
//! ```text
//! request ── note ──► pending (this process, bounded) ──► the store's copy, for other instances
//!             once per token and interval    └──────────► LastUseSink: your database, in batches
//! ```
//!
//! Each instance writes its own uses to the database. The store is not a queue between the two: it gets a copy,
//! from which [`last_used_at`](crate::ApiTokenCache::last_used_at) of another instance learns of a use before
//! that instance's cached record does. The reasons:
//!
//! * A use is pending in one place only, in the process that saw it. So any number of instances can flush at the
//!   same time and each use is written once, without leases on work and without an index to find it by.
//! * This crate never deletes these keys from the store: the copy expires after an hour, when every cached record
//!   has been loaded again. So no use is lost between a read and a deletion, neither ours nor that of Dify's
//!   service, which shares the keys of its layout and has a flusher of its own.
//! * It works in every layout: with a pepper, a key cannot be traced back to a row.
//!
//! The price: what a process has not flushed is lost if it is killed. The
//! [flush interval](LastUseRecorder::flush_interval) bounds this while the sink works.
//!
//! Within the process, a flush *reads* what is pending, writes it, and then *removes* each use only if it is still
//! the one that was written: a newer one stays for the next flush. What failed stays too. A write may be repeated,
//! after an error whose reply was lost, and the times of several instances arrive in any order. Both are harmless,
//! because the sink's statement only moves a time forward (`last_used_at IS NULL OR last_used_at < new`).

mod pending;
mod recorder;
mod settings;
mod sink;
mod turn;

pub(crate) use recorder::{Recorder, Used};
pub use settings::LastUseRecorder;
pub use sink::{LastUse, LastUseSink};
