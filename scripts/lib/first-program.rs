//! What `scripts/package` builds in an empty project: the README's first example, in place of the line that says so.
//! Prints the status of one request, which has the token in `TOKEN` if there is one.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use tower::ServiceExt as _;
use tower_api_token::{ApiTokenLayer, CachedApiToken, RedisStore};
use tower_api_token_sqlx::ApiKeys;

async fn whoami(token: CachedApiToken) -> String {
    token.id().to_owned()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database_url = std::env::var("DATABASE_URL")?;
    let redis_url = std::env::var("REDIS_URL")?;
    let app = Router::new().route("/whoami", get(whoami));
    // README
    let mut request = Request::get("/whoami");
    if let Ok(token) = std::env::var("TOKEN") {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = app.oneshot(request.body(Body::empty())?).await?;
    println!("{}", response.status().as_u16());
    Ok(())
}
