//! The layer.

use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use crate::cache::ApiTokenCache;
use crate::error::ConfigError;
use crate::extract::bearer::Limits;
use crate::rejection::{Challenges, MakeRejection, ProblemDetails};
use crate::service::ApiTokenService;
use crate::store::keys::Scope;

/// Verifies the bearer token of each request, puts a [`CachedApiToken`](crate::CachedApiToken) into
/// its extensions, and refuses the request otherwise.
///
/// A CORS preflight (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) passes without a
/// token, because browsers send it without one. Anybody can send such a request: let nothing inside
/// do work for `OPTIONS` but answer preflights.
///
/// ```
/// use tower::{Layer, service_fn};
/// use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, Lookup, TokenRecord, loader_fn};
///
/// # let loader = loader_fn(|_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) });
/// let cache = ApiTokenCache::builder(loader).build()?;
/// let service = ApiTokenLayer::new(cache).with_scope("app").layer(service_fn(
///     |request: http::Request<String>| async move {
///         let caller = request.extensions().get::<CachedApiToken>();
///         Ok::<_, std::convert::Infallible>(http::Response::new(format!("{caller:?}")))
///     },
/// ));
/// # let _ = service;
/// # Ok::<(), tower_api_token::ConfigError>(())
/// ```
pub struct ApiTokenLayer<M = (), R = ProblemDetails> {
    shared: Arc<Shared<M, R>>,
}

/// What a layer and all of its services share.
pub(crate) struct Shared<M, R> {
    pub(crate) cache: ApiTokenCache<M>,
    pub(crate) scope: Scope,
    pub(crate) optional: bool,
    pub(crate) limits: Limits,
    pub(crate) challenges: Challenges,
    pub(crate) rejection: R,
}

impl<M: Send + Sync + 'static> ApiTokenLayer<M> {
    /// A layer that requires a token, of any type, in the `Authorization` header.
    ///
    /// # Panics
    /// When it is applied, if the cache's scopes are [declared](crate::ApiTokenCacheBuilder::scopes)
    /// and no scope (`any`) is not among them: give it one by [`with_scope`](Self::with_scope).
    pub fn new(cache: ApiTokenCache<M>) -> Self {
        let challenges = Challenges::new("api").expect("a realm of three letters");
        Self {
            shared: Arc::new(Shared {
                cache,
                scope: Scope::new(None).expect("no scope is a scope"),
                optional: false,
                limits: Limits::default(),
                challenges,
                rejection: ProblemDetails::new(),
            }),
        }
    }
}

impl<M: Send + Sync + 'static, R: MakeRejection> ApiTokenLayer<M, R> {
    fn with(self, change: impl FnOnce(&mut Shared<M, R>)) -> Self {
        let mut shared = match Arc::try_unwrap(self.shared) {
            Ok(shared) => shared,
            Err(shared) => Shared {
                cache: shared.cache.clone(),
                scope: shared.scope.clone(),
                optional: shared.optional,
                limits: shared.limits.clone(),
                challenges: shared.challenges.clone(),
                rejection: shared.rejection.clone(),
            },
        };
        change(&mut shared);
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Asks for a token of this type. Default: any type.
    ///
    /// # Panics
    /// If it is no scope's name (`A-Z a-z 0-9 - . _ ~`, and none of the reserved names), or is not
    /// among the [declared](crate::ApiTokenCacheBuilder::scopes) ones: a mistake in the program that
    /// shows when it starts. [`try_with_scope`](Self::try_with_scope) returns it instead.
    #[must_use]
    pub fn with_scope(self, scope: &str) -> Self {
        match self.try_with_scope(scope) {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`with_scope`](Self::with_scope), for a scope that comes from a configuration.
    ///
    /// # Errors
    /// It is no scope's name, or not among the declared ones.
    pub fn try_with_scope(self, scope: &str) -> Result<Self, ConfigError> {
        let scope = Scope::new(Some(scope))?;
        if !self.shared.cache.engine.scopes.allows(&scope) {
            return Err(ConfigError::new(format!(
                "the scope {scope:?} is not among the declared ones"
            )));
        }
        Ok(self.with(|shared| shared.scope = scope))
    }

    /// Lets a request without a bearer credential pass, with no token in its extensions. A
    /// credential that is presented still has to be good. Default: required.
    #[must_use]
    pub fn optional(self) -> Self {
        self.with(|shared| shared.optional = true)
    }

    /// The realm of the challenge (RFC 9110 section 11.5). Default: `api`.
    ///
    /// # Panics
    /// If it is empty, or has other characters than visible ASCII and spaces.
    #[must_use]
    pub fn with_realm(self, realm: &str) -> Self {
        match Challenges::new(realm) {
            Ok(challenges) => self.with(|shared| shared.challenges = challenges),
            Err(error) => panic!("{error}"),
        }
    }

    /// How long a token may be, in bytes, both ends included. What is shorter or longer is refused
    /// before it is hashed. Default: 8 to 512.
    ///
    /// # Panics
    /// If the range is empty, or begins at 0: no token would be taken, or none at all would be one.
    #[must_use]
    pub fn with_token_length(self, lengths: std::ops::RangeInclusive<usize>) -> Self {
        assert!(
            !lengths.is_empty() && *lengths.start() > 0,
            "a token's length: from 1 upwards"
        );
        self.with(|shared| {
            shared.limits.min_length = *lengths.start();
            shared.limits.max_length = *lengths.end();
        })
    }

    /// Takes every visible ASCII character in a token, for legacy keys. Default: the alphabet of RFC
    /// 6750's `b64token`.
    #[must_use]
    pub fn with_visible_ascii_tokens(self) -> Self {
        self.with(|shared| shared.limits.visible_ascii = true)
    }

    /// How a refusal is said: a closure `Fn(&Refusal) -> http::Response<T>`, or
    /// [`ProblemDetails::empty`] for no body at all. Default: [`ProblemDetails`].
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, ApiTokenLayer, Lookup, Refusal, TokenRecord, loader_fn};
    /// # let loader = loader_fn(|_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) });
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::new(cache).with_rejection(|refusal: &Refusal| {
    ///     let mut response = http::Response::new(refusal.detail().to_owned());
    ///     *response.status_mut() = refusal.status();
    ///     response
    /// });
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    #[must_use]
    pub fn with_rejection<N: MakeRejection>(self, rejection: N) -> ApiTokenLayer<M, N> {
        let shared = &self.shared;
        ApiTokenLayer {
            shared: Arc::new(Shared {
                cache: shared.cache.clone(),
                scope: shared.scope.clone(),
                optional: shared.optional,
                limits: shared.limits.clone(),
                challenges: shared.challenges.clone(),
                rejection,
            }),
        }
    }
}

impl<S, M, R> Layer<S> for ApiTokenLayer<M, R> {
    type Service = ApiTokenService<S, M, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let shared = &self.shared;
        assert!(
            shared.cache.engine.scopes.allows(&shared.scope),
            "the scope {:?} is not among the cache's declared ones: with_scope is missing",
            shared.scope
        );
        ApiTokenService::new(inner, Arc::clone(&self.shared))
    }
}

impl<M, R> Clone for ApiTokenLayer<M, R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M, R> fmt::Debug for ApiTokenLayer<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenLayer")
            .field("scope", &self.shared.scope)
            .field("optional", &self.shared.optional)
            .finish_non_exhaustive()
    }
}
