//! The layer.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use tower_layer::Layer;

use crate::cache::ApiTokenCache;
use crate::error::{ConfigError, valid};
use crate::middleware::authenticator::Authenticator;
use crate::middleware::builder::ApiTokenLayerBuilder;
use crate::middleware::rejected::Rejected;
use crate::middleware::required_scopes::RequiredScopes;
use crate::middleware::service::ApiTokenService;
use crate::middleware::verification::Verification;

/// Authenticates requests by their API tokens.
///
/// The layer reads the token of each request, looks it up in an [`ApiTokenCache`], and inserts a
/// [`CachedApiToken`](crate::CachedApiToken) into the request's extensions. Requests without a valid token are
/// rejected before they reach the inner service.
///
/// # Order of layers
///
/// | layer | place | reason |
/// |---|---|---|
/// | CORS | outside | it answers preflights, which browsers send without a token and this layer [rejects](ApiTokenLayerBuilder::allow_cors_preflight); and without its headers, pages of other origins cannot read a 401, 403 or 503 |
/// | tracing | outside | it sees rejections too; log only the path, because the credential is not yet marked as sensitive and a token in the query is part of the URI |
/// | rate limits by address | outside | they save lookups |
/// | rate limits by caller | inside | they need the token |
/// | body limits, decompression | inside | a rejection reads no body |
/// | timeouts | outside | they include the lookup, which goes on for other requests |
/// | concurrency limits | either side | the permit is taken before the lookup in both cases |
///
/// The first layer of a `ServiceBuilder` is the outermost; of several calls to `Router::layer`, the last is.
///
/// ```
/// use std::time::Duration;
///
/// use axum::extract::DefaultBodyLimit;
/// use axum::{Extension, Router, routing::post};
/// use http::{HeaderValue, Method, Request, StatusCode, header};
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError};
/// use tower_http::{cors::CorsLayer, timeout::TimeoutLayer, trace::TraceLayer};
///
/// async fn order(Extension(token): Extension<CachedApiToken>, body: String) -> String {
///     format!("{} orders {body}", token.id())
/// }
///
/// fn app(cache: ApiTokenCache, page: HeaderValue) -> Result<Router, ConfigError> {
///     let trace = TraceLayer::new_for_http().make_span_with(|request: &Request<_>| {
///         // The path alone: a token may be in the query, and is in the headers.
///         tracing::info_span!("request", method = %request.method(), path = request.uri().path())
///     });
///     let cors = CorsLayer::new()
///         .allow_origin(page)
///         .allow_methods([Method::POST])
///         .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
///         .expose_headers([header::WWW_AUTHENTICATE]);
///     // Longer than the cache's own limits, 2 s in the queue and 3 s for the load, so that its 503 comes first.
///     let timeout =
///         TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(10));
///     let layers = ServiceBuilder::new()
///         .layer(trace)
///         .layer(cors)
///         .layer(timeout)
///         .layer(ApiTokenLayer::builder(cache).token_type("app").build()?)
///         .layer(DefaultBodyLimit::max(64 * 1024));
///     Ok(Router::new().route("/v1/orders", post(order)).layer(layers))
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
/// # let app = app(cache, HeaderValue::from_static("https://page.example"))?;
/// # let request = |token: &str| {
/// #     Request::post("/v1/orders")
/// #         .header("origin", "https://page.example")
/// #         .header("authorization", format!("Bearer {token}"))
/// #         .body(axum::body::Body::from("tea"))
/// # };
/// let rejected = app.clone().oneshot(request("app-somebody-made-up")?).await?;
/// assert_eq!(rejected.status(), StatusCode::UNAUTHORIZED);
/// assert_eq!(rejected.headers()["access-control-allow-origin"], "https://page.example");
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
/// A second layer inside, for another token type, reads the same credential, unless the outer layer
/// [removes](ApiTokenLayerBuilder::strip_credentials) it or it is in the query.
///
/// # Without a router
///
/// ```
/// use tower::{Layer, service_fn};
/// use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, Lookup, TokenRecord};
///
/// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
/// let cache = ApiTokenCache::builder(loader).build()?;
/// let service = ApiTokenLayer::new(cache).layer(service_fn(
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
    /// Creates a layer that requires a token of any type in `Authorization: Bearer`.
    ///
    /// # Panics
    /// Panics if the cache [declares](crate::ApiTokenCacheBuilder::token_types) its token types. Then use
    /// [`builder`](Self::builder), and name one of them.
    #[track_caller]
    pub fn new(cache: ApiTokenCache<M>) -> Self {
        valid(Self::builder(cache).build())
    }

    /// Creates a builder, to configure the layer.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer, TokenSource};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::builder(cache)
    ///     .token_type("app")
    ///     .sources([TokenSource::bearer(), TokenSource::cookie("__Host-token")])
    ///     .strip_credentials()
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn builder(cache: ApiTokenCache<M>) -> ApiTokenLayerBuilder<M> {
        ApiTokenLayerBuilder::new(cache)
    }

    /// Returns a stricter copy of this layer, which also requires these OAuth scopes, with a space between them.
    ///
    /// It has the same cache, settings and rejections, and is for some routes or methods, as a layer of their own or
    /// inside of this one. Inside, it uses the token that this layer verified, without a second lookup. It requires a
    /// valid token, even if this layer is [optional](ApiTokenLayerBuilder::optional) or
    /// [passes other tokens](ApiTokenLayerBuilder::pass_other_tokens). [Policies](ApiTokenLayerBuilder::policy) are
    /// asked by each of the two layers. So are those that are
    /// [report-only](ApiTokenLayerBuilder::policy_report_only): one request through both is counted and logged twice.
    ///
    /// # Errors
    /// Returns an error if `scopes` is not one or more scopes (RFC 6749 section 3.3) with single spaces between them.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use tower_api_token::{ApiTokenLayer, ConfigError};
    ///
    /// async fn list() {}
    /// async fn create() {}
    ///
    /// fn app(layer: &ApiTokenLayer) -> Result<Router, ConfigError> {
    ///     let orders = get(list)
    ///         .layer(layer.require_scopes("orders:read")?)
    ///         .merge(axum::routing::post(create).layer(layer.require_scopes("orders:write")?));
    ///     Ok(Router::new()
    ///         .route("/orders", orders)
    ///         .route("/health-of-orders", get(async || "ok"))
    ///         .layer(layer.clone()))
    /// }
    /// # let _ = app;
    /// ```
    pub fn require_scopes(&self, scopes: &str) -> Result<Self, ConfigError> {
        let scopes = RequiredScopes::new("require_scopes", scopes)?;
        let authenticator = Arc::new(self.authenticator.with_scopes(&scopes));
        Ok(Self { authenticator })
    }

    /// Verifies a request without a `Service` around it: where a framework has no Tower layers, in a server
    /// function, for forward authentication.
    ///
    /// The decision is the one that this layer takes as a middleware, with the same settings, policies, counters
    /// and rejections. `parts` stay as they are: the credential is neither marked as sensitive nor
    /// [removed](ApiTokenLayerBuilder::strip_credentials). What the caller sends in reply to a token has to be kept
    /// from shared caches, by `Cache-Control: private` for example.
    ///
    /// # Errors
    /// Returns the rejection, with the response to send.
    ///
    /// # Cancel safety
    /// This method is cancel safe. If it is dropped during a load, the load continues in a background task for
    /// other callers.
    ///
    /// # Examples
    ///
    /// An answer for Envoy's `ext_authz` or nginx's `auth_request`:
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response, StatusCode};
    /// use tower_api_token::ApiTokenLayer;
    /// use tower_api_token::middleware::Verification;
    ///
    /// async fn check(layer: &ApiTokenLayer, request: Request<()>) -> Response<Bytes> {
    ///     match layer.verify(&request.into_parts().0).await {
    ///         Ok(Verification::Verified(token)) => {
    ///             let response = Response::builder().header("x-token-id", token.id());
    ///             response.body(Bytes::new()).unwrap_or_default()
    ///         }
    ///         Ok(_) => Response::default(),
    ///         Err(rejected) => rejected.into_response(),
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
    /// # let loader = |lookup: Lookup| async move {
    /// #     let known = lookup.token().expose() == "app-0123456789abcdef";
    /// #     Ok::<_, std::io::Error>(known.then(|| TokenRecord::new("tok-1")))
    /// # };
    /// # let layer = ApiTokenLayer::new(ApiTokenCache::builder(loader).build()?);
    ///
    /// let anonymous = Request::get("/orders").body(())?;
    /// assert_eq!(check(&layer, anonymous).await.status(), StatusCode::UNAUTHORIZED);
    ///
    /// let bearer = "Bearer app-0123456789abcdef";
    /// let known = Request::get("/orders").header("authorization", bearer).body(())?;
    /// assert_eq!(check(&layer, known).await.headers()["x-token-id"], "tok-1");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn verify(&self, parts: &Parts) -> Result<Verification<M>, Rejected> {
        let verification = self.authenticator.verify(parts).await;
        verification.map_err(|failure| self.authenticator.rejected(failure, parts))
    }
}

impl<M: Send + Sync + 'static> ApiTokenLayerBuilder<M> {
    /// Builds the layer.
    ///
    /// # Errors
    /// Returns an error if a setting has an invalid value, if two sources are the same place, if no token of a
    /// [format](Self::token_format) has an accepted [length](Self::token_length), or if the cache declares its
    /// token types and the layer neither names one of them nor accepts [any](Self::any_token_type).
    pub fn build(self) -> Result<ApiTokenLayer<M>, ConfigError> {
        let authenticator = Arc::new(self.authenticator()?);
        Ok(ApiTokenLayer { authenticator })
    }
}

impl<S, M> Layer<S> for ApiTokenLayer<M> {
    type Service = ApiTokenService<S, M>;

    fn layer(&self, inner: S) -> Self::Service {
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
