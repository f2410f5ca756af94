//! Which processes may confirm: a cache in one process's memory does not have what a shared store holds.

use crate::core::Core;
use crate::database::pool::on_connection;
use crate::error::UnconfirmedCause;
use crate::outbox::shared::{Shared, lock};

impl Shared {
    /// Notes the namespaces of bound caches whose store is shared, once each. Returns why this process must not confirm
    /// anything: all of its caches are in memory, and another process has noted a store.
    ///
    /// # Errors
    /// Returns the database's error.
    pub(crate) async fn check_stores(&self) -> Result<Option<UnconfirmedCause>, sqlx::Error> {
        let caches = self.caches();
        let shared: Vec<&str> = caches
            .iter()
            .filter_map(|cache| cache.shared_namespace())
            .collect();
        if shared.is_empty() && !caches.is_empty() {
            let noted = self.core.step(self.core.noted_stores()).await?;
            return Ok(noted.into_iter().next().map(UnconfirmedCause::OtherStore));
        }
        for namespace in shared {
            if lock(&self.noted).contains(namespace) {
                continue;
            }
            self.core.step(self.core.note_store(namespace)).await?;
            for other in self.core.step(self.core.noted_stores()).await? {
                if other != namespace {
                    tracing::error!(
                        namespace,
                        other,
                        "these keys were cached in another namespace too, whose answers this process does not invalidate; \
                         delete its row from the table of stores if no process uses it"
                    );
                }
            }
            lock(&self.noted).insert(namespace.to_owned());
        }
        Ok(None)
    }
}

impl Core {
    async fn note_store(&self, namespace: &str) -> Result<(), sqlx::Error> {
        let insert = self.sql(
            "INSERT INTO ~stores (namespace, since) VALUES ($1, $2) ON CONFLICT (namespace) DO NOTHING",
        );
        let now = crate::database::time::Timestamp::from(self.now());
        on_connection!(&self.database, connection => sqlx::query(&insert).persistent(false).bind(namespace).bind(now).execute(connection).await.map(drop));
        Ok(())
    }

    async fn noted_stores(&self) -> Result<Vec<String>, sqlx::Error> {
        let select = self.sql("SELECT namespace FROM ~stores ORDER BY namespace");
        Ok(
            on_connection!(&self.database, connection => sqlx::query_scalar(&select).persistent(false).fetch_all(connection).await),
        )
    }
}
