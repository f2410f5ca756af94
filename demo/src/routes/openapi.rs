//! The OpenAPI description of all routes.
//!
//! It is written by hand, and tests compare it with the routes and their responses. Generators derive it
//! from types, which our bodies, parsed by hand, do not have.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use super::AppState;

const DOCUMENT: &str = include_str!("../../openapi.json");

pub(super) fn routes() -> Router<AppState> {
    Router::new().route(
        "/openapi.json",
        get(async || ([(CONTENT_TYPE, "application/json")], DOCUMENT)),
    )
}
