//! Why a request is rejected, and the response to it.
//!
//! | situation | HTTP | gRPC |
//! |---|---|---|
//! | no token | 401, a challenge without an error | 16 |
//! | an invalid token | 401 `error="invalid_token"`, the same bytes whatever the reason | 16 |
//! | a WebSocket with a token and no other protocol | 400 `error="invalid_request"` | 3 |
//! | more than one token | 400 `error="invalid_request"` | 3 |
//! | a valid token that is denied | 403 with the loader's reason, a challenge without an error | 7 |
//! | a valid token that does not allow the request | 403 `error="insufficient_scope"` | 7 |
//! | a valid token that is used too often | 429 and `Retry-After`, no challenge | 8 and `grpc-retry-pushback-ms` |
//! | the token could not be verified | 503 and `Retry-After`, no challenge | 14 and `grpc-retry-pushback-ms` |

mod cause;
mod challenge;
mod grpc;
mod length;
mod problem;
mod response;
mod scope;
mod status_only;

pub use cause::Rejection;
pub(crate) use challenge::{Challenges, Parameters};
pub use problem::ProblemDetails;
pub use response::ResponseForRejection;
pub(crate) use response::respond;
pub(crate) use scope::check_scope;
pub use status_only::StatusOnly;
