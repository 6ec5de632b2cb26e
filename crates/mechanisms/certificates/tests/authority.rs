//! The installation's authority on disk: private, whole, the same for all.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
    process::{Command, Stdio},
    sync::Barrier,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use certificates::{Authority, AuthorityError, Scope};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

const DAY: Duration = Duration::from_secs(86_400);

fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::symlink_metadata(path)?.mode() & 0o7777)
}

#[test]
fn the_key_is_never_readable_by_others() -> Result<()> {
    let top = tempfile::tempdir()?;
    let folder = top.path().join("deep/authority");
    let now = SystemTime::now();
    Authority::open_or_create(&folder, now)?.rotate(now)?;
    assert_eq!((mode(&folder)?, mode(&folder.join("authority.pem"))?), (0o700, 0o600));
    let left: Vec<_> = fs::read_dir(&folder)?.map(|entry| entry.map(|e| e.file_name())).collect::<io::Result<_>>()?;
    assert_eq!(left, ["authority.pem"], "no draft stays");
    Ok(())
}

#[test]
fn what_others_could_use_is_refused_by_name_with_what_to_do() -> Result<()> {
    let now = SystemTime::now();
    for (wrong, right, of_folder) in
        [(0o640, 0o600, false), (0o604, 0o600, false), (0o750, 0o700, true), (0o711, 0o700, true)]
    {
        let top = tempfile::tempdir()?;
        let folder = top.path().join("authority");
        Authority::open_or_create(&folder, now)?;
        let path = if of_folder { folder.clone() } else { folder.join("authority.pem") };
        fs::set_permissions(&path, fs::Permissions::from_mode(wrong))?;
        let error = Authority::open_or_create(&folder, now).err().context("it was opened")?;
        assert!(error.to_string().contains(&format!("chmod {right:o} {}", path.display())), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(right))?;
        Authority::open_or_create(&folder, now)?;
    }
    Ok(())
}

#[test]
fn somebody_elses_folder_or_file_is_refused() -> Result<()> {
    let top = tempfile::tempdir()?;
    let folder = top.path().join("authority");
    let now = SystemTime::now();
    Authority::open_or_create(&folder, now)?;
    for path in [folder.join("authority.pem"), folder.clone()] {
        if chown(&path, Some(12_345), None).is_err() {
            return Ok(()); // Only root gives files away.
        }
        let error = Authority::open_or_create(&folder, now).err().context("it was opened")?;
        assert!(matches!(&error, AuthorityError::Owner { owner: 12_345, .. }), "{error}");
        chown(&path, Some(0), None)?;
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_refused() -> Result<()> {
    let top = tempfile::tempdir()?;
    let (one, other) = (top.path().join("one"), top.path().join("other"));
    let now = SystemTime::now();
    Authority::open_or_create(&one, now)?;
    Authority::open_or_create(&other, now)?;
    let file = one.join("authority.pem");
    let (good, foreign) = (fs::read_to_string(&file)?, fs::read_to_string(other.join("authority.pem"))?);
    let split =
        |text: &str| text.find("-----BEGIN CERTIFICATE").map(|at| (text[..at].to_owned(), text[at..].to_owned()));
    let (key, certificate) = split(&good).context("no certificate")?;
    let (_, foreign) = split(&foreign).context("no certificate")?;
    for (content, part) in [
        (String::new(), "no key"),
        (key.clone(), "no certificate"),
        (certificate, "no key"),
        (format!("{key}{foreign}"), "another key"),
        (format!("{key}{good}"), "more than one key"),
        (format!("{good}{foreign}"), "more than one key"),
        (good.replacen("MI", "M!", 1), "not PEM"),
        (format!("{key}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "can't be read"),
        ("x".repeat(70_000), "too long"),
    ] {
        fs::write(&file, content)?;
        let error = Authority::open_or_create(&one, now).err().with_context(|| format!("{part}: it was opened"))?;
        assert!(error.to_string().contains(part), "{error}, not {part}");
    }
    Ok(())
}

#[test]
fn links_and_pipes_in_its_place_are_refused() -> Result<()> {
    let top = tempfile::tempdir()?;
    let (real, now) = (top.path().join("real"), SystemTime::now());
    Authority::open_or_create(&real, now)?;
    symlink(&real, top.path().join("link"))?;
    let link = top.path().join("link");
    assert!(matches!(Authority::open_or_create(&link, now), Err(AuthorityError::NoFolder { .. })));
    assert!(matches!(Authority::open(&link), Err(AuthorityError::NoFolder { .. })));
    assert!(matches!(Authority::remove(&link), Err(AuthorityError::NoFolder { .. })));
    let file = real.join("authority.pem");
    fs::rename(&file, top.path().join("moved.pem"))?;
    symlink(top.path().join("moved.pem"), &file)?;
    let said = Authority::open_or_create(&real, now).err().context("it was opened")?.to_string();
    assert!(said.contains("symbolic link"), "{said}");
    fs::remove_file(&file)?;
    fs::hard_link(top.path().join("moved.pem"), &file)?;
    let said = Authority::open_or_create(&real, now).err().context("it was opened")?.to_string();
    assert!(said.contains("hard link"), "{said}");
    fs::remove_file(&file)?;
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)?;
    assert!(matches!(Authority::open_or_create(&real, now), Err(AuthorityError::Damaged { .. })));
    Ok(())
}

#[test]
fn all_that_create_it_at_once_get_the_same() -> Result<()> {
    for _ in 0..8 {
        let top = tempfile::tempdir()?;
        let (folder, start, now) = (top.path().join("authority"), Barrier::new(12), SystemTime::now());
        let opened: Vec<Authority> = thread::scope(|scope| {
            let open = || {
                start.wait();
                Authority::open_or_create(&folder, now)
            };
            let opening: Vec<_> = (0..12).map(|_| scope.spawn(open)).collect();
            opening.into_iter().map(|opened| opened.join().expect("no panic")).collect::<Result<_, _>>()
        })?;
        assert!(opened.iter().all(|one| one.certificate() == opened[0].certificate()));
        assert_eq!(fs::read_dir(&folder)?.count(), 1);
    }
    Ok(())
}

/// Runs in processes of their own, each a copy of this test program that runs only `child_opens`.
#[test]
fn processes_that_create_it_at_once_get_the_same() -> Result<()> {
    let top = tempfile::tempdir()?;
    let folder = top.path().join("authority");
    let start = || {
        Command::new(std::env::current_exe()?)
            .args(["--exact", "child_opens", "--ignored", "--nocapture"])
            .env("CERTIFICATES_TEST_FOLDER", &folder)
            .stdout(Stdio::piped())
            .spawn()
    };
    let children: Vec<_> = (0..6).map(|_| start()).collect::<io::Result<_>>()?;
    let mut said = Vec::new();
    for child in children {
        let output = String::from_utf8(child.wait_with_output()?.stdout)?;
        said.push(output.lines().find(|line| line.contains("anchor ")).context(output.clone())?.to_owned());
    }
    assert!(said.iter().all(|line| line == &said[0]), "{said:#?}");
    Ok(())
}

#[test]
#[ignore = "started by processes_that_create_it_at_once_get_the_same"]
fn child_opens() -> Result<()> {
    let folder = std::env::var("CERTIFICATES_TEST_FOLDER")?;
    let authority = Authority::open_or_create(folder.as_ref(), SystemTime::now())?;
    println!("\nanchor {:?}", authority.certificate());
    Ok(())
}

#[test]
fn rotating_leaves_nothing_of_the_old_but_with_who_holds_it() -> Result<()> {
    let top = tempfile::tempdir()?;
    let (folder, now) = (top.path().join("a"), SystemTime::now());
    let held = Authority::open_or_create(&folder, now)?;
    let old = fs::read_to_string(held.file())?;
    let mut rotated = Authority::open_or_create(&folder, now)?;
    rotated.rotate(now)?;
    assert_ne!(held.certificate(), rotated.certificate());
    let opened = Authority::open(&folder)?.context("none")?;
    assert_eq!((opened.certificate(), opened.subject()), (rotated.certificate(), rotated.subject()));
    let new = fs::read_to_string(held.file())?;
    assert!(new.lines().filter(|line| !line.starts_with("-----")).all(|line| line.len() < 64 || !old.contains(line)));
    for (one, issuer) in [(&held, held.issuer(Scope::Any, now)?), (&opened, opened.issuer(Scope::Any, now)?)] {
        assert_eq!(issuer.anchors(), [one.certificate().clone()]);
    }
    Ok(())
}

#[test]
fn removing_takes_the_file_whatever_state_it_is_in_and_nothing_else() -> Result<()> {
    let top = tempfile::tempdir()?;
    let (folder, now) = (top.path().join("a"), SystemTime::now());
    assert!(Authority::open(&folder)?.is_none() && !Authority::remove(&folder)?);
    let held = Authority::open_or_create(&folder, now)?;
    fs::write(held.file(), "damaged")?;
    fs::set_permissions(held.file(), fs::Permissions::from_mode(0o644))?;
    fs::write(folder.join(".authority.00ff"), "a draft that was left")?;
    assert!(Authority::remove(&folder)? && !folder.exists());
    held.issuer(Scope::Any, now)?;
    Authority::open_or_create(&folder, now)?;
    fs::write(folder.join("of-somebody"), "")?;
    assert!(Authority::remove(&folder)? && folder.join("of-somebody").exists() && !held.file().exists());
    assert!(Authority::open(&folder)?.is_none());
    Ok(())
}

#[test]
fn one_that_is_about_to_end_is_rotated_when_it_is_opened() -> Result<()> {
    let top = tempfile::tempdir()?;
    let folder = top.path().join("a");
    let now = SystemTime::now();
    let first = Authority::open_or_create(&folder, now)?;
    let life = first.ends().duration_since(now)?;
    assert!((365 * DAY..=730 * DAY).contains(&life));
    let late = first.ends() - 10 * DAY;
    let second = Authority::open_or_create(&folder, late)?;
    assert!(second.ends() > first.ends() && second.begins() <= late);
    assert_eq!(Authority::open_or_create(&folder, late)?.certificate(), second.certificate());
    let after = Authority::open_or_create(&folder, late + 500 * DAY)?;
    assert_ne!(after.certificate(), second.certificate());
    assert!(first.issuer(Scope::Any, first.ends()).is_err());
    Ok(())
}

#[test]
fn one_that_another_process_rotates_is_left_alone() -> Result<()> {
    let top = tempfile::tempdir()?;
    let folder = top.path().join("a");
    let now = SystemTime::now();
    let mut authority = Authority::open_or_create(&folder, now)?;
    let held = fs::File::open(&folder)?;
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive)?;
    assert!(matches!(authority.rotate(now), Err(AuthorityError::Busy { .. })));
    let late = authority.ends() - 10 * DAY;
    assert_eq!(Authority::open_or_create(&folder, late)?.ends(), authority.ends());
    Ok(())
}

#[test]
fn the_certificate_can_sign_one_issuer_and_names_no_host() -> Result<()> {
    let top = tempfile::tempdir()?;
    let now = SystemTime::now();
    let authority = Authority::open_or_create(top.path().join("a").as_ref(), now)?;
    let (_, read) = X509Certificate::from_der(authority.certificate())?;
    let constraints = read.basic_constraints()?.context("no basic constraints")?;
    assert!(constraints.critical && constraints.value.ca && constraints.value.path_len_constraint == Some(1));
    let usage = read.key_usage()?.context("no key usage")?.value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    assert!(read.subject_alternative_name()?.is_none());
    let name = read.subject().iter_common_name().next().context("no common name")?.as_str()?;
    assert!(name.starts_with("Cofferdam ") && name.len() <= 64, "{name}");
    assert_eq!(authority.subject(), format!("CN={name}"));
    assert_eq!(Authority::open(top.path().join("a").as_ref())?.context("none")?.subject(), authority.subject());
    assert!(!format!("{authority:?}").contains("PRIVATE"));
    Ok(())
}
