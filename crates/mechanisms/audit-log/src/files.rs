//! The files of one log: `PATH` is written; `PATH.000001`, `PATH.000002` … were closed, the oldest first.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The name of the closed file with this number.
pub(crate) fn closed_name(name: &OsStr, number: u64) -> OsString {
    let mut closed = name.to_owned();
    closed.push(format!(".{number:06}"));
    closed
}

/// A name beside the log's: `NAME.torn`, `NAME.next`.
pub(crate) fn beside(name: &OsStr, suffix: &str) -> OsString {
    let mut beside = name.to_owned();
    beside.push(suffix);
    beside
}

/// The folder of a path; `.` where it names none.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// The numbers of the closed files, ascending.
pub(crate) fn closed_numbers(folder: &Path, name: &OsStr) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?.file_name();
        let number = entry.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
        let digits = number.filter(|digits| digits.len() >= 6 && digits.iter().all(u8::is_ascii_digit));
        let number =
            digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|text| text.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Every file of the log at `path`, in the order its chain goes through them.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "it is no file");
    let name = path.file_name().ok_or_else(no_file)?;
    let folder = folder(path);
    let closed = closed_numbers(folder, name)?.into_iter().map(|number| path.with_file_name(closed_name(name, number)));
    let mut files: Vec<PathBuf> = closed.collect();
    match fs::symlink_metadata(path) {
        Ok(_) => files.push(path.to_owned()),
        // Between closing a file and opening the next there is none of this name.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !files.is_empty() => {}
        Err(error) => return Err(error),
    }
    Ok(files)
}
