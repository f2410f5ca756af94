//! The routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, delete, get, post};

use crate::admin::settings::{Admin, AdminSettings};
use crate::admin::{issue, keys, rotate, tenants};
use crate::keys::ApiKeys;

/// The maximum length of a body, which no valid request comes near.
const BODY_LIMIT: usize = 16 * 1024;

type Route = (&'static str, &'static str, MethodRouter<Arc<Admin>>);

/// Returns all routes. A list, which tests compare with the document, because a router cannot list its routes.
fn all() -> Vec<Route> {
    vec![
        ("get", "/tokens", get(keys::list)),
        ("post", "/tokens", post(issue::create)),
        ("get", "/tokens/{id}", get(keys::get)),
        ("delete", "/tokens/{id}", delete(keys::revoke)),
        ("post", "/tokens/{id}/rotate", post(rotate::rotate)),
        ("get", "/tokens/{id}/rotation", get(rotate::state)),
        ("delete", "/tokens/{id}/rotation", delete(rotate::undo)),
        (
            "delete",
            "/tenants/{id}/tokens",
            delete(tenants::revoke_all),
        ),
        ("post", "/tenants/{id}/suspend", post(tenants::suspend)),
        ("post", "/tenants/{id}/resume", post(tenants::resume)),
        ("get", "/audit", get(keys::audit)),
        ("get", "/pending", get(keys::pending)),
    ]
}

/// The administration over HTTP.
impl ApiKeys {
    /// Returns an axum router of the administration. **It authenticates nobody**: nest it behind an authentication of your
    /// own, which may insert an [`Actor`](crate::Actor) for the audit table.
    ///
    /// | route | does |
    /// |---|---|
    /// | `GET /tokens?limit=&after=&tenant_id=` | lists keys, page by page |
    /// | `POST /tokens` | issues a key, or imports one |
    /// | `GET /tokens/{id}`, `DELETE /tokens/{id}` | shows a key; revokes it |
    /// | `POST /tokens/{id}/rotate` | rotates a key, with an overlap of an hour by default |
    /// | `GET /tokens/{id}/rotation`, `DELETE /tokens/{id}/rotation` | shows who still uses the predecessor; undoes the rotation |
    /// | `DELETE /tenants/{id}/tokens` | revokes all keys of a tenant |
    /// | `POST /tenants/{id}/suspend`, `/resume` | suspends a tenant; resumes it |
    /// | `GET /audit?limit=&after=&token_id=&tenant_id=` | lists who changed what |
    /// | `GET /pending?limit=` | lists invalidations that are not confirmed |
    ///
    /// [`admin_openapi`](crate::admin_openapi) has the bodies. A success means that the change is confirmed, with
    /// `?wait=true` on all instances. **503 with `"confirmed": false`** means that it is committed and not yet confirmed.
    /// Errors are `application/problem+json` (RFC 9457) and never quote a value of the request. A body has at most 16 KiB.
    ///
    /// # Examples
    /// ```
    /// use axum::Router;
    /// use axum::extract::Request;
    /// use axum::http::{HeaderMap, StatusCode};
    /// use axum::middleware::{Next, from_fn};
    /// use axum::response::{IntoResponse, Response};
    /// use tower_api_token_sqlx::{Actor, ApiKeys};
    ///
    /// fn app(keys: &ApiKeys) -> Router {
    ///     Router::new().nest("/admin", keys.admin_router().layer(from_fn(operators_only)))
    /// }
    ///
    /// async fn operators_only(mut request: Request, next: Next) -> Response {
    ///     let Some(name) = operator(request.headers()) else {
    ///         return StatusCode::UNAUTHORIZED.into_response();
    ///     };
    ///     request.extensions_mut().insert(Actor::new(name));
    ///     next.run(request).await
    /// }
    ///
    /// fn operator(headers: &HeaderMap) -> Option<String> {
    ///     // Your operators' sessions, or a proxy that has authenticated them.
    /// #   let name = headers.get("x-operator")?.to_str().ok()?;
    /// #   Some(name.to_owned())
    /// }
    /// ```
    pub fn admin_router(&self) -> Router {
        self.admin_router_with(AdminSettings::new())
    }

    /// Returns the [router](Self::admin_router) with other settings.
    pub fn admin_router_with(&self, settings: AdminSettings) -> Router {
        let keys = self.clone();
        let routes = all().into_iter();
        routes
            .fold(Router::new(), |router, (_, path, handler)| {
                router.route(path, handler)
            })
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .with_state(Arc::new(Admin { keys, settings }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::admin::openapi::admin_openapi;

    #[test]
    fn document_has_exactly_the_routes() {
        let routed: BTreeSet<_> = super::all()
            .iter()
            .map(|(method, path, _)| format!("{method} {path}"))
            .collect();
        let document = admin_openapi();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                if method != "parameters" {
                    described.insert(format!("{method} {path}"));
                }
            }
        }
        assert_eq!(described, routed);
    }
}
