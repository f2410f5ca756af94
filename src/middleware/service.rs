//! The service.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::middleware::authenticator::{Authenticator, Identity};
use crate::middleware::body::ResponseBody;
use crate::middleware::future::{Held, ResponseFuture};
use crate::middleware::mark::{self, Unverified};

/// The service that an [`ApiTokenLayer`](crate::ApiTokenLayer) wraps around an inner service.
pub struct ApiTokenService<S, M = ()> {
    inner: S,
    authenticator: Arc<Authenticator<M>>,
}

impl<S, M> ApiTokenService<S, M> {
    pub(crate) fn new(inner: S, authenticator: Arc<Authenticator<M>>) -> Self {
        Self {
            inner,
            authenticator,
        }
    }

    /// Returns the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service for changes.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody, M> Service<Request<ReqBody>> for ApiTokenService<S, M>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    M: Send + Sync + 'static,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, M>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let authenticator = &self.authenticator;
        let identity = match authenticator.identify(&authenticator.head(&request)) {
            Ok(identity) => identity,
            Err(failure) => {
                let response = authenticator.reject(&failure, &authenticator.head(&request));
                return ResponseFuture::rejected(response);
            }
        };
        // Before the policies, so that they see what the inner service will see.
        let is_anonymous = matches!(identity, Identity::Anonymous);
        let mut cache_control = authenticator.prepare(&mut request, is_anonymous);
        match identity {
            Identity::Anonymous => {
                mark::anonymous::<M>(request.extensions_mut());
                ResponseFuture::inner(self.inner.call(request), cache_control)
            }
            Identity::Other(token) => {
                let mark = Unverified::new(token, Arc::clone(authenticator));
                mark.insert(request.extensions_mut());
                ResponseFuture::inner(self.inner.call(request), cache_control)
            }
            // guard: H9
            Identity::Token(token) => {
                match authenticator.admit(token, &mut request, &mut cache_control) {
                    Ok(()) => ResponseFuture::inner(self.inner.call(request), cache_control),
                    Err(failure) => {
                        let response =
                            authenticator.reject(&failure, &authenticator.head(&request));
                        ResponseFuture::rejected(response)
                    }
                }
            }
            Identity::Unknown(token) => {
                let answer = Box::pin(authenticator.look_up(token));
                // The service that is ready has to be the one that is called, so it waits with the request.
                // The clone left behind is made ready before its next call.
                let clone = self.inner.clone();
                let held = Held {
                    request,
                    cache_control,
                    inner: std::mem::replace(&mut self.inner, clone),
                };
                ResponseFuture::waiting(answer, held, Arc::clone(authenticator))
            }
        }
    }
}

impl<S: Clone, M> Clone for ApiTokenService<S, M> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            authenticator: Arc::clone(&self.authenticator),
        }
    }
}

impl<S: fmt::Debug, M> fmt::Debug for ApiTokenService<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
