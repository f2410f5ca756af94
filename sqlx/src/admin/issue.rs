//! New keys: with a random text, or with one that exists.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use tower_api_token::BearerToken;

use crate::admin::body::NewKeyRequest;
use crate::admin::problem::Problem;
use crate::admin::query::{self, Parameters};
use crate::admin::settings::{Admin, By};
use crate::admin::show;
use crate::key::Key;

/// Creates a key, or imports one whose text is given. Only this response contains the text.
pub(crate) async fn create(
    State(admin): State<Arc<Admin>>,
    by: By,
    parameters: Parameters,
    body: Bytes,
) -> Result<Response, Problem> {
    let wait = query::wait(parameters)?;
    let request = NewKeyRequest::parse(&body, &admin)?;
    admin.require_tenant(&request.tenant).await?;
    let Some(text) = request.token else {
        let committed = admin
            .commit(admin.keys.issue(request.key), by, wait)
            .await?;
        let issued = committed.value().clone();
        admin.committed("issued", Some(&issued.key.id), &issued.key.tenant_id);
        // Nothing has to be invalidated: no cache has an answer to a text that is random.
        return Ok(created(&admin, &issued.key, &issued.token));
    };
    let import = admin.keys.import_text(text.clone(), request.key);
    let committed = admin.commit(import, by, wait).await?;
    let key = committed.value().clone();
    admin.committed("imported", Some(&key.id), &key.tenant_id);
    // Somebody may have tried the text before it was a key, so that "unknown" is cached.
    if let Err(error) = committed.confirm().await {
        show::warn(&error);
        let detail = "the token was created, but its invalidation is not confirmed: it may be rejected until the \
                      server, which keeps retrying, has invalidated it";
        return Err(Problem::unconfirmed(detail)
            .with("id", key.id)
            .with("token", text.expose()));
    }
    Ok(created(&admin, &key, &text))
}

fn created(admin: &Admin, key: &Key, text: &BearerToken) -> Response {
    let mut body = show::key(key, admin.now());
    body["token"] = json!(text.expose());
    show::response(StatusCode::CREATED, body)
}
