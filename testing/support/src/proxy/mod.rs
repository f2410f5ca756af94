//! A TCP proxy that injects network faults.

mod forward;
mod thread;

use std::net::SocketAddr;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::process::listen;
use thread::Proxy;

/// A TCP proxy on a loopback port in front of a server, whose network a test can break and repair.
///
/// Killing a server is a *clean* failure: the kernel immediately reports "reset" or "refused". The proxy simulates what
/// hurts in production: silence, half-sent replies and slowness. Its port never changes, so a client can reconnect.
///
/// The controls are synchronous, and take effect before they return, even for connections that have reached the port and
/// are not accepted yet. The proxy has a thread and a runtime of its own: a test with paused time or a blocked worker does
/// not stop it, and tokio's paused time does not shorten its delays.
///
/// [`stall`](Self::stall) and [`delay`](Self::delay) neither lose nor reorder bytes. Dropping the proxy closes all
/// connections.
///
/// ```
/// use test_support::{Direction, FaultProxy, RedisServer};
///
/// let redis = RedisServer::start();
/// let proxy = FaultProxy::start(redis.addr());
/// let url = format!("redis://{}/", proxy.addr());
/// // … connect a client to `url`, and then:
/// proxy.stall(Direction::ToClient); // commands arrive and run, replies do not come back
/// proxy.resume(); // now they do
/// proxy.cut(); // every connection is closed, and every new one immediately
/// proxy.heal(); // the client can reconnect
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    target: SocketAddr,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// The direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The bytes go from the client to the server: requests.
    ToServer,
    /// The bytes go from the server to the client: replies.
    ToClient,
    /// The bytes go in either direction.
    Both,
}

impl Direction {
    fn includes(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
}

impl FaultProxy {
    /// Starts a proxy to `target`, without a fault.
    ///
    /// The target need not be up: the proxy connects to it for each client, and closes the client's connection if that
    /// fails.
    ///
    /// # Panics
    ///
    /// Panics if it cannot get a port, a thread or a runtime.
    pub fn start(target: SocketAddr) -> Self {
        let listener = listen();
        listener
            .set_nonblocking(true)
            .expect("cannot make a listener non-blocking");
        let addr = listener
            .local_addr()
            .expect("a bound listener has an address");
        let (orders, inbox) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .expect("cannot build the proxy's runtime");
        let thread = std::thread::Builder::new()
            .name(format!("proxy-{}", addr.port()))
            .spawn(move || runtime.block_on(Proxy::new(listener, target).run(inbox)))
            .expect("cannot start the proxy's thread");
        Self {
            addr,
            target,
            orders,
            thread: Some(thread),
        }
    }

    /// Returns the address for clients.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the port of [`addr`](Self::addr).
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Returns the address of the server.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// Closes every connection on both sides, and every new one immediately until [`heal`](Self::heal).
    ///
    /// Bytes that are on their way are lost, so the client cannot know whether its last command ran.
    pub fn cut(&self) {
        self.order(|faults| faults.cut = true, true);
    }

    /// Ends every fault: [`cut`](Self::cut), [`stall`](Self::stall), [`delay`](Self::delay) and
    /// [`black_hole_new`](Self::black_hole_new).
    ///
    /// Stalled bytes are forwarded. A connection in the black hole stays there until its client closes it or the proxy is
    /// cut.
    pub fn heal(&self) {
        self.order(|faults| *faults = Faults::default(), false);
    }

    /// Stops forwarding bytes in a direction, on existing and new connections, and keeps the sockets open.
    ///
    /// A close is stalled too, so neither side notices it. The proxy still reads about a megabyte, and the kernel has
    /// buffers, so a client can usually write and then waits for the reply.
    pub fn stall(&self, direction: Direction) {
        self.order(
            move |faults| faults.each(direction, |way| way.stalled = true),
            false,
        );
    }

    /// Ends [`stall`](Self::stall) in both directions. Stalled bytes are forwarded in order.
    pub fn resume(&self) {
        self.order(
            |faults| faults.each(Direction::Both, |way| way.stalled = false),
            false,
        );
    }

    /// Delays bytes in a direction, which adds latency but does not reduce the throughput of a pipelining client. Zero ends
    /// the delay. Bytes that are already on their way keep theirs.
    pub fn delay(&self, direction: Direction, by: Duration) {
        self.order(
            move |faults| faults.each(direction, |way| way.delay = by),
            false,
        );
    }

    /// Accepts new connections without connecting to the server, and discards what clients send on them, until
    /// [`heal`](Self::heal). Existing connections are not affected.
    pub fn black_hole_new(&self) {
        self.order(|faults| faults.black_hole = true, false);
    }

    /// Returns the number of connected clients, including those in the black hole. A new client counts as soon as its
    /// `connect` has returned, and one that disconnects counts until both directions have ended.
    pub fn connections(&self) -> usize {
        self.order(|_| (), false).open
    }

    /// Returns how many clients have connected since the start, including those that were closed immediately.
    pub fn accepted(&self) -> usize {
        self.order(|_| (), false).accepted
    }

    /// Makes the proxy's thread change the faults, and waits for it.
    fn order(&self, change: impl FnOnce(&mut Faults) + Send + 'static, close: bool) -> Counts {
        let (done, answer) = blocking::sync_channel(1);
        let order = Order {
            change: Box::new(change),
            close,
            done,
        };
        // If the thread has ended, `done` is dropped, and the result is an error.
        let _ = self.orders.send(order);
        answer.recv().expect("the proxy's thread has panicked")
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // Closing the channel ends the thread.
        self.orders = mpsc::unbounded_channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Order {
    change: Box<dyn FnOnce(&mut Faults) + Send>,
    /// Close all connections.
    close: bool,
    done: blocking::SyncSender<Counts>,
}

#[derive(Clone, Copy)]
struct Counts {
    open: usize,
    accepted: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    cut: bool,
    black_hole: bool,
    to_server: Way,
    to_client: Way,
}

#[derive(Clone, Copy, Debug, Default)]
struct Way {
    stalled: bool,
    delay: Duration,
}

impl Faults {
    fn each(&mut self, direction: Direction, change: impl Fn(&mut Way)) {
        if direction.includes(Direction::ToServer) {
            change(&mut self.to_server);
        }
        if direction.includes(Direction::ToClient) {
            change(&mut self.to_client);
        }
    }

    fn way(&self, direction: Direction) -> Way {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient | Direction::Both => self.to_client,
        }
    }
}

#[cfg(test)]
mod tests;
