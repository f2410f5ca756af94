//! The body of `POST /admin/tenants`, which is checked by hand so that errors do not contain values.

use super::new_token::{identifier, members, missing, text};
use super::problem::Problem;

/// The tenant to create.
pub(super) struct NewTenantRequest {
    pub(super) id: String,
    /// The display name. Defaults to the id.
    pub(super) name: String,
}

impl NewTenantRequest {
    /// Parses the body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let mut members = members(body)?;
        let id = text(&mut members, "id")?.ok_or_else(|| missing("id"))?;
        let id = identifier("id", id)?;
        let name = text(&mut members, "name")?
            .map(|name| identifier("name", name))
            .transpose()?
            .unwrap_or_else(|| id.clone());
        if members.is_empty() {
            Ok(Self { id, name })
        } else {
            let detail = "unknown member; expected id and name";
            Err(Problem::unprocessable(detail))
        }
    }
}
