//! The table of tenants.

use super::pending::{Pending, owe};
use super::{Database, on_connection, on_pool};

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
        const INSERT: &str = "\
            INSERT INTO tenants (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING RETURNING id";
        let inserted: Option<String> = on_connection!(self, connection => sqlx::query_scalar(INSERT)
            .persistent(false)
            .bind(id)
            .bind(name)
            .fetch_optional(connection)
            .await);
        Ok(inserted.is_some())
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
            let update = sqlx::query("UPDATE tenants SET status = $2 WHERE id = $1").persistent(false).bind(id).bind(status.as_str());
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
        const SELECT: &str = "SELECT id FROM tenants ORDER BY id LIMIT 1";
        Ok(
            on_connection!(self, connection => sqlx::query_scalar(SELECT).persistent(false).fetch_optional(connection).await),
        )
    }
}
