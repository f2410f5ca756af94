//! Why a store did not answer.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// An error of the store.
///
/// Cloning it is cheap. Its [`source`](Error::source), if there is one, holds neither a token nor a
/// password.
#[derive(Debug, Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store did not answer in time. The command may still be executed.
    TimedOut,
    /// There was no connection, or it broke.
    NotConnected,
    /// The circuit breaker is open, and nothing was sent.
    CircuitOpen,
    /// The server returned an error.
    Server,
    /// Fewer replicas acknowledged the write in time than were asked for.
    TooFewReplicas,
    /// The store cannot do this, however often it is repeated.
    Unsupported,
}

impl StoreError {
    pub(crate) fn timeout() -> Self {
        Self::of(StoreErrorKind::TimedOut)
    }

    pub(crate) fn not_connected(source: Option<Arc<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: StoreErrorKind::NotConnected,
            source,
        }
    }

    pub(crate) fn circuit_open() -> Self {
        Self::of(StoreErrorKind::CircuitOpen)
    }

    pub(crate) fn server(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: StoreErrorKind::Server,
            source: Some(Arc::from(source.into())),
        }
    }

    pub(crate) fn too_few_replicas() -> Self {
        Self::of(StoreErrorKind::TooFewReplicas)
    }

    /// There are no replicas to wait for.
    pub(crate) fn has_no_replicas() -> Self {
        Self::unsupported("the memory of one process has no replicas")
    }

    /// A digest was given, and the text is needed.
    pub(crate) fn needs_text() -> Self {
        Self::unsupported(
            "the keys of this layout hold the token's text, which a digest does not give back",
        )
    }

    /// The store is a cluster, and one server is needed.
    pub(crate) fn needs_one_server() -> Self {
        Self::unsupported(
            "in this layout entries are searched for on one server, and this is a cluster",
        )
    }

    fn unsupported(why: &'static str) -> Self {
        let why: Box<dyn Error + Send + Sync> = why.into();
        Self {
            kind: StoreErrorKind::Unsupported,
            source: Some(Arc::from(why)),
        }
    }

    fn of(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// Returns the kind of this error.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    pub(crate) fn is_timeout(&self) -> bool {
        self.kind == StoreErrorKind::TimedOut
    }

    pub(crate) fn is_not_connected(&self) -> bool {
        self.kind == StoreErrorKind::NotConnected
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::TimedOut => "the store did not answer in time",
            StoreErrorKind::NotConnected => "no connection to the store",
            StoreErrorKind::CircuitOpen => "the circuit breaker in front of the store is open",
            StoreErrorKind::Server => "the store returned an error",
            StoreErrorKind::TooFewReplicas => "too few replicas acknowledged in time",
            StoreErrorKind::Unsupported => "the store cannot do this",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
