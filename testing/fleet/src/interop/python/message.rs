//! What a node says.

use serde_json::Value;

use super::Query;

/// One line of a node's.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// It has started.
    Ready,
    /// A command's end.
    Done(Value),
    /// A command's failure.
    Error(String),
    /// A load, to be answered.
    Query(Query),
    /// A request that a serving node has answered.
    Asked(Asked),
    /// An entry or a null that a serving node has written.
    Wrote(Wrote),
}

/// A request, with its times by the clock that all processes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The token's text.
    pub token: String,
    /// The scope.
    pub scope: Option<String>,
    /// Before the request.
    pub start: u64,
    /// After it.
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
    /// Not now.
    Denied(String),
    /// The database failed.
    Unavailable,
}

/// A write, around which the clock was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrote {
    /// The database's number of the load that was written.
    pub load: u64,
    /// Before the command was sent.
    pub sent: u64,
    /// After its reply.
    pub replied: u64,
}

impl Message {
    /// Reads a line; `None` if it is none of a node's.
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
