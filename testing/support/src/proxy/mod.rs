//! A TCP proxy that breaks the wire on command.

mod forward;
mod thread;

use std::net::SocketAddr;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::process::listen;
use thread::Proxy;

/// A TCP proxy on a loopback port in front of a server, whose network a test can break and mend.
///
/// It stands for what an outage looks like from a client, which killing the server does not: a kill is a *clean* failure
/// (the kernel says "reset" or "refused" at once), while what hurts in production is silence, half-sent replies and
/// slowness. Its port stays the same whatever happens, so a client that reconnects finds it again.
///
/// The controls are synchronous and take effect before they return, for connections too that had reached the port but
/// were not yet taken up. The proxy has a thread and a runtime of its own: a test with paused time or a blocked worker
/// does not stop it, and tokio's paused time does not speed up its delays.
///
/// Bytes keep their order, and none are lost by [`stall`](Self::stall) and [`delay`](Self::delay). Dropping the proxy
/// closes everything.
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
/// proxy.cut(); // every connection is closed, and every new one at once
/// proxy.heal(); // the client can reconnect
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    target: SocketAddr,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// The way in which bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: requests.
    ToServer,
    /// From the server to the client: replies.
    ToClient,
    /// Either way.
    Both,
}

impl Direction {
    fn includes(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
}

impl FaultProxy {
    /// Starts a proxy to `target`, healthy at first.
    ///
    /// The target need not be up: a connection is made for each client, and a client whose connection fails is closed,
    /// as it would be by a server that dies.
    ///
    /// # Panics
    ///
    /// Panics if the machine has no port, thread or runtime to give.
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

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port of [`addr`](Self::addr).
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The server behind it.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// Closes every connection on both sides, and until [`heal`](Self::heal) every new one as soon as it is made.
    ///
    /// Bytes on their way are lost, which is the point: the client cannot know whether its last command ran.
    pub fn cut(&self) {
        self.order(|faults| faults.cut = true, true);
    }

    /// Ends every fault: [`cut`](Self::cut), [`stall`](Self::stall), [`delay`](Self::delay) and
    /// [`black_hole_new`](Self::black_hole_new).
    ///
    /// Stalled bytes go on. A connection in the black hole stays there until its client leaves or the proxy is cut.
    pub fn heal(&self) {
        self.order(|faults| *faults = Faults::default(), false);
    }

    /// Stops forwarding bytes in a direction, on present and new connections, and keeps the sockets open.
    ///
    /// Closing is stalled like bytes are: neither side learns that the other has gone. Some bytes (about a megabyte, and
    /// the kernel's buffers) are taken in meanwhile, so a client can usually write and only then waits.
    pub fn stall(&self, direction: Direction) {
        self.order(
            move |faults| faults.each(direction, |way| way.stalled = true),
            false,
        );
    }

    /// Ends [`stall`](Self::stall) in both directions. What was held goes on, in order.
    pub fn resume(&self) {
        self.order(
            |faults| faults.each(Direction::Both, |way| way.stalled = false),
            false,
        );
    }

    /// Makes bytes in a direction arrive this much later, as a longer wire would: it adds to the latency, and takes no
    /// throughput from a pipelining client. Zero ends it. Bytes that are already on their way keep their delay.
    pub fn delay(&self, direction: Direction, by: Duration) {
        self.order(
            move |faults| faults.each(direction, |way| way.delay = by),
            false,
        );
    }

    /// Until [`heal`](Self::heal), new connections are accepted and never answered; what clients send there is
    /// swallowed, and the server never hears of them. Present connections work as before.
    pub fn black_hole_new(&self) {
        self.order(|faults| faults.black_hole = true, false);
    }

    /// How many clients are connected now, those in the black hole included. A new one counts as soon as its `connect` has
    /// returned; one that has left counts until both directions have ended.
    pub fn connections(&self) -> usize {
        self.order(|_| (), false).open
    }

    /// How many clients have ever connected, those included that were closed at once: for counting reconnects.
    pub fn accepted(&self) -> usize {
        self.order(|_| (), false).accepted
    }

    /// Has the proxy's thread change the faults, and returns when it has.
    fn order(&self, change: impl FnOnce(&mut Faults) + Send + 'static, close: bool) -> Counts {
        let (done, answer) = blocking::sync_channel(1);
        let order = Order {
            change: Box::new(change),
            close,
            done,
        };
        // If the thread is gone, so is `done`, and the answer is an error.
        let _ = self.orders.send(order);
        answer.recv().expect("the proxy's thread has panicked")
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // Closing the channel is the order to end.
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
