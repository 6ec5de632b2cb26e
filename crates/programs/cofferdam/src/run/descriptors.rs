//! How many descriptors the gateway may have, and what that leaves for the workload's connections.
//!
//! A connection takes two. What the workload holds must never take the last ones: the record's next file, a new
//! policy and its lists, DNS and the control socket need theirs, and most of all while somebody floods.

use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The record, the control socket, lists, listeners, event queues.
const OWN: u64 = 256;
/// What each of the gateway's threads may take besides connections: DNS over TCP, pipes.
const OF_A_THREAD: u64 = 160;
/// One from the client, one to the server.
const OF_A_CONNECTION: u64 = 2;

/// Raises this process's limit as far as it may, and gives how many connections fit. Called when the sandbox is made
/// already, which keeps the caller's limit.
pub(crate) fn connections(most: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where it can't be raised, what there is counts.
    let _ = setrlimit(Resource::Nofile, raised);
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    match getrlimit(Resource::Nofile).current {
        Some(limit) => usize::try_from(fitting(limit, threads)).unwrap_or(most).min(most),
        None => most,
    }
}

/// At least a quarter of the descriptors is for connections, or a small limit would let none through.
fn fitting(limit: u64, threads: u64) -> u64 {
    let kept = OWN.saturating_add(OF_A_THREAD.saturating_mul(threads)).min(limit / 4 * 3);
    ((limit - kept) / OF_A_CONNECTION).max(1)
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn what_the_gateway_itself_needs_is_left_out() {
        for (limit, threads, expected) in [
            (1024, 2, 224),
            (20_000, 2, 9712),
            (65_536, 4, 32_320),
            (1024, 64, 128),
            (256, 2, 32),
            (3, 2, 1),
            (0, 1, 1),
        ] {
            assert_eq!(fitting(limit, threads), expected, "{limit} {threads}");
        }
    }
}
