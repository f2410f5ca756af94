//! An axum router of the administration, to be nested behind an authentication of the service.

mod body;
mod events;
mod issue;
mod keys;
mod openapi;
mod problem;
mod query;
mod rotate;
mod routes;
mod settings;
mod show;
mod tenants;

pub use events::AdminChange;
pub use openapi::admin_openapi;
pub use settings::{Actor, AdminSettings};
