//! An OpenAPI document with `aide`: `cargo run -p examples --bin aide --features aide`.
//!
//! `aide` reads a handler's arguments, each of which implements its [`OperationInput`]. Neither that trait nor
//! [`CachedApiToken`] is the service's, so that the service cannot implement it for the token itself. There are two ways:
//!
//! * [`Caller`], a type of the service around the token. What only the service knows belongs there once: the security
//!   scheme, which depends on the layer's sources, and the layer's responses.
//! * `aide`'s own `NoApi<CachedApiToken>`, for a handler whose authentication is described elsewhere.

use std::convert::Infallible;
use std::error::Error;

use aide::axum::ApiRouter;
use aide::axum::routing::get;
use aide::generate::GenContext;
use aide::openapi::{Info, MediaType, OpenApi, Operation, Response, SecurityScheme};
use aide::{NoApi, OperationInput};
use axum::Router;
use axum::extract::FromRequestParts;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use tokio::net::TcpListener;
use tower_api_token::middleware::MissingApiToken;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, Lookup, TokenFormat, TokenRecord,
};

const SCHEME: &str = "bearer";

/// Who calls.
struct Caller(CachedApiToken);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = MissingApiToken;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, MissingApiToken> {
        let token = CachedApiToken::from_request_parts(parts, state).await?;
        Ok(Self(token))
    }
}

impl OperationInput for Caller {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        operation
            .security
            .push([(SCHEME.to_owned(), Vec::new())].into());
    }

    fn inferred_early_responses(
        _: &mut GenContext,
        _: &mut Operation,
    ) -> Vec<(Option<u16>, Response)> {
        let rejection = |(status, text): (u16, &str)| {
            let problem = ("application/problem+json".to_owned(), MediaType::default());
            let response = Response {
                description: text.to_owned(),
                content: [problem].into(),
                ..Response::default()
            };
            (Some(status), response)
        };
        let rejections = [
            (400, "The request has more than one token."),
            (401, "The token is missing or not valid."),
            (403, "The token is suspended."),
            (503, "The token cannot be verified now."),
        ];
        rejections.into_iter().map(rejection).collect()
    }
}

async fn whoami(Caller(token): Caller) -> String {
    format!("{}\n", token.id())
}

async fn quietly(NoApi(token): NoApi<CachedApiToken>) -> String {
    format!("{}\n", token.id())
}

fn app(cache: ApiTokenCache) -> Result<Router, Box<dyn Error>> {
    let mut document = OpenApi {
        info: Info {
            title: "An example".to_owned(),
            version: "1".to_owned(),
            ..Info::default()
        },
        ..OpenApi::default()
    };
    let bearer = SecurityScheme::Http {
        scheme: "bearer".to_owned(),
        bearer_format: None,
        description: None,
        extensions: Default::default(),
    };
    let app = ApiRouter::new()
        .api_route("/whoami", get(whoami))
        .api_route("/quietly", get(quietly))
        .layer(ApiTokenLayer::new(cache))
        .finish_api_with(&mut document, |api| api.security_scheme(SCHEME, bearer));
    let document = serde_json::to_string(&document)?;
    let document = async move || ([(CONTENT_TYPE, "application/json")], document);
    Ok(app.route("/openapi.json", axum::routing::get(document)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let token = TokenFormat::from_static("demo_").generate()?;
    let known = token.digest();
    let cache = ApiTokenCache::builder(move |lookup: Lookup| {
        let record = (lookup.digest() == known).then(|| TokenRecord::new("tok-1"));
        async { Ok::<_, Infallible>(record) }
    })
    .build()?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let token = token.expose();
    println!("curl -i http://{address}/openapi.json");
    println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/whoami");
    println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/quietly");
    println!("listening on http://{address}");
    axum::serve(listener, app(cache)?).await?;
    Ok(())
}
