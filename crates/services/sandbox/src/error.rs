//! Why a sandbox could not be started, and what a person can do about it.

use std::io;
use std::path::PathBuf;

use init_protocol::ChannelError;

/// Nothing of the workload has run when one of these is returned. Programs end with 125.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The plan has no command.
    #[error("there is no command to run")]
    NoCommand,
    /// More mounts than fit.
    #[error("the plan has {count} mounts; at most {most} are possible")]
    TooManyMounts {
        /// In the plan.
        count: usize,
        /// Possible.
        most: usize,
    },
    /// What was begun is not what the plan goes on with.
    #[error("the plan has another terminal, other ports or other ids than the sandbox was begun with")]
    OtherPlan,
    /// A standard stream leads past the walls.
    #[error("{stream} is {what}: the workload could reach the host by it")]
    Stream {
        /// Which stream.
        stream: &'static str,
        /// What it is.
        what: &'static str,
    },
    /// A file of the kernel could not be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No random number.
    #[error("the kernel gave no random number")]
    Random {
        /// Why.
        source: io::Error,
    },
    /// This user namespace has too few ids.
    #[error("{file} leaves no id for the sandbox to run as")]
    NoSpareId {
        /// The map.
        file: &'static str,
    },
    /// The file in memory that init is run from.
    #[error("the program for the sandbox's first process can't be placed in memory")]
    Image(#[source] io::Error),
    /// The control socket.
    #[error("the sandbox's control socket failed")]
    Channel(#[from] ChannelError),
    /// New namespaces were refused.
    #[error("the kernel refused new namespaces")]
    Namespaces {
        /// Why.
        source: io::Error,
        /// What is known about the reason on this machine.
        hint: String,
    },
    /// A map of ids was refused.
    #[error("the sandbox's {file} can't be written")]
    IdMap {
        /// Which file.
        file: &'static str,
        /// Why.
        source: io::Error,
        /// What is known about the reason on this machine.
        hint: String,
    },
    /// A folder or file to mount can't be opened.
    #[error("{} can't be mounted", path.display())]
    Mount {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder's file system can't be id-mapped.
    #[error("{} can't be mounted for a sandbox that root starts", path.display())]
    MountMap {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A limit that was asked for can't be enforced.
    #[error("the limit on {what} can't be enforced here: {reason}")]
    Limit {
        /// Which limit.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The child could not become init.
    #[error("the sandbox's first process could not start: {step}")]
    Child {
        /// Where it stopped.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A wall could not be built.
    #[error("the sandbox's walls can't be built: {step}")]
    Wall {
        /// Which step.
        step: String,
        /// Why.
        source: io::Error,
        /// What to do about it.
        hint: String,
    },
    /// Init broke the protocol, or sent other descriptors than it named.
    #[error("the sandbox's first process sent {what}")]
    Protocol {
        /// What it sent.
        what: &'static str,
    },
    /// Init did not answer in time.
    #[error("the sandbox's first process did not answer within {seconds} seconds")]
    Slow {
        /// The bound.
        seconds: u64,
    },
}

impl StartError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            StartError::Namespaces { hint, .. } | StartError::IdMap { hint, .. } | StartError::Wall { hint, .. } => {
                hint
            }
            StartError::Stream { .. } => "redirect it from or to a file, a pipe or /dev/null",
            StartError::MountMap { .. } => {
                "its file system has no id-mapped mounts (or the kernel is older than 5.12): start cofferdam as an \
                 ordinary user who owns the folder, or keep it on ext4, xfs, btrfs or (from Linux 6.3) tmpfs"
            }
            StartError::Mount { .. } => "check that it exists and that you may read it",
            StartError::Limit { .. } => "leave the limit out, or run `cofferdam doctor` to see which limits work here",
            StartError::NoSpareId { .. } => "start cofferdam as an ordinary user, or give this container more ids",
            StartError::NoCommand
            | StartError::OtherPlan
            | StartError::TooManyMounts { .. }
            | StartError::Read { .. }
            | StartError::Random { .. }
            | StartError::Image(_)
            | StartError::Channel(_)
            | StartError::Child { .. }
            | StartError::Protocol { .. }
            | StartError::Slow { .. } => return None,
        };
        Some(text.to_owned())
    }
}
