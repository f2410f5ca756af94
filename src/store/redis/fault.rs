//! What came in the place of a reply, and what of it may be told.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use redis::{RedisError, Value};

use crate::store::StoreError;

pub(super) type Replied = Result<Value, Fault>;

/// Why a command among others has no reply.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The server said no.
    Refused(RedisError),
    /// The node of a cluster that it was for did not answer, while others did.
    #[cfg(feature = "redis-cluster")]
    Lost(StoreError),
}

impl Fault {
    /// What the server called it.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => error.code(),
            #[cfg(feature = "redis-cluster")]
            Self::Lost(_) => None,
        }
    }

    /// Whether no reply came, so that the command may have run or not.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            #[cfg(feature = "redis-cluster")]
            Self::Lost(_) => true,
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error) => refused(error),
            #[cfg(feature = "redis-cluster")]
            Fault::Lost(error) => error,
        }
    }
}

/// What the server says of a command may quote its arguments, and in the seed layout a key holds the
/// token: only the error's code is kept.
pub(super) fn refused(error: RedisError) -> StoreError {
    match error.code() {
        Some(code) => StoreError::refused(said(code)),
        None => StoreError::refused(Once(error)),
    }
}

/// What the server answers to a command that carries no secret and no key.
pub(super) fn answered(error: &RedisError) -> String {
    let code = error.code().unwrap_or("an error");
    let detail = error.detail().unwrap_or_default();
    format!("the server answered {code} {detail}")
        .trim_end()
        .to_owned()
}

/// Likewise for an error of the connection itself.
pub(super) fn not_connected(error: RedisError) -> StoreError {
    match error.code() {
        Some(code) => unconnected(said(code)),
        None => StoreError::not_connected(Some(Arc::new(Once(error)))),
    }
}

/// Why there is no connection, in our own words.
pub(super) fn unconnected(why: impl Into<String>) -> StoreError {
    let why: Box<dyn Error + Send + Sync> = why.into().into();
    StoreError::not_connected(Some(Arc::from(why)))
}

fn said(code: &str) -> String {
    let why = match code {
        "MOVED" | "ASK" => ": it is one node of a cluster, to be connected to by redis+cluster://",
        _ => "",
    };
    format!("the server answered {code}{why}")
}

pub(super) fn lost_or_refused(error: RedisError) -> StoreError {
    if error.is_unrecoverable_error() || error.is_io_error() {
        return not_connected(error);
    }
    refused(error)
}

/// redis-rs shows an error that it wraps as its own text, and names it as its source too: who prints
/// the chain would print it twice.
#[derive(Debug)]
struct Once(RedisError);

impl fmt::Display for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Once {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let shown = self.to_string();
        let mut source = self.0.source();
        while let Some(error) = source.filter(|error| error.to_string() == shown) {
            source = error.source();
        }
        source
    }
}

/// Whether no command was refused; the first refusal, if one was.
pub(super) fn confirmed(replies: &[Replied]) -> Result<(), StoreError> {
    let fault = replies.iter().find_map(|reply| reply.as_ref().err());
    fault.map_or(Ok(()), |fault| Err(fault.clone().into()))
}

pub(super) fn unexpected() -> StoreError {
    StoreError::refused("the reply has another form than the command's")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn chain(error: &dyn Error) -> Vec<String> {
        let mut chain = vec![error.to_string()];
        let mut source = error.source();
        while let Some(error) = source {
            chain.push(error.to_string());
            source = error.source();
        }
        chain
    }

    #[test]
    fn the_chain_of_an_error_says_each_thing_once() {
        let refusal = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let reason = refusal().to_string();
        let connecting = not_connected(refusal().into());
        assert_eq!(
            chain(&connecting),
            ["no connection to the store".to_owned(), reason.clone()]
        );
        let sending = refused(io::Error::other(refusal()).into());
        assert_eq!(
            chain(&sending),
            ["the store refused the command".to_owned(), reason]
        );
    }
}
