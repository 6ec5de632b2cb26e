//! What a run is given at its start: words that are no text, folders that it can't have.

mod support;

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

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
    let wrong = world.command(&["run", "--env"]).arg(OsStr::from_bytes(b"\xff=1")).args(["--", "true"]).output()?;
    let wrong = Done::of(&wrong).expect(125);
    assert!(wrong.err.contains("the name of a variable is UTF-8 text"), "{}", wrong.err);
    Ok(())
}
