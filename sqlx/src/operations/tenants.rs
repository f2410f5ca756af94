//! Tenants: whether their keys may be used.

use crate::arguments::is_id;
use crate::audit::{Entry, insert_audit};
use crate::core::Core;
use crate::database::pool::{on_connection, on_pool};
use crate::database::time::Timestamp;
use crate::error::Error;
use crate::outbox::commit::{Actor, Committed};
use crate::outbox::pending::{Pending, insert_pending};

/// Sets a tenant's status, if it has keys or had a status before: a misspelled name must not look like a success. A
/// repeated suspension keeps the time of the first.
// guard: K7
const SET: &str = "\
    INSERT INTO ~tenants AS t (id, suspended_at) SELECT $1, $2 \
    WHERE EXISTS (SELECT 1 FROM ~keys WHERE tenant_id = $1) OR EXISTS (SELECT 1 FROM ~tenants WHERE id = $1) \
    ON CONFLICT (id) DO UPDATE SET suspended_at = \
        CASE WHEN excluded.suspended_at IS NULL THEN NULL ELSE COALESCE(t.suspended_at, excluded.suspended_at) END";

/// Suspends or resumes a tenant, and invalidates all of its keys even if it had that status already.
pub(crate) async fn set_suspended(
    core: &Core,
    tenant: &str,
    suspended: bool,
    actor: Actor,
) -> Result<Committed<()>, Error> {
    if !is_id(tenant) {
        return Err(Error::UnknownTenant);
    }
    let now = core.now();
    let set = core.sql(SET);
    let pending = Pending::of_tenant(tenant, now)?;
    on_pool!(&core.database, pool => {
        let mut transaction = pool.begin().await?;
        let set = sqlx::query(&set).persistent(false)
            .bind(tenant)
            .bind(suspended.then_some(Timestamp::from(now)));
        if set.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Err(Error::UnknownTenant);
        }
        insert_pending!(core, transaction, pending)?;
        insert_audit!(core, transaction, Entry {
            at: now,
            action: if suspended { "suspended" } else { "resumed" },
            key_id: None,
            tenant: Some(tenant),
            actor: actor.as_deref(),
            detail: None,
        })?;
        transaction.commit().await?;
    });
    Ok(Committed {
        value: (),
        pending: vec![pending],
    })
}

pub(crate) async fn is_suspended(core: &Core, tenant: &str) -> Result<bool, Error> {
    if !is_id(tenant) {
        return Ok(false);
    }
    let select = core
        .sql("SELECT EXISTS (SELECT 1 FROM ~tenants WHERE id = $1 AND suspended_at IS NOT NULL)");
    Ok(
        on_connection!(&core.database, connection => sqlx::query_scalar(&select).persistent(false).bind(tenant).fetch_one(connection).await),
    )
}
