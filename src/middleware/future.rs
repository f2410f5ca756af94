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
use crate::middleware::body::ResponseBody;
use crate::middleware::cache_control::Caching;
use crate::middleware::layer::Shared;
use crate::middleware::rejection::{MakeRejection, Refused, admitted};

/// The look-up of a request that no local answer was found for.
type Waiting<M> = Pin<Box<dyn Future<Output = Result<Answer<M>, Unavailable>> + Send>>;

/// What waits for the look-up.
pub(crate) struct Held<ReqBody, S> {
    pub(crate) request: Request<ReqBody>,
    pub(crate) caching: Caching,
    /// Readied.
    pub(crate) inner: S,
}

pin_project! {
    /// The future of [`ApiTokenService`](crate::ApiTokenService).
    pub struct ResponseFuture<S, ReqBody, M, R>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S::Future, S, ReqBody, M, R>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, S, ReqBody, M, R> {
        Inner {
            #[pin] future: F,
            // Taken when the response is there.
            caching: Option<Caching>,
        },
        Refused { response: Option<Response<Bytes>> },
        Waiting {
            answer: Waiting<M>,
            // Taken when the answer is there.
            held: Option<Held<ReqBody, S>>,
            shared: Arc<Shared<M, R>>,
        },
    }
}

impl<S, ReqBody, M, R> ResponseFuture<S, ReqBody, M, R>
where
    S: Service<Request<ReqBody>>,
{
    pub(crate) fn inner(future: S::Future, caching: Caching) -> Self {
        let caching = Some(caching);
        Self {
            state: State::Inner { future, caching },
        }
    }

    pub(crate) fn refused(response: Response<Bytes>) -> Self {
        let response = Some(response);
        Self {
            state: State::Refused { response },
        }
    }

    pub(crate) fn waiting(
        answer: Waiting<M>,
        held: Held<ReqBody, S>,
        shared: Arc<Shared<M, R>>,
    ) -> Self {
        Self {
            state: State::Waiting {
                answer,
                held: Some(held),
                shared,
            },
        }
    }
}

impl<S, ReqBody, ResBody, M, R> Future for ResponseFuture<S, ReqBody, M, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    M: Send + Sync + 'static,
    R: MakeRejection,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let next = match this.state.as_mut().project() {
                StateProj::Inner { future, caching } => {
                    let mut response = ready!(future.poll(cx))?;
                    if let Some(caching) = caching.take() {
                        caching.tell(response.headers_mut());
                    }
                    return Poll::Ready(Ok(response.map(ResponseBody::served)));
                }
                StateProj::Refused { response } => {
                    let response = response.take().expect("polled after completion");
                    return Poll::Ready(Ok(response.map(ResponseBody::refused)));
                }
                StateProj::Waiting {
                    answer,
                    held,
                    shared,
                } => {
                    let answer = ready!(answer.as_mut().poll(cx));
                    let mut held = held.take().expect("polled after completion");
                    let token = match answer {
                        Ok(answer) => admitted(answer),
                        Err(error) => Err(Refused::unavailable(&error)),
                    };
                    match token.and_then(|token| shared.admit(token, &mut held.request)) {
                        Ok(()) => State::Inner {
                            future: held.inner.call(held.request),
                            caching: Some(held.caching),
                        },
                        Err(refused) => State::Refused {
                            response: Some(shared.refuse(&refused, &held.request)),
                        },
                    }
                }
            };
            this.state.set(next);
        }
    }
}

impl<S, ReqBody, M, R> fmt::Debug for ResponseFuture<S, ReqBody, M, R>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
