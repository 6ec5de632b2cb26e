//! The installation's certificate authority from end to end: one root for all its runs, its key in none of them.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use fixture::{Fixture, TIME};
use network_lab::Output;
use support::World;

/// One host, looked into.
fn policy(hosts: &str) -> String {
    format!(
        "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  rules:\n    \
         - {{ name: opened, priority: 1, to: {{ hosts: [{hosts}] }}, ports: [443], action: allow, tls: inspect }}\n"
    )
}

fn command(fixture: &Fixture, more: &[&str], script: &str) -> Result<Command> {
    let policy = fixture.world.write("../policy.yaml", &policy("allowed.test"))?.to_string_lossy().into_owned();
    let whose: &[&str] = if more.contains(&"--authority") { &[] } else { &["--authority", "installation"] };
    Ok(fixture.command(&[&["run", "--policy", &policy], whose, more, &["--", "sh", "-c", script]].concat()))
}

fn opened(fixture: &Fixture, more: &[&str], script: &str) -> Result<Output> {
    fixture.lab.host().run(command(fixture, more, script)?, TIME)
}

#[track_caller]
fn expect(output: &Output, code: i32) {
    let status = output.status.and_then(|status| status.code());
    assert_eq!(status, Some(code), "{}\n{}", output.stdout, output.stderr);
}

fn folder(world: &World) -> PathBuf {
    world.path().join("state/cofferdam/authority")
}

/// A line of the key's, whole and its beginning.
fn key_line(world: &World) -> Result<(String, String)> {
    let text = fs::read_to_string(folder(world).join("authority.pem"))?;
    let line = text.lines().nth(2).context("no second line")?.to_owned();
    let part = line.get(..16).context("a short line")?.to_owned();
    Ok((line, part))
}

fn pem(world: &World) -> Result<String> {
    Ok(world.run(&["authority", "show", "--pem"])?.expect(0).out)
}

/// What openssl says of certificates.
fn openssl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("openssl").args(arguments).output()?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Connects, and shows the certificates that were sent.
const CHAIN: &str = "openssl s_client -connect allowed.test:443 -servername allowed.test -showcerts -verify_return_error \
                     </dev/null 2>/dev/null";

#[test]
fn two_runs_share_one_root_and_each_signs_for_its_own_names_alone() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = format!("curl -sS https://allowed.test/one; cat /etc/cofferdam/trust/run.pem; {CHAIN}");
    let first = opened(&fixture, &[], &script)?;
    expect(&first, 0);
    ensure!(first.stderr.contains("the installation's certificate authority was made"), "{}", first.stderr);
    let second = opened(&fixture, &[], &script)?;
    expect(&second, 0);
    ensure!(!second.stderr.contains("was made"), "{}", second.stderr);
    let root = pem(&fixture.world)?;
    let mut issuers = Vec::new();
    for run in [&first, &second] {
        let trusted = run.stdout.strip_prefix("GET allowed.test /one\n").context(run.stdout.clone())?;
        let chain = trusted.strip_prefix(&root).context(run.stdout.clone())?;
        let sent: Vec<&str> = chain.match_indices("-----BEGIN").filter_map(|(at, _)| chain.get(at..)).collect();
        ensure!(sent.len() == 2, "a leaf and its issuer: {chain}");
        let at = |name: &str| fixture.world.path().join(name).to_string_lossy().into_owned();
        let (leaf, issuer) =
            (fixture.world.write("../leaf.pem", sent[0])?, fixture.world.write("../issuer.pem", sent[1])?);
        fixture.world.write("../root.pem", &root)?;
        let text = openssl(&["x509", "-noout", "-text", "-in", &issuer.to_string_lossy()])?;
        for part in ["Permitted:\n", "DNS:allowed.test", "Excluded:\n", "IP:0.0.0.0/0.0.0.0", "pathlen:0"] {
            ensure!(text.contains(part), "{part}: {text}");
        }
        ensure!(!text.contains("second.test"), "{text}");
        let leaf = leaf.to_string_lossy();
        let verify = ["verify", "-x509_strict", "-CAfile", &at("root.pem"), "-untrusted", &at("issuer.pem"), &leaf];
        let said = openssl(&verify)?;
        ensure!(said.trim_end().ends_with("OK"), "{said}");
        issuers.push(sent[1].to_owned());
    }
    ensure!(issuers[0] != issuers[1], "each run has an issuer of its own");
    // A run's own authority is still what runs have that do not ask for it.
    let own = fixture.run(&[
        "run",
        "--policy",
        &fixture.world.path().join("policy.yaml").to_string_lossy(),
        "--",
        "sh",
        "-c",
        &script,
    ])?;
    expect(&own, 0);
    ensure!(!own.stdout.contains(&root) && own.stdout.starts_with("GET allowed.test /one\n"), "{}", own.stdout);
    Ok(())
}

#[test]
fn the_key_is_in_its_file_alone_and_no_mount_shows_it() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.world.run(&["authority", "rotate"])?.expect(0);
    let (line, part) = key_line(&fixture.world)?;
    let found = fs::metadata(folder(&fixture.world).join("authority.pem"))?;
    ensure!(found.mode() & 0o777 == 0o600 && fs::metadata(folder(&fixture.world))?.mode() & 0o777 == 0o700);
    // The script names the key only in part; what holds it prints the whole.
    let look = format!(
        "env; curl -sS https://allowed.test/; \
         grep -rsah {part} /proc/*/environ /proc/*/cmdline /etc /tmp /run /var /dev/shm /state /authority /key . {}; \
         ls -A /state /authority; cat /key /authority/* /state/authority/*; echo done",
        fixture.world.path().display()
    );
    let state = folder(&fixture.world).parent().context("no state")?.to_owned();
    let mounts = [
        format!("{}:/state:ro", state.display()),
        format!("{}:/state:ro", fixture.world.path().display()),
        format!("{}:/state", state.display()),
    ];
    let plain = opened(&fixture, &[], &look)?;
    expect(&plain, 0);
    ensure!(plain.stdout.contains("GET allowed.test /\n") && plain.stdout.ends_with("done\n"), "{}", plain.stdout);
    for flags in std::iter::once(vec![]).chain(mounts.iter().map(|mount| vec!["--mount", mount.as_str()])) {
        let output = opened(&fixture, &flags, &look)?;
        let all = format!("{}{}", output.stdout, output.stderr);
        ensure!(!all.contains(&line) && !all.contains("PRIVATE KEY"), "{flags:?}: {all}");
        let code = output.status.and_then(|status| status.code());
        ensure!(output.stdout.ends_with("done\n") || code == Some(125), "{flags:?}: {code:?} {all}");
    }
    for (flag, what) in [
        ("--mount", format!("{}:/authority:ro", folder(&fixture.world).display())),
        ("--mount", format!("{}:/key:ro", folder(&fixture.world).join("authority.pem").display())),
        ("--mount", format!("{}:/key:ro", fixture.world.path().join("work/link").display())),
        ("--mount", format!("{}:/key:ro", fixture.world.path().join("other").display())),
        ("--workdir", folder(&fixture.world).display().to_string()),
    ] {
        let names = [fixture.world.work().join("link"), fixture.world.path().join("other")];
        symlink(folder(&fixture.world), &names[0])?;
        fs::hard_link(folder(&fixture.world).join("authority.pem"), &names[1])?;
        // Also where the run signs by itself.
        for whose in ["run", "installation"] {
            let output = opened(&fixture, &[flag, &what, "--authority", whose], &look)?;
            expect(&output, 125);
            let words = "holds the key of the installation's certificate authority";
            ensure!(output.stderr.contains(words) && output.stdout.is_empty(), "{what}: {}", output.stderr);
        }
        names.iter().try_for_each(fs::remove_file)?;
    }
    // Nor in anything that runs leave outside.
    let kept = Command::new("grep").args(["-rla", &line]).arg(fixture.world.path()).output()?;
    let kept = String::from_utf8(kept.stdout)?;
    ensure!(kept.trim_end() == folder(&fixture.world).join("authority.pem").to_string_lossy(), "{kept}");
    Ok(())
}

#[test]
fn an_authority_that_others_could_have_is_refused_by_name() -> Result<()> {
    let fixture = Fixture::new()?;
    let folder = folder(&fixture.world);
    let file = folder.join("authority.pem");
    let refused = |words: &str| -> Result<()> {
        let output = opened(&fixture, &[], "true")?;
        expect(&output, 125);
        ensure!(output.stderr.contains(words) && output.stderr.contains("--authority run"), "{}", output.stderr);
        let shown = fixture.world.run(&["authority", "show"])?.expect(1);
        ensure!(shown.err.contains(words), "{}", shown.err);
        Ok(())
    };
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    fixture.world.run(&["authority", "rotate"])?.expect(0);
    chmod(&file, 0o640)?;
    refused(&format!("{} can be used by others (mode 640)", file.display()))?;
    chmod(&file, 0o600)?;
    chmod(&folder, 0o750)?;
    refused(&format!("{} can be used by others (mode 750)", folder.display()))?;
    chmod(&folder, 0o700)?;
    let other = fixture.world.work().join("notes.txt");
    fs::hard_link(&file, &other)?;
    refused("it has another name (a hard link)")?;
    fs::remove_file(&file)?;
    symlink(&other, &file)?;
    refused("it is a symbolic link")?;
    fixture.world.run(&["authority", "remove"])?.expect(0);
    ensure!(other.exists() && !folder.exists(), "what a link leads to stays");
    fs::create_dir(fixture.world.work().join("elsewhere"))?;
    symlink(fixture.world.work().join("elsewhere"), &folder)?;
    refused("is a symbolic link or no folder")?;
    Ok(())
}

/// A live run that says when it is ready, and goes on when it is told.
fn live(mut command: Command) -> Result<(Child, BufReader<std::process::ChildStdout>)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    ensure!(line == "GET allowed.test /before\n", "{line}");
    Ok((child, out))
}

#[test]
fn neither_rotating_nor_removing_takes_anything_from_a_live_run() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "curl -sS https://allowed.test/before; read -r line; curl -sS https://allowed.test/after; \
                  curl -sS https://second.test/new";
    for verb in ["rotate", "remove"] {
        let (mut child, mut out) = live(command(&fixture, &["--quiet"], script)?)?;
        let before = pem(&fixture.world)?;
        let done = fixture.world.run(&["authority", verb])?.expect(0);
        ensure!(done.err.contains("live runs keep the old one to their end"), "{}", done.err);
        // A new policy takes a new issuer, which is signed by the old key.
        let next = fixture.world.write("../next.yaml", &policy("allowed.test, second.test"))?;
        expect(&fixture.run(&["policy", "apply", &next.to_string_lossy()])?, 0);
        child.stdin.take().context("no input")?.write_all(b"go\n")?;
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut out, &mut rest)?;
        ensure!(child.wait()?.success() && rest == "GET allowed.test /after\nGET second.test /new\n", "{rest}");
        let after = opened(&fixture, &["--quiet"], "curl -sS https://allowed.test/; cat /etc/cofferdam/trust/run.pem")?;
        expect(&after, 0);
        ensure!(after.stdout == format!("GET allowed.test /\n{}", pem(&fixture.world)?), "{}", after.stdout);
        ensure!(!after.stdout.contains(&before), "a new run trusts the old one no more");
    }
    Ok(())
}

#[test]
fn it_is_shown_rotated_and_removed() -> Result<()> {
    let world = World::new()?;
    for verb in ["show", "remove"] {
        let done = world.run(&["authority", verb])?.expect(3);
        ensure!(done.err.contains("`cofferdam authority rotate` makes one") && done.out.is_empty(), "{}", done.err);
    }
    ensure!(!folder(&world).exists(), "to look makes nothing");
    let made = world.run(&["authority", "rotate", "--json"])?.expect(0);
    ensure!(made.err.is_empty(), "{}", made.err);
    let made: serde_json::Value = serde_json::from_str(&made.out)?;
    let shown: serde_json::Value = serde_json::from_str(&world.run(&["authority", "show", "--json"])?.expect(0).out)?;
    ensure!(made == shown && shown["pem"] == pem(&world)?, "{made} {shown}");
    let certificate = world.write("root.pem", &pem(&world)?)?;
    let named =
        openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-subject", "-in", &certificate.to_string_lossy()])?;
    let (sha256, subject) = (shown["sha256"].as_str().context("none")?, shown["subject"].as_str().context("none")?);
    ensure!(named.contains(sha256) && named.replace(" = ", "=").contains(subject), "{named} {shown}");
    let people = world.run(&["authority", "show"])?.expect(0).out;
    for part in [sha256, subject, "396 days left", &folder(&world).join("authority.pem").to_string_lossy()] {
        ensure!(people.contains(part), "{part}: {people}");
    }
    let rotated = world.run(&["authority", "rotate"])?.expect(0);
    ensure!(!rotated.out.contains(sha256) && rotated.err.contains("live runs keep the old one"), "{}", rotated.err);
    for form in [&["show"][..], &["show", "--json"], &["show", "--pem"], &["rotate", "--json"]] {
        let done = world.run(&[&["authority"], form].concat())?.expect(0);
        ensure!(!done.out.contains("PRIVATE") && !done.out.contains(&key_line(&world)?.0), "{}", done.out);
    }
    fs::write(folder(&world).join("authority.pem"), "x")?;
    ensure!(world.run(&["authority", "show"])?.expect(1).err.contains("remove it and a new one is made"));
    let removed: serde_json::Value =
        serde_json::from_str(&world.run(&["authority", "remove", "--json"])?.expect(0).out)?;
    ensure!(removed["removed"] == folder(&world).to_string_lossy().as_ref() && !folder(&world).exists(), "{removed}");
    Ok(())
}

#[test]
fn it_is_chosen_by_flag_variable_and_file_and_made_only_where_tls_is_opened() -> Result<()> {
    let fixture = Fixture::new()?;
    let policy = fixture.world.write("../policy.yaml", &policy("allowed.test"))?.to_string_lossy().into_owned();
    let run = |more: &[&str], variable: Option<&str>| -> Result<bool> {
        let mut command =
            fixture.command(&[&["run", "--quiet"], more, &["--", "curl", "-sS", "https://allowed.test/"]].concat());
        command.envs(variable.map(|value| ("COFFERDAM_AUTHORITY", value)));
        let output = fixture.lab.host().run(command, TIME)?;
        expect(&output, 0);
        let made = folder(&fixture.world).exists();
        if made {
            fixture.world.run(&["authority", "remove"])?.expect(0);
        }
        Ok(made)
    };
    ensure!(!run(&["--authority", "installation", "--allow", "allowed.test"], None)?, "nothing is opened");
    ensure!(!run(&["--policy", &policy], None)? && run(&["--policy", &policy], Some("installation"))?);
    let settings = fixture.world.path().join("home/.config/cofferdam");
    fs::create_dir_all(&settings)?;
    fs::write(settings.join("config.toml"), "authority = \"installation\"\n")?;
    ensure!(run(&["--policy", &policy], None)? && !run(&["--policy", &policy], Some("run"))?);
    ensure!(!run(&["--policy", &policy, "--authority", "run"], Some("installation"))?);
    Ok(())
}
