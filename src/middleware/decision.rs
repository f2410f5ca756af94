//! What a layer decided, for audits.

use std::fmt;

use crate::cache::cached_token::CachedApiToken;
use crate::metrics::Origin;
use crate::middleware::rejection::Rejection;

/// What a layer decided about a request; see [`on_decision`](crate::ApiTokenLayerBuilder::on_decision).
#[derive(Clone, Copy)]
pub struct Decision<'a> {
    pub(crate) rejected: Option<(&'a Rejection, &'static str)>,
    pub(crate) token_id: Option<&'a str>,
    pub(crate) tenant_id: Option<&'a str>,
    pub(crate) origin: Option<Origin>,
}

impl<'a> Decision<'a> {
    /// Returns why the request is rejected, or `None` if it is accepted.
    pub fn rejection(&self) -> Option<&'a Rejection> {
        self.rejected.map(|(rejection, _)| rejection)
    }

    /// Returns the reason of a rejection as in [`Stats::rejections`](crate::metrics::Stats::rejections), which tells
    /// `unknown` from `expired`, for example. The client is told less.
    pub fn reason(&self) -> Option<&'static str> {
        self.rejected.map(|(_, reason)| reason)
    }

    /// Returns the id of the token, if it is accepted, denied, or rejected by a policy or for its scopes.
    pub fn token_id(&self) -> Option<&'a str> {
        self.token_id
    }

    /// Returns the tenant that this token belongs to.
    pub fn tenant_id(&self) -> Option<&'a str> {
        self.tenant_id
    }

    /// Returns where the answer about a valid token came from.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    pub(crate) fn accepted<M>(token: &'a CachedApiToken<M>) -> Self {
        Self {
            rejected: None,
            token_id: Some(token.id()),
            tenant_id: token.tenant_id(),
            origin: Some(token.origin()),
        }
    }
}

impl fmt::Debug for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision")
            .field("reason", &self.reason())
            .field("token_id", &self.token_id)
            .field("tenant_id", &self.tenant_id)
            .field("origin", &self.origin)
            .finish()
    }
}

/// Who is told of decisions.
pub(crate) type OnDecision = dyn Fn(&Decision<'_>) + Send + Sync;

/// Whose token was rejected.
pub(crate) struct Caller {
    pub(crate) token_id: String,
    pub(crate) tenant_id: Option<String>,
    pub(crate) origin: Option<Origin>,
}
