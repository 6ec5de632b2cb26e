//! The stories of `examples/`, as a person runs them: each `run.sh` with a server of its own on this machine's loopback.

#[path = "support/screen.rs"]
mod screen;
mod support;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use screen::Screen;
use support::{Done, World};

fn script(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap_or(Path::new("."));
    root.join("examples").join(name).join("run.sh")
}

/// Runs a story to its end, which a bound keeps near; its policy's own tests first.
fn told(name: &str) -> Result<(World, Done)> {
    let world = World::new()?;
    check(&world, name)?;
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "100", "sh"]).arg(script(name)).current_dir(world.work());
    world.settle(&mut command);
    command.env("COFFERDAM", env!("CARGO_BIN_EXE_cofferdam"));
    let done = Done::of(&command.output()?);
    Ok((world, done))
}

/// The tests that a story's policy brings along.
fn check(world: &World, name: &str) -> Result<()> {
    world.write("policy.yaml", &std::fs::read_to_string(script(name).with_file_name("policy.yaml"))?)?;
    world.run(&["policy", "test", "policy.yaml"])?.expect(0);
    Ok(())
}

#[test]
fn policies_to_start_from_pass_their_own_tests() -> Result<()> {
    let world = World::new()?;
    let folder = script("none").ancestors().nth(2).unwrap_or(Path::new(".")).to_owned();
    let mut checked = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let done = world.run(&["policy", "test", &path.to_string_lossy()])?.expect(0);
            assert!(done.out.contains(" passed, 0 failed"), "{}", done.out);
            checked += 1;
        }
    }
    assert_eq!(checked, 3);
    Ok(())
}

/// What a line of the story says, behind its title.
#[track_caller]
fn line<'out>(out: &'out str, title: &str) -> &'out str {
    let found = out.lines().find_map(|line| line.trim_start().strip_prefix(title));
    found.unwrap_or_else(|| panic!("no {title:?} in:\n{out}")).trim()
}

#[test]
fn a_github_like_api_is_used_with_a_placeholder() -> Result<()> {
    let (world, done) = told("github-token")?;
    let done = done.expect(0);
    let held = line(&done.out, "the agent holds:");
    assert!(held.starts_with("ghp_") && held.len() == 40, "{held}");
    assert_eq!(line(&done.out, "its repository:"), "{\"full_name\": \"acme/app\", \"private\": true}  <- 200");
    assert!(line(&done.out, "an issue in it:").ends_with("<- 201"), "{}", done.out);
    // The server says the token back; what comes into the sandbox is the placeholder.
    assert_eq!(line(&done.out, "an echo of the token:"), format!("{{\"you_sent\": \"Bearer {held}\"}}  <- 200"));
    for refused in ["another repository:", "deleting its own:"] {
        assert_eq!(line(&done.out, refused), "<- 403", "{}", done.out);
    }
    let seen: Vec<&str> = done.out.lines().skip_while(|line| *line != "the server saw:").skip(1).collect();
    let expected =
        ["  GET /repos/acme/app -> 200", "  POST /repos/acme/app/issues -> 201", "  GET /repos/acme/app/debug -> 200"];
    assert_eq!(seen, expected, "{}", done.err);
    // Why, and at the address that the rule names.
    let denied = world.run(&["observe", "--verdict", "denied"])?.expect(0).out;
    for (flow, kept_from) in
        [("(127.0.0.1) GET /repos/acme/other", "path"), ("(127.0.0.1) DELETE /repos/acme/app", "method")]
    {
        let why = format!("credential github of rule one-repository is not bound to this {kept_from}");
        assert!(denied.lines().any(|line| line.contains(flow) && line.contains(&why)), "{flow}: {denied}");
    }
    Ok(())
}

#[test]
fn an_s3_like_store_takes_what_the_gateway_signs() -> Result<()> {
    let done = told("object-store")?.1.expect(0);
    assert_eq!(line(&done.out, "keys the agent holds:"), "0");
    assert_eq!(line(&done.out, "writes a report:"), "<- 200", "{}\n{}", done.out, done.err);
    assert_eq!(line(&done.out, "reads it again:"), "checkout is slow since 3 am  <- 200");
    for refused in ["another bucket:", "deleting the report:"] {
        assert_eq!(line(&done.out, refused), "<- 403", "{}", done.out);
    }
    let seen: Vec<&str> = done.out.lines().filter(|line| line.contains(" -> ")).collect();
    assert_eq!(seen, ["  PUT /reports/2026-11-21.txt -> 200", "  GET /reports/2026-11-21.txt -> 200"], "{}", done.out);
    assert!(line(&done.out, "without a signature:").ends_with("<- 403"), "{}", done.out);
    Ok(())
}

#[test]
fn an_api_that_may_be_read_asks_before_it_is_changed() -> Result<()> {
    for (answer, code, seen) in [("o", "<- 201", "POST /incidents/17/notes -> 201"), ("d", "<- 403", "GET")] {
        let world = World::new()?;
        check(&world, "read-only-api")?;
        let mut inner = Command::new("sh");
        inner.arg(script("read-only-api")).current_dir(world.work()).env("COFFERDAM", env!("CARGO_BIN_EXE_cofferdam"));
        let mut screen = Screen::start(&world, inner, &[])?;
        screen.wait_for("cofferdam asks: may this leave?")?;
        screen.wait_for("what  POST host.cofferdam.internal:")?;
        screen.wait_for("> ")?;
        screen.type_in(&format!("{answer}\n"))?;
        screen.wait_for("closes it:")?;
        screen.wait_for("<- 403")?;
        screen.wait_for("the server saw:")?;
        let (status, rest) = screen.end()?;
        assert_eq!(status, Some(0), "{rest}");
        assert!(rest.contains("GET /incidents -> 200") && rest.contains(seen), "{answer} {code}: {rest}");
        assert!(!rest.contains("DELETE") && rest.contains("POST") == (answer == "o"), "{answer}: {rest}");
    }
    Ok(())
}
