//! The layer's configuration.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::ApiTokenCache;
use crate::cache::cached_token::CachedApiToken;
use crate::error::ConfigError;
use crate::middleware::authenticator::Authenticator;
use crate::middleware::credentials::{Limits, MultipleTokens, Sources, TokenSource};
use crate::middleware::decision::{Decision, OnDecision};
use crate::middleware::policy::Policy;
use crate::middleware::rejection::{
    Challenges, Parameters, ProblemDetails, Rejection, ResponseForRejection,
};
use crate::middleware::request_head::RequestHead;
use crate::middleware::required_scopes::RequiredScopes;
#[cfg(feature = "tracing")]
use crate::middleware::span_fields::SpanFields;
use crate::token::TokenFormat;

/// Builds an [`ApiTokenLayer`](crate::ApiTokenLayer); see [`ApiTokenLayer::builder`](crate::ApiTokenLayer::builder).
///
/// Setters accept any value. [`build`](Self::build) checks them all.
#[must_use]
pub struct ApiTokenLayerBuilder<M> {
    cache: ApiTokenCache<M>,
    token_type: Accepted,
    optional: bool,
    pass_other_tokens: bool,
    sources: Vec<TokenSource>,
    multiple_tokens: MultipleTokens,
    token_length: RangeInclusive<usize>,
    visible_ascii_tokens: bool,
    token_formats: Vec<TokenFormat>,
    policies: Vec<Policy<M>>,
    reported: Vec<Policy<M>>,
    on_decision: Option<Arc<OnDecision>>,
    #[cfg(feature = "tracing")]
    span_fields: Option<SpanFields>,
    required_scopes: Vec<String>,
    reported_scopes: Vec<String>,
    challenge: Parameters,
    grpc_status: bool,
    rejection_response: Arc<dyn ResponseForRejection>,
    strip_credentials: bool,
    allow_cors_preflight: bool,
    allow_shared_caching: bool,
    expiry_notice: Duration,
}

/// The token types that a layer accepts.
#[derive(Debug)]
enum Accepted {
    /// Any, if the cache declares no types.
    Undecided,
    Any,
    Only(String),
}

impl<M: Send + Sync + 'static> ApiTokenLayerBuilder<M> {
    pub(crate) fn new(cache: ApiTokenCache<M>) -> Self {
        Self {
            cache,
            token_type: Accepted::Undecided,
            optional: false,
            pass_other_tokens: false,
            sources: vec![TokenSource::bearer()],
            multiple_tokens: MultipleTokens::default(),
            token_length: 8..=512,
            visible_ascii_tokens: false,
            token_formats: Vec::new(),
            policies: Vec::new(),
            reported: Vec::new(),
            on_decision: None,
            #[cfg(feature = "tracing")]
            span_fields: None,
            required_scopes: Vec::new(),
            reported_scopes: Vec::new(),
            challenge: Parameters::default(),
            grpc_status: true,
            rejection_response: Arc::new(ProblemDetails::new()),
            strip_credentials: false,
            allow_cors_preflight: false,
            allow_shared_caching: false,
            expiry_notice: Duration::ZERO,
        }
    }

    /// Accepts tokens of this type only.
    ///
    /// Tokens of other types are rejected like unknown ones. Defaults to any type, unless the cache declares
    /// its types: then a layer has to choose.
    #[doc(alias = "scope")]
    pub fn token_type(mut self, token_type: impl Into<String>) -> Self {
        self.token_type = Accepted::Only(token_type.into());
        self
    }

    /// Accepts tokens of any type, even if the cache declares its types.
    pub fn any_token_type(mut self) -> Self {
        self.token_type = Accepted::Any;
        self
    }

    /// Lets requests without a token pass, with no token in their extensions.
    ///
    /// A token that is sent still has to be valid. Caches may store the response to an anonymous request,
    /// which varies by every header that the layer reads. Defaults to requiring a token.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::builder(cache).optional().build()?;
    ///
    /// // In the inner service. With the feature `axum`, a handler takes `Option<CachedApiToken>` instead,
    /// // which also tells an anonymous request from a layer that is missing.
    /// fn greeting<B>(request: &http::Request<B>) -> String {
    ///     match request.extensions().get::<CachedApiToken>() {
    ///         Some(token) => format!("Hello, {}.", token.id()),
    ///         None => "Hello, stranger.".to_owned(),
    ///     }
    /// }
    /// # let _ = (layer, greeting::<()>(&http::Request::new(())));
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Sets the places where the layer looks for a token.
    ///
    /// A request with a token in two of them is rejected with 400, even if both are equal, unless
    /// [`multiple_tokens`](Self::multiple_tokens) says otherwise. Defaults to [`TokenSource::bearer`].
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
    ///     .sources([TokenSource::bearer(), TokenSource::header("x-api-key")])
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn sources(mut self, sources: impl IntoIterator<Item = TokenSource>) -> Self {
        self.sources = sources.into_iter().collect();
        self
    }

    /// Sets what happens to a request with tokens in more than one source.
    ///
    /// Clients must not use more than one (RFC 6750 section 2), but some do: SDKs that send the same key in
    /// `x-api-key` and in `Authorization`. Two in the same place, such as two `Authorization` headers, are rejected in
    /// any case. What is not used is still marked as sensitive and [removed](Self::strip_credentials). Defaults to
    /// [`MultipleTokens::Reject`], because choosing one would be a guess.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::middleware::MultipleTokens;
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer, TokenSource};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::builder(cache)
    ///     .sources([TokenSource::header("x-api-key"), TokenSource::bearer()])
    ///     .multiple_tokens(MultipleTokens::AllowEqual)
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn multiple_tokens(mut self, multiple_tokens: MultipleTokens) -> Self {
        self.multiple_tokens = multiple_tokens;
        self
    }

    /// Rejects tokens that do not have this format, before they are hashed or looked up.
    ///
    /// The response is the same as for an unknown token. Call this again to accept another format as well.
    ///
    /// A format saves work but adds no security: anybody can compute its checksum. Tokens that were issued
    /// before the format do not match it, so set it when the last of them has been replaced. Defaults to none:
    /// every token of the accepted alphabet and length is looked up.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer, TokenFormat};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::builder(cache)
    ///     .token_format(TokenFormat::from_static("acme_live_"))
    ///     .token_format(TokenFormat::from_static("acme_test_"))
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn token_format(mut self, format: TokenFormat) -> Self {
        self.token_formats.push(format);
        self
    }

    /// Lets tokens of other kinds pass, marked as not verified.
    ///
    /// For services that accept another kind of credential in the same place, such as a JWT beside API keys. A
    /// token that matches a [`token_format`](Self::token_format) has to be valid. So does one that only has the
    /// prefix of a format: it is a damaged token of ours, and rejected. Every other token passes, as
    /// [`Verification::Unverified`](crate::middleware::Verification::Unverified), without a lookup and without
    /// being shown to [policies](Self::policy). **The inner service has to verify it**, or to reject the request.
    /// The axum extractor [`CachedApiToken`] rejects it with 401.
    ///
    /// Other tokens may have any [length](Self::token_length), and must have the accepted alphabet. Without a token,
    /// a request is rejected, unless the layer is [optional](Self::optional). A response to another token is
    /// protected from shared caches like one to a token of the layer. Defaults to rejecting other tokens.
    ///
    /// [`build`](Self::build) fails if no format is declared.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::middleware::Verification;
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer, TokenFormat};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::builder(cache)
    ///     .token_format(TokenFormat::from_static("acme_"))
    ///     .pass_other_tokens()
    ///     .build()?;
    ///
    /// // In the inner service; with the feature `axum`, `Verification` is also an extractor.
    /// fn needs_jwt<B>(request: &http::Request<B>) -> bool {
    ///     let verification = Verification::<()>::from_extensions(request.extensions());
    ///     matches!(verification, Some(Verification::Unverified(_)))
    /// }
    /// # let _ = (layer, needs_jwt::<()>(&http::Request::new(())));
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn pass_other_tokens(mut self) -> Self {
        self.pass_other_tokens = true;
        self
    }

    /// Sets how long a token may be, in bytes, both ends included.
    ///
    /// Other tokens are rejected before they are hashed. Defaults to 8 to 512.
    pub fn token_length(mut self, lengths: RangeInclusive<usize>) -> Self {
        self.token_length = lengths;
        self
    }

    /// Accepts every visible ASCII character in a token, for legacy keys.
    ///
    /// Defaults to the alphabet of RFC 6750's `b64token`: `A-Z a-z 0-9 - . _ ~ + /`, then `=`.
    pub fn visible_ascii_tokens(mut self) -> Self {
        self.visible_ascii_tokens = true;
        self
    }

    /// Adds a policy, which decides whether a valid token may be used for a request.
    ///
    /// A policy is called for each request with a valid token, even if the token was cached, and not for other
    /// requests. All policies have to agree; the rejection of the first that does not is the response.
    ///
    /// A policy is called on the way of each request, and must not block. One that counts requests may return
    /// [`Rejection::TooManyRequests`]. What has to ask something first, such as a database or a limiter in Redis, is
    /// asynchronous: it belongs into a middleware inside of this layer, which reads the token from the request's
    /// extensions, or into the [loader](crate::TokenLoader), if the answer may be as old as a cached record.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::rejection::RequestHead;
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, Rejection};
    ///
    /// struct Plan { may_write: bool }
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord<Plan>>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let needs_write = Rejection::insufficient_scope("orders:write")?;
    /// let layer = ApiTokenLayer::builder(cache)
    ///     .policy(move |token: &CachedApiToken<Plan>, request: &RequestHead<'_>| {
    ///         if request.method().is_safe() || token.metadata().may_write {
    ///             Ok(())
    ///         } else {
    ///             Err(needs_write.clone())
    ///         }
    ///     })
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn policy<P>(mut self, policy: P) -> Self
    where
        P: Fn(&CachedApiToken<M>, &RequestHead<'_>) -> Result<(), Rejection>,
        P: Send + Sync + 'static,
    {
        self.policies.push(Arc::new(policy));
        self
    }

    /// Requires these OAuth scopes of each token, with a space between them.
    ///
    /// A valid token that lacks one of them is rejected with 403 `insufficient_scope`, and the challenge names all of
    /// them. Call this again to require further ones. Scopes are those of
    /// [`TokenRecord::scopes`](crate::TokenRecord::scopes), and are asked for before the policies. To require more of
    /// some routes, use [`ApiTokenLayer::require_scopes`](crate::ApiTokenLayer::require_scopes).
    ///
    /// An [optional](Self::optional) layer cannot require scopes, because a request without a token would pass: it is an
    /// error of [`build`](Self::build). [Tokens of other kinds](Self::pass_other_tokens) pass, and the service
    /// compares theirs. Defaults to none.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer, Lookup, TokenRecord};
    ///
    /// let loader = |_: Lookup| async {
    ///     Ok::<_, std::io::Error>(Some(TokenRecord::new("tok-1").scopes(["orders:read"])))
    /// };
    /// let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::builder(cache).require_scopes("orders:read").build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn require_scopes(mut self, scopes: impl Into<String>) -> Self {
        self.required_scopes.push(scopes.into());
        self
    }

    /// Adds a policy whose rejections are counted and logged, but not enforced.
    ///
    /// It shows what a [policy](Self::policy) would reject before it does.
    /// [`Stats::report_only_rejections`](crate::metrics::Stats::report_only_rejections) counts, and each one is an event
    /// with the token's id, under the target `tower_api_token::report_only` at the level `DEBUG`. It is called for
    /// requests that pass. As for enforced ones, the first that disagrees is the one that is reported, and
    /// [scopes](Self::require_scopes_report_only) come first. Of two layers inside each other, such as a
    /// [stricter copy](crate::ApiTokenLayer::require_scopes), each counts and logs.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::rejection::RequestHead;
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, Rejection};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let only_with_tenant = |token: &CachedApiToken, _: &RequestHead<'_>| match token.tenant_id() {
    ///     Some(_) => Ok(()),
    ///     None => Err(Rejection::INSUFFICIENT_SCOPE),
    /// };
    /// let layer = ApiTokenLayer::builder(cache).policy_report_only(only_with_tenant).build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn policy_report_only<P>(mut self, policy: P) -> Self
    where
        P: Fn(&CachedApiToken<M>, &RequestHead<'_>) -> Result<(), Rejection>,
        P: Send + Sync + 'static,
    {
        self.reported.push(Arc::new(policy));
        self
    }

    /// Counts and logs requests whose tokens lack these OAuth scopes, without rejecting them, as
    /// [`policy_report_only`](Self::policy_report_only) does.
    ///
    /// It shows which keys would stop working before [`require_scopes`](Self::require_scopes) is set, or before a
    /// scope is taken from a key.
    pub fn require_scopes_report_only(mut self, scopes: impl Into<String>) -> Self {
        self.reported_scopes.push(scopes.into());
        self
    }

    /// Calls `on_decision` with each decision about a token: who was accepted, and why others were rejected.
    ///
    /// It is for audits. It is called on the way of each request, before the inner service or the rejection's response,
    /// and must not block: a sink that writes takes what it needs and sends it to a task. Requests that pass without a
    /// verified token are no decision. Of two layers inside each other, each takes its own.
    ///
    /// Beside what the closure does, a token in memory costs 43 instructions more, 1 % of what the layer takes
    /// ([measured](crate::guide::performance)), and no allocation. For a token that is denied, or
    /// that a policy rejects, its id and tenant are copied, which takes up to three. Defaults to none.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::middleware::Decision;
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let (audit, mut entries) = tokio::sync::mpsc::channel::<String>(1_000);
    /// let layer = ApiTokenLayer::builder(cache)
    ///     .on_decision(move |decision: &Decision<'_>| {
    ///         let id = decision.token_id().unwrap_or("unknown");
    ///         let outcome = decision.reason().unwrap_or("accepted");
    ///         // Full: rather one entry less than a request that waits.
    ///         let _ = audit.try_send(format!("{id} {outcome}"));
    ///     })
    ///     .build()?;
    /// # let _ = (layer, &mut entries);
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn on_decision(
        mut self,
        on_decision: impl Fn(&Decision<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_decision = Some(Arc::new(on_decision));
        self
    }

    /// Records the token's id into this field of the request's span.
    ///
    /// The span is the current one, such as that of tower-http's `TraceLayer` outside of this layer, and has to declare
    /// the field, as `tracing::field::Empty`. It is recorded for valid tokens, also if a policy rejects the request. All
    /// events within the span then show who called. Defaults to recording nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer};
    /// use tower_http::trace::TraceLayer;
    /// use tracing::field::Empty;
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let trace = TraceLayer::new_for_http().make_span_with(|request: &http::Request<axum::body::Body>| {
    ///     let path = request.uri().path();
    ///     tracing::info_span!("request", path, token_id = Empty, tenant_id = Empty)
    /// });
    /// let layer = ApiTokenLayer::builder(cache)
    ///     .record_token_id("token_id")
    ///     .record_tenant_id("tenant_id")
    ///     .build()?;
    /// let app: axum::Router = axum::Router::new().layer(layer).layer(trace);
    /// # let _ = app;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    #[cfg(feature = "tracing")]
    pub fn record_token_id(mut self, field: &'static str) -> Self {
        self.span_fields.get_or_insert_default().token_id = Some(field);
        self
    }

    /// Records the token's tenant into this field of the request's span, as
    /// [`record_token_id`](Self::record_token_id) does with the id.
    #[cfg(feature = "tracing")]
    pub fn record_tenant_id(mut self, field: &'static str) -> Self {
        self.span_fields.get_or_insert_default().tenant_id = Some(field);
        self
    }

    /// Sets the realm of the challenges (RFC 9110 section 11.5).
    ///
    /// Defaults to `api`.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.challenge.realm = realm.into();
        self
    }

    /// Sets the OAuth scope that challenges name: those of a 401, and those of a policy's rejection that
    /// names none itself (RFC 6750 section 3).
    ///
    /// This only informs clients; a [policy](Self::policy) checks scopes. Several scopes have a space between
    /// them. Defaults to none.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// // WWW-Authenticate: Bearer realm="orders", scope="orders:read orders:write", resource_metadata="…"
    /// let layer = ApiTokenLayer::builder(cache)
    ///     .realm("orders")
    ///     .challenge_scope("orders:read orders:write")
    ///     .resource_metadata("https://api.example/.well-known/oauth-protected-resource")
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn challenge_scope(mut self, scope: impl Into<String>) -> Self {
        self.challenge.scope = Some(scope.into());
        self
    }

    /// Sets the absolute URL of this resource's metadata, which challenges then name (RFC 9728 section 5.1).
    ///
    /// Defaults to none.
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.challenge.resource_metadata = Some(url.into());
        self
    }

    /// Sets whether challenges have an `error` (RFC 6750 section 3.1).
    ///
    /// Without it a challenge for an invalid token is that for a missing one, `Bearer realm="api"`, as some services'
    /// clients expect, such as Dify's. Status, body and a challenge's `scope` stay. Defaults to `true`, by which clients
    /// tell that another token is needed, and not that they forgot to send it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::builder(cache).challenge_errors(false).build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn challenge_errors(mut self, errors: bool) -> Self {
        self.challenge.errors = errors;
        self
    }

    /// Adds an `error_description` to each challenge with an error, for the developers of clients (RFC 6750
    /// section 3).
    ///
    /// There is one text for each error code, which does not tell why a token is invalid. Defaults to none.
    pub fn error_descriptions(mut self) -> Self {
        self.challenge.descriptions = true;
        self
    }

    /// Sets whether a rejected gRPC call gets gRPC's HTTP 200 with the error in `grpc-status`.
    ///
    /// A request counts as a gRPC call if it is a `POST` with gRPC's content type. With `false` it is rejected
    /// like any other request, with 401 and so on. Use `false` where a proxy asks this service whether to let
    /// a request pass and decides by the HTTP status (Envoy's `ext_authz` over HTTP, forward authentication):
    /// otherwise the choice of method and content type would be a way in. Defaults to `true`.
    pub fn grpc_status(mut self, enabled: bool) -> Self {
        self.grpc_status = enabled;
        self
    }

    /// Sets how rejected requests are answered.
    ///
    /// Defaults to [`ProblemDetails`](crate::rejection::ProblemDetails).
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
    /// // The status is set by the layer.
    /// let plain_text = |rejection: &Rejection, _: &RequestHead<'_>| {
    ///     http::Response::new(rejection.detail().to_owned())
    /// };
    /// let layer = ApiTokenLayer::builder(cache).rejection_response(plain_text).build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn rejection_response(mut self, response: impl ResponseForRejection) -> Self {
        self.rejection_response = Arc::new(response);
        self
    }

    /// Sets an error type of the service as the response to rejected requests: anything that is axum's
    /// `IntoResponse`.
    ///
    /// It is for services that turn all of their errors into responses in one place. The layer adds what
    /// [`rejection_response`](Self::rejection_response) says. A body that is not there at once, such as a stream, is left
    /// out.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::response::{IntoResponse, Response};
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer, Rejection};
    ///
    /// enum AppError {
    ///     NotAuthenticated(Rejection),
    ///     NotFound,
    /// }
    ///
    /// impl IntoResponse for AppError {
    ///     fn into_response(self) -> Response {
    ///         match self {
    ///             Self::NotAuthenticated(rejection) => {
    ///                 (rejection.status(), rejection.detail().to_owned()).into_response()
    ///             }
    ///             Self::NotFound => http::StatusCode::NOT_FOUND.into_response(),
    ///         }
    ///     }
    /// }
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let layer = ApiTokenLayer::builder(cache)
    ///     .rejection_into_response(|rejection| AppError::NotAuthenticated(rejection.clone()))
    ///     .build()?;
    /// # let _ = (layer, AppError::NotFound);
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    #[cfg(feature = "axum")]
    pub fn rejection_into_response<R, E>(self, error: R) -> Self
    where
        R: Fn(&Rejection) -> E + Send + Sync + 'static,
        E: axum_core::response::IntoResponse,
    {
        self.rejection_response(move |rejection: &Rejection, _: &RequestHead<'_>| {
            crate::middleware::axum::collected(error(rejection).into_response())
        })
    }

    /// Removes the credential before policies and the inner service see the request.
    ///
    /// It is removed from every place that the layer reads and from `Authorization: Bearer`, also if the
    /// request passes anonymously or as an [allowed](Self::allow_cors_preflight) preflight.
    /// [`CachedApiToken::token`] still returns the token, but a second layer inside finds none. Other cookies
    /// and credentials of other schemes stay; a header value that has both kinds, with a comma between them,
    /// is removed as a whole.
    ///
    /// Defaults to marking the credential as sensitive, so that `Debug` does not show it. A token in the query
    /// is always removed.
    pub fn strip_credentials(mut self) -> Self {
        self.strip_credentials = true;
        self
    }

    /// Lets CORS preflights pass without a token.
    ///
    /// Only a service whose CORS layer is inside of this one needs this. If it is outside, as in the
    /// [order of layers](crate::ApiTokenLayer#order-of-layers), no preflight gets this far.
    ///
    /// **Anybody can send a preflight**, and [policies](Self::policy) are not called for it. Nothing inside may
    /// do work for `OPTIONS` requests other than answering preflights: no handler for any method, no fallback,
    /// no proxy. A preflight is an `OPTIONS` request with one `Origin` and one `Access-Control-Request-Method`
    /// that is a method, without `Authorization`, cookies or a token in a header, and without a header that
    /// announces a body. (HTTP/2 can carry a body that no header announces.)
    ///
    /// Defaults to rejecting preflights like any request without a token.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer};
    /// use tower_http::cors::CorsLayer;
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// let app: Router = Router::new()
    ///     .route("/orders", get(|| async { "none" }))
    ///     .layer(CorsLayer::permissive())
    ///     // Added later, so it is outside.
    ///     .layer(ApiTokenLayer::builder(cache).allow_cors_preflight().build()?);
    /// # let _ = app;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn allow_cors_preflight(mut self) -> Self {
        self.allow_cors_preflight = true;
        self
    }

    /// Leaves `Cache-Control` of the inner service's responses as it is.
    ///
    /// By default the layer adds `private` to a response to a token, unless the service itself permits sharing
    /// by `public` or `s-maxage`: shared caches that ignore RFC 9111 section 3.5, such as nginx, would give the
    /// response to others. `Vary` is added in either case, and so is `private` if the token was in the query.
    pub fn allow_shared_caching(mut self) -> Self {
        self.allow_shared_caching = true;
        self
    }

    /// Announces the end of a token in the responses to it, when less than `before` is left.
    ///
    /// Such a response has the header `api-token-expires` with the time at which the token
    /// [expires](CachedApiToken::expires_at), in the format of `Date` (`Tue, 01 Jun 2027 00:00:00 GMT`), unless the inner
    /// service has set the header. [`Duration::MAX`] announces every end, as GitHub does in
    /// `github-authentication-token-expiration`. Rejections, and responses to tokens that do not expire, do not have it.
    /// In gRPC it is a response's initial metadata. A page in a browser sees it only if the CORS layer exposes it.
    ///
    /// Defaults to zero, which announces nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_api_token::{ApiTokenCache, ApiTokenLayer};
    ///
    /// # use tower_api_token::{Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// // In the last two weeks, so that a client's operators can rotate the key in time.
    /// let two_weeks = Duration::from_secs(14 * 86_400);
    /// let layer = ApiTokenLayer::builder(cache).expiry_notice(two_weeks).build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn expiry_notice(mut self, before: Duration) -> Self {
        self.expiry_notice = before;
        self
    }

    /// Checks all settings.
    pub(crate) fn authenticator(self) -> Result<Authenticator<M>, ConfigError> {
        let required_scopes = self.checked_scopes()?;
        // Scopes first, as where they are enforced.
        let mut reported: Vec<Policy<M>> = Vec::new();
        for scopes in &self.reported_scopes {
            let scopes = RequiredScopes::new("require_scopes_report_only", scopes)?;
            reported.push(Arc::new(move |token, _| scopes.check(token)));
        }
        reported.extend(self.reported.iter().cloned());
        let token_type = self.checked_token_type()?;
        let sources = Sources::new(&self.sources, self.multiple_tokens)?;
        let mut limits = Limits::new(
            self.token_length,
            self.visible_ascii_tokens,
            self.token_formats,
        )?;
        if self.pass_other_tokens {
            limits = limits.with_others()?;
        }
        let challenges = Challenges::new(sources.schemes(), self.challenge)?;
        Ok(Authenticator {
            cache: self.cache,
            token_type,
            sources,
            limits,
            optional: self.optional,
            strip_credentials: self.strip_credentials,
            allow_cors_preflight: self.allow_cors_preflight,
            allow_shared_caching: self.allow_shared_caching,
            expiry_notice: self.expiry_notice,
            required_scopes,
            policies: self.policies,
            reported,
            on_decision: self.on_decision,
            #[cfg(feature = "tracing")]
            span_fields: self.span_fields,
            is_stricter: false,
            challenges,
            grpc_status: self.grpc_status,
            rejection_response: self.rejection_response,
        })
    }

    /// `None` requires none.
    fn checked_scopes(&self) -> Result<Option<RequiredScopes>, ConfigError> {
        let mut all: Option<RequiredScopes> = None;
        for scopes in &self.required_scopes {
            let scopes = RequiredScopes::new("require_scopes", scopes)?;
            all = Some(all.map_or(scopes.clone(), |all| all.and(&scopes)));
        }
        if all.is_some() && self.optional {
            let message = "an optional layer would let requests pass without any".to_owned();
            return Err(ConfigError::of("require_scopes", message));
        }
        Ok(all)
    }

    /// `None` accepts any type.
    fn checked_token_type(&self) -> Result<Option<Arc<str>>, ConfigError> {
        let engine = &self.cache.engine;
        let invalid = |message: String| Err(ConfigError::of("token_type", message));
        match &self.token_type {
            Accepted::Only(name) if engine.token_types.allow(Some(name)) => {
                Ok(Some(name.as_str().into()))
            }
            Accepted::Only(name) if name.is_empty() => {
                invalid("a name must not be empty".to_owned())
            }
            Accepted::Only(name) => invalid(format!(
                "{name:?} is not a token type that the cache declares"
            )),
            Accepted::Any if engine.keys.is_dify() => {
                invalid("the store's keys contain the type: name one".to_owned())
            }
            Accepted::Undecided if engine.token_types.are_declared() => invalid(
                "the cache declares its token types: name one of them, or call any_token_type"
                    .to_owned(),
            ),
            Accepted::Any | Accepted::Undecided => Ok(None),
        }
    }
}

impl<M> fmt::Debug for ApiTokenLayerBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenLayerBuilder")
            .field("token_type", &self.token_type)
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}
