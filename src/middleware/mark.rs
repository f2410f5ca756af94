//! What a layer leaves in the extensions of a request that it lets pass.

use std::sync::Arc;

use http::Extensions;

use crate::cache::cached_token::{Anonymous, CachedApiToken};
use crate::middleware::authenticator::Authenticator;
use crate::middleware::verification::{UnverifiedToken, Verification};
use crate::token::BearerToken;

impl<M: Send + Sync + 'static> Verification<M> {
    /// Returns what the layer with this metadata type found out, or `None` if the request passed no such layer.
    pub fn from_extensions(extensions: &Extensions) -> Option<Self> {
        // The token first: an inner layer may have verified what an outer one let pass.
        if let Some(token) = extensions.get::<CachedApiToken<M>>() {
            return Some(Self::Verified(token.clone()));
        }
        if let Some(mark) = extensions.get::<Unverified<M>>() {
            return Some(Self::Unverified(mark.token.clone()));
        }
        let is_anonymous = extensions.get::<Anonymous<M>>().is_some();
        is_anonymous.then_some(Self::Anonymous)
    }
}

/// The mark of a request that the layer let pass with a token of another kind.
pub(crate) struct Unverified<M> {
    token: UnverifiedToken,
    /// For the extractor of a verified token, which refuses the request as this layer would.
    #[cfg_attr(not(feature = "axum"), allow(dead_code))]
    pub(crate) authenticator: Arc<Authenticator<M>>,
}

impl<M: Send + Sync + 'static> Unverified<M> {
    pub(crate) fn new(token: BearerToken, authenticator: Arc<Authenticator<M>>) -> Self {
        Self {
            token: UnverifiedToken::new(token),
            authenticator,
        }
    }

    /// Inserts the mark. That of a token was removed before.
    pub(crate) fn insert(self, extensions: &mut Extensions) {
        extensions.insert(self);
    }
}

impl<M> Clone for Unverified<M> {
    fn clone(&self) -> Self {
        Self {
            token: self.token.clone(),
            authenticator: Arc::clone(&self.authenticator),
        }
    }
}

/// Marks a request that passes without a token, so that an extractor can tell it from one that no layer handled.
pub(crate) fn anonymous<M: Send + Sync + 'static>(extensions: &mut Extensions) {
    // An outer layer's.
    extensions.remove::<Unverified<M>>();
    extensions.insert(Anonymous::<M>::new());
}
