//! The table of tenants.

use super::pending::{Pending, insert_pending};
use super::{Database, on_connection, on_pool};

/// Whether a tenant's tokens may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantStatus {
    /// The tenant's tokens may be used.
    Active,
    /// The tenant's tokens are valid but denied.
    Suspended,
}

impl TenantStatus {
    /// Returns the status as the database and the API write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

impl Database {
    /// Adds an active tenant, and returns whether the id was free. No cache holds a token of a new tenant,
    /// so nothing has to be invalidated.
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

    /// Sets a tenant's status and adds the invalidation of its tokens to the outbox, even if the tenant had
    /// that status already. Returns `None` if there is no such tenant.
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
            insert_pending!(transaction, pending)?;
            transaction.commit().await?;
        });
        Ok(Some(pending))
    }

    /// Returns a tenant for the example in the banner.
    pub async fn any_tenant(&self) -> Result<Option<String>, sqlx::Error> {
        const SELECT: &str = "SELECT id FROM tenants ORDER BY id LIMIT 1";
        Ok(
            on_connection!(self, connection => sqlx::query_scalar(SELECT).persistent(false).fetch_optional(connection).await),
        )
    }
}
