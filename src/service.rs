//! The service.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN};
use http::{HeaderMap, Method, Request, Response};
use tower_service::Service;

use crate::cache::Answer;
use crate::extract::{self, Presented};
use crate::future::ResponseFuture;
use crate::layer::Shared;
use crate::rejection::{Asked, MakeRejection, Refusal, ResponseBody, is_grpc};
use crate::token::{Anonymous, BearerToken, CachedApiToken};

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
        // What somebody outside put there is not a verification of ours.
        request.extensions_mut().remove::<CachedApiToken<M>>();
        request.extensions_mut().remove::<Anonymous<M>>();
        mark_sensitive(request.headers_mut());
        if is_preflight(&request) {
            return self.pass(request);
        }
        let shared = &self.shared;
        let refuse = |refusal, request: &Request<ReqBody>| {
            ResponseFuture::refused(Arc::clone(shared), &refusal, &asked(request))
        };
        let token = match extract::authorization(request.headers(), &shared.limits) {
            Presented::Token(token) => token,
            Presented::Nothing if shared.optional => return self.pass(request),
            Presented::Nothing => return refuse(Refusal::NotPresented, &request),
            Presented::Malformed => return refuse(Refusal::InvalidToken, &request),
            Presented::Ambiguous => return refuse(Refusal::Ambiguous, &request),
        };
        let engine = &shared.cache.engine;
        match engine.answer_locally(token, shared.scope.name()) {
            Some(Answer::Found(token)) => {
                request.extensions_mut().insert(token);
                ResponseFuture::inner(self.inner.call(request))
            }
            Some(Answer::Absent(_)) => refuse(Refusal::InvalidToken, &request),
            Some(Answer::Denied(denial)) => refuse(Refusal::Denied(denial.reason), &request),
            None => {
                let token = BearerToken::new(token);
                let answer = Box::pin(Arc::clone(engine).resolve(token, shared.scope.clone()));
                // The readied service is the one to be called, and it waits with the request; the
                // clone left behind has to be readied first.
                let clone = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::waiting(answer, request, inner, Arc::clone(shared))
            }
        }
    }
}

impl<S, M, R> ApiTokenService<S, M, R> {
    /// Lets the request pass without a token, and says that it was this layer that did.
    fn pass<ReqBody>(&mut self, mut request: Request<ReqBody>) -> ResponseFuture<S, ReqBody, M, R>
    where
        S: Service<Request<ReqBody>>,
        M: Send + Sync + 'static,
    {
        request.extensions_mut().insert(Anonymous::<M>::new());
        ResponseFuture::inner(self.inner.call(request))
    }
}

/// Keeps the credential out of whatever prints the headers further in. All lines of it: a preflight
/// passes with however many there are.
fn mark_sensitive(headers: &mut HeaderMap) {
    if headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
        for (name, value) in headers {
            if name == AUTHORIZATION {
                value.set_sensitive(true);
            }
        }
    } else if let Some(value) = headers.get_mut(AUTHORIZATION) {
        value.set_sensitive(true);
    }
}

/// A CORS preflight carries no credentials by design (Fetch standard, section 3.2.2); answering it
/// with 401 would switch CORS off. A plain `OPTIONS` is a request like any other.
fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

pub(crate) fn asked<B>(request: &Request<B>) -> Asked {
    Asked {
        head: request.method() == Method::HEAD,
        // A gRPC call is a POST. Anything else with its content type must not get its HTTP 200: a
        // proxy that asks us whether to let a request pass would read it as leave.
        grpc: is_grpc(request.headers())
            .filter(|_| request.method() == Method::POST)
            .cloned(),
    }
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
