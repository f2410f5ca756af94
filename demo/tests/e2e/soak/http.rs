//! A blocking connection of a client, which does as little work as possible.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Only limits how long a request can hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that is opened when it is first used, and again after an error.
pub(super) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    read: Vec<u8>,
}

/// A response.
pub(super) struct Response<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

impl Connection {
    pub(super) fn to(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            read: Vec::new(),
        }
    }

    /// Sends a request and reads its response.
    ///
    /// # Errors
    /// Returns an error if there is no server, or if it closes the connection.
    pub(super) fn send(&mut self, request: &[u8]) -> Result<Response<'_>> {
        let Some(mut stream) = self.stream.take().or_else(|| open(self.address)) else {
            return Err(ErrorKind::ConnectionRefused.into());
        };
        stream.write_all(request)?;
        self.read.clear();
        let mut whole = None;
        while whole.is_none_or(|(_, head, body)| self.read.len() < head + body) {
            let mut buffer = [0; 4_096];
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.read.extend_from_slice(&buffer[..read]);
            if whole.is_none() {
                whole = head(&self.read)?;
            }
        }
        let (status, head, body) = whole.expect("the loop has read it");
        self.stream = Some(stream);
        let body = &self.read[head..head + body];
        Ok(Response { status, body })
    }
}

fn open(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// Returns the status, and the lengths of the head and the body, once the head is complete.
fn head(read: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text =
        std::str::from_utf8(&read[..end]).map_err(|_| Error::from(ErrorKind::InvalidData))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok());
    let length = lines.find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    match (status, length) {
        (Some(status), Some(length)) => Ok(Some((status, end + 4, length))),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// Returns the bytes of a request.
pub(super) fn request(method: &str, path: &str, bearer: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: soak\r\nauthorization: Bearer {bearer}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
