//! A client that costs little: written requests, and answers that are read by their length.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{TOKENS, tokens};

pub(crate) struct Client {
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    requests: Vec<Vec<u8>>,
    next: usize,
    /// Of an answer; all of a server's have the same.
    length: usize,
    answer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, connections: usize) -> Self {
        let mut all = Vec::new();
        for nth in 0..connections {
            all.push(Connection::connect(address, nth * TOKENS / connections).await);
        }
        Self { connections: all }
    }

    /// Asks on all connections at once, for so long; how many were answered.
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

    /// Asks so often, on one connection.
    pub(crate) async fn ask(&mut self, requests: usize) {
        for _ in 0..requests {
            self.connections[0].ask().await;
        }
    }
}

impl Connection {
    async fn connect(address: SocketAddr, first: usize) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server");
        stream.set_nodelay(true).expect("a socket");
        let request = |n: usize| {
            let token = tokens::token(n);
            format!(
                "GET / HTTP/1.1\r\nhost: {address}\r\nuser-agent: bench/1.0\r\naccept: */*\r\n\
                 authorization: Bearer {token}\r\n\r\n"
            )
            .into_bytes()
        };
        let mut connection = Self {
            stream,
            requests: (0..TOKENS).map(request).collect(),
            next: first,
            length: 0,
            answer: vec![0; 4_096],
        };
        // The first answer, which is in one packet, says how long they are.
        connection.send().await;
        let read = connection.stream.read(&mut connection.answer).await;
        connection.length = read.expect("an answer");
        connection.check();
        connection
    }

    async fn send(&mut self) {
        self.next = (self.next + 1) % TOKENS;
        let request = &self.requests[self.next];
        self.stream.write_all(request).await.expect("the server");
    }

    async fn ask(&mut self) {
        self.send().await;
        let answer = &mut self.answer[..self.length];
        self.stream.read_exact(answer).await.expect("an answer");
        self.check();
    }

    fn check(&self) {
        let answer = &self.answer[..self.length];
        assert!(
            answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"ok"),
            "{}",
            String::from_utf8_lossy(answer)
        );
    }
}
