//! The program for forward authentication: whatever a proxy sends, only the right token passes, the headers about it are
//! the record's and never the client's, and no text ends a header.

#[path = "../../examples/forward_auth/answer.rs"]
mod answer;

use std::convert::Infallible;

use answer::{Preflights, Rules, Verifier};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::runtime::{Builder, Runtime};
use tower_api_token::{ApiTokenCache, Lookup, TokenDigest, TokenRecord};

/// Seeds can have its text.
const TOKEN: &str = "app-0123456789abcdef";

const TYPE: &str = "app";
const TOKEN_HEADER: &str = "x-api-key";
const IDENTITY: [&str; 4] = [
    "x-api-token-id",
    "x-api-token-tenant",
    "x-api-token-app",
    "x-api-token-type",
];

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// What one input stands for.
struct Case {
    preflights: Preflights,
    only_type: bool,
    own_header: bool,
    method: Method,
    headers: HeaderMap,
    texts: Option<Texts>,
}

/// Reads the settings from the first byte, then a line with the method, lines with headers up to an empty one, and the
/// texts of the record, with a zero after each.
pub(crate) fn target(data: &[u8]) {
    let Some(case) = Case::read(data) else {
        return;
    };
    let answer = |headers| RUNTIME.with(|runtime| runtime.block_on(case.answer(headers)));
    let given = answer(case.headers.clone());
    case.check(&given);
    let mut honest = case.headers.clone();
    for name in case.headers.keys().filter(|name| is_forged(name)) {
        honest.remove(name);
    }
    if honest.len() < case.headers.len() {
        let same = answer(honest);
        assert_eq!(same.status(), given.status());
        assert_eq!(same.headers(), given.headers());
        assert_eq!(same.body(), given.body());
    }
}

/// Returns whether a service could take a header for one about the token, also in CGI's form.
fn is_forged(name: &HeaderName) -> bool {
    name.as_str().replace('_', "-").starts_with("x-api-token-")
}

impl Case {
    fn read(data: &[u8]) -> Option<Self> {
        let (choice, mut rest) = data.split_first()?;
        let method = Method::from_bytes(line(&mut rest)).ok()?;
        let mut headers = HeaderMap::new();
        loop {
            match line(&mut rest) {
                b"" => break,
                field => {
                    // A server refuses a head in which one is none.
                    let (name, value) = split(field, b':')?;
                    let value = HeaderValue::from_bytes(value.trim_ascii()).ok()?;
                    headers.append(HeaderName::from_bytes(name).ok()?, value);
                }
            }
        }
        Some(Self {
            preflights: match choice & 3 {
                1 => Preflights::ByXForwardedMethod,
                2 => Preflights::ByMethod,
                _ => Preflights::Refuse,
            },
            only_type: choice & 4 != 0,
            own_header: choice & 8 != 0,
            method,
            headers,
            texts: Texts::read(std::str::from_utf8(rest).ok()?),
        })
    }

    async fn answer(&self, headers: HeaderMap) -> Response<Bytes> {
        let record = self.texts.as_ref().map(Texts::record);
        let good = TokenDigest::of(TOKEN);
        let loader = move |lookup: Lookup| {
            let record = record.clone().filter(|_| lookup.digest() == good);
            async { Ok::<_, Infallible>(record) }
        };
        let cache = ApiTokenCache::builder(loader)
            .build()
            .expect("the default settings");
        let rules = Rules {
            token_type: self.only_type.then(|| TYPE.to_owned()),
            token_header: self.own_header.then(|| TOKEN_HEADER.to_owned()),
            preflights: self.preflights,
        };
        let verifier = Verifier::new(cache, rules).expect("valid rules");
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = headers;
        let (parts, body) = verifier.answer(request).await.into_parts();
        let body = body.collect().await.expect("it cannot fail").to_bytes();
        Response::from_parts(parts, body)
    }

    fn check(&self, answer: &Response<Bytes>) {
        let (status, headers) = (answer.status(), answer.headers());
        for (name, value) in headers {
            assert!(
                value
                    .as_bytes()
                    .iter()
                    .all(|byte| (b' '..=b'~').contains(byte)),
                "{name}: {value:?}"
            );
        }
        assert_eq!(headers["cache-control"], "no-store");
        if status != StatusCode::OK {
            let refusals = [400, 401, 403];
            assert!(refusals.contains(&status.as_u16()), "{status}");
            assert!(IDENTITY.iter().all(|name| !headers.contains_key(*name)));
            assert!(headers.contains_key("www-authenticate"));
            return self.check_body(answer);
        }
        assert!(answer.body().is_empty());
        assert_eq!(headers.len(), IDENTITY.len() + 1, "{headers:?}");
        let identity = IDENTITY.map(|name| decoded(&headers[name]));
        if identity[0].is_empty() {
            assert!(
                self.is_preflight() && identity.iter().all(String::is_empty),
                "{identity:?}"
            );
            return;
        }
        assert!(self.has_token());
        let texts = self.texts.as_ref();
        let texts = texts.expect("a token without a record is invalid");
        assert_eq!(texts.denied, None);
        assert!(!self.only_type || texts.identity[3].as_deref() == Some(TYPE));
        let expected = texts.identity.clone().map(Option::unwrap_or_default);
        assert_eq!(identity, expected);
    }

    /// A refusal says what it is, if the proxy asked with a method whose answer has a body.
    fn check_body(&self, answer: &Response<Bytes>) {
        let is_head = self.method == Method::HEAD
            && !matches!(self.preflights, Preflights::ByXForwardedMethod);
        assert_eq!(answer.body().is_empty(), is_head);
        if !is_head {
            let body: serde_json::Value = serde_json::from_slice(answer.body()).expect("JSON");
            assert_eq!(body["status"], answer.status().as_u16());
        }
    }

    fn is_preflight(&self) -> bool {
        let count = |name: &str| self.headers.get_all(name).iter().count();
        let is_options = match self.preflights {
            Preflights::Refuse => false,
            Preflights::ByMethod => self.method == Method::OPTIONS,
            Preflights::ByXForwardedMethod => {
                count("x-forwarded-method") == 1 && self.headers["x-forwarded-method"] == "OPTIONS"
            }
        };
        is_options
            && ["origin", "access-control-request-method"]
                .iter()
                .all(|name| count(name) == 1)
    }

    /// Returns whether the one header for it has the token, and nothing behind it.
    fn has_token(&self) -> bool {
        let name = if self.own_header {
            TOKEN_HEADER
        } else {
            "authorization"
        };
        let values: Vec<_> = self.headers.get_all(name).iter().collect();
        match values[..] {
            [value] => value.as_bytes().ends_with(TOKEN.as_bytes()),
            _ => false,
        }
    }
}

/// Takes a line, without its end.
fn line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (line, next) = split(rest, b'\n').unwrap_or((rest, b""));
    *rest = next;
    line
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == at)?;
    Some((&text[..place], &text[place + 1..]))
}

/// The texts of a record: its id, tenant, app and type, and why it is denied.
struct Texts {
    identity: [Option<String>; 4],
    denied: Option<String>,
}

impl Texts {
    /// Returns `None` without an id, which a record must have.
    fn read(texts: &str) -> Option<Self> {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let mut texts = texts.split('\0').map(given);
        let identity = std::array::from_fn(|_| texts.next().flatten());
        identity[0].is_some().then(|| Self {
            identity,
            denied: texts.next().flatten(),
        })
    }

    fn record(&self) -> TokenRecord {
        let [id, tenant, app, token_type] = self.identity.clone();
        let record = TokenRecord::new(id.unwrap_or_default());
        let record = record.tenant_id(tenant).app_id(app).token_type(token_type);
        match &self.denied {
            Some(reason) => record.denied(reason.clone()),
            None => record,
        }
    }
}

/// Decodes percent signs, as a service does.
fn decoded(value: &HeaderValue) -> String {
    let (mut bytes, mut text) = (Vec::new(), value.as_bytes());
    while let Some((byte, rest)) = text.split_first() {
        text = rest;
        if *byte == b'%' {
            let (hex, rest) = text.split_at(2);
            let hex = std::str::from_utf8(hex).expect("ASCII");
            bytes.push(u8::from_str_radix(hex, 16).expect("hexadecimal digits"));
            text = rest;
        } else {
            assert!(
                byte.is_ascii_alphanumeric() || b"-._~".contains(byte),
                "{value:?}"
            );
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).expect("the record's text")
}
