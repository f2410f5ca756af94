//! Why a store did not answer.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The store did not answer, or answered with an error. Cloning it is cheap; the source is kept.
#[derive(Debug, Clone)]
pub struct StoreError {
    kind: Kind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Timeout,
    NotConnected,
    BreakerOpen,
    Refused,
    Unconfirmed,
    Unsupported,
}

impl StoreError {
    pub(crate) fn timeout() -> Self {
        Self::of(Kind::Timeout)
    }

    pub(crate) fn not_connected(source: Option<Arc<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: Kind::NotConnected,
            source,
        }
    }

    pub(crate) fn breaker_open() -> Self {
        Self::of(Kind::BreakerOpen)
    }

    pub(crate) fn refused(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: Kind::Refused,
            source: Some(Arc::from(source.into())),
        }
    }

    pub(crate) fn unconfirmed() -> Self {
        Self::of(Kind::Unconfirmed)
    }

    pub(crate) fn unsupported() -> Self {
        Self::of(Kind::Unsupported)
    }

    fn of(kind: Kind) -> Self {
        Self { kind, source: None }
    }

    /// The deadline passed; the command may still run.
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::Timeout
    }

    /// There was no connection, or it broke.
    pub fn is_not_connected(&self) -> bool {
        self.kind == Kind::NotConnected
    }

    /// The circuit breaker is open: nothing was sent.
    pub fn is_breaker_open(&self) -> bool {
        self.kind == Kind::BreakerOpen
    }

    /// The store answered, with an error.
    pub(crate) fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// Too few replicas acknowledged in time.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        self.kind == Kind::Unconfirmed
    }

    /// The store cannot do what was asked, however often it is repeated.
    pub fn is_unsupported(&self) -> bool {
        self.kind == Kind::Unsupported
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Timeout => "the store did not answer in time",
            Kind::NotConnected => "no connection to the store",
            Kind::BreakerOpen => "the circuit breaker in front of the store is open",
            Kind::Refused => "the store refused the command",
            Kind::Unconfirmed => "too few replicas acknowledged in time",
            Kind::Unsupported => "the store cannot do this",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
