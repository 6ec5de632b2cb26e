//! Talking to a live run over its socket: one JSON line asks, one JSON line answers.
//!
//! The socket lies in a folder of the user's own, with mode 0600, and each peer's credentials are checked: the same
//! user or root (unix(7), SO_PEERCRED), and the same pid namespace, since a workload may have the user's own id. One
//! whose namespace can't be told is refused. No sandbox has that folder in its filesystem.

use std::{
    fs::{self, File, Permissions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{fs::PermissionsExt as _, net},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
};

use crate::{
    failure::{Failure, code},
    runs::private_folder,
};

/// The longest request: a policy of 100,000 rules fits.
const REQUEST_LIMIT: u64 = 64 << 20;
/// How many clients are served at once.
const CLIENTS: usize = 8;
/// How long to wait when no client can be taken for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take to send its request, and to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Put this policy in force.
    Apply {
        /// The file's text.
        text: String,
        /// Where it lies: for errors, and what its feeds are relative to.
        path: PathBuf,
    },
    /// End the run.
    Stop,
}

/// What the run answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Response {
    /// The policy is in force.
    Applied {
        /// Its revision.
        revision: u64,
        /// Open connections judged again.
        rejudged: u64,
        /// Of these, cut.
        cut: u64,
        /// Reading the policy's text, in microseconds.
        parsed_us: u64,
        /// From the parsed policy to its being in force: lists, compilation, its own tests.
        in_force_us: u64,
        /// From then to the last cut.
        took_us: u64,
    },
    /// The policy is refused; the one before stays in force.
    Refused {
        /// Why, drawn for people.
        reason: String,
    },
    /// The run is ending.
    Stopping,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Response>,
}

/// A socket that is removed when the run ends.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Listens at this path, in a folder made private.
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        let (folder, name) = parent_and_name(path)?;
        private_folder(folder)?;
        let folder = File::open(folder)?;
        // By way of the open folder: the path of a Unix socket has at most 107 bytes (unix(7)).
        let listener = net::UnixListener::bind(short_path(&folder, name));
        let listener = listener.with_context(|| format!("listening on {}", path.display()))?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path: path.to_owned() })
    }

    /// Serves clients until dropped. Each request goes to the run's own loop, which answers it.
    pub(crate) async fn serve(self, requests: mpsc::Sender<Pending>) {
        let slots = std::sync::Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of descriptors: asked again at once, it would only spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let requests = requests.clone();
            tokio::spawn(async move {
                let _slot = slot;
                if let Err(error) = serve_client(stream, requests).await {
                    tracing::debug!(%error, "control client");
                }
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve_client(stream: UnixStream, requests: mpsc::Sender<Pending>) -> Result<()> {
    let credentials = stream.peer_cred()?;
    let peer = credentials.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        bail!("user {peer} may not control this run");
    }
    if !is_of_our_namespace(credentials.pid()) {
        bail!("a process of another pid namespace may not control this run");
    }
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    let mut bounded = tokio::io::BufReader::new(reading.take(REQUEST_LIMIT));
    tokio::time::timeout(PATIENCE, bounded.read_line(&mut line)).await??;
    let request: Request = serde_json::from_str(&line)?;
    let (answer, answered) = oneshot::channel();
    requests.send(Pending { request, answer }).await?;
    let response = tokio::time::timeout(PATIENCE, answered).await??;
    writing.write_all(format!("{}\n", serde_json::to_string(&response)?).as_bytes()).await?;
    Ok(())
}

/// Whether a process is in our pid namespace. One in a namespace above ours has no id here (0).
fn is_of_our_namespace(pid: Option<i32>) -> bool {
    let Some(pid) = pid.filter(|pid| *pid > 0) else { return false };
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    let ours = namespace("self");
    ours.is_some() && ours == namespace(&pid.to_string())
}

/// Asks a live run.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Response> {
    let unreachable = |what: &str| {
        Failure::new(code::UNREACHABLE, format!("the run can't be reached: {what}"))
            .hint("`cofferdam ps` lists live runs")
    };
    let (folder, name) = parent_and_name(socket)?;
    let folder = File::open(folder).map_err(|error| unreachable(&error.to_string()))?;
    let stream =
        net::UnixStream::connect(short_path(&folder, name)).map_err(|error| unreachable(&error.to_string()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    let mut line = String::new();
    stream.take(REQUEST_LIMIT).read_line(&mut line).map_err(|error| unreachable(&error.to_string()))?;
    if line.is_empty() {
        return Err(unreachable("it ended, or refused this user").into());
    }
    Ok(serde_json::from_str(&line)?)
}

fn parent_and_name(path: &Path) -> Result<(&Path, &Path)> {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => Ok((folder, Path::new(name))),
        _ => bail!("{} can't be a socket", path.display()),
    }
}

fn short_path(folder: &File, name: &Path) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
}
