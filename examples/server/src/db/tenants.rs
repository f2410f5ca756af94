//! The table of tenants.

use super::pending::{Pending, owe};
use super::{Database, on_pool};

/// Whether a tenant's tokens may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantStatus {
    /// They may.
    Active,
    /// They are good, but are denied for now.
    Suspended,
}

impl TenantStatus {
    /// As the database and the API write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

impl Database {
    /// Adds an active tenant; whether there was none of this id. No cache holds anything of a tenant that never
    /// was, so that nothing is owed.
    pub async fn insert_tenant(&self, id: &str, name: &str) -> Result<bool, sqlx::Error> {
        const INSERT: &str =
            "INSERT INTO tenants (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
        let inserted = on_pool!(self, pool => sqlx::query(INSERT).bind(id).bind(name).execute(pool).await?.rows_affected());
        Ok(inserted > 0)
    }

    /// Sets a tenant's status and owes the invalidation of its tokens, also when it had that status
    /// already; `None` if there is no such tenant.
    pub async fn set_tenant_status(
        &self,
        id: &str,
        status: TenantStatus,
    ) -> Result<Option<Pending>, sqlx::Error> {
        let pending = Pending::of_tenant(id)?;
        on_pool!(self, pool => {
            let mut transaction = pool.begin().await?;
            let update = sqlx::query("UPDATE tenants SET status = $2 WHERE id = $1").bind(id).bind(status.as_str());
            if update.execute(&mut *transaction).await?.rows_affected() == 0 {
                return Ok(None);
            }
            owe!(transaction, pending)?;
            transaction.commit().await?;
        });
        Ok(Some(pending))
    }

    /// Some tenant, for the example that is printed at start.
    pub async fn any_tenant(&self) -> Result<Option<String>, sqlx::Error> {
        on_pool!(self, pool => sqlx::query_scalar("SELECT id FROM tenants ORDER BY id LIMIT 1").fetch_optional(pool).await)
    }
}
