//! A TCP connection with a fault in it: between a node and its Redis, or its database, stands a [`FaultyLink`] that can be cut in one direction
//! or in both, or hold back what goes one way.
//!
//! Cut means that bytes are no longer taken off the wire: both ends keep their sockets and hear nothing, as behind a firewall that drops. A
//! connection that is opened meanwhile is accepted and stays silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// From the node nothing arrives.
    pub cut_out: bool,
    /// To the node nothing arrives.
    pub cut_in: bool,
    /// What the node sends arrives so much later.
    pub late_out: Duration,
}

impl Fault {
    pub const NONE: Fault = Fault { cut_out: false, cut_in: false, late_out: Duration::ZERO };
    pub const CUT: Fault = Fault { cut_out: true, cut_in: true, late_out: Duration::ZERO };
}

/// See the module. Ends when it is dropped.
pub struct FaultyLink {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    accepting: JoinHandle<()>,
}

impl FaultyLink {
    /// A link to `to`, without a fault.
    pub async fn to(to: SocketAddr) -> FaultyLink {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let fault = watch::channel(Fault::NONE).0;
        let faults = Arc::new(fault.subscribe());
        let accepting = tokio::spawn(async move {
            let mut carried = tokio::task::JoinSet::new();
            loop {
                let Ok((node, _)) = listener.accept().await else { continue };
                let faults = faults.clone();
                carried.spawn(async move {
                    if let Ok(server) = TcpStream::connect(to).await {
                        let _ = (node.set_nodelay(true), server.set_nodelay(true));
                        let ((from_node, to_node), (from_server, to_server)) = (node.into_split(), server.into_split());
                        let out = carry(from_node, to_server, (*faults).clone(), |fault| (fault.cut_out, fault.late_out));
                        let back = carry(from_server, to_node, (*faults).clone(), |fault| (fault.cut_in, Duration::ZERO));
                        // When one side is gone, so is the connection.
                        tokio::select! { () = out => {}, () = back => {} }
                    }
                });
            }
        });
        FaultyLink { address, fault, accepting }
    }

    /// Where the node connects.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// The fault from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for FaultyLink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Fault>,
    of: impl Fn(&Fault) -> (bool, Duration),
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let came = Instant::now();
        // Looked at again whenever the fault changes: what waits goes on when the fault is over.
        loop {
            let (cut, late) = of(&faults.borrow_and_update());
            let due = came + late;
            if !cut && Instant::now() >= due {
                break;
            }
            tokio::select! {
                changed = faults.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(due), if !cut => {}
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
