//! Hard links: other names of a file, where the workload would find them.

use std::{
    fs,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::failure::{Failure, code};

/// How many entries are looked at, for each file that has other names.
const LIMIT: usize = 200_000;

/// The other names of a file in these folders, or files. Where there are too many entries to tell, that is refused.
pub(super) fn others(file: &Path, folders: &[&Path]) -> Result<Vec<PathBuf>> {
    let Ok(known) = fs::metadata(file) else { return Ok(Vec::new()) };
    if known.nlink() < 2 || !known.is_file() {
        return Ok(Vec::new());
    }
    let is_it = |path: &Path| {
        let found = fs::symlink_metadata(path);
        path != file && found.is_ok_and(|found| (found.dev(), found.ino()) == (known.dev(), known.ino()))
    };
    let mut found: Vec<PathBuf> = folders.iter().filter(|path| is_it(path)).map(|path| path.to_path_buf()).collect();
    let mut left: Vec<PathBuf> = folders.iter().map(|path| path.to_path_buf()).collect();
    let mut looked = 0;
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            looked += 1;
            if looked > LIMIT {
                let what = format!(
                    "{} has other names (hard links), and there are too many files to tell whether the command sees one",
                    file.display()
                );
                return Err(Failure::new(code::RUN_FAILED, what).hint(HINT).into());
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            } else if entry.ino() == known.ino() && is_it(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// What to do.
pub(super) const HINT: &str = "keep the secret in a file of its own: cp it to another one and remove the links";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_are_found_however_deep_and_the_file_itself_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let deep = root.join("work/node_modules/a/b/c/d/e/.git");
        fs::create_dir_all(&deep).unwrap();
        let file = root.join("token");
        fs::write(&file, "secret").unwrap();
        fs::write(deep.join("other"), "secret").unwrap();
        std::os::unix::fs::symlink(&file, root.join("work/symbolic")).unwrap();
        let work = root.join("work");
        assert!(others(&file, &[&work, &root]).unwrap().is_empty());
        fs::hard_link(&file, deep.join("notes.txt")).unwrap();
        assert_eq!(others(&file, &[&work, &root]).unwrap(), [deep.join("notes.txt")]);
        assert_eq!(others(&file, &[&deep.join("notes.txt")]).unwrap(), [deep.join("notes.txt")], "mounted by itself");
        assert!(others(&file, &[&root.join("gone")]).unwrap().is_empty());
        assert!(others(&root.join("gone"), &[&work]).unwrap().is_empty());
    }
}
