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

/// A file in memory for the program, still empty.
pub(crate) fn place() -> Result<File, std::io::Error> {
    empty("cofferdam-init", MemfdFlags::EXEC)
}

/// Writes the program and seals it.
pub(crate) fn fill(place: &File) -> Result<(), std::io::Error> {
    write_sealed(place, PROGRAM)
}

/// A sealed file in memory that holds these bytes, to be read from the start.
pub(crate) fn data(name: &str, bytes: &[u8]) -> Result<OwnedFd, std::io::Error> {
    let file = empty(name, MemfdFlags::NOEXEC_SEAL)?;
    write_sealed(&file, bytes)?;
    Ok(file.into())
}

fn empty(name: &str, kind: MemfdFlags) -> Result<File, std::io::Error> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(name, flags | kind) {
        // Before Linux 6.3 there is no choice: every such file may be executed.
        Err(Errno::INVAL) => memfd_create(name, flags)?,
        made => made?,
    };
    Ok(File::from(file))
}

fn write_sealed(mut file: &File, bytes: &[u8]) -> Result<(), std::io::Error> {
    file.write_all(bytes)?;
    file.rewind()?;
    // "Future" writes are all writes: nothing has it mapped. Sealing against present ones waits for the whole machine.
    fcntl_add_seals(file, SealFlags::FUTURE_WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(())
}
