//! The answer to a proxy's question.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower_api_token::middleware::Verification;
use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, TokenSource};

const FORWARDED_METHOD: &str = "x-forwarded-method";

/// What becomes of CORS preflights, which browsers send without a token.
#[derive(Clone, Copy)]
pub(crate) enum Preflights {
    /// They need a token like any request. That is right where the proxy answers them itself.
    Refuse,
    /// They pass. The proxy asks with a method of its own, and overwrites `X-Forwarded-Method`.
    ByXForwardedMethod,
    /// They pass. The proxy asks with the method of the original request.
    ByMethod,
}

impl Preflights {
    fn may_pass(self) -> bool {
        !matches!(self, Self::Refuse)
    }

    /// Returns the method that decides whether a request is a preflight.
    fn method(self, asked_with: Method, headers: &HeaderMap) -> Method {
        let Self::ByXForwardedMethod = self else {
            return asked_with;
        };
        let mut values = headers.get_all(FORWARDED_METHOD).iter();
        match (values.next(), values.next()) {
            (Some(value), None) if value == "OPTIONS" => Method::OPTIONS,
            // Other methods make no difference, but for HEAD, whose refusals have no body. The proxy did not ask
            // with HEAD, and would wait for one.
            _ => Method::GET,
        }
    }
}

/// Which requests may pass.
pub(crate) struct Rules {
    /// The type of token that is good. `None` accepts any type.
    pub(crate) token_type: Option<String>,
    /// The header that has the token instead of `Authorization: Bearer`.
    pub(crate) token_header: Option<String>,
    pub(crate) preflights: Preflights,
}

/// Answers whether a request may pass, and whose it is.
#[derive(Clone)]
pub(crate) struct Verifier {
    layer: ApiTokenLayer,
    preflights: Preflights,
}

impl Verifier {
    pub(crate) fn new(cache: ApiTokenCache, rules: Rules) -> Result<Self, ConfigError> {
        // A proxy decides by the HTTP status, and gRPC's is always 200.
        let mut builder = ApiTokenLayer::builder(cache).grpc_status(false);
        if let Some(token_type) = rules.token_type {
            builder = builder.token_type(token_type);
        }
        if let Some(name) = rules.token_header {
            builder = builder.sources([TokenSource::header(&name)]);
        }
        if rules.preflights.may_pass() {
            builder = builder.allow_cors_preflight();
        }
        Ok(Self {
            layer: builder.build()?,
            preflights: rules.preflights,
        })
    }

    /// Answers by the head of the request. The body, which a proxy should not send, is not read.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let (mut parts, _) = request.into_parts();
        parts.method = self.preflights.method(parts.method, &parts.headers);
        let response = match self.layer.verify(&parts).await {
            Ok(Verification::Verified(token)) => pass(Some(&token)),
            Ok(Verification::Anonymous) => pass(None),
            // The layer lets no other tokens pass. If it did, nobody would have verified this one.
            Ok(Verification::Unverified(_)) => refuse(),
            Err(rejected) => rejected.into_response(),
        };
        response.map(Full::from)
    }
}

/// Every header is always there, empty if it has no value: then a proxy that copies them overwrites what the client
/// sent under the same names, and Caddy does not copy its own placeholder in place of a header that is missing.
fn pass(token: Option<&CachedApiToken>) -> Response<Bytes> {
    let identity = [
        ("x-api-token-id", token.map(CachedApiToken::id)),
        (
            "x-api-token-tenant",
            token.and_then(CachedApiToken::tenant_id),
        ),
        ("x-api-token-app", token.and_then(CachedApiToken::app_id)),
        (
            "x-api-token-type",
            token.and_then(CachedApiToken::token_type),
        ),
    ];
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    for (name, value) in identity {
        let Ok(value) = HeaderValue::try_from(escaped(value.unwrap_or_default())) else {
            return refuse();
        };
        headers.insert(name, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Encodes all but the unreserved characters of a URI (RFC 3986 section 2.3), as UTF-8 with percent signs. What is
/// left can end no header, separates nothing in a list, is ASCII, and is decoded by a function of every language.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => escaped.push(byte.into()),
            _ => write!(escaped, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_cannot_end_a_header() {
        assert_eq!(escaped("tok_1-a.b~"), "tok_1-a.b~");
        assert_eq!(escaped("a\r\nx: b"), "a%0D%0Ax%3A%20b");
        assert_eq!(escaped("a, b; c%41+"), "a%2C%20b%3B%20c%2541%2B");
        assert_eq!(escaped("zwölf"), "zw%C3%B6lf");
        let all: String = (char::MIN..=char::MAX).collect();
        assert!(escaped(&all).bytes().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn only_one_forwarded_options_makes_a_preflight() {
        let method = |preflights: Preflights, asked_with, forwarded: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(FORWARDED_METHOD, HeaderValue::from_static(value));
            }
            preflights.method(asked_with, &headers)
        };
        let forwarded = |values| method(Preflights::ByXForwardedMethod, Method::GET, values);
        assert_eq!(forwarded(&["OPTIONS"]), Method::OPTIONS);
        for values in [
            &[][..],
            &["HEAD"],
            &["options"],
            &["OPTIONS", "OPTIONS"],
            &["OPTIONS, GET"],
        ] {
            assert_eq!(forwarded(values), Method::GET, "{values:?}");
        }
        let own = method(Preflights::ByXForwardedMethod, Method::OPTIONS, &[]);
        assert_eq!(own, Method::GET);
        for preflights in [Preflights::Refuse, Preflights::ByMethod] {
            assert_eq!(method(preflights, Method::POST, &["OPTIONS"]), Method::POST);
        }
    }
}
