//! Why a known token may not be used now.

use std::borrow::Cow;

use super::record::TokenRecord;

/// Why a known token may not be used now.
///
/// It is the answer for a record that is [denied](TokenRecord::denied).
///
/// # Examples
/// ```
/// use tower_api_token::Denial;
///
/// fn to_log(denial: &Denial) -> String {
///     let tenant = denial.tenant_id().unwrap_or("none");
///     format!("token {} of tenant {tenant}: {}", denial.token_id(), denial.reason())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub(crate) reason: Cow<'static, str>,
    token_id: String,
    tenant_id: Option<String>,
}

impl Denial {
    /// Returns the denial of a denied record.
    pub(crate) fn of<M>(record: &TokenRecord<M>) -> Option<Self> {
        let reason = record.denied.as_deref()?;
        Some(Self {
            reason: reason.clone(),
            token_id: record.id.clone(),
            tenant_id: record.tenant_id.clone(),
        })
    }

    /// Returns the text that is sent to the client.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns the database's id of the token, for logs and audits.
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    /// Returns the tenant that the token belongs to.
    pub fn tenant_id(&self) -> Option<&str> {
        self.tenant_id.as_deref()
    }
}
