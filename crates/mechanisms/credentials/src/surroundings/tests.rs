//! Which paths the sandbox may write, or turn.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::Surroundings;

#[test]
fn the_way_to_a_file_counts_and_not_its_spelling() -> std::io::Result<()> {
    let world = tempfile::tempdir()?;
    let root = fs::canonicalize(world.path())?;
    for folder in ["work/sub", "policies"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("policies/token"), "")?;
    fs::write(root.join("work/token"), "")?;
    symlink(root.join("work/token"), root.join("into"))?;
    symlink(root.join("policies/token"), root.join("work/out"))?;
    symlink("work/out", root.join("through"))?;
    symlink("policies", root.join("beside"))?;
    symlink("round", root.join("round"))?;
    let surroundings = Surroundings::of_this_process(root.clone(), vec![root.join("work")]);
    let written = |path: &str| surroundings.may_be_written(&surroundings.path(Path::new(path)));
    for path in [
        "work/../policies/token",
        "policies/token",
        "policies/none",
        "beside/token",
        "beside/../policies/token",
        "work/..",
    ] {
        assert!(!written(path), "{path}");
    }
    // What lies there; what goes by a name there, which may be turned; what goes round.
    for path in ["work", "work/none", "into", "policies/../work/token", "work/out", "through", "round"] {
        assert!(written(path), "{path}");
    }
    // `sub` may be replaced by a link, so this may lead anywhere.
    assert!(written("work/sub/../../policies/token"));
    Ok(())
}
