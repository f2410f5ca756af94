//! Rejections of gRPC calls: a trailers-only response, written without depending on tonic.
//!
//! gRPC-Web clients read the status from the headers too (PROTOCOL-WEB.md: a response without messages may
//! have its trailers among the headers). In a browser, a page of another origin only sees the headers that
//! CORS exposes to it, which is not decided here.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};

use crate::middleware::rejection::cause::Rejection;

/// Returns the content type if it is that of a gRPC or gRPC-Web call.
pub(super) fn content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    let value = headers.get(CONTENT_TYPE)?;
    let bytes = value.as_bytes();
    let prefix = b"application/grpc";
    let rest = bytes.get(prefix.len()..)?;
    let named = bytes[..prefix.len()].eq_ignore_ascii_case(prefix);
    // `application/grpc`, `application/grpc+proto`, `application/grpc-web…`; not `application/grpcfoo`.
    (named && matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' '))).then_some(value)
}

fn code(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::MissingToken | Rejection::InvalidToken => "16",
        Rejection::Denied(_) | Rejection::InsufficientScope { .. } => "7",
        Rejection::TooManyRequests { .. } => "8",
        Rejection::Unavailable { .. } => "14",
        Rejection::MultipleTokens | Rejection::MissingProtocol => "3",
    }
}

pub(super) fn respond(rejection: &Rejection, content_type: &HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.clone());
    headers.insert("grpc-status", HeaderValue::from_static(code(rejection)));
    if let Ok(message) = HeaderValue::try_from(percent_encoded(rejection.detail())) {
        headers.insert("grpc-message", message);
    }
    if let Some(retry_after) = rejection.retry_after() {
        // Clients with a retry policy wait for so long instead of their own back-off (gRFC A6).
        let millis = i32::try_from(retry_after.as_millis()).unwrap_or(i32::MAX);
        headers.insert("grpc-retry-pushback-ms", HeaderValue::from(millis));
    }
    response
}

/// Encodes all bytes but visible ASCII and spaces, and the percent sign (gRPC over HTTP/2,
/// "Percent-Byte-Encoding"). A space at either end is encoded too: a header value with one is malformed in
/// HTTP/2 (RFC 9113 section 8.2.1), and HTTP/1.1 drops it.
fn percent_encoded(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b' ' if (1..last).contains(&at) => out.push(' '),
            b'!'..=b'~' if byte != b'%' => out.push(byte.into()),
            _ => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(with: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(with));
        content_type(&headers).is_some()
    }

    #[test]
    fn a_grpc_call_is_recognized_by_its_content_type() {
        for yes in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web",
            "application/grpc-web-text",
            "Application/gRPC",
        ] {
            assert!(asks(yes), "{yes}");
        }
        for no in [
            "application/json",
            "application/grpcx",
            "application/grp",
            "text/plain",
        ] {
            assert!(!asks(no), "{no}");
        }
    }

    #[test]
    fn a_message_is_percent_encoded() {
        assert_eq!(percent_encoded("5 % of é\n"), "5 %25 of %C3%A9%0A");
        assert_eq!(percent_encoded(""), "");
    }

    #[test]
    fn a_space_at_either_end_of_a_message_is_encoded() {
        assert_eq!(percent_encoded("  a b "), "%20 a b%20");
        assert_eq!(percent_encoded("a  "), "a %20");
        assert_eq!(percent_encoded(" "), "%20");
    }
}
