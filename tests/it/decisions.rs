//! Tests of what a layer tells about its decisions (http.md line 50).

use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_api_token::middleware::Decision;
use tower_api_token::{ApiTokenCache, ApiTokenLayer, Lookup, Rejection, TokenRecord};

const GOOD: &str = "app-good-0123456789";
const DENIED: &str = "app-denied-0123456789";
const FAILING: &str = "app-failing-0123456789";
const UNKNOWN: &str = "app-unknown-0123456789";

fn cache() -> ApiTokenCache {
    let loader = |lookup: Lookup| async move {
        let record = |id: &str| TokenRecord::new(id).tenant_id("t-1");
        Ok(match lookup.token().expose() {
            GOOD => Some(record("good")),
            DENIED => Some(record("denied").denied("suspended")),
            FAILING => return Err(std::io::Error::other("away")),
            _ => None,
        })
    };
    ApiTokenCache::builder(loader).build().unwrap()
}

fn request(path: &str, token: Option<&str>) -> Request<()> {
    let mut request = Request::get(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(()).unwrap()
}

#[tokio::test]
async fn each_decision_is_told_once_with_the_token_if_it_is_known() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let to_tell = Arc::clone(&told);
    let builder = || ApiTokenLayer::builder(cache());
    let layer = builder()
        .on_decision(move |decision: &Decision<'_>| {
            let origin = decision.origin().map(|origin| origin.to_string());
            assert_eq!(decision.reason().is_some(), decision.rejection().is_some());
            to_tell.lock().unwrap().push(format!(
                "{} {} {} {}",
                decision.reason().unwrap_or("accepted"),
                decision.token_id().unwrap_or("-"),
                decision.tenant_id().unwrap_or("-"),
                origin.as_deref().unwrap_or("-"),
            ));
        })
        .policy(|_, request| match request.path() {
            "/never" => Err(Rejection::INSUFFICIENT_SCOPE),
            _ => Ok(()),
        })
        .optional()
        .build()
        .unwrap();
    let mut service = layer.layer(service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(String::new())))
    }));
    for (path, token, status, expected) in [
        ("/", Some(GOOD), 200, "accepted good t-1 loaded"),
        ("/", Some(GOOD), 200, "accepted good t-1 local"),
        (
            "/never",
            Some(GOOD),
            403,
            "insufficient_scope good t-1 local",
        ),
        ("/", Some(DENIED), 403, "denied denied t-1 -"),
        ("/", Some(DENIED), 403, "denied denied t-1 -"),
        ("/", Some(UNKNOWN), 401, "unknown - - -"),
        ("/", Some("short"), 401, "malformed - - -"),
        ("/", Some(FAILING), 503, "unavailable - - -"),
        // No token, and so no decision about one.
        ("/", None, 200, ""),
    ] {
        let service = service.ready().await.unwrap();
        let response = service.call(request(path, token)).await.unwrap();
        assert_eq!(response.status(), status, "{expected}");
        let said = std::mem::take(&mut *told.lock().unwrap());
        assert_eq!(said.join("; "), expected);
        // Without a service, the same is told. What was loaded is local by now.
        let (parts, ()) = request(path, token).into_parts();
        assert_eq!(layer.verify(&parts).await.is_ok(), status == 200);
        let said = std::mem::take(&mut *told.lock().unwrap());
        assert_eq!(said.join("; "), expected.replace("loaded", "local"));
    }
}
