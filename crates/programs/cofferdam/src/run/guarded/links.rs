//! Symbolic links on the way to a path: one in a folder that the workload may write can be replaced by it.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::Result;

use crate::failure::{Failure, code};

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// The first symbolic link on the way to a path that lies in one of these folders.
pub(super) fn link_within(path: &Path, windows: &[PathBuf]) -> Result<Option<PathBuf>> {
    let from = if path.is_absolute() { PathBuf::from("/") } else { fs::canonicalize(".")? };
    let mut here = from;
    let mut left: VecDeque<OsString> = parts(path);
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        let Ok(to) = fs::read_link(&next) else {
            here = next;
            continue;
        };
        if windows.iter().any(|window| next.starts_with(window)) {
            return Ok(Some(next));
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(
                Failure::new(code::RUN_FAILED, format!("{} goes by too many symbolic links", path.display())).into()
            );
        }
        if to.is_absolute() {
            here = PathBuf::from("/");
        }
        for part in parts(&to).into_iter().rev() {
            left.push_front(part);
        }
    }
    Ok(None)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::link_within;

    #[test]
    fn links_count_where_the_workload_could_replace_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in ["work/conf", "safe"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, root.join(at)).unwrap();
        link("conf", "work/way");
        link("real.yaml", "work/conf/policy.yaml");
        link("../work/way", "safe/in");
        link("../work/conf", "safe/past");
        link("loop", "safe/loop");
        let windows = [root.join("work")];
        for (path, expected) in [
            ("work/conf/real.yaml", None),
            ("work/conf/policy.yaml", Some("work/conf/policy.yaml")),
            ("work/way/real.yaml", Some("work/way")),
            ("safe/in/real.yaml", Some("work/way")),
            ("safe/past/real.yaml", None),
            ("work/../safe/past/policy.yaml", Some("work/conf/policy.yaml")),
            ("gone/policy.yaml", None),
        ] {
            let found = link_within(&root.join(path), &windows).unwrap();
            assert_eq!(found, expected.map(|link| root.join(link)), "{path}");
        }
        assert!(link_within(&root.join("safe/loop/x"), &windows).is_err());
    }
}
