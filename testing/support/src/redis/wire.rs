//! Enough of the protocol (RESP2) to inspect a server.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply to [`RedisServer::command`](super::RedisServer::command) may take. A paused server never replies, and
/// a test that sends it a command should fail with a panic.
pub(crate) const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// A reply of Redis (RESP2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A null string or a null array.
    Nil,
    /// An integer.
    Int(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// A status such as `OK`.
    Simple(String),
    /// An error, which begins with its code: `WRONGTYPE Operation against…`.
    Error(String),
    /// A list of replies.
    Array(Vec<Reply>),
}

impl Reply {
    /// Asserts that this is the status `OK`.
    ///
    /// # Panics
    ///
    /// Panics if it is anything else.
    #[track_caller]
    pub fn ok(self) {
        assert_eq!(self, Reply::Simple("OK".into()));
    }

    /// Returns the integer.
    ///
    /// # Panics
    ///
    /// Panics if it is anything else.
    #[track_caller]
    pub fn int(self) -> i64 {
        match self {
            Reply::Int(int) => int,
            other => panic!("expected an integer, got {other:?}"),
        }
    }

    /// Returns the bytes of a string or a status.
    ///
    /// # Panics
    ///
    /// Panics if it is anything else.
    #[track_caller]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Reply::Bulk(bytes) => bytes,
            Reply::Simple(text) => text.into_bytes(),
            other => panic!("expected a string, got {other:?}"),
        }
    }

    /// Returns the text of a string or a status.
    ///
    /// # Panics
    ///
    /// Panics if it is anything else, or not UTF-8.
    #[track_caller]
    pub fn text(self) -> String {
        String::from_utf8(self.bytes()).expect("the reply is not UTF-8")
    }

    /// Writes all strings of it, each in a line.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Nil | Reply::Int(_) => {}
            Reply::Bulk(bytes) => out.extend_from_slice(bytes),
            Reply::Simple(text) | Reply::Error(text) => out.extend_from_slice(text.as_bytes()),
            Reply::Array(list) => {
                for reply in list {
                    reply.write_to(out);
                    out.push(b'\n');
                }
            }
        }
    }

    /// Returns the list.
    ///
    /// # Panics
    ///
    /// Panics if it is anything else.
    #[track_caller]
    pub fn array(self) -> Vec<Reply> {
        match self {
            Reply::Array(items) => items,
            other => panic!("expected an array, got {other:?}"),
        }
    }
}

/// A blocking connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: BufReader<TcpStream>,
}

impl Connection {
    pub(super) fn open(addr: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub(super) fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            let arg = arg.as_ref();
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)?;
        self.reply()
    }

    pub(super) fn reply(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.stream)
    }
}

pub(super) fn read_reply(from: &mut impl BufRead) -> io::Result<Reply> {
    let broken = |line: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not a Redis reply: {line:?}"),
        )
    };

    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line);
    let Some(text) = line.strip_suffix("\r\n") else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let (kind, text) = text.split_at_checked(1).ok_or_else(|| broken(text))?;
    let number = || text.parse::<i64>().map_err(|_| broken(&line));
    match kind {
        "+" => Ok(Reply::Simple(text.into())),
        "-" => Ok(Reply::Error(text.into())),
        ":" => number().map(Reply::Int),
        "$" | "*" => {
            let Ok(len) = usize::try_from(number()?) else {
                return Ok(Reply::Nil);
            };
            if kind == "*" {
                return (0..len)
                    .map(|_| read_reply(from))
                    .collect::<Result<_, _>>()
                    .map(Reply::Array);
            }
            let mut bytes = vec![0; len + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(len);
            Ok(Reply::Bulk(bytes))
        }
        _ => Err(broken(&line)),
    }
}
