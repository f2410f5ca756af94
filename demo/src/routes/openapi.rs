//! The description of all routes, for programs.
//!
//! Written by hand, with tests that hold it against the routes and their answers: what derives it
//! from types would need types that our bodies do not have, as they are read and refused by hand.

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
