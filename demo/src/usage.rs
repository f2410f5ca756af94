//! Where last uses go: the table of tokens.

use tower_api_token::{Usage, UsageRecorder};

use crate::db::{Database, Timestamp};

/// A recorder that writes to the database.
pub fn recorder(database: Database) -> UsageRecorder {
    UsageRecorder::new(move |batch| write(database.clone(), batch))
}

async fn write(database: Database, batch: Vec<Usage>) -> Result<(), sqlx::Error> {
    let uses: Vec<_> = batch
        .iter()
        .map(|usage| (usage.token_id(), Timestamp::from(usage.last_used_at())))
        .collect();
    let changed = database.record_uses(&uses).await?;
    tracing::debug!(uses = uses.len(), changed, "last uses are written");
    Ok(())
}
