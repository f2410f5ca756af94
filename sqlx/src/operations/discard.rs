//! Discards an invalidation.

use crate::arguments::is_id;
use crate::audit::{Entry, insert_audit};
use crate::core::Core;
use crate::database::pool::on_pool;
use crate::error::Error;
use crate::outbox::commit::{Actor, Committed};

/// Deletes a row of the outbox, even one that cannot be read.
pub(crate) async fn discard(core: &Core, id: &str, actor: Actor) -> Result<Committed<()>, Error> {
    if !is_id(id) {
        return Err(Error::NotPending);
    }
    let delete = core.sql("DELETE FROM ~outbox WHERE id = $1 RETURNING kind, subject");
    on_pool!(&core.database, pool => {
        let mut transaction = pool.begin().await?;
        let deleted: Option<(String, String)> =
            sqlx::query_as(&delete).persistent(false).bind(id).fetch_optional(&mut *transaction).await?;
        let Some((kind, subject)) = deleted else { return Err(Error::NotPending) };
        insert_audit!(core, transaction, Entry {
            at: core.now(),
            action: "invalidation_discarded",
            key_id: None,
            tenant: (kind == "tenant").then_some(subject.as_str()),
            actor: actor.as_deref(),
            detail: Some(&format!("{kind} {subject}")),
        })?;
        transaction.commit().await?;
    });
    Ok(Committed {
        value: (),
        pending: Vec::new(),
    })
}
