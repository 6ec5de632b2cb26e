//! Every command in the README and in `docs/` is run, in the order of its page, in a laboratory internet.
//!
//! A fenced block marked `console` holds commands after `$ `. Each must exit with 0, or with N where the line ends in
//! `# exit N`. Blocks of one page share a folder, so a later command may use an earlier one's file.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use network_lab::{DnsAnswer, DnsName, DnsRecord, Lab, LabSpec, Place};

/// One command of a page.
struct Documented {
    line: usize,
    command: String,
    exit: i32,
}

fn commands_of(page: &str) -> Vec<Documented> {
    let mut inside = false;
    let mut found = Vec::new();
    for (index, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            inside = line.trim() == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let exit = command.rsplit_once("# exit ").and_then(|(_, code)| code.trim().parse().ok()).unwrap_or(0);
            found.push(Documented { line: index + 1, command: command.to_owned(), exit });
        }
    }
    found
}

fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).map(Path::to_path_buf).unwrap_or_default()
}

fn pages() -> Result<Vec<PathBuf>> {
    let root = repository_root();
    let mut pages = vec![root.join("README.md")];
    for entry in fs::read_dir(root.join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(pages)
}

/// A lab in which the pages' example names exist.
fn lab() -> Result<Lab> {
    let lab = Lab::start(LabSpec::standard())?;
    for name in ["example.com", "example.org"] {
        let records = vec![DnsRecord::address("203.0.113.10")];
        lab.script_name(Place::Internet, name, DnsName::answers(vec![DnsAnswer::Records(records)]))?;
    }
    Ok(lab)
}

#[test]
fn every_documented_command_does_what_its_page_says() -> Result<()> {
    let program = Path::new(env!("CARGO_BIN_EXE_cofferdam"));
    let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", program.parent().context("no folder")?.display());
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages()? {
        let commands = commands_of(&fs::read_to_string(&page)?);
        if commands.is_empty() {
            continue;
        }
        let lab = lab()?;
        let folder = tempfile::tempdir()?;
        for documented in commands {
            count += 1;
            let mut shell = lab.host().command_in(folder.path(), "bash");
            shell.env("PATH", &path).env("XDG_STATE_HOME", folder.path().join("state"));
            shell.args(["-c", &documented.command]);
            let output = lab.host().run(shell, Duration::from_secs(60))?;
            let code = output.status.and_then(|status| status.code());
            if code != Some(documented.exit) {
                wrong.push(format!(
                    "{}:{}: `{}` gave {code:?}, the page says {}\n{}\n{}",
                    page.strip_prefix(repository_root())?.display(),
                    documented.line,
                    documented.command,
                    documented.exit,
                    output.stdout,
                    output.stderr,
                ));
            }
        }
    }
    ensure!(count > 15, "only {count} commands were found: the pages or this test lost them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}
