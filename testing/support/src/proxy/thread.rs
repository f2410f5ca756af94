//! The proxy's thread, which accepts connections and executes orders.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::forward::{forward, swallow};
use super::{Counts, Faults, Order};

pub(super) struct Proxy {
    listener: StdListener,
    target: SocketAddr,
    faults: watch::Sender<Faults>,
    connections: JoinSet<()>,
    accepted: usize,
}

impl Proxy {
    pub(super) fn new(listener: StdListener, target: SocketAddr) -> Self {
        Self {
            listener,
            target,
            faults: watch::Sender::new(Faults::default()),
            connections: JoinSet::new(),
            accepted: 0,
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let listener = self
            .listener
            .try_clone()
            .expect("cannot clone the proxy's listener");
        let listener =
            TcpListener::from_std(listener).expect("cannot listen with the proxy's runtime");
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.obey(order).await,
                    // The handle was dropped; the connections close with `self`.
                    None => return,
                },
                accepted = listener.accept() => {
                    if let Ok((client, _)) = accepted {
                        self.admit(client);
                    }
                }
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        // First accepts the connections from before the order, under the previous faults. This calls the kernel, because
        // tokio may not have been notified yet. So `connections` is right as soon as a client's `connect` returns.
        while let Ok((client, _)) = self.listener.accept() {
            if let Ok(client) = from_std(client) {
                self.admit(client);
            }
        }
        self.faults.send_modify(order.change);
        if order.close {
            self.connections.shutdown().await;
        }
        while self.connections.try_join_next().is_some() {}
        let _ = order.done.send(Counts {
            open: self.connections.len(),
            accepted: self.accepted,
        });
    }

    fn admit(&mut self, client: TcpStream) {
        self.accepted += 1;
        let faults = *self.faults.borrow();
        if faults.cut {
            return;
        }
        if faults.black_hole {
            self.connections.spawn(swallow(client));
        } else {
            let faults = self.faults.subscribe();
            self.connections.spawn(forward(client, self.target, faults));
        }
    }
}

fn from_std(stream: StdStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
