//! A client with little overhead: requests are prepared, and responses are read by their length.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A request for each token, which are sent in turn.
pub(crate) type Requests = Arc<[Vec<u8>]>;

pub(crate) fn requests(tokens: impl IntoIterator<Item = String>) -> Requests {
    let request = |token: String| {
        format!(
            "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench/1.0\r\naccept: */*\r\n\
             authorization: Bearer {token}\r\n\r\n"
        )
        .into_bytes()
    };
    tokens.into_iter().map(request).collect()
}

pub(crate) struct Client {
    connections: Vec<Connection>,
}

struct Connection {
    address: SocketAddr,
    /// `None` after a response of a server that closes, which may handle no other connection until we close too.
    stream: Option<TcpStream>,
    requests: Requests,
    next: usize,
    /// The length of a response, which is the same for all responses of a server.
    length: usize,
    /// Whether the server closes after each response.
    is_closed: bool,
    answer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(
        address: SocketAddr,
        connections: usize,
        requests: &Requests,
    ) -> Self {
        let mut all = Vec::new();
        for nth in 0..connections {
            let first = nth * requests.len() / connections;
            all.push(Connection::connect(address, first, Arc::clone(requests)).await);
        }
        Self { connections: all }
    }

    /// Sends requests on all connections for `time`, and returns the number of responses.
    pub(crate) async fn ask_for(&mut self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut all = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            all.spawn(async move {
                let mut answered = 0;
                while Instant::now() < end {
                    connection.ask().await;
                    answered += 1;
                }
                (connection, answered)
            });
        }
        let mut sum = 0;
        while let Some(done) = all.join_next().await {
            let (connection, answered) = done.expect("no panic");
            self.connections.push(connection);
            sum += answered;
        }
        sum
    }

    /// Sends this number of requests on one connection.
    #[allow(dead_code, reason = "each bench uses its own part")]
    pub(crate) async fn ask(&mut self, requests: usize) {
        for _ in 0..requests {
            self.connections[0].ask().await;
        }
    }
}

impl Connection {
    async fn connect(address: SocketAddr, first: usize, requests: Requests) -> Self {
        let mut connection = Self {
            address,
            stream: None,
            requests,
            next: first,
            length: 0,
            is_closed: false,
            answer: vec![0; 4_096],
        };
        connection.send().await;
        connection.measure().await;
        connection.end();
        connection
    }

    /// Reads the first response, which has the length of all others.
    async fn measure(&mut self) {
        let stream = self.stream.as_mut().expect("a connection");
        let mut read = 0;
        loop {
            let rest = &mut self.answer[read..];
            let more = stream.read(rest).await.expect("an answer");
            assert!(more > 0, "half an answer");
            read += more;
            let text = String::from_utf8_lossy(&self.answer[..read]).to_lowercase();
            let Some((head, _)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
            let length = field("content-length: ").expect("a length");
            self.length = head.len() + 4 + length.parse::<usize>().expect("a number");
            self.is_closed = field("connection: ") == Some("close");
            if read >= self.length {
                return;
            }
        }
    }

    async fn send(&mut self) {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.address).await;
            let stream = stream.expect("the server");
            stream.set_nodelay(true).expect("a socket");
            self.stream = Some(stream);
        }
        self.next = (self.next + 1) % self.requests.len();
        let request = &self.requests[self.next];
        let stream = self.stream.as_mut().expect("a connection");
        stream.write_all(request).await.expect("the server");
    }

    async fn ask(&mut self) {
        self.send().await;
        let answer = &mut self.answer[..self.length];
        let stream = self.stream.as_mut().expect("a connection");
        stream.read_exact(answer).await.expect("an answer");
        self.end();
    }

    fn end(&mut self) {
        if self.is_closed {
            self.stream = None;
        }
        let answer = &self.answer[..self.length];
        assert!(
            answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"ok"),
            "{}",
            String::from_utf8_lossy(answer)
        );
    }
}
