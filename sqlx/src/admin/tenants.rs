//! Tenants: suspensions, and the end of all keys.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use crate::admin::problem::Problem;
use crate::admin::query::{self, Parameters};
use crate::admin::settings::{Admin, By};
use crate::admin::show;

pub(crate) async fn suspend(
    State(admin): State<Arc<Admin>>,
    by: By,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let wait = query::wait(parameters)?;
    let committed = admin.commit(admin.keys.suspend(&id), by, wait).await?;
    admin.committed("suspended", None, &id);
    let done = "the tenant is suspended in the database";
    show::confirm(committed, (done, show::REPEAT), json!({})).await
}

pub(crate) async fn resume(
    State(admin): State<Arc<Admin>>,
    by: By,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let wait = query::wait(parameters)?;
    let committed = admin.commit(admin.keys.resume(&id), by, wait).await?;
    admin.committed("resumed", None, &id);
    let done = "the tenant is active in the database";
    show::confirm(committed, (done, show::REPEAT), json!({})).await
}

pub(crate) async fn revoke_all(
    State(admin): State<Arc<Admin>>,
    by: By,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let wait = query::wait(parameters)?;
    let committed = admin.commit(admin.keys.revoke_all(&id), by, wait).await?;
    admin.committed("all_revoked", None, &id);
    let members = json!({ "revoked": committed.value() });
    let done = "the tenant's tokens are revoked in the database";
    show::confirm(committed, (done, show::REPEAT), members).await
}
