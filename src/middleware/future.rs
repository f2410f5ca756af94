//! The response future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::cache::Answer;
use crate::cache::error::Unavailable;
use crate::middleware::authenticator::Authenticator;
use crate::middleware::body::ResponseBody;
use crate::middleware::cache_control::CacheControl;

/// The lookup of a token that this process's memory does not hold.
type Lookup<M> = Pin<Box<dyn Future<Output = Result<Answer<M>, Unavailable>> + Send>>;

/// What waits for the lookup.
pub(crate) struct Held<ReqBody, S> {
    pub(crate) request: Request<ReqBody>,
    pub(crate) cache_control: CacheControl,
    /// Ready to be called.
    pub(crate) inner: S,
}

pin_project! {
    /// The future of [`ApiTokenService`](crate::middleware::ApiTokenService).
    pub struct ResponseFuture<S, ReqBody, M>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S::Future, S, ReqBody, M>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, S, ReqBody, M> {
        Inner {
            #[pin] future: F,
            // `None` once the response has been returned.
            cache_control: Option<CacheControl>,
        },
        Rejected { response: Option<Response<Bytes>> },
        Waiting {
            lookup: Lookup<M>,
            // `None` once the lookup has finished.
            held: Option<Held<ReqBody, S>>,
            authenticator: Arc<Authenticator<M>>,
        },
    }
}

impl<S, ReqBody, M> ResponseFuture<S, ReqBody, M>
where
    S: Service<Request<ReqBody>>,
{
    pub(crate) fn inner(future: S::Future, cache_control: CacheControl) -> Self {
        let cache_control = Some(cache_control);
        Self {
            state: State::Inner {
                future,
                cache_control,
            },
        }
    }

    pub(crate) fn rejected(response: Response<Bytes>) -> Self {
        let response = Some(response);
        Self {
            state: State::Rejected { response },
        }
    }

    pub(crate) fn waiting(
        lookup: Lookup<M>,
        held: Held<ReqBody, S>,
        authenticator: Arc<Authenticator<M>>,
    ) -> Self {
        Self {
            state: State::Waiting {
                lookup,
                held: Some(held),
                authenticator,
            },
        }
    }
}

impl<S, ReqBody, ResBody, M> Future for ResponseFuture<S, ReqBody, M>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    M: Send + Sync + 'static,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let next = match this.state.as_mut().project() {
                StateProj::Inner {
                    future,
                    cache_control,
                } => {
                    let mut response = ready!(future.poll(cx))?;
                    if let Some(cache_control) = cache_control.take() {
                        cache_control.apply(response.headers_mut());
                    }
                    return Poll::Ready(Ok(response.map(ResponseBody::inner)));
                }
                StateProj::Rejected { response } => {
                    let response = response.take().expect("polled after completion");
                    return Poll::Ready(Ok(response.map(ResponseBody::rejected)));
                }
                StateProj::Waiting {
                    lookup,
                    held,
                    authenticator,
                } => {
                    let answer = ready!(lookup.as_mut().poll(cx));
                    let mut held = held.take().expect("polled after completion");
                    let token = answer
                        .map_err(Into::into)
                        .and_then(|answer| authenticator.admitted(answer));
                    // guard: H10
                    match token.and_then(|token| {
                        authenticator.admit(token, &mut held.request, &mut held.cache_control)
                    }) {
                        Ok(()) => State::Inner {
                            future: held.inner.call(held.request),
                            cache_control: Some(held.cache_control),
                        },
                        Err(failure) => {
                            let head = authenticator.head(&held.request);
                            State::Rejected {
                                response: Some(authenticator.reject(&failure, &head)),
                            }
                        }
                    }
                }
            };
            this.state.set(next);
        }
    }
}

impl<S, ReqBody, M> fmt::Debug for ResponseFuture<S, ReqBody, M>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
