//! The layer in actix-web: `cargo run -p examples --bin actix --features actix`.
//!
//! actix-web has middleware of its own, which is neither Tower's nor `Send`, and types of `http` 0.2.
//! [`ApiTokenLayer::verify`] takes the head of a request and returns the decision, or the response to a rejected one. What
//! the layer does besides as a middleware is done here: responses to a token are kept from shared caches.
//!
//! A handler takes the token as `ReqData<CachedApiToken>`.

use std::error::Error;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderValue, VARY};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{Data, ReqData, get};
use actix_web::{App, HttpMessage, HttpResponse, HttpServer};
use tower_api_token::middleware::{Rejected, Verification};
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, BoxError, CachedApiToken, Lookup, TokenFormat, TokenRecord,
};

async fn authenticate(
    layer: Data<ApiTokenLayer>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> actix_web::Result<ServiceResponse<BoxBody>> {
    let Ok(head) = head(&request) else {
        let response = HttpResponse::new(StatusCode::BAD_REQUEST);
        return Ok(request.into_response(response));
    };
    let token = match layer.verify(&head).await {
        Ok(Verification::Verified(token)) => token,
        // The layer is not optional.
        Ok(_) => return Ok(request.into_response(HttpResponse::Unauthorized())),
        Err(rejected) => return Ok(request.into_response(response(rejected))),
    };
    request.extensions_mut().insert(token);
    let mut response = next.call(request).await?.map_into_boxed_body();
    let headers = response.headers_mut();
    headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
    headers.append(VARY, HeaderValue::from_static("authorization"));
    Ok(response)
}

/// Returns the head in the types of `http` 1.
fn head(request: &ServiceRequest) -> http::Result<http::request::Parts> {
    let mut head = http::Request::builder()
        .method(request.method().as_str())
        .uri(request.uri().to_string());
    for (name, value) in request.headers() {
        head = head.header(name.as_str(), value.as_bytes());
    }
    Ok(head.body(())?.into_parts().0)
}

/// Returns the layer's response in the types of actix-web, which adds the length.
fn response(rejected: Rejected) -> HttpResponse {
    let (head, body) = rejected.into_response().into_parts();
    let status = StatusCode::from_u16(head.status.as_u16());
    let mut response = HttpResponse::build(status.unwrap_or(StatusCode::UNAUTHORIZED));
    for (name, value) in &head.headers {
        if name.as_str() != CONTENT_LENGTH.as_str() {
            response.append_header((name.as_str(), value.as_bytes()));
        }
    }
    response.body(body)
}

async fn whoami(token: ReqData<CachedApiToken>) -> String {
    format!("{} ({})\n", token.id(), token.origin())
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let format = TokenFormat::from_static("demo_");
    // The second one cannot be looked up.
    let (good, broken) = (format.generate()?, format.generate()?);
    let (known, unreachable) = (good.digest(), broken.digest());
    let cache = ApiTokenCache::builder(move |lookup: Lookup| async move {
        if lookup.digest() == unreachable {
            return Err(BoxError::from("the database is down"));
        }
        Ok((lookup.digest() == known).then(|| TokenRecord::new("tok-1")))
    })
    .build()?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = std::net::TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    for token in [&good, &broken] {
        let token = token.expose();
        println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/");
    }
    println!("listening on http://{address}");
    // One cache for all workers.
    let layer = Data::new(ApiTokenLayer::new(cache));
    let app = move || {
        App::new()
            .app_data(layer.clone())
            .route("/", get().to(whoami))
            .wrap(from_fn(authenticate))
    };
    HttpServer::new(app).listen(listener)?.run().await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    actix_web::rt::System::new().block_on(serve())
}
