//! Who called, in the request's own span.

use tracing::Span;

use crate::cache::cached_token::CachedApiToken;

/// The names of fields of the current span.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SpanFields {
    pub(crate) token_id: Option<&'static str>,
    pub(crate) tenant_id: Option<&'static str>,
}

impl SpanFields {
    /// Records into the fields, if the span has them.
    pub(crate) fn record<M>(&self, token: &CachedApiToken<M>) {
        let span = Span::current();
        if let Some(field) = self.token_id {
            span.record(field, token.id());
        }
        if let (Some(field), Some(tenant)) = (self.tenant_id, token.tenant_id()) {
            span.record(field, tenant);
        }
    }
}
