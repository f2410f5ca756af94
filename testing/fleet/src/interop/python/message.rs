//! The messages of a node.

use serde_json::Value;

/// A line from a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The node has started.
    Ready,
    /// A command succeeded.
    Done(Value),
    /// A command failed.
    Error(String),
    /// A load has to be answered.
    Query(Query),
    /// A serving node has answered a request.
    Asked(Asked),
    /// A serving node has written an entry or a null.
    Wrote(Wrote),
}

/// A load that a node requests from the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The token's text.
    pub token: String,
    /// The scope.
    pub scope: Option<String>,
}

/// A request, with its times by the clock that all processes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The token's text.
    pub token: String,
    /// The scope.
    pub scope: Option<String>,
    /// The time before the request.
    pub start: u64,
    /// The time after it.
    pub end: u64,
    /// The answer.
    pub said: Said,
}

/// A serving node's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A token, with its record's id.
    Found(String),
    /// No such token.
    Absent,
    /// The tenant is suspended.
    Denied(String),
    /// The database failed.
    Unavailable,
}

/// A write, with the times before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrote {
    /// The number of the load that was written.
    pub load: u64,
    /// The time before the command was sent.
    pub sent: u64,
    /// The time after its reply.
    pub replied: u64,
}

impl Message {
    /// Parses a line. Returns `None` if it is not a message.
    pub fn parse(line: &str) -> Option<Self> {
        let mut message: Value = serde_json::from_str(line).ok()?;
        let members = message.as_object_mut()?;
        let (name, value) = members.iter_mut().next()?;
        let (name, value) = (name.as_str(), value.take());
        Some(match name {
            "ready" => Self::Ready,
            "done" => Self::Done(value),
            "error" => Self::Error(text(&value)?),
            "query" => Self::Query(Query {
                token: text(&value["token"])?,
                scope: text(&value["scope"]),
            }),
            "asked" => Self::Asked(Asked {
                token: text(&value["token"])?,
                scope: text(&value["scope"]),
                start: value["start"].as_u64()?,
                end: value["end"].as_u64()?,
                said: said(&value)?,
            }),
            "wrote" => Self::Wrote(Wrote {
                load: value["load"].as_u64()?,
                sent: value["sent"].as_u64()?,
                replied: value["replied"].as_u64()?,
            }),
            _ => return None,
        })
    }
}

fn said(asked: &Value) -> Option<Said> {
    if let Some(id) = text(&asked["found"]) {
        return Some(Said::Found(id));
    }
    if let Some(reason) = text(&asked["denied"]) {
        return Some(Said::Denied(reason));
    }
    if asked["absent"] == true {
        return Some(Said::Absent);
    }
    (asked["unavailable"] == true).then_some(Said::Unavailable)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
