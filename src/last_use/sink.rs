//! The destination of last uses: the user's database.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::error::BoxError;
use crate::token::TokenDigest;
use crate::util::BoxFuture;

/// When a token was last used.
#[derive(Clone, PartialEq, Eq)]
pub struct LastUse {
    pub(crate) token_id: String,
    pub(crate) digest: TokenDigest,
    pub(crate) token_type: Option<String>,
    pub(crate) tenant_id: Option<String>,
    pub(crate) last_used_at: DateTime<Utc>,
}

impl LastUse {
    /// Returns the database's id of the token.
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    /// Returns the token's digest.
    pub fn digest(&self) -> TokenDigest {
        self.digest
    }

    /// Returns the token's type, as its record has it.
    pub fn token_type(&self) -> Option<&str> {
        self.token_type.as_deref()
    }

    /// Returns the tenant that the token belongs to.
    pub fn tenant_id(&self) -> Option<&str> {
        self.tenant_id.as_deref()
    }

    /// Returns when the token was used, by this machine's clock.
    pub fn last_used_at(&self) -> DateTime<Utc> {
        self.last_used_at
    }
}

impl fmt::Debug for LastUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastUse")
            .field("token_id", &self.token_id)
            .field("last_used_at", &self.last_used_at)
            .finish_non_exhaustive()
    }
}

/// Writes last uses to the database, one batch at a time.
///
/// An async function or a closure that takes a `Vec<LastUse>` implements it; its error may be of any type. An
/// implementation keeps two rules:
///
/// * **Forward only.** The statement does not change a row that has a later time: a batch is repeated if its reply
///   was lost, and several instances write in any order.
/// * **All or an error.** `Ok` means that the batch is committed. After an error, a panic or the
///   [timeout](crate::last_use::LastUseRecorder::write_timeout) the whole batch is passed again later, more slowly
///   while it fails. A token that was deleted from the database is not an error: no row changes.
///
/// No token occurs twice in a batch. In PostgreSQL, one statement writes a batch:
///
/// ```sql
/// WITH used AS (
///     SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at)
/// ), locked AS (
///     SELECT tokens.id, used.at FROM tokens JOIN used USING (id)
///     WHERE tokens.last_used_at IS NULL OR tokens.last_used_at < used.at
///     ORDER BY tokens.id FOR UPDATE OF tokens
/// )
/// UPDATE tokens SET last_used_at = locked.at FROM locked WHERE tokens.id = locked.id
/// ```
///
/// `ORDER BY` is needed for the locks. A bare `UPDATE` locks rows in the order in which it finds them, so two
/// instances that write the same tokens could each wait for a row that the other has locked, until PostgreSQL ends
/// one of them as a deadlock. With the lock held, the time is compared again with the current row, so that it
/// only moves forward.
///
/// # Examples
/// ```
/// use tower_api_token::last_use::{LastUse, LastUseSink};
/// use tower_api_token::BoxError;
///
/// # struct Pool;
/// # impl Pool {
/// #     async fn update(&self, _: Vec<String>, _: Vec<chrono::DateTime<chrono::Utc>>) -> std::io::Result<()> { Ok(()) }
/// # }
/// struct LastUses {
///     pool: Pool,
/// }
///
/// impl LastUseSink for LastUses {
///     async fn write(&self, batch: Vec<LastUse>) -> Result<(), BoxError> {
///         let (ids, times) = batch
///             .iter()
///             .map(|used| (used.token_id().to_owned(), used.last_used_at()))
///             .unzip();
///         // The statement above.
///         Ok(self.pool.update(ids, times).await?)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a sink of last uses",
    label = "expected an async function or closure of one `Vec<LastUse>`, or an implementation of `LastUseSink`",
    note = "`|batch: Vec<LastUse>| async move {{ Ok::<_, MyError>(()) }}`"
)]
pub trait LastUseSink: Send + Sync + 'static {
    /// Writes the batch, or fails without having written any of it.
    ///
    /// # Errors
    /// An error means that the batch is not known to be committed. It is passed again later.
    ///
    /// # Cancel safety
    /// The future is dropped if it exceeds the [timeout](crate::last_use::LastUseRecorder::write_timeout).
    fn write(&self, batch: Vec<LastUse>) -> impl Future<Output = Result<(), BoxError>> + Send;
}

impl<F, Fut, E> LastUseSink for F
where
    F: Fn(Vec<LastUse>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError>,
{
    async fn write(&self, batch: Vec<LastUse>) -> Result<(), BoxError> {
        self(batch).await.map_err(Into::into)
    }
}

/// A sink with its type erased. The future owns the sink, because each write is a task of its own, so that a
/// panic only ends the write.
pub(crate) trait DynLastUseSink: Send + Sync {
    fn write(self: Arc<Self>, batch: Vec<LastUse>) -> BoxFuture<'static, Result<(), BoxError>>;
}

impl<S: LastUseSink> DynLastUseSink for S {
    fn write(self: Arc<Self>, batch: Vec<LastUse>) -> BoxFuture<'static, Result<(), BoxError>> {
        Box::pin(async move { LastUseSink::write(&*self, batch).await })
    }
}
