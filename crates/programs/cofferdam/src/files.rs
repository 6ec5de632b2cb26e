//! Opening files that others named or could have replaced: a pipe that nobody writes to, or a device without end, is
//! refused and never waited for.

use std::{
    fs::File,
    io::{Error, ErrorKind, Result, Write as _},
    path::Path,
};

use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

/// Where the descriptors lie that this process was started with.
const DESCRIPTORS: [&str; 3] = ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"];

/// Opens a file to read it.
pub(crate) fn open(path: &Path) -> Result<File> {
    open_as(path, OFlags::RDONLY)
}

/// Opens a file to read it, or what the caller gave by a descriptor: `/dev/stdin`, a shell's `<(command)`. That is
/// waited for, as standard input is.
pub(crate) fn open_or_given(path: &Path) -> Result<File> {
    let is_given = path == Path::new("/dev/stdin")
        || DESCRIPTORS.iter().any(|folder| path.to_str().is_some_and(|path| path.starts_with(folder)));
    if is_given { File::open(path) } else { open(path) }
}

/// Sees to it that there is a file, and that one which holds nothing begins with this text. Whether it was begun.
pub(crate) fn begin(path: &Path, text: &str) -> Result<bool> {
    let mut file = open_as(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)?;
    let begins = file.metadata()?.len() == 0 && !text.is_empty();
    if begins {
        file.write_all(text.as_bytes())?;
    }
    Ok(begins)
}

fn open_as(path: &Path, flags: OFlags) -> Result<File> {
    let no_file = || Error::new(ErrorKind::InvalidInput, "it is no file");
    // Without a wait, and without becoming the owner of a terminal. For a file the flags mean nothing.
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)) {
        Ok(file) => file,
        // A pipe without a reader, a socket, a device that isn't there.
        Err(Errno::NXIO) => return Err(no_file()),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::RegularFile {
        Ok(file.into())
    } else {
        Err(no_file())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn only_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("pipe", at("link")).unwrap();
        for path in [at("pipe"), at("socket"), at("link"), folder.path().to_owned(), "/dev/zero".into()] {
            assert!(open(&path).is_err(), "{path:?}");
            assert!(open_or_given(&path).is_err(), "{path:?}");
            assert!(begin(&path, "more").is_err(), "{path:?}");
        }
        let read = |name: &str| std::io::read_to_string(open(&at(name)).unwrap()).unwrap();
        assert!(!begin(&at("file"), "more").unwrap() && begin(&at("new"), "new").unwrap());
        assert!(!begin(&at("empty"), "").unwrap() && begin(&at("empty"), "now").unwrap());
        assert_eq!([read("file"), read("new"), read("empty")], ["text", "new", "now"]);
    }

    #[test]
    fn what_the_caller_gave_is_read_to_its_end() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let mut given = open_or_given(Path::new(&path)).unwrap();
        rustix::io::write(&writer, b"policy").unwrap();
        drop(writer);
        let mut text = String::new();
        given.read_to_string(&mut text).unwrap();
        assert_eq!(text, "policy");
    }
}
