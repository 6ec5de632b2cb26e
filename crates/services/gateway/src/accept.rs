//! Takes connections from the sandbox's listeners, within bounds.

use std::{io, rc::Rc, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use crate::{explicit, flow::Counted, refuse, transparent, worker::Worker};

/// How long a worker that is out of descriptors waits for one to become free.
const PAUSE: Duration = Duration::from_millis(100);

/// Redirected connections.
pub(crate) async fn transparent(worker: Rc<Worker>, listener: TcpListener) {
    loop {
        if let Some((stream, count)) = accept(&worker, &listener).await {
            tokio::task::spawn_local(transparent::serve(Rc::clone(&worker), stream, count));
        }
    }
}

/// Connections to the explicit proxy.
pub(crate) async fn proxy(worker: Rc<Worker>, listener: TcpListener) {
    loop {
        if let Some((stream, count)) = accept(&worker, &listener).await {
            tokio::task::spawn_local(explicit::serve(Rc::clone(&worker), stream, count));
        }
    }
}

async fn accept(worker: &Worker, listener: &TcpListener) -> Option<(TcpStream, Counted)> {
    match listener.accept().await {
        Ok((stream, _)) => {
            let count = Counted::new(worker.shared.tally.clone(), Rc::clone(&worker.live));
            if count.total() > worker.shared.settings.max_connections as u64 {
                worker.shared.tally.error();
                refuse::reset(stream);
                return None;
            }
            // A socket that can't be set up is of no use to anyone.
            stream.set_nodelay(true).ok()?;
            Some((stream, count))
        }
        Err(error) => {
            if is_exhaustion(&error) {
                tracing::warn!(%error, "no connection can be taken until one ends");
                // One that ends gives its descriptors back; other parts of the program may hold them too.
                let ended = tokio::time::timeout(PAUSE, worker.live.ended.notified());
                // Which of the two it was makes no difference.
                let _ = ended.await;
            }
            None
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
