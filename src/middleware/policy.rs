//! Policies: whether a valid token may be used for a request.

use std::sync::Arc;

use crate::cache::cached_token::CachedApiToken;
use crate::middleware::rejection::Rejection;
use crate::middleware::request_head::RequestHead;

/// A policy of a layer.
pub(crate) type Policy<M> =
    Arc<dyn Fn(&CachedApiToken<M>, &RequestHead<'_>) -> Result<(), Rejection> + Send + Sync>;
