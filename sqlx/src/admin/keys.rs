//! Keys: one, page by page, and their end; the audit table and the outbox.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::admin::problem::Problem;
use crate::admin::query::{self, Parameters, Parsed};
use crate::admin::settings::{Admin, By, with_timeout};
use crate::admin::show;
use crate::audit::{AuditEntry, AuditQuery};
use crate::operations::list::KeyQuery;
use crate::outbox::pending::{Pending, Subject};

pub(crate) async fn list(
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let parsed = Parsed::new(parameters, &["limit", "after", "tenant_id"])?;
    parsed.id("after")?;
    let mut query = KeyQuery::new().limit(parsed.limit()?);
    query = query.after(parsed.parsed("after")?);
    if let Some(tenant) = parsed.id("tenant_id")? {
        query = query.tenant(tenant);
    }
    let page = with_timeout(admin.keys.list(query)).await?;
    let now = admin.now();
    let tokens: Vec<_> = page.keys.iter().map(|key| show::key(key, now)).collect();
    let next = page.next.map(|next| next.to_string());
    let body = json!({ "tokens": tokens, "next": next });
    Ok(show::response(StatusCode::OK, body))
}

pub(crate) async fn get(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let key = with_timeout(admin.keys.get(&id)).await?;
    let key = key.ok_or_else(|| Problem::not_found("token"))?;
    Ok(show::response(StatusCode::OK, show::key(&key, admin.now())))
}

pub(crate) async fn revoke(
    State(admin): State<Arc<Admin>>,
    by: By,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let wait = query::wait(parameters)?;
    let revoked = admin.commit(admin.keys.revoke(&id), by, wait).await?;
    admin.committed("revoked", Some(&id), &revoked.value().tenant_id);
    let done = "the token is revoked in the database";
    show::confirm(revoked, (done, show::REPEAT), json!({})).await
}

pub(crate) async fn audit(
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let parsed = Parsed::new(parameters, &["limit", "after", "token_id", "tenant_id"])?;
    let limit = parsed.limit()?;
    let after = parsed.parsed("after")?.unwrap_or(0);
    let mut query = AuditQuery::new().limit(limit).after(after);
    if let Some(id) = parsed.id("token_id")? {
        query = query.key(id);
    }
    if let Some(id) = parsed.id("tenant_id")? {
        query = query.tenant(id);
    }
    let entries = with_timeout(admin.keys.audit(query)).await?;
    let is_full = entries.len() == limit as usize;
    let next = entries.last().filter(|_| is_full).map(|last| last.id);
    let shown: Vec<_> = entries.iter().map(entry).collect();
    let body = json!({ "entries": shown, "next": next });
    Ok(show::response(StatusCode::OK, body))
}

fn entry(entry: &AuditEntry) -> Value {
    json!({
        "id": entry.id,
        "at": show::time(entry.at),
        "action": entry.action,
        "token_id": entry.key_id,
        "tenant_id": entry.tenant_id,
        "actor": entry.actor,
        "detail": entry.detail,
    })
}

/// Returns the invalidations that are not confirmed, with the ids of keys and not their digests.
pub(crate) async fn pending(
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let limit = Parsed::new(parameters, &["limit"])?.limit()?;
    let body = with_timeout(async {
        let count = admin.keys.pending_count().await?;
        let mut shown = Vec::new();
        for Pending {
            subject,
            since,
            attempts,
            ..
        } in admin.keys.pending(limit).await?
        {
            let (token_id, tenant_id) = match subject {
                Subject::Key(digest) => (admin.keys.id_of(digest).await?, None),
                Subject::Tenant(id) => (None, Some(id)),
            };
            shown.push(json!({
                "token_id": token_id,
                "tenant_id": tenant_id,
                "since": show::time(since),
                "attempts": attempts,
            }));
        }
        Ok(json!({ "count": count, "pending": shown }))
    });
    Ok(show::response(StatusCode::OK, body.await?))
}
