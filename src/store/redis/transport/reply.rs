//! Replies, and errors in their place. The texts of errors hold neither a key nor a password.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use redis::{FromRedisValue, RedisError, Value};

use crate::store::entry::Generation;
use crate::store::error::StoreError;

/// The reply to one command.
pub(crate) type Reply = Result<Value, ReplyError>;

/// Why one command of several has no result.
#[derive(Debug, Clone)]
pub(crate) enum ReplyError {
    /// The server returned an error.
    Server(RedisError),
    /// The command's node of a cluster did not answer, while others did.
    #[cfg(feature = "redis-cluster")]
    NoReply(StoreError),
}

impl ReplyError {
    /// Returns the code of the server's error.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => error.code(),
            #[cfg(feature = "redis-cluster")]
            Self::NoReply(_) => None,
        }
    }

    /// Returns whether no reply arrived, so that the command may have been executed or not.
    pub(crate) fn has_no_reply(&self) -> bool {
        match self {
            Self::Server(_) => false,
            #[cfg(feature = "redis-cluster")]
            Self::NoReply(_) => true,
        }
    }
}

impl From<ReplyError> for StoreError {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::Server(error) => server_error(error),
            #[cfg(feature = "redis-cluster")]
            ReplyError::NoReply(error) => error,
        }
    }
}

/// Converts a reply into a value.
pub(crate) fn read<T: FromRedisValue>(reply: Reply) -> Result<T, StoreError> {
    T::from_redis_value(reply?).map_err(|error| server_error(RedisError::from(error)))
}

/// Reads a generation. A key that holds another text counts as missing, which costs a load.
pub(crate) fn generation(reply: Reply) -> Result<Option<Generation>, StoreError> {
    let bytes: Option<Vec<u8>> = read(reply)?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| Generation::parse(&text)))
}

/// Reads a generation that came with another reply. One that cannot be read counts as missing: whoever needs it reads it
/// again, alone.
pub(crate) fn generation_beside(reply: Reply) -> Option<Generation> {
    generation(reply).ok().flatten()
}

pub(crate) fn is_wrong_type(reply: &Reply) -> bool {
    reply
        .as_ref()
        .is_err_and(|error| error.code() == Some("WRONGTYPE"))
}

/// Checks that no command failed.
///
/// # Errors
/// Returns the first error.
pub(crate) fn confirmed(replies: &[Reply]) -> Result<(), StoreError> {
    let error = replies.iter().find_map(|reply| reply.as_ref().err());
    error.map_or(Ok(()), |error| Err(error.clone().into()))
}

/// Returns the reply to a command without a secret or a key.
///
/// # Errors
/// Returns the server's words after `what`.
pub(crate) fn accepted(what: &str, reply: Reply) -> Result<Value, StoreError> {
    reply.map_err(|error| match error {
        ReplyError::Server(error) => connection_failed(format!("{what}: {}", full_text(&error))),
        #[cfg(feature = "redis-cluster")]
        ReplyError::NoReply(error) => error,
    })
}

pub(crate) fn full_text(error: &RedisError) -> String {
    let code = error.code().unwrap_or("an error");
    let detail = error.detail().unwrap_or_default();
    format!("the server answered {code} {detail}")
        .trim_end()
        .to_owned()
}

pub(crate) fn unexpected() -> StoreError {
    StoreError::server("the reply does not have the form that the command's replies have")
}

/// The server's text about a command may quote its arguments, and a key may hold a token: only the code
/// is kept.
fn server_error(error: RedisError) -> StoreError {
    match error.code() {
        // guard: H3
        Some(code) => StoreError::server(code_text(code)),
        None => StoreError::server(WithoutRepetition(error)),
    }
}

fn code_text(code: &str) -> String {
    let why = match code {
        "MOVED" | "ASK" => ": it is one node of a cluster, to be connected to by redis+cluster://",
        _ => "",
    };
    format!("the server answered {code}{why}")
}

/// An error of the connection itself.
pub(crate) fn not_connected(error: RedisError) -> StoreError {
    match error.code() {
        Some(code) => connection_failed(code_text(code)),
        None => StoreError::not_connected(Some(Arc::new(WithoutRepetition(error)))),
    }
}

/// There is no connection, for a reason in this crate's words.
pub(crate) fn connection_failed(why: impl Into<String>) -> StoreError {
    let why: Box<dyn Error + Send + Sync> = why.into().into();
    StoreError::not_connected(Some(Arc::from(why)))
}

/// An error of sending commands: that the connection broke, or what the server answered.
pub(crate) fn send_failed(error: RedisError) -> StoreError {
    if error.is_unrecoverable_error() || error.is_io_error() {
        return not_connected(error);
    }
    server_error(error)
}

/// An error whose source is not its own text again: redis-rs shows an error that it wraps as its own
/// text, and returns it as its source too.
#[derive(Debug)]
struct WithoutRepetition(RedisError);

impl fmt::Display for WithoutRepetition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for WithoutRepetition {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let shown = self.to_string();
        let mut source = self.0.source();
        while let Some(error) = source.filter(|error| error.to_string() == shown) {
            source = error.source();
        }
        source
    }
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
    fn the_code_of_a_clusters_node_says_how_to_connect() {
        for (code, advice) in [("MOVED", true), ("ASK", true), ("OOM", false)] {
            let text = code_text(code);
            assert!(text.starts_with(&format!("the server answered {code}")));
            assert_eq!(text.contains("redis+cluster://"), advice, "{text}");
        }
    }

    #[test]
    fn an_error_chain_goes_on_after_a_repetition() {
        #[derive(Debug)]
        struct Outer(io::Error);

        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }

        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }

        let inner = io::Error::from(io::ErrorKind::ConnectionRefused);
        let reason = inner.to_string();
        let connecting = not_connected(io::Error::other(Outer(inner)).into());
        let said = ["no connection to the store", "outer", &reason];
        assert_eq!(chain(&connecting), said);
    }

    #[test]
    fn an_error_chain_says_each_thing_once() {
        let refusal = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let reason = refusal().to_string();
        let connecting = not_connected(refusal().into());
        assert_eq!(
            chain(&connecting),
            ["no connection to the store".to_owned(), reason.clone()]
        );
        let sending = server_error(io::Error::other(refusal()).into());
        assert_eq!(
            chain(&sending),
            ["the store returned an error".to_owned(), reason]
        );
    }
}
