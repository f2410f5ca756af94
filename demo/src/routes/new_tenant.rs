//! The body of `POST /admin/tenants`, checked by hand as that of a token is.

use super::new_token::{identifier, members, missing, text};
use super::problem::Problem;

/// What is asked for.
pub(super) struct WantedTenant {
    pub(super) id: String,
    /// For people. The id, if none is given.
    pub(super) name: String,
}

impl WantedTenant {
    /// Reads the body.
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
            let detail = "there is an unknown member; known are id and name";
            Err(Problem::unprocessable(detail))
        }
    }
}
