//! The bytes of a connection, and the faults that apply to them.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{Direction, Faults};

/// Handles a connection in the black hole, until its client closes it.
pub(super) async fn swallow(mut client: TcpStream) {
    let mut buffer = [0; 4096];
    while matches!(client.read(&mut buffer).await, Ok(1..)) {}
}

/// Handles a connection, until both sides have closed it or one has failed.
pub(super) async fn forward(
    mut client: TcpStream,
    target: SocketAddr,
    faults: watch::Receiver<Faults>,
) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // An error ends both directions: after a reset the other side must not keep half a connection.
    let _ = tokio::try_join!(
        pump(from_client, to_server, Direction::ToServer, faults.clone()),
        pump(from_server, to_client, Direction::ToClient, faults.clone()),
    );
}

/// Bytes that were read, and the time at which they may be written.
type Parcel = (Instant, Vec<u8>);

/// Forwards the bytes of one direction, and their end.
///
/// Reading and writing are two loops with a queue in between. In one loop a delay would be added per read, and grow with
/// the number of waiting bytes.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    faults: watch::Receiver<Faults>,
) -> io::Result<()> {
    const QUEUE: usize = 64;
    const CHUNK: usize = 16 * 1024;

    let (queue, mut parcels) = mpsc::channel::<Parcel>(QUEUE);
    let delays = faults.clone();
    let reading = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = from.read(&mut buffer).await?;
            let due = Instant::now() + delays.borrow().way(direction).delay;
            // An empty parcel marks the end, and waits its turn like any other.
            if queue.send((due, buffer[..n].to_vec())).await.is_err() || n == 0 {
                return Ok(());
            }
        }
    };
    let writing = async move {
        let mut faults = faults;
        while let Some((due, bytes)) = parcels.recv().await {
            sleep_until(due).await;
            if bytes.is_empty() {
                flowing(&mut faults, direction).await;
                return to.shutdown().await;
            }
            write_in_flow(&mut to, &bytes, direction, &mut faults).await?;
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// Writes `bytes`, but nothing while the direction is stalled.
async fn write_in_flow(
    to: &mut WriteHalf<'_>,
    mut bytes: &[u8],
    direction: Direction,
    faults: &mut watch::Receiver<Faults>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        flowing(faults, direction).await;
        tokio::select! {
            // A stall takes precedence over a slow reader that becomes ready.
            biased;
            changed = faults.changed() => if changed.is_err() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            },
            written = to.write(bytes) => match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
    }
    Ok(())
}

/// Waits until the direction is not stalled.
async fn flowing(faults: &mut watch::Receiver<Faults>, direction: Direction) {
    // An error means that the proxy ends, which ends this connection too.
    let _ = faults
        .wait_for(|faults| !faults.way(direction).stalled)
        .await;
}
