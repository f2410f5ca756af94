//! The OpenAPI description of all routes: those of the keys' router, which has its own, and the demo's.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use serde_json::{Value, json};
use tower_api_token_sqlx::admin_openapi;

use super::AppState;

pub(super) fn routes() -> Router<AppState> {
    let text = document().to_string();
    let answer = async move || ([(CONTENT_TYPE, "application/json")], text.clone());
    Router::new().route("/openapi.json", get(answer))
}

/// Returns the document. What the demo describes of the administration, such as its types of tokens, has precedence.
fn document() -> Value {
    let mut document: Value = serde_json::from_str(include_str!("../../openapi.json"))
        .expect("a document that a test reads");
    let mut admin = admin_openapi();
    for (path, item) in members(&mut admin["paths"]) {
        for operation in item.as_object_mut().into_iter().flatten() {
            if operation.0 != "parameters" {
                behind_the_admin_token(operation.1);
            }
        }
        document["paths"][format!("/admin{path}")] = item.take();
    }
    for kind in ["parameters", "responses", "schemas"] {
        for (name, component) in members(&mut admin["components"][kind]) {
            let ours = &mut document["components"][kind][name];
            if ours.is_null() {
                *ours = component.take();
            }
        }
    }
    document["components"]["schemas"]["TokenRequest"]["required"] =
        json!(["tenant_id", "token_type"]);
    document
}

fn members(object: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    object.as_object_mut().expect("an object").iter_mut()
}

/// Adds what the demo does before the keys' router: it asks for the admin token, and reads bodies with a timeout.
fn behind_the_admin_token(operation: &mut Value) {
    operation["security"] = json!([{ "adminToken": [] }]);
    operation["responses"]["401"] = json!({ "$ref": "#/components/responses/Unauthorized" });
    if !operation["requestBody"].is_null() {
        operation["responses"]["408"] = json!({ "$ref": "#/components/responses/TooSlow" });
    }
}
