//! Every seed and every finding of the fuzz targets holds, in each run of the tests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::{
    collections::BTreeSet,
    fs, panic,
    path::{Path, PathBuf},
};

use parser_properties::TARGETS;

/// The folders of a target with bytes to replay: seeds to start from, and what once broke a property.
const FOLDERS: [&str; 2] = ["seeds", "findings"];

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn seeds_and_findings_hold() {
    let mut wrong = Vec::new();
    let mut replayed = 0;
    for (target, property) in TARGETS {
        for folder in FOLDERS.map(|folder| fuzz_folder().join(folder).join(target)) {
            for name in names(&folder) {
                let bytes = fs::read(folder.join(&name)).unwrap();
                if panic::catch_unwind(|| property(&bytes)).is_err() {
                    wrong.push(format!("{target}/{name}"));
                }
                replayed += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "of {replayed}, these break their property: {wrong:#?}");
}

#[test]
fn every_target_has_seeds_and_no_seed_is_without_target() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz_folder().join("seeds")), targets);
    assert!(names(&fuzz_folder().join("findings")).is_subset(&targets));
    for target in &targets {
        assert!(names(&fuzz_folder().join("seeds").join(target)).len() >= 4, "{target} has too few seeds");
    }
}

/// `fuzz/` is not built here (it needs a C++ compiler and a build of its own): each of its files is this one line.
#[test]
fn fuzz_targets_are_the_properties() {
    let folder = fuzz_folder();
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let mut expected = BTreeSet::new();
    for (target, _) in TARGETS {
        let file = format!("{target}.rs");
        let text = fs::read_to_string(folder.join("fuzz_targets").join(&file)).expect("a file for each target");
        let call =
            format!("\nlibfuzzer_sys::fuzz_target!(|bytes: &[u8]| parser_properties::check(\"{target}\", bytes));\n");
        assert!(text.ends_with(&call), "{file} is not its property");
        assert!(
            manifest.contains(&format!("name = \"{target}\"\npath = \"fuzz_targets/{file}\"")),
            "{file} is not built"
        );
        expected.insert(file);
    }
    assert_eq!(names(&folder.join("fuzz_targets")), expected);
}
