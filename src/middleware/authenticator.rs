//! Authentication of one request, shared by a layer's services.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, ORIGIN,
    TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use crate::cache::cached_token::{Anonymous, CachedApiToken};
use crate::cache::error::Unavailable;
use crate::cache::{Answer, ApiTokenCache};
use crate::metrics::Reason;
use crate::middleware::cache_control::{CacheControl, Credential};
use crate::middleware::credentials::{Limits, Presented, Sources};
use crate::middleware::decision::{Caller, Decision, OnDecision};
use crate::middleware::expiry_notice::ExpiryNotice;
use crate::middleware::policy::Policy;
use crate::middleware::rejected::Rejected;
use crate::middleware::rejection::{Challenges, Rejection, ResponseForRejection, respond};
use crate::middleware::request_head::RequestHead;
use crate::middleware::required_scopes::RequiredScopes;
#[cfg(feature = "tracing")]
use crate::middleware::span_fields::SpanFields;
use crate::middleware::verification::{UnverifiedToken, Verification};
use crate::token::BearerToken;
use crate::trace::event;

/// The configuration of a layer, and what it does with a request.
pub(crate) struct Authenticator<M> {
    pub(crate) cache: ApiTokenCache<M>,
    pub(crate) token_type: Option<Arc<str>>,
    pub(crate) sources: Sources,
    pub(crate) limits: Limits,
    /// Whether a request without a token passes.
    pub(crate) optional: bool,
    /// Whether credentials are removed from requests that pass.
    pub(crate) strip_credentials: bool,
    /// Whether CORS preflights pass without a token.
    pub(crate) allow_cors_preflight: bool,
    /// Whether `Cache-Control` is left to the inner service.
    pub(crate) allow_shared_caching: bool,
    /// How long before its end a token is announced to end; zero: never.
    pub(crate) expiry_notice: Duration,
    /// A token has to have all of them.
    pub(crate) required_scopes: Option<RequiredScopes>,
    /// All of them have to agree.
    pub(crate) policies: Vec<Policy<M>>,
    /// Policies whose rejections are counted and logged, and nothing else.
    pub(crate) reported: Vec<Policy<M>>,
    pub(crate) on_decision: Option<Arc<OnDecision>>,
    #[cfg(feature = "tracing")]
    pub(crate) span_fields: Option<SpanFields>,
    /// Whether a layer of the same cache may be outside, whose answer for the request is used.
    pub(crate) is_stricter: bool,
    pub(crate) challenges: Challenges,
    /// Whether rejected gRPC calls are answered with a gRPC status.
    pub(crate) grpc_status: bool,
    pub(crate) rejection_response: Arc<dyn ResponseForRejection>,
}

/// Whose request it is, as far as the request and this process's memory tell.
pub(crate) enum Identity<M> {
    /// The request passes without a token.
    Anonymous,
    Token(CachedApiToken<M>),
    /// The token is of another kind, and passes without being verified.
    Other(BearerToken),
    /// The token has to be looked up.
    Unknown(BearerToken),
}

/// A rejection, and the reason for it, which clients are not told in full.
pub(crate) struct Failure {
    rejection: Rejection,
    reason: Reason,
    /// Only if somebody is told of decisions.
    caller: Option<Box<Caller>>,
}

impl Failure {
    pub(crate) fn new(rejection: Rejection, reason: Reason) -> Self {
        Self {
            rejection,
            reason,
            caller: None,
        }
    }
}

/// For a rejection that has one reason, and for a policy's, which may be any.
impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        let reason = match rejection {
            Rejection::MissingToken => Reason::MissingToken,
            Rejection::InvalidToken => Reason::Unknown,
            Rejection::MultipleTokens => Reason::MultipleTokens,
            Rejection::MissingProtocol => Reason::MissingProtocol,
            Rejection::Denied(_) => Reason::Denied,
            Rejection::InsufficientScope { .. } => Reason::InsufficientScope,
            Rejection::TooManyRequests { .. } => Reason::TooManyRequests,
            Rejection::Unavailable { .. } => Reason::Unavailable,
        };
        Self::new(rejection, reason)
    }
}

impl From<Unavailable> for Failure {
    fn from(error: Unavailable) -> Self {
        Self::from(Rejection::from(error))
    }
}

impl<M: Send + Sync + 'static> Authenticator<M> {
    /// Returns the head of a request, as policies and rejections see it.
    pub(crate) fn head<'a, B>(&'a self, request: &'a Request<B>) -> RequestHead<'a> {
        RequestHead::new(request, &self.sources)
    }

    /// Reads the token and looks it up in this process's memory.
    pub(crate) fn identify(&self, request: &RequestHead<'_>) -> Result<Identity<M>, Failure> {
        // guard: H22
        if self.allow_cors_preflight && self.is_preflight(request) {
            return Ok(Identity::Anonymous);
        }
        let (headers, uri) = (request.headers(), request.uri());
        let presented = self.sources.read(headers, uri, &self.limits);
        if self.is_stricter
            && let Some(token) = self.verified_outside(request, &presented)
        {
            return Ok(Identity::Token(token.clone()));
        }
        let token = match presented {
            Presented::Token(token) => token,
            Presented::Other(token) => return Ok(Identity::Other(BearerToken::new(token))),
            Presented::Nothing if self.optional => return Ok(Identity::Anonymous),
            Presented::Nothing => return Err(Rejection::MissingToken.into()),
            Presented::Malformed => {
                return Err(Failure::new(Rejection::InvalidToken, Reason::Malformed));
            }
            Presented::Multiple => return Err(Rejection::MultipleTokens.into()),
            Presented::NoProtocol => return Err(Rejection::MissingProtocol.into()),
        };
        match self
            .cache
            .engine
            .answer_locally(&token, self.token_type.as_deref())
        {
            Some(answer) => self.admitted(answer).map(Identity::Token),
            None => Ok(Identity::Unknown(BearerToken::new(token))),
        }
    }

    /// Returns the token that a layer of the same cache, outside of this one, has verified for this request. If the
    /// credential is still there, it has to be that token.
    fn verified_outside<'a>(
        &self,
        request: &RequestHead<'a>,
        presented: &Presented<'_>,
    ) -> Option<&'a CachedApiToken<M>> {
        let token = request.extensions().get::<CachedApiToken<M>>()?;
        // guard: H38
        let is_presented = match presented {
            Presented::Token(text) => token.token().is(text),
            Presented::Nothing => true,
            _ => false,
        };
        let engine = &self.cache.engine;
        let is_valid = token.is_of_type(self.token_type.as_deref()) && !engine.has_expired(token);
        (is_presented && is_valid && engine.has_answered(token)).then_some(token)
    }

    /// Returns the token of a lookup's answer, if it is valid.
    pub(crate) fn admitted(&self, answer: Answer<M>) -> Result<CachedApiToken<M>, Failure> {
        match answer {
            Answer::Invalid(why) => Err(Failure::new(Rejection::InvalidToken, Reason::from(why))),
            Answer::Denied(denial) if self.on_decision.is_some() => {
                let caller = Caller {
                    token_id: denial.token_id().to_owned(),
                    tenant_id: denial.tenant_id().map(str::to_owned),
                    origin: None,
                };
                let mut failure = Failure::from(Rejection::Denied(denial.reason));
                failure.caller = Some(Box::new(caller));
                Err(failure)
            }
            answer => Ok(answer.into_result()?),
        }
    }

    /// Looks up a token that this process's memory does not hold.
    pub(crate) fn look_up(
        &self,
        token: BearerToken,
    ) -> impl Future<Output = Result<Answer<M>, Unavailable>> + use<M> {
        self.cache.engine.resolve(token, self.token_type.clone())
    }

    /// Finds out whose request it is. The service takes the same steps, and does without an allocation if the
    /// answer is in this process's memory.
    pub(crate) async fn verify(&self, parts: &Parts) -> Result<Verification<M>, Failure> {
        let head = RequestHead::of_parts(parts, &self.sources);
        let token = match self.identify(&head)? {
            Identity::Token(token) => token,
            Identity::Unknown(token) => self.admitted(self.look_up(token).await?)?,
            Identity::Other(token) => {
                return Ok(Verification::Unverified(UnverifiedToken::new(token)));
            }
            Identity::Anonymous => return Ok(Verification::Anonymous),
        };
        // guard: H34
        self.permit(&token, &head)?;
        Ok(Verification::Verified(token))
    }

    /// Whether the request is a CORS preflight and nothing else.
    ///
    /// Browsers make preflights themselves (Fetch standard, section 4.8), with one requested method, without
    /// a body and without credentials. A body is recognized by the headers that announce it. A token in the
    /// query is allowed, because a preflight has the URL of the request that is to follow.
    fn is_preflight(&self, request: &RequestHead<'_>) -> bool {
        let headers = request.headers();
        let is_method = |value: &HeaderValue| Method::from_bytes(value.as_bytes()).is_ok();
        // guard: H23, H24
        request.method() == Method::OPTIONS
            && only(headers, &ORIGIN).is_some()
            && only(headers, &ACCESS_CONTROL_REQUEST_METHOD).is_some_and(is_method)
            && headers
                .get(CONTENT_LENGTH)
                .is_none_or(|length| length == "0")
            && !headers.contains_key(TRANSFER_ENCODING)
            && !headers.contains_key(CONTENT_TYPE)
            && !self.sources.are_in_a_header(headers)
    }

    /// Prepares the request for policies and the inner service, which must not see credentials that they
    /// could print.
    pub(crate) fn prepare<B>(&self, request: &mut Request<B>, is_anonymous: bool) -> CacheControl {
        // Whoever inserted these outside of this layer, they are not its verification.
        request.extensions_mut().remove::<CachedApiToken<M>>();
        request.extensions_mut().remove::<Anonymous<M>>();
        self.sources.mark_sensitive(request.headers_mut());
        let was_in_uri = self.sources.take_from_uri(request);
        self.sources.take_from_protocols(request.headers_mut());
        if self.strip_credentials {
            self.sources.remove(request.headers_mut());
        }
        // guard: H29
        let credential = if was_in_uri {
            Credential::InUri
        } else if is_anonymous || self.allow_shared_caching {
            Credential::Absent
        } else {
            Credential::InHeader
        };
        CacheControl {
            credential,
            vary: self.sources.vary().cloned(),
            expiry: None,
        }
    }

    /// Inserts a valid token into the request's extensions if every policy allows the request.
    pub(crate) fn admit<B>(
        &self,
        token: CachedApiToken<M>,
        request: &mut Request<B>,
        cache_control: &mut CacheControl,
    ) -> Result<(), Failure> {
        self.permit(&token, &self.head(request))?;
        if !self.expiry_notice.is_zero() {
            cache_control.expiry = self.expiry_of(&token);
        }
        request.extensions_mut().insert(token);
        Ok(())
    }

    fn expiry_of(&self, token: &CachedApiToken<M>) -> Option<ExpiryNotice> {
        let now = self.cache.engine.clock.wall();
        ExpiryNotice::of(token.expires_at()?, self.expiry_notice, now)
    }

    /// Asks every policy whether a valid token may be used for the request.
    pub(crate) fn permit(
        &self,
        token: &CachedApiToken<M>,
        request: &RequestHead<'_>,
    ) -> Result<(), Failure> {
        #[cfg(feature = "tracing")]
        if let Some(fields) = &self.span_fields {
            fields.record(token);
        }
        let Some(on_decision) = &self.on_decision else {
            return self.ask(token, request);
        };
        let asked = self.ask(token, request);
        if asked.is_ok() {
            on_decision(&Decision::accepted(token));
        }
        asked.map_err(|mut failure| {
            failure.caller = Some(Box::new(Caller {
                token_id: token.id().to_owned(),
                tenant_id: token.tenant_id().map(str::to_owned),
                origin: Some(token.origin()),
            }));
            failure
        })
    }

    fn ask(&self, token: &CachedApiToken<M>, request: &RequestHead<'_>) -> Result<(), Failure> {
        if let Some(required) = &self.required_scopes {
            required.check(token)?;
        }
        for policy in &self.policies {
            policy(token, request)?;
        }
        if !self.reported.is_empty() {
            self.report(token, request);
        }
        Ok(())
    }

    /// Counts and logs what the first of the reported policies that disagrees would have rejected.
    #[cold]
    fn report(&self, token: &CachedApiToken<M>, request: &RequestHead<'_>) {
        let mut policies = self.reported.iter();
        let Some(rejection) = policies.find_map(|policy| policy(token, request).err()) else {
            return;
        };
        self.cache.engine.counters.reported.add();
        let failure = Failure::from(rejection);
        event!(
            debug,
            "tower_api_token::report_only",
            "a request would have been rejected",
            reason = failure.reason.as_str(),
            scope = failure.rejection.scope(),
            token_id = token.id(),
            token_type = token.token_type()
        );
    }

    /// Rejects a request whose head somebody else holds.
    pub(crate) fn rejected(&self, failure: Failure, parts: &Parts) -> Rejected {
        let response = self.reject(&failure, &RequestHead::of_parts(parts, &self.sources));
        Rejected::new(failure.rejection, response)
    }

    /// Counts the rejection and makes its response.
    pub(crate) fn reject(&self, failure: &Failure, request: &RequestHead<'_>) -> Response<Bytes> {
        let Failure {
            rejection,
            reason,
            caller,
        } = failure;
        if let Some(on_decision) = &self.on_decision {
            let caller = caller.as_deref();
            on_decision(&Decision {
                rejected: Some((rejection, reason.as_str())),
                token_id: caller.map(|caller| caller.token_id.as_str()),
                tenant_id: caller.and_then(|caller| caller.tenant_id.as_deref()),
                origin: caller.and_then(|caller| caller.origin),
            });
        }
        self.cache.engine.counters.rejected(*reason);
        // A target of its own, so that it can be enabled alone. The client is told less.
        event!(
            debug,
            "tower_api_token::rejection",
            "a request was rejected",
            reason = reason.as_str(),
            token_type = self.token_type.as_deref()
        );
        respond(
            rejection,
            &self.challenges,
            &*self.rejection_response,
            request,
            self.grpc_status,
        )
    }
}

/// Returns the header's value if it occurs once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

impl<M> Authenticator<M> {
    /// Returns a copy that requires further scopes, and that every request has a valid token.
    pub(crate) fn with_scopes(&self, scopes: &RequiredScopes) -> Self {
        let required = self.required_scopes.as_ref();
        Self {
            cache: self.cache.clone(),
            token_type: self.token_type.clone(),
            sources: self.sources.clone(),
            limits: self.limits.clone().without_others(),
            optional: false,
            strip_credentials: self.strip_credentials,
            allow_cors_preflight: self.allow_cors_preflight,
            allow_shared_caching: self.allow_shared_caching,
            expiry_notice: self.expiry_notice,
            required_scopes: Some(required.map_or(scopes.clone(), |own| own.and(scopes))),
            policies: self.policies.clone(),
            reported: self.reported.clone(),
            on_decision: self.on_decision.clone(),
            #[cfg(feature = "tracing")]
            span_fields: self.span_fields,
            is_stricter: true,
            challenges: self.challenges.clone(),
            grpc_status: self.grpc_status,
            rejection_response: Arc::clone(&self.rejection_response),
        }
    }
}
