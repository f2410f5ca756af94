//! Whether a good token may do what it is presented for.

use std::sync::Arc;

use http::{Extensions, HeaderMap, Method, Request, Uri};

use crate::cache::cached_token::CachedApiToken;
use crate::error::ConfigError;

/// What a layer keeps of a policy.
pub(crate) type Policy<M> = Arc<
    dyn Fn(&CachedApiToken<M>, &PolicyRequest<'_>) -> Result<(), InsufficientScope> + Send + Sync,
>;

/// The head of the request that a policy decides on, as the inner service would see it.
///
/// ```
/// use tower_api_token::{CachedApiToken, InsufficientScope, PolicyRequest};
///
/// /// For [`with_policy`](tower_api_token::ApiTokenLayer::with_policy).
/// fn read_only(_: &CachedApiToken, request: &PolicyRequest<'_>) -> Result<(), InsufficientScope> {
///     if request.method().is_safe() {
///         Ok(())
///     } else {
///         Err(InsufficientScope::new())
///     }
/// }
/// # let _ = read_only;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PolicyRequest<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> PolicyRequest<'a> {
    pub(crate) fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// The method.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// The URI, without a token that was in its query. Inside of a nested router it is without the prefix
    /// too, and how a path can be spelled is the router's to know: for what depends on the route, put a
    /// layer of its own around the route, on the same cache.
    pub fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The headers.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// What layers outside of this one put there; the token itself is not there yet.
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

/// A policy's refusal of a good token: 403 with `error="insufficient_scope"` (RFC 6750 section 3.1),
/// over gRPC `PERMISSION_DENIED`.
///
/// Made when the policy is, and cloned for each refusal: a clone costs a reference count.
///
/// ```
/// use tower_api_token::InsufficientScope;
///
/// let needs = InsufficientScope::naming("orders:write")?;
/// assert_eq!(needs.scope(), Some("orders:write"));
/// assert!(InsufficientScope::naming("orders,write\n").is_err());
/// # Ok::<(), tower_api_token::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InsufficientScope {
    scope: Option<Arc<str>>,
}

impl InsufficientScope {
    /// Does not say what would be needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the scope that would be needed: one or more words, with a space between them (RFC 6749
    /// section 3.3). The challenge then says `scope="…"`.
    ///
    /// # Errors
    /// It is no such list: a word is visible ASCII without `"` and `\`.
    pub fn naming(scope: &str) -> Result<Self, ConfigError> {
        let scope = Some(scope_list(scope)?.into());
        Ok(Self { scope })
    }

    /// The scope that would be needed, if it is named.
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }
}

/// `scope = scope-token *( SP scope-token )`, `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`
pub(crate) fn scope_list(text: &str) -> Result<&str, ConfigError> {
    let is_good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_good);
    if !text.split(' ').all(is_word) {
        let message = format!("{text:?} is no list of OAuth scopes (RFC 6749 section 3.3)");
        return Err(ConfigError::new(message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_words_with_single_spaces_between_them() {
        for good in ["a", "orders:write", "a b c", "https://h/a !#[]~"] {
            let refusal = InsufficientScope::naming(good).unwrap();
            assert_eq!(refusal.scope(), Some(good));
        }
        for bad in [
            "", " ", "a ", " a", "a  b", "a\tb", "a\"b", "a\\b", "é", "a\n",
        ] {
            assert!(InsufficientScope::naming(bad).is_err(), "{bad:?}");
        }
        assert_eq!(InsufficientScope::new().scope(), None);
    }
}
