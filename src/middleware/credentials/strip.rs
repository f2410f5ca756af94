//! Keeping credentials from policies and the inner service.

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, Request};

use crate::middleware::credentials::place::{is_repeated, remove_scheme};
use crate::middleware::credentials::scheme::BEARER;
use crate::middleware::credentials::sources::Sources;

/// Marks the credentials as sensitive, so that printing the headers does not show them. This includes
/// `Authorization` even if it is not read, because it holds somebody's credential.
pub(crate) fn mark_sensitive(sources: &Sources, headers: &mut HeaderMap) {
    mark(headers, &AUTHORIZATION);
    for header in sources.headers() {
        // guard: H12
        if *header != AUTHORIZATION {
            mark(headers, header);
        }
    }
}

/// Marks all values of the header: over HTTP/2 there may be several `Cookie` headers, and any number of
/// `Authorization` headers where that is not read.
fn mark(headers: &mut HeaderMap, header: &HeaderName) {
    if is_repeated(headers, header) {
        for (name, value) in headers {
            if name == header {
                value.set_sensitive(true);
            }
        }
    } else if let Some(value) = headers.get_mut(header) {
        value.set_sensitive(true);
    }
}

/// Removes the token from the query. Returns whether there was one.
pub(crate) fn take_from_uri<B>(sources: &Sources, request: &mut Request<B>) -> bool {
    let mut was_there = false;
    for place in sources.places() {
        was_there |= place.take_from_uri(request);
    }
    was_there
}

/// Removes the credentials from all headers that are read, and from `Authorization: Bearer`.
pub(crate) fn remove(sources: &Sources, headers: &mut HeaderMap) {
    for place in sources.places() {
        place.remove(headers);
    }
    // guard: H11
    remove_scheme(headers, BEARER);
}
