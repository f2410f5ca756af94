//! The OpenAPI description of the router.
//!
//! It is written by hand, and tests compare it with the routes and with the responses. Generators derive it from types,
//! which our bodies, parsed by hand, do not have.

use serde_json::Value;

/// Returns the OpenAPI 3.1 document of the [router](crate::ApiKeys::admin_router), to be served or merged with a service's.
///
/// Its paths begin where the router is nested. It does not have what the service adds around the router, such as its
/// authentication, and 401.
///
/// # Panics
/// Does not panic: a test reads the document.
pub fn admin_openapi() -> Value {
    serde_json::from_str(include_str!("openapi.json")).expect("a document that a test reads")
}
