//! Builds `sandbox-init` as a static program and leaves it where `src/image.rs` embeds it.
//!
//! A nested cargo, not a dependency: the program is another profile, another linking, and a layer above this crate.
//! It has its own target folder, so it never waits for the lock that the outer cargo holds.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the outer cargo may hand on: where toolchains and downloads are, and how programs are found.
const KEPT: [&str; 12] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "LD_LIBRARY_PATH",
    "CC",
    "AR",
    "CARGO_NET_OFFLINE",
    "SSL_CERT_FILE",
    "HTTPS_PROXY",
];

#[expect(clippy::expect_used, reason = "a build script that can't go on has nobody but cargo to tell")]
fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = here.ancestors().nth(3).expect("this crate is three folders below the workspace").to_owned();
    for part in ["crates/programs/sandbox-init", "crates/contracts/init-protocol"] {
        println!("cargo::rerun-if-changed={}", workspace.join(part).join("src").display());
        println!("cargo::rerun-if-changed={}", workspace.join(part).join("Cargo.toml").display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    let target = variable("TARGET").into_string().expect("a target's name is text");
    let folder = PathBuf::from(variable("OUT_DIR")).join("init");
    build(&workspace, &target, &folder);

    let program = folder.join(&target).join("init").join("sandbox-init");
    println!("cargo::rustc-env=SANDBOX_INIT_PROGRAM={}", program.display());
}

fn build(workspace: &Path, target: &str, folder: &Path) {
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(workspace).env_clear();
    for name in KEPT.iter().map(|name| (*name).to_owned()).chain(linkers()) {
        if let Some(value) = env::var_os(&name) {
            cargo.env(name, value);
        }
    }
    // Flags for this build alone: the outer ones may ask for coverage or sanitizers, which have no place in it.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo.args(["build", "--package", "sandbox-init", "--profile", "init", "--locked", "--target", target]);
    cargo.arg("--target-dir").arg(folder);
    let status = cargo.status().unwrap_or_else(|error| panic!("cargo could not be started for sandbox-init: {error}"));
    assert!(status.success(), "sandbox-init could not be built: {status}");
}

/// The linkers chosen for targets, by their variables' names.
fn linkers() -> Vec<String> {
    let chosen = |name: &String| name.starts_with("CARGO_TARGET_") && name.ends_with("_LINKER");
    env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(chosen).collect()
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name} for a build script"))
}
