//! The program that becomes PID 1 of a sandbox: embedded, and run from a sealed file in memory.
//!
//! A sandbox can't change it (the seals), and needs no file of ours in its file system.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// sandbox-init, static.
const PROGRAM: &[u8] = include_bytes!(env!("SANDBOX_INIT_PROGRAM"));

/// A sealed file in memory that holds the program.
pub(crate) fn program() -> Result<OwnedFd, std::io::Error> {
    sealed("cofferdam-init", PROGRAM, MemfdFlags::EXEC)
}

/// A sealed file in memory that holds these bytes, to be read from the start.
pub(crate) fn data(name: &str, bytes: &[u8]) -> Result<OwnedFd, std::io::Error> {
    sealed(name, bytes, MemfdFlags::NOEXEC_SEAL)
}

fn sealed(name: &str, bytes: &[u8], kind: MemfdFlags) -> Result<OwnedFd, std::io::Error> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(name, flags | kind) {
        // Before Linux 6.3 there is no choice: every such file may be executed.
        Err(Errno::INVAL) => memfd_create(name, flags)?,
        made => made?,
    };
    let mut file = File::from(file);
    file.write_all(bytes)?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}
