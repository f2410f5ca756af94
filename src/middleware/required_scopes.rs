//! The OAuth scopes that a layer requires.

use std::sync::Arc;

use crate::cache::cached_token::CachedApiToken;
use crate::error::ConfigError;
use crate::middleware::rejection::{Rejection, check_scope};

/// One or more scopes, all of which a token must have.
#[derive(Debug, Clone)]
pub(crate) struct RequiredScopes {
    /// With a space between them.
    text: Arc<str>,
}

impl RequiredScopes {
    /// # Errors
    /// Returns an error that names the setting if `scopes` are not scopes.
    pub(crate) fn new(setting: &'static str, scopes: &str) -> Result<Self, ConfigError> {
        check_scope(setting, scopes)?;
        let text = scopes.into();
        Ok(Self { text })
    }

    /// Returns these and `others`.
    pub(crate) fn and(&self, others: &Self) -> Self {
        let new = others.text.split(' ');
        let new = new.filter(|scope| !self.text.split(' ').any(|own| own == *scope));
        let all: Vec<&str> = self.text.split(' ').chain(new).collect();
        let text = all.join(" ").into();
        Self { text }
    }

    /// # Errors
    /// Returns the rejection if `token` lacks one of the scopes. It names all of them: the client needs a token that
    /// has them.
    pub(crate) fn check<M>(&self, token: &CachedApiToken<M>) -> Result<(), Rejection> {
        // guard: H37
        if self.text.split(' ').all(|scope| token.has_scope(scope)) {
            return Ok(());
        }
        let scope = Some(Arc::clone(&self.text));
        Err(Rejection::InsufficientScope { scope })
    }
}
