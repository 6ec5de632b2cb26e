//! Takes connections from the sandbox's listeners, within bounds.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SocketFlags, acceptfrom_with},
};
use tokio::io::unix::AsyncFd;

use crate::{crowd::HEAD_START, explicit, flow::Counted, pump, socket::Socket, transparent, worker::Worker};

/// How long a worker that is out of descriptors waits for one to become free.
const PAUSE: Duration = Duration::from_millis(100);
/// How many connections are taken before others have their turn.
const TURN: usize = 16;

/// A listener of the sandbox.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: AsyncFd<OwnedFd>,
    /// Where it listens, where that is one address.
    address: Option<SocketAddr>,
}

/// A connection of the sandbox.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Its socket.
    pub(crate) socket: Socket,
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// The end that it came in at.
    pub(crate) local: SocketAddr,
    /// Counts it as open.
    pub(crate) count: Counted,
}

impl Listener {
    /// Takes over a listener. What it accepts does not wait to fill packets.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        // An accepted socket inherits this (tcp(7)).
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
        let address = Some(address).filter(|address| !address.ip().is_unspecified());
        Ok(Self { socket: crate::worker::watch(socket)?, address })
    }

    /// One connection, or nothing where none waits.
    fn take(&self) -> Result<(OwnedFd, SocketAddr, SocketAddr), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, client) = acceptfrom_with(&self.socket, flags)?;
        let client = client.and_then(|client| client.try_into().ok()).ok_or(Errno::AFNOSUPPORT)?;
        let local = match self.address {
            Some(address) => address,
            None => rustix::net::getsockname(&socket)?.try_into()?,
        };
        Ok((socket, client, local))
    }
}

/// Redirected connections.
pub(crate) async fn transparent(worker: Rc<Worker>, listener: Listener) {
    serve(&worker, &listener, |arrived| Box::pin(transparent::serve(Rc::clone(&worker), arrived))).await;
}

/// Connections to the explicit proxy.
pub(crate) async fn proxy(worker: Rc<Worker>, listener: Listener) {
    serve(&worker, &listener, |arrived| Box::pin(explicit::serve(Rc::clone(&worker), arrived))).await;
}

/// The life of a connection.
pub(crate) type Life = Pin<Box<dyn Future<Output = ()>>>;

/// Takes connections until dropped.
async fn serve(worker: &Worker, listener: &Listener, life: impl Fn(Arrived) -> Life) {
    // Others had their head start.
    let mut waited = false;
    loop {
        let mut ready = match listener.socket.readable().await {
            Ok(ready) => ready,
            Err(error) => {
                tracing::error!(%error, "a listener can't be waited for");
                return;
            }
        };
        let late = std::mem::take(&mut waited);
        if !late && worker.live.crowd.is_ahead() {
            drop(ready);
            tokio::time::sleep(HEAD_START).await;
            waited = true;
            continue;
        }
        for _ in 0..TURN {
            match listener.take() {
                Ok((socket, client, local)) => {
                    worker.note_arrival();
                    let count = Counted::taken(worker.shared.tally.clone(), Rc::clone(&worker.live));
                    if count.total() > worker.shared.settings.max_connections as u64 {
                        worker.shared.tally.error();
                        pump::reset(&socket);
                        continue;
                    }
                    begin(life(Arrived { socket: Socket::Own(socket), client, local, count }));
                    if !late && worker.live.crowd.is_ahead() {
                        break;
                    }
                }
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(error) if is_exhaustion(error) => {
                    tracing::warn!(%error, "no connection can be taken until one ends");
                    // One that ends gives its descriptors back; other parts of the program may hold them too.
                    let ended = tokio::time::timeout(PAUSE, worker.live.ended.notified());
                    // Which of the two it was makes no difference.
                    let _ = ended.await;
                    break;
                }
                // A client that was gone before it was accepted.
                Err(_) => {}
            }
        }
        drop(ready);
        tokio::task::yield_now().await;
    }
}

/// Takes the first steps of a connection at once: most need not wait for anything, and then it costs no task.
pub(crate) fn begin(life: Life) {
    let mut life = life;
    // A task of its own polls it again, so nobody misses what happens in between.
    if life.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        tokio::task::spawn_local(life);
    }
}

fn is_exhaustion(error: Errno) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&error)
}
