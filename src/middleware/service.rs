//! The service.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, ORIGIN,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tower_service::Service;

use crate::cache::cached_token::{Anonymous, CachedApiToken};
use crate::metrics::Reason;
use crate::middleware::body::ResponseBody;
use crate::middleware::cache_control::Caching;
use crate::middleware::credentials::Presented;
use crate::middleware::future::{Held, ResponseFuture};
use crate::middleware::layer::Shared;
use crate::middleware::policy::PolicyRequest;
use crate::middleware::rejection::{MakeRejection, Refusal, Refused, admitted, respond};
use crate::middleware::request_head::RefusedRequest;
use crate::token::BearerToken;
use crate::trace::event;

/// The service that [`ApiTokenLayer`](crate::ApiTokenLayer) makes.
pub struct ApiTokenService<S, M = (), R = crate::ProblemDetails> {
    inner: S,
    shared: Arc<Shared<M, R>>,
}

impl<S, M, R> ApiTokenService<S, M, R> {
    pub(crate) fn new(inner: S, shared: Arc<Shared<M, R>>) -> Self {
        Self { inner, shared }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody, M, R> Service<Request<ReqBody>> for ApiTokenService<S, M, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    M: Send + Sync + 'static,
    R: MakeRejection,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, M, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let shared = &self.shared;
        let refuse = |refused: &Refused, request: &Request<ReqBody>| {
            ResponseFuture::refused(shared.refuse(refused, request))
        };
        let known = match shared.identify(&request) {
            Ok(known) => known,
            Err(refused) => return refuse(&refused, &request),
        };
        // Before the policies, which see what the inner service does. Of a request that was refused until
        // here, nobody sees what a token may be in.
        let is_anonymous = matches!(known, Known::Anonymous);
        let caching = shared.hand_on(&mut request, is_anonymous);
        match known {
            Known::Anonymous => {
                // That it was this layer that let the request pass.
                request.extensions_mut().insert(Anonymous::<M>::new());
                ResponseFuture::inner(self.inner.call(request), caching)
            }
            Known::Token(token) => match shared.admit(token, &mut request) {
                Ok(()) => ResponseFuture::inner(self.inner.call(request), caching),
                Err(refused) => refuse(&refused, &request),
            },
            Known::NotYet(token) => {
                let engine = Arc::clone(&shared.cache.engine);
                let answer = Box::pin(engine.resolve(token, shared.scope.clone()));
                // The readied service is the one to be called, and it waits with the request; the
                // clone left behind has to be readied first.
                let clone = self.inner.clone();
                let held = Held {
                    request,
                    caching,
                    inner: std::mem::replace(&mut self.inner, clone),
                };
                ResponseFuture::waiting(answer, held, Arc::clone(shared))
            }
        }
    }
}

/// Whose request it is, as far as it can be said at once.
enum Known<M> {
    /// It passes without a token.
    Anonymous,
    Token(CachedApiToken<M>),
    /// It has to be looked up.
    NotYet(BearerToken),
}

impl<M: Send + Sync + 'static, R> Shared<M, R> {
    fn identify<B>(&self, request: &Request<B>) -> Result<Known<M>, Refused> {
        if self.allows_preflight && self.is_preflight(request) {
            return Ok(Known::Anonymous);
        }
        let (headers, uri) = (request.headers(), request.uri());
        let token = match self.sources.read(headers, uri, &self.limits) {
            Presented::Token(token) => token,
            Presented::Nothing if self.sources.is_optional() => return Ok(Known::Anonymous),
            Presented::Nothing => {
                return Err(Refused::new(Refusal::NotPresented, Reason::NotPresented));
            }
            Presented::Malformed => {
                return Err(Refused::new(Refusal::InvalidToken, Reason::Malformed));
            }
            Presented::Ambiguous => {
                return Err(Refused::new(Refusal::Ambiguous, Reason::Ambiguous));
            }
        };
        match self.cache.engine.answer_locally(&token, self.scope.name()) {
            Some(answer) => admitted(answer).map(Known::Token),
            None => Ok(Known::NotYet(BearerToken::new(token))),
        }
    }

    /// Whether it is a CORS preflight and nothing else. A browser makes one itself (Fetch standard,
    /// section 4.8): with one method that is asked for, without a body and without credentials. Of a
    /// body, what announces it is looked at; a token in the query may be there, for a preflight has the
    /// URL of the request that is to follow.
    fn is_preflight<B>(&self, request: &Request<B>) -> bool {
        let headers = request.headers();
        let is_method = |value: &HeaderValue| Method::from_bytes(value.as_bytes()).is_ok();
        request.method() == Method::OPTIONS
            && only(headers, &ORIGIN).is_some()
            && only(headers, &ACCESS_CONTROL_REQUEST_METHOD).is_some_and(is_method)
            && headers
                .get(CONTENT_LENGTH)
                .is_none_or(|length| length == "0")
            && !headers.contains_key(TRANSFER_ENCODING)
            && !headers.contains_key(CONTENT_TYPE)
            && !self.sources.are_in_a_field(headers)
    }

    /// Makes the request one that others may see.
    fn hand_on<B>(&self, request: &mut Request<B>, is_anonymous: bool) -> Caching {
        // What somebody outside put there is not a verification of ours.
        request.extensions_mut().remove::<CachedApiToken<M>>();
        request.extensions_mut().remove::<Anonymous<M>>();
        self.sources.mark_sensitive(request.headers_mut());
        self.sources.hide(request, is_anonymous)
    }

    /// Gives a good token to the inner service, if every policy allows it.
    pub(crate) fn admit<B>(
        &self,
        token: CachedApiToken<M>,
        request: &mut Request<B>,
    ) -> Result<(), Refused> {
        for policy in &self.policies {
            policy(&token, &PolicyRequest::of(request)).map_err(Refused::insufficient_scope)?;
        }
        request.extensions_mut().insert(token);
        Ok(())
    }
}

impl<M, R: MakeRejection> Shared<M, R> {
    pub(crate) fn refuse<B>(&self, refused: &Refused, request: &Request<B>) -> Response<Bytes> {
        let Refused { refusal, reason } = refused;
        self.cache.engine.counters.refused(*reason);
        // Under a target of its own, so that it can be enabled alone. The client is told less.
        event!(
            debug,
            "tower_api_token::refusal",
            "a request was refused",
            reason = reason.as_str(),
            scope = self.scope.as_written()
        );
        let request = RefusedRequest::of(request, &self.sources);
        respond(
            refusal,
            &self.challenges,
            &self.rejection,
            &request,
            self.grpc,
        )
    }
}

/// The field's value, if it has one line.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

impl<S: Clone, M, R> Clone for ApiTokenService<S, M, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: fmt::Debug, M, R> fmt::Debug for ApiTokenService<S, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
