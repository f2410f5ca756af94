//! Why an operation failed.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use tower_api_token::{BoxError, InvalidateError};

/// An operation that did not happen.
///
/// After [`Database`](Self::Database), a change may have been committed: the reply to its commit may be lost. Then its
/// row in the outbox is committed too, and the change takes effect everywhere.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No key has this id.
    UnknownKey,
    /// The tenant has no keys and never had a status.
    UnknownTenant,
    /// The key is revoked, which is final.
    Revoked,
    /// The key has expired.
    Expired,
    /// The key was rotated already.
    AlreadyRotated {
        /// The id of its successor.
        successor_id: String,
    },
    /// The key was not rotated, so there is nothing to undo.
    NotRotated,
    /// No invalidation with this id is pending.
    NotPending,
    /// The text is that of a key already, which may be revoked.
    Duplicate,
    /// An argument or a setting is invalid. Nothing was sent to the database.
    Invalid {
        /// The name of the argument, as the setter or parameter is called.
        field: &'static str,
        /// What is allowed. It does not contain the value.
        reason: Cow<'static, str>,
    },
    /// The database failed.
    Database(sqlx::Error),
    /// The text of a new key could not be [stored](crate::ApiKeysBuilder::store_texts).
    Text(BoxError),
    /// The operating system gave no random numbers.
    Randomness(BoxError),
}

impl Error {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        let reason = reason.into();
        Self::Invalid { field, reason }
    }

    pub(crate) fn invalid_url(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid("database_url", reason)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey => f.write_str("no key has this id"),
            Self::UnknownTenant => f.write_str("there is no such tenant"),
            Self::Revoked => f.write_str("the key is revoked"),
            Self::Expired => f.write_str("the key has expired"),
            Self::AlreadyRotated { successor_id } => {
                write!(
                    f,
                    "the key was rotated already; its successor is {successor_id}"
                )
            }
            Self::NotRotated => f.write_str("the key was not rotated"),
            Self::NotPending => f.write_str("no invalidation with this id is pending"),
            Self::Duplicate => f.write_str("this text is a key already"),
            Self::Invalid { field, reason } => write!(f, "{field}: {reason}"),
            Self::Database(_) => f.write_str("the database failed"),
            Self::Text(_) => f.write_str("the key's text could not be stored"),
            Self::Randomness(_) => f.write_str("there are no random numbers"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Database(error) => Some(error),
            Self::Text(error) | Self::Randomness(error) => Some(&**error),
            _ => None,
        }
    }
}

/// The error of a [`Change`](crate::Change).
#[derive(Debug)]
#[non_exhaustive]
pub enum ChangeError<T> {
    /// The change did not happen.
    Failed(Error),
    /// The change is committed, and caches may still answer from before it.
    Unconfirmed(Unconfirmed<T>),
}

/// A change that is committed, and whose invalidation is not confirmed.
///
/// Every instance that has a cache keeps repeating the invalidation in the background. Repeating a revocation or a
/// suspension is safe, and waits for a confirmation once more. A rotation, an import and an undone rotation happen
/// once: take their result from here. It may have the only copy of a key's text.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unconfirmed<T> {
    /// The change's result, such as an issued key, whose text is nowhere else.
    pub value: T,
    /// Why the invalidation is not confirmed.
    pub cause: UnconfirmedCause,
}

/// Why an invalidation is not confirmed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum UnconfirmedCause {
    /// No cache is bound to these keys: [`ApiKeys::cache`](crate::ApiKeys::cache) binds the cache that it builds. An
    /// instance that has one performs the invalidation.
    NoCache,
    /// All caches of this process are in its memory, and another process has one in a shared store, in this namespace. It
    /// performs the invalidation. A job beside a service needs no cache. If no process uses that store any longer, delete
    /// its row from the table `api_token_stores`.
    OtherStore(String),
    /// The cache did not confirm it.
    Invalidation(InvalidateError),
    /// The text that the cache's layout needs could not be found: see
    /// [`texts`](crate::ApiKeysBuilder::texts).
    Text(std::sync::Arc<dyn StdError + Send + Sync>),
}

impl UnconfirmedCause {
    /// Formats this with its sources, for the log. The error of a service's code that finds texts is left out: it may quote
    /// one.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        if matches!(self, Self::Text(_)) {
            return text;
        }
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

impl<T> ChangeError<T> {
    /// Returns the change's result, if it is committed.
    pub fn into_committed(self) -> Option<T> {
        match self {
            Self::Failed(_) => None,
            Self::Unconfirmed(unconfirmed) => Some(unconfirmed.value),
        }
    }
}

impl<T> From<Error> for ChangeError<T> {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for UnconfirmedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCache => f.write_str("no cache is bound to the keys"),
            Self::OtherStore(namespace) => write!(
                f,
                "the caches of this process are in its memory, and another process has a shared store (namespace {namespace})"
            ),
            Self::Invalidation(error) => error.fmt(f),
            Self::Text(_) => f.write_str("the key's text could not be found"),
        }
    }
}

impl StdError for UnconfirmedCause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::NoCache | Self::OtherStore(_) => None,
            Self::Invalidation(error) => error.source(),
            Self::Text(error) => Some(&**error),
        }
    }
}

impl<T> fmt::Display for ChangeError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Unconfirmed(_) => f.write_str(
                "the change is committed, and its invalidation is not confirmed: caches may still answer from before it",
            ),
        }
    }
}

impl<T: fmt::Debug> StdError for ChangeError<T> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::Unconfirmed(unconfirmed) => Some(&unconfirmed.cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_of_an_error_is_what_failed() {
        let source = |error: &dyn StdError| error.source().map(ToString::to_string);
        let database = || Error::Database(sqlx::Error::RowNotFound);
        let shown = Some(sqlx::Error::RowNotFound.to_string());
        assert_eq!(source(&database()), shown);
        assert_eq!(source(&ChangeError::<()>::Failed(database())), shown);
        let because = Some("because".to_owned());
        assert_eq!(source(&Error::Text("because".into())), because);
        assert_eq!(source(&Error::Randomness("because".into())), because);
        assert_eq!(source(&Error::UnknownKey), None);
    }

    #[test]
    fn result_of_an_unconfirmed_change_can_be_taken_from_its_error() {
        let unconfirmed = Unconfirmed {
            value: "text",
            cause: UnconfirmedCause::NoCache,
        };
        let error = ChangeError::Unconfirmed(unconfirmed);
        let cause = UnconfirmedCause::NoCache.to_string();
        assert_eq!(error.source().map(ToString::to_string), Some(cause));
        assert_eq!(error.into_committed(), Some("text"));
        let failed = ChangeError::<()>::Failed(Error::UnknownKey);
        assert_eq!(failed.into_committed(), None);
    }
}
