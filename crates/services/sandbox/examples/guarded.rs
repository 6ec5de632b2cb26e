//! A gateway behind a front, for the tests of the front: `guarded CODE`, `guarded signal`, `guarded sandbox`.

#![allow(unsafe_code)]

use std::io::Write;
use std::mem::MaybeUninit;

use sandbox::{GroupLimits, PlanRequest, Spec, Streams};

fn main() -> anyhow::Result<()> {
    sandbox::guard()?;
    sandbox::make_undumpable()?;
    let what = std::env::args().nth(1).unwrap_or_default();
    if let Ok(code) = what.parse() {
        std::process::exit(code);
    }
    let termination = block_termination();
    println!("{}", std::process::id());
    std::io::stdout().flush()?;
    if what == "signal" {
        let mut number = 0;
        // SAFETY: waits for a signal of a set that was filled.
        unsafe { libc::sigwait(&raw const termination, &raw mut number) };
        println!("got {number}");
        std::process::exit(3);
    }
    let folder = std::env::temp_dir().join(format!("guarded-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let command = ["sh", "-c", "echo up; exec sleep 1000"];
    let plan = PlanRequest::new(command, &folder)?.plan()?.plan;
    let started = sandbox::start(&Spec { plan, limits: GroupLimits::default(), streams: Streams::Inherit })?;
    std::fs::remove_dir(&folder)?;
    let exit = started.sandbox.run()?.wait();
    std::process::exit(exit.code().into());
}

/// SIGTERM waits until it is asked for.
fn block_termination() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is filled by sigemptyset before anything reads it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        set.assume_init()
    }
}
