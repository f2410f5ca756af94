//! The cache: lookups through the local level, the store and the loader, and invalidations.
//!
//! | file | holds |
//! |---|---|
//! | `handle`, `builder` | the public interface |
//! | `lookup` | the way of a lookup |
//! | `engine` | the state that lookups and invalidations share |
//! | `single_flight` | calls that concurrent callers share |
//! | `fetch` | the work of a call: read, load, fill |
//! | `local` | answers in this process's memory |
//! | `invalidation`, `attempt`, `unconfirmed` | what makes a change in the database hold |
//! | `canary` | measures how long a revocation takes |
//! | `bounds`, `generations` | what this process knows of other instances' bounds, and of generations |

mod answer;
mod attempt;
mod bounds;
mod builder;
mod bulkhead;
pub(crate) mod cached_token;
mod canary;
pub(crate) mod engine;
pub(crate) mod error;
mod fetch;
mod generations;
mod handle;
mod invalidation;
mod last_uses;
mod local;
mod lookup;
mod lookup_span;
mod revocation;
mod single_flight;
mod sync_points;
mod token_types;
pub(crate) mod ttl;
mod unconfirmed;

pub use answer::Answer;
pub use builder::ApiTokenCacheBuilder;
pub use cached_token::{CachedApiToken, Revoked};
pub use canary::{CanaryError, MeasuredRevocation, RevocationCanary};
pub use error::{InvalidateError, InvalidateErrorKind, Unavailable, UnavailableKind};
pub use handle::ApiTokenCache;
pub use invalidation::{Invalidation, InvalidationReceipt};
#[cfg(feature = "test-util")]
pub use sync_points::{SyncPoint, SyncPoints};
