//! For tests: fixed tokens, a clock that is set by hand, and points at which a lookup can be held.
//!
//! Behind the feature `test-util`; nothing of it is part of the stable interface. Enable the feature in
//! `[dev-dependencies]` alone.
//!
//! A handler is tested with [`verified`], and a whole router with [`fixed_cache`]; neither needs a loader. What the crate
//! relies on in your own code, a loader and functions that change tokens, is tested by [`Contract`](contract::Contract).
//!
//! With a clock that is set by hand, a test of an hour's expiry takes one call:
//!
//! ```
//! use std::time::Duration;
//! use tower_api_token::test_util::ManualClock;
//! use tower_api_token::{InvalidReason, Answer, ApiTokenCache, Lookup, TokenRecord};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = ManualClock::new();
//! let end = clock.now() + Duration::from_secs(3600);
//! let loader = move |_: Lookup| async move {
//!     Ok::<_, std::io::Error>(Some(TokenRecord::new("tok-1").token_type("app").expires_at(end)))
//! };
//! let cache = ApiTokenCache::builder(loader).clock(clock.clone()).build()?;
//!
//! let answer = cache.authenticate_typed("app-0123456789abcdef", "app").await?;
//! assert!(matches!(answer, Answer::Valid(_)));
//! clock.advance(Duration::from_secs(3600));
//! let answer = cache.authenticate_typed("app-0123456789abcdef", "app").await?;
//! assert!(matches!(answer, Answer::Invalid(InvalidReason::Expired)));
//! # Ok(())
//! # }
//! ```
//!
//! A sync point holds a lookup in the middle of a race. Here a token is revoked between its load and its fill,
//! and the fill is refused.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use tokio::sync::Notify;
//! use tower_api_token::test_util::{SyncPoints, SyncPoint};
//! use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let revoked = Arc::new(AtomicBool::new(false));
//! let row = Arc::clone(&revoked);
//! let loader = move |_: Lookup| {
//!     let good = !row.load(Ordering::SeqCst);
//!     async move { Ok::<_, std::io::Error>(good.then(|| TokenRecord::new("tok-1").token_type("app"))) }
//! };
//! let (loaded, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
//! let gates = (Arc::clone(&loaded), Arc::clone(&go_on));
//! let first = AtomicBool::new(true);
//! let sync_points = SyncPoints::new(move |point| {
//!     let held = matches!(point, SyncPoint::Loaded) && first.swap(false, Ordering::SeqCst);
//!     let (loaded, go_on) = gates.clone();
//!     async move {
//!         if held {
//!             loaded.notify_one();
//!             go_on.notified().await;
//!         }
//!     }
//! });
//! let cache = ApiTokenCache::builder(loader).sync_points(sync_points).build()?;
//!
//! let asker = cache.clone();
//! let slow = tokio::spawn(async move { asker.authenticate_typed("app-0123456789abcdef", "app").await });
//! loaded.notified().await;
//! revoked.store(true, Ordering::SeqCst);
//! cache.invalidate("app-0123456789abcdef").await?;
//! go_on.notify_one();
//! // It began before the revocation, and may get either answer. Nobody else does:
//! slow.await??;
//! assert_eq!(cache.stats().fills_refused, 1);
//! let later = cache.authenticate_typed("app-0123456789abcdef", "app").await?;
//! assert!(later.valid().is_none());
//! # Ok(())
//! # }
//! ```

pub mod contract;
mod fixed;

pub use crate::cache::{SyncPoint, SyncPoints};
pub use crate::clock::ManualClock;
pub use fixed::{fixed_cache, verified};
