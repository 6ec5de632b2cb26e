//! The operating system's keyring: GNOME's, on a session bus of the test's own, where both are installed.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing fails")]

mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use policy::model::credential::{Source, Stored};
use support::{World, obtained};

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn entry(account: &str) -> Source {
    Source::Stored(Stored::Keyring { service: "api.example.com".to_owned(), account: account.to_owned() })
}

/// A session bus and its address; none where there is no such program.
fn bus(folder: &Path) -> Result<Option<(Running, String)>> {
    // No folder of services: nothing of this machine is started by asking for it.
    let config = format!(
        "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
         <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
        folder.join("bus").display()
    );
    std::fs::write(folder.join("bus.conf"), config)?;
    let started = Command::new("dbus-daemon")
        .args(["--nofork", "--print-address=1"])
        .arg(format!("--config-file={}", folder.join("bus.conf").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else { return Ok(None) };
    let mut address = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut address)?;
    Ok(Some((Running(child), address.trim().to_owned())))
}

#[test]
fn without_a_bus_or_a_keyring_it_says_so() -> Result<()> {
    let mut world = World::new()?;
    let error = obtained(&world.open(entry("one"))?);
    assert!(error.contains("the keyring, looking up the entry") && error.contains("no session bus"), "{error}");
    world.variable("XDG_RUNTIME_DIR", "/nonexistent");
    let error = obtained(&world.open(entry("one"))?);
    assert!(error.contains("the session bus doesn't answer"), "{error}");
    let Some((_bus, address)) = bus(world.folder.path())? else {
        eprintln!("skipped: there is no dbus-daemon here");
        return Ok(());
    };
    world.variable("DBUS_SESSION_BUS_ADDRESS", &address);
    let error = obtained(&world.open(entry("one"))?);
    assert!(error.contains("no keyring runs on the session bus"), "{error}");
    Ok(())
}

#[test]
fn an_entry_of_gnomes_keyring() -> Result<()> {
    let mut world = World::new()?;
    let Some((_bus, address)) = bus(world.folder.path())? else {
        eprintln!("skipped: there is no dbus-daemon here");
        return Ok(());
    };
    world.variable("DBUS_SESSION_BUS_ADDRESS", &address);
    let here = |program: &str| {
        let mut command = Command::new(program);
        command.env("DBUS_SESSION_BUS_ADDRESS", &address).env("HOME", &world.surroundings.home);
        command.env("XDG_RUNTIME_DIR", world.folder.path()).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut keyring = here("gnome-keyring-daemon");
    let Ok(child) = keyring.args(["--foreground", "--unlock", "--components=secrets"]).spawn() else {
        eprintln!("skipped: there is no gnome-keyring-daemon here");
        return Ok(());
    };
    let mut keyring = Running(child);
    keyring.0.stdin.take().context("its input")?.write_all(b"password")?;
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let store =
            here("secret-tool").args(["store", "--label=one", "service", "api.example.com", "username", "one"]).spawn();
        let Ok(mut store) = store else {
            eprintln!("skipped: there is no secret-tool here");
            return Ok(());
        };
        store.stdin.take().context("its input")?.write_all(b"from the keyring")?;
        if store.wait()?.success() {
            break;
        }
        assert!(Instant::now() < until, "the keyring did not start");
    }
    assert_eq!(obtained(&world.open(entry("one"))?), "from the keyring");
    let error = obtained(&world.open(entry("other"))?);
    assert!(error.contains("there is no such entry"), "{error}");
    Ok(())
}
