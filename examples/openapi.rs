//! An OpenAPI document with `utoipa`: `cargo run -p examples --bin openapi --features openapi`.
//!
//! * A security scheme for each place that the layer reads: `bearer` is [`TokenSource::bearer`], an `apiKey` in a header
//!   is [`TokenSource::header`]. An operation lists both, each with the scopes that it requires: either is enough.
//! * [`Rejections`] describes every response of the layer, for each operation behind it, once.
//! * The document itself is outside of the layer, so that clients can be generated without a token.
//!
//! With `aide`, which reads a handler's arguments, see the example `aide`.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::time::Duration;

use axum::{Router, routing::get, routing::post};
use http::header::CONTENT_TYPE;
use tokio::net::TcpListener;
use tower_api_token::rejection::RequestHead;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, BoxError, CachedApiToken, ConfigError, Lookup, Rejection,
    TokenDigest, TokenFormat, TokenRecord, TokenSource,
};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Header, Object, Ref, RefOr, Response, ResponseBuilder, Type};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

const API_KEY: &str = "x-api-key";

#[derive(OpenApi)]
#[openapi(paths(list, create), components(schemas(Problem)), modifiers(&Security))]
struct Document;

/// Where the layer reads tokens: one scheme for each of its sources.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let api_key = ApiKey::Header(ApiKeyValue::new(API_KEY));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(api_key));
    }
}

/// The body of a rejection (RFC 9457).
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its description is used")]
struct Problem {
    r#type: String,
    title: String,
    status: u16,
    /// A sentence that a person may read.
    detail: String,
}

/// The responses of the layer.
struct Rejections;

impl IntoResponses for Rejections {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let challenge = ("www-authenticate", Type::String);
        let retry_after = ("retry-after", Type::Integer);
        [
            rejection(400, "The request has more than one token.", &challenge),
            rejection(401, "The token is missing or not valid.", &challenge),
            rejection(403, "The token lacks a scope, or is suspended.", &challenge),
            rejection(429, "The token is used too often.", &retry_after),
            rejection(503, "The token cannot be verified now.", &retry_after),
        ]
        .into()
    }
}

fn rejection(status: u16, text: &str, header: &(&str, Type)) -> (String, RefOr<Response>) {
    let (name, kind) = header;
    let body = Content::new(Some(Ref::from_schema_name("Problem")));
    let response = ResponseBuilder::new()
        .description(text)
        .header(*name, Header::new(Object::with_type(kind.clone())))
        .content("application/problem+json", body);
    (status.to_string(), RefOr::T(response.build()))
}

/// Lists orders.
#[utoipa::path(
    get,
    path = "/orders",
    security(("bearer" = ["orders:read"]), ("api_key" = ["orders:read"])),
    responses((status = 200, description = "The caller's orders.", body = String), Rejections),
)]
async fn list(token: CachedApiToken<Quota>) -> String {
    format!("orders of {}\n", token.id())
}

/// Creates an order.
#[utoipa::path(
    post,
    path = "/orders",
    request_body(content = String, content_type = "text/plain"),
    security(("bearer" = ["orders:write"]), ("api_key" = ["orders:write"])),
    responses((status = 200, description = "The order.", body = String), Rejections),
)]
async fn create(token: CachedApiToken<Quota>, order: String) -> String {
    format!("{} orders {order}\n", token.id())
}

/// What is left of the caller's quota.
#[derive(Clone, Copy)]
enum Quota {
    Left,
    UsedUp,
}

type Cache = ApiTokenCache<Quota>;

fn app(cache: Cache) -> Result<Router, Box<dyn Error>> {
    let layer = ApiTokenLayer::builder(cache)
        .sources([TokenSource::bearer(), TokenSource::header(API_KEY)])
        .policy(
            |token: &CachedApiToken<Quota>, _: &RequestHead<'_>| match token.metadata() {
                Quota::Left => Ok(()),
                Quota::UsedUp => {
                    let retry_after = Duration::from_secs(60);
                    Err(Rejection::TooManyRequests { retry_after })
                }
            },
        )
        .build()?;
    let read = get(list).layer(layer.require_scopes("orders:read")?);
    let write = post(create).layer(layer.require_scopes("orders:write")?);
    let document = Document::openapi().to_json()?;
    let document = async move || ([(CONTENT_TYPE, "application/json")], document);
    Ok(Router::new()
        .route("/orders", read.merge(write))
        .route("/openapi.json", get(document)))
}

/// The state of a token in the database, or a failure of the database.
#[derive(Clone, Copy)]
enum Row {
    Active(&'static str, Quota),
    Suspended,
    Unreachable,
}

fn cache(table: HashMap<TokenDigest, Row>) -> Result<Cache, ConfigError> {
    ApiTokenCache::builder(move |lookup: Lookup| {
        let row = table.get(&lookup.digest()).copied();
        async move {
            let record = TokenRecord::new("tok-1");
            match row {
                Some(Row::Active(scopes, quota)) => {
                    Ok(Some(record.scopes([scopes]).metadata(quota)))
                }
                Some(Row::Suspended) => {
                    let record = record.denied("The account is suspended.");
                    Ok(Some(record.metadata(Quota::Left)))
                }
                Some(Row::Unreachable) => Err(BoxError::from("the database is down")),
                None => Ok(None),
            }
        }
    })
    .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;

    println!("curl -i http://{address}/openapi.json");
    let format = TokenFormat::from_static("demo_");
    let mut table = HashMap::new();
    for (what, row) in [
        (
            "may do all",
            Row::Active("orders:read orders:write", Quota::Left),
        ),
        ("may not read", Row::Active("orders:write", Quota::Left)),
        (
            "has no quota left",
            Row::Active("orders:read", Quota::UsedUp),
        ),
        ("is suspended", Row::Suspended),
        ("cannot be looked up", Row::Unreachable),
    ] {
        let token = format.generate()?;
        table.insert(token.digest(), row);
        let token = token.expose();
        println!("# The caller {what}:");
        println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/orders");
    }
    println!("listening on http://{address}");
    axum::serve(listener, app(cache(table)?)?).await?;
    Ok(())
}
