//! The layer.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tower_layer::Layer;

use crate::cache::ApiTokenCache;
use crate::cache::cached_token::CachedApiToken;
use crate::error::{ConfigError, valid};
use crate::middleware::authenticator::Authenticator;
use crate::middleware::credentials::{Limits, Sources, TokenSource};
use crate::middleware::rejection::{Challenges, ProblemDetails, Rejection, ResponseForRejection};
use crate::middleware::request_head::RequestHead;
use crate::middleware::service::ApiTokenService;
use crate::token::TokenFormat;

/// Verifies the bearer token of each request, puts a [`CachedApiToken`](crate::CachedApiToken) into
/// its extensions, and refuses the request otherwise.
///
/// # Order of layers
///
/// | layer | place | because |
/// |---|---|---|
/// | CORS | outside | it answers preflights, which browsers send without a token and the layer [refuses](Self::allow_cors_preflight); and a page of another origin can read a 401, 403 or 503 only with its headers, which the layer does not add |
/// | tracing | outside | refusals are seen too; the credential is not marked as sensitive there yet, and a token in the query is in the URI: log the path alone, or nothing of a request's head |
/// | limits by address | outside | they spare the look-up |
/// | limits by caller | inside | they need the token |
/// | limits of the body, decompression | inside | a refusal reads no body |
/// | time-outs | outside | they bound the look-up too, which goes on for others |
/// | concurrency limits | either | a request holds its permit while its token is looked up, also inside, where it was readied with one |
///
/// In a `ServiceBuilder` the first is the outermost; of several calls of `Router::layer` the last is.
///
/// ```
/// use std::time::Duration;
///
/// use axum::extract::DefaultBodyLimit;
/// use axum::{Extension, Router, routing::post};
/// use http::{HeaderValue, Method, Request, StatusCode, header};
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken};
/// use tower_http::{cors::CorsLayer, timeout::TimeoutLayer, trace::TraceLayer};
///
/// async fn order(Extension(token): Extension<CachedApiToken>, body: String) -> String {
///     format!("{} orders {body}", token.id())
/// }
///
/// fn app(cache: ApiTokenCache, page: HeaderValue) -> Router {
///     let trace = TraceLayer::new_for_http().make_span_with(|request: &Request<_>| {
///         // The path alone: a token may be in the query, and is in the headers.
///         tracing::info_span!("request", method = %request.method(), path = request.uri().path())
///     });
///     let cors = CorsLayer::new()
///         .allow_origin(page)
///         .allow_methods([Method::POST])
///         .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
///         .expose_headers([header::WWW_AUTHENTICATE]);
///     // Longer than the layer's own 2 s and 3 s, so that its 503 comes first.
///     let time_out =
///         TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(10));
///     let layers = ServiceBuilder::new()
///         .layer(trace)
///         .layer(cors)
///         .layer(time_out)
///         .layer(ApiTokenLayer::new(cache).with_scope("app"))
///         .layer(DefaultBodyLimit::max(64 * 1024));
///     Router::new().route("/v1/orders", post(order)).layer(layers)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use tower_api_token::{Lookup, TokenRecord};
/// # let loader = |lookup: Lookup| async move {
/// #     let known = lookup.token().expose() == "app-0123456789abcdef";
/// #     Ok::<_, std::io::Error>(known.then(|| TokenRecord::new("tok-1").token_type("app")))
/// # };
/// # let cache = ApiTokenCache::builder(loader).build()?;
/// # let app = app(cache, HeaderValue::from_static("https://page.example"));
/// # let request = |token: &str| {
/// #     Request::post("/v1/orders")
/// #         .header("origin", "https://page.example")
/// #         .header("authorization", format!("Bearer {token}"))
/// #         .body(axum::body::Body::from("tea"))
/// # };
/// let refused = app.clone().oneshot(request("app-somebody-made-up")?).await?;
/// assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
/// assert_eq!(refused.headers()["access-control-allow-origin"], "https://page.example");
///
/// let served = app.clone().oneshot(request("app-0123456789abcdef")?).await?;
/// assert_eq!(served.status(), StatusCode::OK);
/// # let preflight = Request::options("/v1/orders")
/// #     .header("origin", "https://page.example")
/// #     .header("access-control-request-method", "POST")
/// #     .body(axum::body::Body::empty())?;
/// # assert_eq!(app.oneshot(preflight).await?.status(), StatusCode::OK);
/// # Ok(())
/// # }
/// ```
///
/// A layer for a second token type inside sees the credential as well, unless the outer one
/// [removes](Self::without_credentials) it, or it is in the query.
///
/// # Without a router
///
/// ```
/// use tower::{Layer, service_fn};
/// use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, Lookup, TokenRecord};
///
/// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
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
pub struct ApiTokenLayer<M = ()> {
    authenticator: Arc<Authenticator<M>>,
}

impl<M: Send + Sync + 'static> ApiTokenLayer<M> {
    /// A layer that requires a token, of any type, in the `Authorization` header.
    ///
    /// # Panics
    /// When it is applied, if the cache [declares](crate::ApiTokenCacheBuilder::token_types) token types: name
    /// one by [`with_scope`](Self::with_scope).
    pub fn new(cache: ApiTokenCache<M>) -> Self {
        let sources = Sources::default();
        Self {
            authenticator: Arc::new(Authenticator {
                cache,
                token_type: None,
                limits: Limits::default(),
                policies: Vec::new(),
                challenges: Challenges::new(sources.schemes()),
                sources,
                grpc_status: true,
                optional: false,
                strips_credentials: false,
                allows_preflight: false,
                rejection_response: Arc::new(ProblemDetails::new()),
            }),
        }
    }
}

impl<M: Send + Sync + 'static> ApiTokenLayer<M> {
    fn with(self, change: impl FnOnce(&mut Authenticator<M>)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.authenticator);
        change(&mut shared);
        Self {
            authenticator: Arc::new(shared),
        }
    }

    fn try_with(
        self,
        change: impl FnOnce(&mut Authenticator<M>) -> Result<(), ConfigError>,
    ) -> Result<Self, ConfigError> {
        let mut changed = Ok(());
        let layer = self.with(|shared| changed = change(shared));
        changed.map(|()| layer)
    }

    /// Asks for a token of this type. Default: any type.
    ///
    /// # Panics
    /// Panics if the cache [declares](crate::ApiTokenCacheBuilder::token_types) other token types and not this
    /// one: a mistake in the program that shows when it starts.
    /// [`try_with_scope`](Self::try_with_scope) returns it instead.
    #[must_use]
    #[track_caller]
    pub fn with_scope(self, token_type: &str) -> Self {
        valid(self.try_with_scope(token_type))
    }

    /// As [`with_scope`](Self::with_scope), for a token type that comes from a configuration.
    ///
    /// # Errors
    /// Returns an error if the cache declares other token types and not this one.
    pub fn try_with_scope(self, token_type: &str) -> Result<Self, ConfigError> {
        let engine = &self.authenticator.cache.engine;
        if !engine.token_types.allow(Some(token_type)) {
            return Err(ConfigError::new(format!(
                "the token type {token_type:?} is not one of the cache's declared ones"
            )));
        }
        Ok(self.with(|shared| shared.token_type = Some(token_type.into())))
    }

    /// Lets a request without a bearer credential pass, with no token in its extensions. A
    /// credential that is presented still has to be good. A cache may keep the anonymous response, which
    /// varies by every header that is looked at. Default: required.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::new(cache).with_scope("app").optional();
    ///
    /// // Inside of it. With the feature `axum` a handler takes `Option<CachedApiToken>` instead, which
    /// // also tells an anonymous request from a layer that is missing.
    /// fn greeting<B>(request: &http::Request<B>) -> String {
    ///     match request.extensions().get::<CachedApiToken>() {
    ///         Some(token) => format!("Hello, {}.", token.id()),
    ///         None => "Hello, whoever you are.".to_owned(),
    ///     }
    /// }
    /// # let _ = (layer, greeting::<()>(&http::Request::new(())));
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    #[must_use]
    pub fn optional(self) -> Self {
        self.with(|shared| shared.optional = true)
    }

    /// The realm of the challenge (RFC 9110 section 11.5). Default: `api`.
    ///
    /// # Panics
    /// If it is empty, or has other characters than visible ASCII and spaces.
    /// [`try_with_realm`](Self::try_with_realm) returns it instead.
    #[must_use]
    #[track_caller]
    pub fn with_realm(self, realm: &str) -> Self {
        valid(self.try_with_realm(realm))
    }

    /// As [`with_realm`](Self::with_realm), for a realm that comes from a configuration.
    ///
    /// # Errors
    /// It is empty, or has other characters than visible ASCII and spaces.
    pub fn try_with_realm(self, realm: &str) -> Result<Self, ConfigError> {
        self.try_with(|shared| shared.challenges.set_realm(realm))
    }

    /// The OAuth scope that the challenge of a 401 names, and that of a policy's refusal that names
    /// none itself (RFC 6750 section 3): words with a space between them. It is told and not checked; a
    /// [policy](Self::with_policy) checks. Default: none.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, ApiTokenLayer, Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// // WWW-Authenticate: Bearer realm="orders", scope="orders:read orders:write", resource_metadata="…"
    /// let layer = ApiTokenLayer::new(cache)
    ///     .with_realm("orders")
    ///     .with_challenge_scope("orders:read orders:write")
    ///     .with_resource_metadata("https://api.example/.well-known/oauth-protected-resource");
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    ///
    /// # Panics
    /// If it is no such list. [`try_with_challenge_scope`](Self::try_with_challenge_scope) returns it
    /// instead.
    #[must_use]
    #[track_caller]
    pub fn with_challenge_scope(self, scope: &str) -> Self {
        valid(self.try_with_challenge_scope(scope))
    }

    /// As [`with_challenge_scope`](Self::with_challenge_scope), for a scope that comes from a
    /// configuration.
    ///
    /// # Errors
    /// It is no list of OAuth scopes (RFC 6749 section 3.3).
    pub fn try_with_challenge_scope(self, scope: &str) -> Result<Self, ConfigError> {
        self.try_with(|shared| shared.challenges.set_scope(scope))
    }

    /// Where the metadata of this protected resource is, for the challenge to say (RFC 9728 section
    /// 5.1): an absolute URL. Default: none.
    ///
    /// # Panics
    /// If it is none. [`try_with_resource_metadata`](Self::try_with_resource_metadata) returns it
    /// instead.
    #[must_use]
    #[track_caller]
    pub fn with_resource_metadata(self, url: &str) -> Self {
        valid(self.try_with_resource_metadata(url))
    }

    /// As [`with_resource_metadata`](Self::with_resource_metadata), for a URL that comes from a
    /// configuration.
    ///
    /// # Errors
    /// It is no absolute URL, or has characters that a URL would have percent-encoded.
    pub fn try_with_resource_metadata(self, url: &str) -> Result<Self, ConfigError> {
        self.try_with(|shared| shared.challenges.set_resource_metadata(url))
    }

    /// Adds an `error_description` to each challenge that has an error, for the developer of a client
    /// (RFC 6750 section 3). It is one text for each error: why a token is not good stays untold.
    /// Default: none.
    #[must_use]
    pub fn with_error_description(self) -> Self {
        self.with(|shared| shared.challenges.describe())
    }

    /// Looks for the token in this place alone. Default: [`TokenSource::authorization`].
    #[must_use]
    pub fn with_source(self, source: TokenSource) -> Self {
        self.with_sources([source])
    }

    /// Looks for the token in these places. A request with a credential in two of them is ambiguous
    /// (400), also when both are the same: a client must not use two (RFC 6750 section 2), and which one
    /// counts is nothing to be guessed.
    ///
    /// # Panics
    /// If there is none, or one of them twice. [`try_with_sources`](Self::try_with_sources) returns it
    /// instead.
    #[must_use]
    #[track_caller]
    pub fn with_sources(self, sources: impl IntoIterator<Item = TokenSource>) -> Self {
        valid(self.try_with_sources(sources))
    }

    /// As [`with_sources`](Self::with_sources), for sources that come from a configuration.
    ///
    /// # Errors
    /// There is none, or one of them twice.
    pub fn try_with_sources(
        self,
        sources: impl IntoIterator<Item = TokenSource>,
    ) -> Result<Self, ConfigError> {
        let sources = Sources::new(sources.into_iter().collect())?;
        Ok(self.with(|shared| {
            shared.challenges.set_schemes(sources.schemes());
            shared.sources = sources;
        }))
    }

    /// Removes the credential before the inner service sees the request, from every place that the
    /// layer looks at and from `Authorization: Bearer`; also where the request passes without being
    /// verified, as anonymous or as an [allowed](Self::allow_cors_preflight) preflight. [`CachedApiToken::token`] still has it. Other cookies,
    /// and credentials of other schemes, stay; a line that has one of each, with a comma between them, goes
    /// as a whole. A second layer inside finds nothing then. Default: the credential stays, marked as
    /// sensitive, but for a token in the query, which never stays.
    #[must_use]
    pub fn without_credentials(self) -> Self {
        self.with(|shared| shared.strips_credentials = true)
    }

    /// Decides whether a good token may do what it is presented for: `Err` refuses it with 403 and
    /// `error="insufficient_scope"`. It is asked for every request, whatever was cached, and not for
    /// those without a token. Several policies all have to agree; the first that refuses is told.
    ///
    /// ```
    /// # use tower_api_token::{
    /// #     ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, Rejection, TokenRecord,
    /// # };
    /// # use tower_api_token::rejection::RequestHead;
    /// # #[derive(Clone)]
    /// # struct Plan { may_write: bool }
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord<Plan>>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let needs_write = Rejection::insufficient_scope("orders:write")?;
    /// let layer = ApiTokenLayer::new(cache).with_policy(
    ///     move |token: &CachedApiToken<Plan>, request: &RequestHead<'_>| {
    ///         if request.method().is_safe() || token.metadata().may_write {
    ///             Ok(())
    ///         } else {
    ///             Err(needs_write.clone())
    ///         }
    ///     },
    /// );
    /// # let _ = layer;
    /// # Ok::<(), ConfigError>(())
    /// ```
    #[must_use]
    pub fn with_policy<P>(self, policy: P) -> Self
    where
        P: Fn(&CachedApiToken<M>, &RequestHead<'_>) -> Result<(), Rejection>,
        P: Send + Sync + 'static,
    {
        self.with(|shared| shared.policies.push(Arc::new(policy)))
    }

    /// How long a token may be, in bytes, both ends included. What is shorter or longer is refused
    /// before it is hashed. Default: 8 to 512.
    ///
    /// # Panics
    /// If the range is empty, or begins at 0: no token would be taken, or none at all would be one. Or if
    /// no token of a [form](Self::with_token_format) that is asked for has such a length.
    /// [`try_with_token_length`](Self::try_with_token_length) returns it instead.
    #[must_use]
    #[track_caller]
    pub fn with_token_length(self, lengths: RangeInclusive<usize>) -> Self {
        valid(self.try_with_token_length(lengths))
    }

    /// As [`with_token_length`](Self::with_token_length), for lengths that come from a configuration.
    ///
    /// # Errors
    /// The range is empty, or begins at 0, or a form that is asked for has tokens of another length.
    pub fn try_with_token_length(
        self,
        lengths: RangeInclusive<usize>,
    ) -> Result<Self, ConfigError> {
        self.try_with(|shared| shared.limits.set_lengths(&lengths))
    }

    /// Takes every visible ASCII character in a token, for legacy keys. Default: the alphabet of RFC
    /// 6750's `b64token`.
    #[must_use]
    pub fn with_visible_ascii_tokens(self) -> Self {
        self.with(|shared| shared.limits.visible_ascii = true)
    }

    /// Refuses what is no token of this form as it refuses an unknown token, before anything is hashed
    /// or looked up. Called again it takes a further form beside the first, for a service with several
    /// kinds of tokens. Default: none, and every token of the right alphabet is looked up.
    ///
    /// It saves work and is no protection: whoever guesses can compute the checksum too. Tokens that
    /// were given out before the format fail it, so leave it away until the last of them is replaced.
    ///
    /// # Panics
    /// If a token of this form is shorter or longer than [`with_token_length`](Self::with_token_length)
    /// allows: none of them would be taken. [`try_with_token_format`](Self::try_with_token_format) returns
    /// it instead.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, ApiTokenLayer, Lookup, TokenFormat, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::new(cache)
    ///     .with_token_format(TokenFormat::new("acme_live_"))
    ///     .with_token_format(TokenFormat::new("acme_test_"));
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn with_token_format(self, format: TokenFormat) -> Self {
        valid(self.try_with_token_format(format))
    }

    /// As [`with_token_format`](Self::with_token_format), for a form that comes from a configuration.
    ///
    /// # Errors
    /// A token of this form is shorter or longer than the layer allows.
    pub fn try_with_token_format(self, format: TokenFormat) -> Result<Self, ConfigError> {
        self.try_with(|shared| shared.limits.add_format(format))
    }

    /// Refuses what looks like a gRPC call as any other request, with 401 and the rest. Default: a `POST`
    /// with the content type of gRPC gets gRPC's HTTP 200 with the refusal in `grpc-status`.
    ///
    /// Needed where a proxy asks this service whether to let a request pass and goes by the HTTP status
    /// (`ext_authz` of Envoy over HTTP, forward authentication): whoever chooses method and content type
    /// of the request would get its leave.
    #[must_use]
    pub fn with_plain_refusals(self) -> Self {
        self.with(|shared| shared.grpc_status = false)
    }

    /// Lets CORS preflights pass without a token. Defaults to refusing them like any request without one.
    ///
    /// Only a service whose CORS is inside of this layer needs it. With a `CorsLayer` outside, as in the
    /// [order of layers](Self#order-of-layers), no preflight comes as far as here.
    ///
    /// **Anybody can send a preflight**, and it passes every [policy](Self::with_policy) as well: these are
    /// not asked about requests without a token. Nothing inside may do work for `OPTIONS` but answer
    /// preflights: no handler for `any` method, no fallback, no proxy. A preflight is `OPTIONS` with one `Origin` and one
    /// `Access-Control-Request-Method` that is a method; with no `Authorization`, no cookie and no token in
    /// a header; and with no header that announces a body. (HTTP/2 can carry a body without announcing it.)
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, ApiTokenLayer, Lookup, TokenRecord};
    /// use axum::{Router, routing::get};
    /// use tower_http::cors::CorsLayer;
    ///
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let app: Router = Router::new()
    ///     .route("/orders", get(|| async { "none" }))
    ///     .layer(CorsLayer::permissive())
    ///     // Added later, so it is outside.
    ///     .layer(ApiTokenLayer::new(cache).allow_cors_preflight());
    /// # let _ = app;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    #[must_use]
    pub fn allow_cors_preflight(self) -> Self {
        self.with(|shared| shared.allows_preflight = true)
    }

    /// Sets how rejected requests are answered.
    ///
    /// Defaults to [`ProblemDetails`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::rejection::RequestHead;
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer, Rejection};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let plain_text = |rejection: &Rejection, _: &RequestHead<'_>| {
    ///     let mut response = http::Response::new(rejection.detail().to_owned());
    ///     *response.status_mut() = rejection.status();
    ///     response
    /// };
    /// let layer = ApiTokenLayer::new(cache).with_rejection(plain_text);
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    #[must_use]
    pub fn with_rejection(self, rejection: impl ResponseForRejection) -> Self {
        self.with(|shared| shared.rejection_response = Arc::new(rejection))
    }
}

impl<S, M> Layer<S> for ApiTokenLayer<M> {
    type Service = ApiTokenService<S, M>;

    fn layer(&self, inner: S) -> Self::Service {
        let shared = &self.authenticator;
        assert!(
            shared.token_type.is_some() || !shared.cache.engine.token_types.are_declared(),
            "the cache declares token types, and the layer names none: with_scope is missing",
        );
        ApiTokenService::new(inner, Arc::clone(&self.authenticator))
    }
}

impl<M> Clone for ApiTokenLayer<M> {
    fn clone(&self) -> Self {
        Self {
            authenticator: Arc::clone(&self.authenticator),
        }
    }
}

impl<M> fmt::Debug for ApiTokenLayer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenLayer")
            .field("token_type", &self.authenticator.token_type)
            .field("sources", &self.authenticator.sources)
            .finish_non_exhaustive()
    }
}
