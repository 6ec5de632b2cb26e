//! Sockets made in another network namespace.
//!
//! A socket belongs for ever to the namespace of the thread that opened it (network_namespaces(7)). One helper
//! thread for each namespace enters it once (setns(2)), opens sockets on request and hands them out; a worker's
//! own thread never moves. A namespace that was deleted and made anew under its name is entered anew.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError, mpsc},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;

use super::RouteError;

/// The most namespaces that are kept entered; a policy names few.
const THREAD_LIMIT: usize = 64;

/// Which namespace a file leads to, whatever its path.
type Identity = (u64, u64);

/// One socket to open, and where the answer goes.
struct Order {
    domain: Domain,
    kind: Type,
    reply: oneshot::Sender<io::Result<Socket>>,
}

struct Helper {
    identity: Identity,
    orders: mpsc::Sender<Order>,
}

static HELPERS: LazyLock<Mutex<HashMap<PathBuf, Helper>>> = LazyLock::new(Mutex::default);

/// Opens a socket in the namespace of this path or `ip netns` name.
pub(super) async fn open(name: &str, domain: Domain, kind: Type) -> Result<Socket, RouteError> {
    let path = if name.contains('/') { PathBuf::from(name) } else { PathBuf::from("/run/netns").join(name) };
    let orders = helper(&path)?;
    let (reply, answer) = oneshot::channel();
    let gone = |_| RouteError::Kernel(io::Error::other("the namespace's helper thread ended"));
    orders.send(Order { domain, kind, reply }).map_err(|_| gone(()))?;
    answer.await.map_err(|_| gone(()))?.map_err(RouteError::Kernel)
}

/// The helper of a namespace, started where there is none yet.
fn helper(path: &Path) -> Result<mpsc::Sender<Order>, RouteError> {
    let missing = |source| RouteError::NoNamespace { path: path.display().to_string(), source };
    let file = File::open(path).map_err(missing)?;
    let metadata = file.metadata().map_err(missing)?;
    let identity = (metadata.dev(), metadata.ino());
    let mut helpers = HELPERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(helper) = helpers.get(path).filter(|helper| helper.identity == identity) {
        return Ok(helper.orders.clone());
    }
    if helpers.len() >= THREAD_LIMIT && !helpers.contains_key(path) {
        // Dropping a helper's sender ends its thread; it is started again when it is needed.
        helpers.clear();
    }
    let orders = start(file.into(), path)?;
    helpers.insert(path.to_path_buf(), Helper { identity, orders: orders.clone() });
    Ok(orders)
}

/// Starts a thread that lives in the namespace until its last sender is gone.
fn start(namespace: OwnedFd, path: &Path) -> Result<mpsc::Sender<Order>, RouteError> {
    let (orders, inbox) = mpsc::channel::<Order>();
    let (entered, entry) = mpsc::sync_channel(1);
    let body = move || {
        let moved = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
        let inside = moved.is_ok();
        let told = entered.send(moved.map_err(io::Error::from));
        if told.is_err() || !inside {
            return;
        }
        for order in inbox {
            let socket = Socket::new(order.domain, order.kind.nonblocking().cloexec(), None);
            // Whoever asked may be gone; the socket is closed then.
            drop(order.reply.send(socket));
        }
    };
    thread::Builder::new().name("gateway-netns".to_owned()).spawn(body).map_err(RouteError::Kernel)?;
    let outcome = entry.recv().unwrap_or_else(|_| Err(io::Error::other("the helper thread ended")));
    match outcome {
        Ok(()) => Ok(orders),
        Err(source) => Err(RouteError::NamespaceNotPermitted { path: path.display().to_string(), source }),
    }
}
