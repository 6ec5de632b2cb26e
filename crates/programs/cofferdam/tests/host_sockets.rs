//! Unix sockets of the host in folders that a run mounts.

mod support;

use std::{fs, os::unix::net::UnixListener};

use anyhow::Result;
use support::World;

/// Says of each path whether a socket can be seen there.
const LOOK: &str = "for path in \"$@\"; do test -S \"$path\" && echo reachable \"$path\"; done; echo done";

#[test]
fn leftovers_of_an_earlier_run_hide_no_socket() -> Result<()> {
    let world = World::new()?;
    fs::create_dir_all(world.work().join("deep/er"))?;
    world.write("deep/file", "")?;
    // As an earlier workload left them: nobody listens.
    for number in 0..200 {
        drop(UnixListener::bind(world.work().join(format!("decoy{number}")))?);
    }
    let _engine = UnixListener::bind(world.work().join("deep/er/docker.sock"))?;
    let done = world.run(&["run", "--", "sh", "-c", LOOK, "sh", "deep/er/docker.sock"])?.expect(0);
    assert_eq!(done.out, "done\n", "{}", done.err);
    assert!(done.err.contains("docker.sock is a socket of the host; it is masked"), "{}", done.err);
    assert!(!done.err.contains("decoy"), "{}", done.err);
    Ok(())
}

#[test]
fn more_sockets_than_can_be_masked_refuse_the_start() -> Result<()> {
    let world = World::new()?;
    let bind = |number: i32| UnixListener::bind(world.work().join(format!("s{number}")));
    let _held = (0..100).map(bind).collect::<Result<Vec<_>, _>>()?;
    let refused = world.run(&["run", "--", "true"])?.expect(125);
    assert!(refused.err.contains("--allow-host-sockets"), "{}", refused.err);
    let gone_on = world.run(&["run", "--allow-host-sockets", "--", "true"])?.expect(0);
    assert!(gone_on.err.contains("the command may reach what listens there"), "{}", gone_on.err);
    Ok(())
}
