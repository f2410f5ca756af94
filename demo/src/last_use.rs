//! Writes last uses to the table of tokens.

use tower_api_token::last_use::{LastUse, LastUseRecorder};

use crate::db::{Database, Timestamp};

/// Returns a recorder that writes to `database`.
pub fn recorder(database: Database) -> LastUseRecorder {
    LastUseRecorder::new(move |batch| write(database.clone(), batch))
}

async fn write(database: Database, batch: Vec<LastUse>) -> Result<(), sqlx::Error> {
    let uses: Vec<_> = batch
        .iter()
        .map(|used| (used.token_id(), Timestamp::from(used.last_used_at())))
        .collect();
    let changed = database.record_uses(&uses).await?;
    tracing::debug!(uses = uses.len(), changed, "last uses were written");
    Ok(())
}
