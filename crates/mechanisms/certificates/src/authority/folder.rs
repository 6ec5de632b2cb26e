//! The authority's folder and file: private to one user, checked each time, and written whole or not at all.

use std::{
    fs::{DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use rustix::{
    fs::{
        AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, linkat, openat, renameat,
        renameat_with, unlinkat,
    },
    io::Errno,
    process::geteuid,
};
use zeroize::Zeroizing;

use super::AuthorityError;
use crate::key::random;

/// The file's name.
pub const FILE: &str = "authority.pem";
/// A key and some certificates; no file of ours is longer.
const LONGEST: u64 = 64 * 1024;
/// What the names of drafts begin with.
const DRAFT: &str = ".authority.";
/// Rights of group and others.
const OF_OTHERS: u32 = 0o077;

/// An open folder that only its owner, we, may enter.
pub(super) struct Folder {
    path: PathBuf,
    folder: OwnedFd,
}

impl Folder {
    /// Opens it; makes it, private, where there is none.
    pub(super) fn open_or_create(path: &Path) -> Result<Self, AuthorityError> {
        let failed = |source| AuthorityError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        Self::open(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// Opens it where there is one.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, AuthorityError> {
        let Some(found) = Self::find(path)? else { return Ok(None) };
        let state = fstat(&found.folder).map_err(|e| AuthorityError::Io { path: path.to_owned(), source: e.into() })?;
        private(path, state.st_uid, state.st_mode, "700")?;
        Ok(Some(found))
    }

    /// Opens it, whoever may use it.
    fn find(path: &Path) -> Result<Option<Self>, AuthorityError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(folder) => Ok(Some(Self { path: path.to_owned(), folder })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(AuthorityError::NoFolder { path: path.to_owned() }),
            Err(error) => Err(AuthorityError::Io { path: path.to_owned(), source: error.into() }),
        }
    }

    /// Removes the file and drafts that were left, then the folder where nothing else is in it. Whether there was a file.
    pub(super) fn remove(path: &Path) -> Result<bool, AuthorityError> {
        let Some(found) = Self::find(path)? else { return Ok(false) };
        let failed = |error: Errno| found.failed(error.into());
        for entry in Dir::read_from(&found.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_bytes().starts_with(DRAFT.as_bytes()) {
                unlinkat(&found.folder, entry.file_name(), AtFlags::empty()).map_err(failed)?;
            }
        }
        let was_there = match unlinkat(&found.folder, FILE, AtFlags::empty()) {
            Ok(()) => true,
            Err(Errno::NOENT) => false,
            Err(error) => return Err(failed(error)),
        };
        // What else lies there is not ours.
        let _ = std::fs::remove_dir(path);
        Ok(was_there)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.path.join(FILE)
    }

    /// The file's content; `None` where there is no file.
    pub(super) fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, AuthorityError> {
        let path = self.file();
        // Not blocking: a pipe put in its place must not hold us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.folder, FILE, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(AuthorityError::Damaged { path, what: "it is a symbolic link" }),
            Err(error) => return Err(self.failed(error.into())),
        };
        let found = fstat(&file).map_err(|e| self.failed(e.into()))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(AuthorityError::Damaged { path, what: "it is not an ordinary file" });
        }
        private(&path, found.st_uid, found.st_mode, "600")?;
        // The other may lie where a sandbox sees it.
        if found.st_nlink > 1 {
            return Err(AuthorityError::Damaged { path, what: "it has another name (a hard link)" });
        }
        let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(LONGEST).unwrap_or_default() + 1));
        File::from(file).take(LONGEST + 1).read_to_end(&mut content).map_err(|e| self.failed(e))?;
        if content.len() as u64 > LONGEST {
            return Err(AuthorityError::Damaged { path, what: "it is too long" });
        }
        Ok(Some(content))
    }

    /// Writes the file where there is none. `false`: another process was faster, and its file stands.
    pub(super) fn create(&self, content: &[u8]) -> Result<bool, AuthorityError> {
        let draft = self.draft(content)?;
        let renamed = renameat_with(&self.folder, &draft, &self.folder, FILE, RenameFlags::NOREPLACE);
        let made = match renamed {
            // Not every file system can; a link fails too where the name is taken.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                linkat(&self.folder, &draft, &self.folder, FILE, AtFlags::empty())
            }
            made => made,
        };
        if renamed.is_err() {
            unlinkat(&self.folder, &draft, AtFlags::empty()).map_err(|e| self.failed(e.into()))?;
        }
        match made {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(self.failed(error.into())),
        }
    }

    /// Puts a new content in place of the old.
    pub(super) fn replace(&self, content: &[u8]) -> Result<(), AuthorityError> {
        let draft = self.draft(content)?;
        renameat(&self.folder, &draft, &self.folder, FILE).map_err(|error| {
            let _ = unlinkat(&self.folder, &draft, AtFlags::empty());
            self.failed(error.into())
        })
    }

    /// Keeps others from replacing the file until this folder is closed.
    pub(super) fn lock(&self) -> Result<(), AuthorityError> {
        flock(&self.folder, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => AuthorityError::Busy { path: self.path.clone() },
            error => self.failed(error.into()),
        })
    }

    /// A whole file under a name of its own.
    fn draft(&self, content: &[u8]) -> Result<String, AuthorityError> {
        let name = format!("{DRAFT}{}", HEXLOWER.encode(&random::<8>().map_err(AuthorityError::Make)?));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, &name, flags, Mode::RUSR | Mode::WUSR).map_err(|e| self.failed(e.into()))?;
        let mut file = File::from(file);
        file.write_all(content).and_then(|()| file.sync_all()).map_err(|error| {
            let _ = unlinkat(&self.folder, &name, AtFlags::empty());
            self.failed(error)
        })?;
        Ok(name)
    }

    fn failed(&self, source: io::Error) -> AuthorityError {
        AuthorityError::Io { path: self.file(), source }
    }
}

fn private(path: &Path, owner: u32, mode: u32, wanted: &'static str) -> Result<(), AuthorityError> {
    let us = geteuid().as_raw();
    if owner != us {
        return Err(AuthorityError::Owner { path: path.to_owned(), owner, us });
    }
    if mode & OF_OTHERS != 0 {
        return Err(AuthorityError::Open { path: path.to_owned(), mode: mode & 0o7777, wanted });
    }
    Ok(())
}
