//! What the parts say while a command runs, written by a thread of its own.
//!
//! Standard error is the command's, too: one that filled it, or a reader that stands still, must not hold up the gateway.

use std::{
    io::{self, Write as _},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

/// How many lines wait for the reader; the next ones are left out and counted.
const WAITING: usize = 256;
/// How long the end of a run waits for the reader.
const PATIENCE: Duration = Duration::from_millis(500);

static TELLER: OnceLock<Option<SyncSender<Said>>> = OnceLock::new();
static LEFT_OUT: AtomicUsize = AtomicUsize::new(0);

/// What the thread is given.
#[derive(Debug)]
enum Said {
    /// To be written.
    Text(Vec<u8>),
    /// Everything before it is written.
    Done(SyncSender<()>),
}

/// A writer that never waits: each write is one line.
#[derive(Debug)]
pub(crate) struct Told;

impl io::Write for Told {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        say(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line about this run, in the middle of it.
pub(crate) fn note(text: &str) {
    say(format!("cofferdam: {}\n", crate::output::harmless(text)).into_bytes());
}

/// Waits, within bounds, until what was said is written.
pub(crate) fn finish() {
    // Nothing was said where there is no thread.
    let Some(Some(teller)) = TELLER.get() else { return };
    let (done, written) = sync_channel(1);
    if teller.try_send(Said::Done(done)).is_ok() {
        // A reader that stands still is not waited for any longer.
        let _ = written.recv_timeout(PATIENCE);
    }
}

fn say(line: Vec<u8>) {
    let Some(teller) = TELLER.get_or_init(start) else { return };
    match teller.try_send(Said::Text(line)) {
        Ok(()) => {}
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread, at the first word.
fn start() -> Option<SyncSender<Said>> {
    let (teller, said) = sync_channel(WAITING);
    let started = thread::Builder::new().name("told".to_owned()).spawn(move || tell(&said));
    started.is_ok().then_some(teller)
}

fn tell(said: &Receiver<Said>) {
    let mut error = io::stderr();
    for one in said {
        // Where nobody reads any more, there is nobody to tell.
        let _ = match one {
            Said::Text(line) => error.write_all(&line),
            Said::Done(done) => {
                let _ = done.send(());
                Ok(())
            }
        };
        let left_out = LEFT_OUT.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let _ = writeln!(error, "cofferdam: {left_out} more lines were left out");
        }
    }
}
