//! What a run is given at its start: words that are no text, folders that it can't have.

mod support;

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, process::Command};

use anyhow::Result;
use support::{Done, World};

#[test]
fn arguments_and_values_are_any_bytes() -> Result<()> {
    let world = World::new()?;
    world.write("show.sh", "printf %s \"$1$2$GIVEN$OWN\" | od -An -tx1")?;
    let mut command = world.command(&["run", "-q", "--env", "OWN", "--env"]);
    command.env("OWN", OsStr::from_bytes(b"\xfd")).arg(OsStr::from_bytes(b"GIVEN=\xfe=")).args(["--", "sh", "show.sh"]);
    let output = command.args([OsStr::from_bytes(b"\xff"), OsStr::new("x")]).output()?;
    let done = Done::of(&output).expect(0);
    assert_eq!(done.out.trim(), "ff 78 fe 3d fd", "{}", done.err);
    // In records such a byte is an escape.
    let seen = world.run(&["observe", "--type", "sandbox.started", "--json"])?.expect(0).out;
    assert!(seen.contains(r"\\xff x"), "{seen}");
    let runs = world.run(&["ps", "--all", "--json"])?.expect(0).out;
    assert!(runs.contains(r"\\xff"), "{runs}");
    // A program of such a name is run, or named when it is not there.
    let name = OsStr::from_bytes(b"./\xff");
    std::fs::copy("/bin/true", world.work().join(name))?;
    let found = Done::of(&world.command(&["run", "--"]).arg(name).output()?);
    found.expect(0);
    let missing = Done::of(&world.command(&["run", "--"]).arg(OsStr::from_bytes(b"\xff")).output()?).expect(127);
    assert!(missing.err.contains("not found in the sandbox"), "{}", missing.err);
    // Nor does a folder of such a name in what is passed anyway hold a run up.
    let folder = world.path().join(OsStr::from_bytes(b"\xff"));
    std::fs::create_dir(&folder)?;
    std::fs::copy("/bin/true", folder.join("here"))?;
    let path = [folder.as_os_str(), OsStr::new("/usr/bin:/bin")].join(OsStr::new(":"));
    let mut command = world.command(&["run", "--", "true"]);
    Done::of(&command.env("PATH", &path).env("SSL_CERT_DIR", &folder).output()?).expect(0);
    Done::of(&world.command(&["run", "--", "here"]).env("PATH", &path).output()?).expect(127);
    let wrong = world.command(&["run", "--env"]).arg(OsStr::from_bytes(b"\xff=1")).args(["--", "true"]).output()?;
    let wrong = Done::of(&wrong).expect(125);
    assert!(wrong.err.contains("the name of a variable is UTF-8 text"), "{}", wrong.err);
    Ok(())
}

#[test]
fn a_user_without_a_home_is_told_what_is_missing() -> Result<()> {
    let world = World::new()?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=54321", env!("CARGO_BIN_EXE_cofferdam"), "run", "--", "true"]);
    world.settle(&mut command);
    command.env_remove("HOME").env_remove("XDG_STATE_HOME").env_remove("COFFERDAM_STATE").current_dir(world.work());
    let nobody = Done::of(&command.output()?).expect(125);
    assert!(nobody.err.contains("HOME is not set, and /etc/passwd has no user 54321"), "{}", nobody.err);
    assert!(nobody.err.contains("COFFERDAM_STATE=DIR"), "{}", nobody.err);
    // A home in which nobody may make anything: containers give `/`.
    let mut command = world.command(&["run", "--", "true"]);
    command.env("HOME", "/proc").env_remove("XDG_STATE_HOME").env_remove("COFFERDAM_STATE");
    let elsewhere = Done::of(&command.output()?).expect(125);
    assert!(elsewhere.err.contains("making /proc/.local") && elsewhere.err.contains("=DIR"), "{}", elsewhere.err);
    Ok(())
}

#[test]
fn a_run_that_could_not_be_recorded_leaves_no_folder() -> Result<()> {
    let world = World::new()?;
    world.run(&["run", "-q", "--", "true"])?.expect(0);
    // No file may grow, as on a full disk.
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_cofferdam")]);
    world.settle(&mut command);
    command.args(["run", "--", "true"]).current_dir(world.work());
    let failed = Done::of(&command.output()?).expect(125);
    assert!(failed.err.contains("writing "), "{}", failed.err);
    let runs = std::fs::read_dir(world.path().join("state/cofferdam/runs"))?.count();
    assert_eq!(runs, 1, "{}", failed.err);
    world.run(&["observe"])?.expect(0);
    Ok(())
}
