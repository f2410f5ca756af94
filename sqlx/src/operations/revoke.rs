//! Revocations.

use crate::arguments::is_id;
use crate::audit::{Entry, insert_audit};
use crate::core::Core;
use crate::database::pool::{Database, on_pool};
use crate::database::time::Timestamp;
use crate::error::Error;
use crate::key::{COLUMNS, Key, LenientRow};
use crate::outbox::commit::{Actor, Committed};
use crate::outbox::pending::{Pending, insert_pending};

/// Revokes a key. A repeated call keeps the time of the first revocation, and invalidates again.
pub(crate) async fn revoke(core: &Core, id: &str, actor: Actor) -> Result<Committed<Key>, Error> {
    if !is_id(id) {
        return Err(Error::UnknownKey);
    }
    let now = core.now();
    let update = core.sql(&format!(
        "UPDATE ~keys SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1 RETURNING {COLUMNS}"
    ));
    let (key, pending) = on_pool!(&core.database, pool => {
        let mut transaction = pool.begin().await?;
        let revoked: Option<LenientRow> = sqlx::query_as(&update).persistent(false)
            .bind(id)
            .bind(Timestamp::from(now))
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(LenientRow(key)) = revoked else { return Err(Error::UnknownKey) };
        let pending = Pending::of_key(key.digest, now)?;
        insert_pending!(core, transaction, pending)?; // guard: K2
        insert_audit!(core, transaction, Entry {
            at: now,
            action: "revoked",
            key_id: Some(id),
            tenant: Some(&key.tenant_id),
            actor: actor.as_deref(),
            detail: None,
        })?;
        transaction.commit().await?;
        (key, pending)
    });
    Ok(Committed {
        value: key,
        pending: vec![pending],
    })
}

/// Revokes all keys of a tenant that are not revoked, and returns their number.
pub(crate) async fn revoke_all(
    core: &Core,
    tenant: &str,
    actor: Actor,
) -> Result<Committed<u64>, Error> {
    if !is_id(tenant) {
        return Err(Error::UnknownTenant);
    }
    let now = core.now();
    let update = core.sql(match &core.database {
        // SQLite has one writer at a time.
        #[cfg(feature = "sqlite")]
        Database::Sqlite(_) => {
            "UPDATE ~keys SET revoked_at = $2 WHERE tenant_id = $1 AND revoked_at IS NULL"
        }
        // Locks rows in the order in which a flush of last uses does, so that neither ends as a deadlock.
        #[cfg(feature = "postgres")]
        Database::Postgres(_) => {
            "WITH locked AS ( \
                SELECT id FROM ~keys WHERE tenant_id = $1 AND revoked_at IS NULL ORDER BY id FOR UPDATE \
            ) UPDATE ~keys AS k SET revoked_at = $2 FROM locked WHERE k.id = locked.id"
        }
    });
    let remain =
        core.sql("SELECT EXISTS (SELECT 1 FROM ~keys WHERE tenant_id = $1 AND revoked_at IS NULL)");
    let exists = core.sql("SELECT EXISTS (SELECT 1 FROM ~keys WHERE tenant_id = $1)");
    let pending = Pending::of_tenant(tenant, now)?;
    let revoked = on_pool!(&core.database, pool => {
        let mut transaction = pool.begin().await?;
        let mut revoked = 0;
        // A rotation that had begun before may have added a successor, which this statement did not see when it waited
        // for the rotated key. It may even have revoked nothing: a rotation without overlap revokes the key that this
        // waited for. So the loop ends when a read finds no valid key. It sees what was committed before it, and the
        // predecessor of a rotation that is not committed as valid. guard: K8, K16
        loop {
            let update = sqlx::query(&update).persistent(false).bind(tenant).bind(Timestamp::from(now));
            let more = update.execute(&mut *transaction).await?.rows_affected();
            revoked += more;
            let remain: bool = sqlx::query_scalar(&remain).persistent(false).bind(tenant).fetch_one(&mut *transaction).await?;
            if !remain {
                break;
            }
        }
        if revoked == 0 {
            let exists: bool = sqlx::query_scalar(&exists).persistent(false).bind(tenant).fetch_one(&mut *transaction).await?;
            if !exists {
                return Err(Error::UnknownTenant);
            }
        }
        insert_pending!(core, transaction, pending)?;
        insert_audit!(core, transaction, Entry {
            at: now,
            action: "all_revoked",
            key_id: None,
            tenant: Some(tenant),
            actor: actor.as_deref(),
            detail: Some(&revoked.to_string()),
        })?;
        transaction.commit().await?;
        revoked
    });
    Ok(Committed {
        value: revoked,
        pending: vec![pending],
    })
}
