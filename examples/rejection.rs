//! Rejections in the service's own format: `cargo run -p examples --bin rejection`.
//!
//! A [`ResponseForRejection`], which may be a closure, creates the body. The layer adds the status, the
//! challenge in `WWW-Authenticate`, `Retry-After`, `Cache-Control` and `Vary`. Rejections do not distinguish
//! "revoked" and "expired" from "unknown", because clients could find out which tokens once were valid.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use axum::{Router, routing::get};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tower_api_token::rejection::{RequestHead, ResponseForRejection};
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, Rejection, TokenDigest,
    TokenFormat, TokenRecord,
};

/// Every error of this service is `{"error": {"code": …, "message": …, "help": …}}`.
struct Envelope {
    /// The page that explains the codes.
    help: &'static str,
}

impl ResponseForRejection for Envelope {
    fn response_for_rejection(
        &self,
        rejection: &Rejection,
        _: &RequestHead<'_>,
    ) -> Response<Bytes> {
        let code = match rejection {
            Rejection::MissingToken => "token_missing",
            Rejection::InvalidToken => "token_invalid",
            Rejection::MultipleTokens => "token_ambiguous",
            Rejection::Denied(_) => "account_inactive",
            Rejection::InsufficientScope { .. } => "not_permitted",
            Rejection::Unavailable { .. } => "try_again",
            // A later release may have further variants.
            _ => "rejected",
        };
        let body = json!({ "error": {
            "code": code,
            // A sentence that the client may read. For `Denied` it is the loader's text.
            "message": rejection.detail(),
            "help": format!("{}#{code}", self.help),
        }});
        // The layer sets the status `rejection.status()` unless the response has another one.
        let mut response = Response::new(Bytes::from(body.to_string()));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

async fn whoami(token: CachedApiToken) -> String {
    format!("{}\n", token.id())
}

/// The state of a token in the database, or a failure of the database.
#[derive(Clone, Copy)]
enum Row {
    Active,
    Suspended,
    Unreachable,
}

type Table = HashMap<TokenDigest, Row>;

fn cache(table: Table) -> Result<ApiTokenCache, ConfigError> {
    let table = Arc::new(table);
    let loader = move |lookup: Lookup| {
        let row = table.get(&lookup.digest()).copied();
        async move {
            let record = TokenRecord::new("tok-1").token_type("app");
            match row {
                Some(Row::Active) => Ok(Some(record)),
                // The client reads this text,
                Some(Row::Suspended) => Ok(Some(record.denied("The account is suspended."))),
                // and never this one.
                Some(Row::Unreachable) => Err(std::io::Error::other("db-3 is down")),
                None => Ok(None),
            }
        }
    };
    ApiTokenCache::builder(loader).token_types(["app"]).build()
}

fn app(cache: ApiTokenCache) -> Result<Router, ConfigError> {
    let envelope = Envelope {
        help: "https://docs.example.com/errors",
    };
    let layer = ApiTokenLayer::builder(cache)
        .token_type("app")
        .rejection_response(envelope)
        .build()?;
    Ok(Router::new().route("/", get(whoami)).layer(layer))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;

    println!("curl -i http://{address}/");
    let format = TokenFormat::from_static("demo_");
    let mut table = Table::new();
    for row in [Row::Active, Row::Suspended, Row::Unreachable] {
        let token = format.generate()?;
        table.insert(token.digest(), row);
        let token = token.expose();
        println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/");
    }
    println!("listening on http://{address}");
    axum::serve(listener, app(cache(table)?)?).await?;
    Ok(())
}
