//! Programs with a preset that this machine has are started for real, contained, and say the same as outside.
//!
//! In a laboratory internet, so that none of them can reach anything.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::Result;
use network_lab::{Lab, LabSpec};

const TIME: Duration = Duration::from_secs(120);

/// A program and what it is asked.
const PROGRAMS: [(&str, &[&str]); 17] = [
    ("aider", &["--version"]),
    ("aws", &["--version"]),
    ("az", &["version"]),
    ("cargo", &["--version"]),
    ("claude", &["--version"]),
    ("codex", &["--version"]),
    ("copilot", &["--version"]),
    ("gemini", &["--version"]),
    ("git", &["--version"]),
    ("go", &["version"]),
    ("kubectl", &["version", "--client"]),
    ("node", &["--version"]),
    ("npm", &["--version"]),
    ("opencode", &["--version"]),
    ("pip", &["--version"]),
    ("python3", &["-c", "import ssl, sqlite3, ctypes; print('whole')"]),
    ("terraform", &["version"]),
];

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder: PathBuf| folder.join(program).is_file())
}

#[test]
fn known_programs_start_contained() -> Result<()> {
    let lab = Lab::start(LabSpec::standard())?;
    let folder = tempfile::tempdir()?;
    let (home, work) = (folder.path().join("home"), folder.path().join("work"));
    std::fs::create_dir_all(&home)?;
    std::fs::create_dir_all(&work)?;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (program, arguments) in PROGRAMS.into_iter().filter(|(program, _)| is_installed(program)) {
        tried += 1;
        let settle = |mut command: Command| {
            for (name, below) in
                [("PYENV_ROOT", ".pyenv"), ("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup"), ("NVM_DIR", ".nvm")]
            {
                // Tool chains of the real home, where they are there.
                let real =
                    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(below)).filter(|real| real.is_dir());
                if let (None, Some(real)) = (std::env::var_os(name), real) {
                    command.env(name, real);
                }
            }
            command
                .env("HOME", &home)
                .env("XDG_STATE_HOME", folder.path().join("state"))
                .env("CHECKPOINT_DISABLE", "1");
            command
        };
        let mut contained = settle(lab.host().command_in(&work, env!("CARGO_BIN_EXE_cofferdam")));
        contained.args(["run", "--env", "CHECKPOINT_DISABLE", "--", program]).args(arguments);
        let contained = lab.host().run(contained, TIME)?;
        let mut outside = settle(lab.host().command_in(&work, program));
        outside.args(arguments);
        let outside = lab.host().run(outside, TIME)?;
        if outside.status != contained.status || outside.stdout != contained.stdout {
            wrong.push(format!("{program}: outside {outside:?}\ninside {contained:?}"));
        }
    }
    assert!(tried >= 2, "only {tried} known programs are on this machine");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

/// A program that writes into what makes it run something, and into what it keeps.
#[test]
fn an_agents_settings_are_not_the_commands_to_change() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let home = std::fs::canonicalize(folder.path())?.join("home");
    let work = home.with_file_name("work");
    std::fs::create_dir_all(&work)?;
    for agent in [".claude/projects", ".codex", ".gemini", ".copilot", ".local/share/opencode", ".azure"] {
        std::fs::create_dir_all(home.join(agent))?;
    }
    std::fs::write(home.join(".claude/statusline.sh"), "echo mine")?;
    std::fs::write(home.join(".claude.json"), "{\"mine\": true}")?;
    std::fs::write(home.join(".codex/config.toml"), "model = \"mine\"\n")?;
    let tries = [
        (
            "claude",
            ".claude",
            &["settings.json", "commands/x", "hooks/x", "plugins/x", "skills/x", "statusline.sh"][..],
        ),
        ("codex", ".codex", &["config.toml", "hooks.json", "prompts/x", "rules/x", "skills/x"]),
        ("gemini", ".gemini", &["settings.json", "extensions/x", "commands/x"]),
        ("copilot", ".copilot", &["config.json", "mcp-config.json", "hooks/x", "agents/x"]),
        ("opencode", ".local/share/opencode", &["bin/x"]),
        ("az", ".azure", &["config", "cliextensions/x"]),
    ];
    for (preset, folder, held) in tries {
        let mut script = format!("cd '{}'; echo x > kept || echo nothing is kept;", home.join(folder).display());
        for path in held {
            let above = path.split_once('/').map_or(*path, |(above, _)| above);
            script.push_str(&format!(
                "(echo evil >> {path}) 2>/dev/null && echo wrote {path}; mv {above} {above}.x 2>/dev/null && echo moved {above};\
                 rm -rf {above} 2>/dev/null && echo removed {above};"
            ));
        }
        script.push_str("test -e ~/.claude.json && echo evil > ~/.claude.json; echo done");
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(["run", "--program-preset", preset, "--", "sh", "-c", &script]).current_dir(&work);
        command.env("HOME", &home).env("XDG_STATE_HOME", home.with_file_name("state")).env_remove("XDG_RUNTIME_DIR");
        for name in ["XDG_CONFIG_HOME", "CODEX_HOME", "AZURE_CONFIG_DIR", "CLAUDE_CONFIG_DIR"] {
            command.env_remove(name);
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{preset}: {said}");
        assert!(home.join(folder).join("kept").is_file(), "{preset}");
    }
    // A link can't be held: that is said.
    std::fs::remove_dir(home.join(".gemini/commands"))?;
    std::os::unix::fs::symlink(home.join("elsewhere"), home.join(".gemini/commands"))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.args(["run", "--program-preset", "gemini", "--", "true"]).current_dir(&work);
    command.env("HOME", &home).env("XDG_STATE_HOME", home.with_file_name("state")).env_remove("XDG_RUNTIME_DIR");
    let said = command.env_remove("XDG_CONFIG_HOME").output()?;
    let said = String::from_utf8_lossy(&said.stderr);
    assert!(said.contains(".gemini/commands is a symbolic link"), "{said}");
    assert_eq!(std::fs::read_to_string(home.join(".claude.json"))?, "{\"mine\": true}");
    assert_eq!(std::fs::read_to_string(home.join(".codex/config.toml"))?, "model = \"mine\"\n");
    assert_eq!(std::fs::read_to_string(home.join(".gemini/settings.json"))?, "{}");
    Ok(())
}

/// A leftover folder of a program that is gone is left as it is.
#[test]
fn a_program_that_is_not_installed_gets_no_settings() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let home = std::fs::canonicalize(folder.path())?.join("home");
    let work = home.with_file_name("work");
    std::fs::create_dir_all(&work)?;
    for left in [".claude", ".gemini", ".codex", ".copilot", ".azure", ".local/share/opencode"] {
        std::fs::create_dir_all(home.join(left))?;
    }
    for program in ["claude", "gemini", "codex", "copilot", "az", "opencode", "./bin/claude"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(["run", "--", program]).current_dir(&work).env("PATH", "/nowhere/bin");
        command.env("HOME", &home).env("XDG_STATE_HOME", home.with_file_name("state")).env_remove("XDG_RUNTIME_DIR");
        for name in ["XDG_CONFIG_HOME", "CODEX_HOME", "AZURE_CONFIG_DIR", "CLAUDE_CONFIG_DIR"] {
            command.env_remove(name);
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(127), "{program}: {said}");
        assert!(!said.contains("preset"), "{program}: {said}");
    }
    let mut made = Vec::new();
    let mut folders = vec![home.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            made.push(path.strip_prefix(&home)?.display().to_string());
            folders.extend(path.is_dir().then_some(path));
        }
    }
    made.sort();
    let before =
        [".azure", ".claude", ".codex", ".copilot", ".gemini", ".local", ".local/share", ".local/share/opencode"];
    assert_eq!(made, before);
    Ok(())
}
