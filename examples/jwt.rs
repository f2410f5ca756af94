//! An API key or a JWT in the same header: `cargo run -p examples --bin jwt --features jwt`.
//!
//! Programs call with an API key, signed-in users with a JWT of another service; both send it as
//! `Authorization: Bearer`.
//!
//! * The keys' [`TokenFormat`] tells them apart. A key has to be valid. With `pass_other_tokens`, everything that
//!   does not have the prefix of a key passes the layer, **not verified**.
//! * The extractor [`Caller`] verifies those. It is the only place where the service learns who calls, and a
//!   request has one identity: both in one request are two `Authorization` lines, which is a 400.
//! * A handler for keys alone takes [`CachedApiToken`], which rejects a JWT with 401.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{FromRef, FromRequestParts};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_api_token::middleware::{MissingApiToken, Verification};
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, TokenDigest, TokenFormat,
    TokenRecord,
};

const AUDIENCE: &str = "orders";

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    aud: String,
    exp: u64,
}

/// How JWTs are verified. A service would take the issuer's public key, and an algorithm such as ES256.
#[derive(Clone)]
struct Jwt(Arc<(DecodingKey, Validation)>);

impl Jwt {
    fn new(secret: &[u8]) -> Result<Self, Box<dyn Error>> {
        // The algorithm is the service's choice, never the token's.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        let key = DecodingKey::from_secret(secret)?;
        Ok(Self(Arc::new((key, validation))))
    }

    fn verify(&self, token: &str) -> Result<Claims, InvalidJwt> {
        let (key, validation) = &*self.0;
        let decoded = decode(token, key, validation).map_err(|_| InvalidJwt)?;
        Ok(decoded.claims)
    }
}

struct InvalidJwt;

impl IntoResponse for InvalidJwt {
    fn into_response(self) -> Response {
        let challenge = HeaderValue::from_static(r#"Bearer realm="api", error="invalid_token""#);
        let no_store = HeaderValue::from_static("no-store");
        let headers = [(WWW_AUTHENTICATE, challenge), (CACHE_CONTROL, no_store)];
        (StatusCode::UNAUTHORIZED, headers, "The JWT is not valid.").into_response()
    }
}

/// Who calls.
enum Caller {
    Key(CachedApiToken),
    User(Claims),
}

impl<S> FromRequestParts<S> for Caller
where
    S: Send + Sync,
    Jwt: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let verification = Verification::from_request_parts(parts, state).await;
        match verification.map_err(MissingApiToken::into_response)? {
            Verification::Verified(token) => Ok(Self::Key(token)),
            Verification::Unverified(other) => {
                let claims = Jwt::from_ref(state).verify(other.token().expose());
                claims.map(Self::User).map_err(InvalidJwt::into_response)
            }
            // The layer is not optional.
            Verification::Anonymous => Err(StatusCode::UNAUTHORIZED.into_response()),
        }
    }
}

async fn whoami(caller: Caller) -> String {
    match caller {
        Caller::Key(token) => format!("key {}\n", token.id()),
        Caller::User(claims) => format!("user {}\n", claims.sub),
    }
}

/// For keys alone.
async fn key(token: CachedApiToken) -> String {
    format!("key {}\n", token.id())
}

fn app(cache: ApiTokenCache, format: TokenFormat, jwt: Jwt) -> Result<Router, ConfigError> {
    let layer = ApiTokenLayer::builder(cache)
        .token_format(format)
        .pass_other_tokens()
        .build()?;
    Ok(Router::new()
        .route("/whoami", get(whoami))
        .route("/key", get(key))
        .layer(layer)
        .with_state(jwt))
}

fn cache(known: TokenDigest) -> Result<ApiTokenCache, ConfigError> {
    ApiTokenCache::builder(move |lookup: Lookup| {
        let record = (lookup.digest() == known).then(|| TokenRecord::new("tok-1"));
        async { Ok::<_, Infallible>(record) }
    })
    .build()
}

/// Issues a JWT, as the service for signing in would.
fn issue(secret: &[u8]) -> Result<String, Box<dyn Error>> {
    let end = SystemTime::now() + Duration::from_secs(3_600);
    let claims = Claims {
        sub: "alice".to_owned(),
        aud: AUDIENCE.to_owned(),
        exp: end.duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
    };
    let key = EncodingKey::from_secret(secret)?;
    Ok(encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let format = TokenFormat::from_static("demo_");
    let key = format.generate()?;
    // Random too.
    let secret = TokenFormat::from_static("secret_").generate()?;
    let secret = secret.expose().as_bytes();
    let app = app(cache(key.digest())?, format, Jwt::new(secret)?)?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let (key, jwt) = (key.expose(), issue(secret)?);
    println!("curl -i -H 'Authorization: Bearer {key}' http://{address}/whoami");
    println!("curl -i -H 'Authorization: Bearer {jwt}' http://{address}/whoami");
    println!("curl -i -H 'Authorization: Bearer {jwt}' http://{address}/key");
    println!("listening on http://{address}");
    axum::serve(listener, app).await?;
    Ok(())
}
