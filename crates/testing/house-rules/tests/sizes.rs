//! Files stay under 800 lines, functions under 100, and each module says what it is for.

use std::fs;

use anyhow::Result;
use house_rules::{files_ending, repository_root};

const FILE_LIMIT: usize = 800;
const FUNCTION_LIMIT: usize = 100;

#[test]
fn files_are_short_enough() -> Result<()> {
    let mut long = Vec::new();
    for path in files_ending(".rs")? {
        let lines = fs::read_to_string(&path)?.lines().count();
        if lines > FILE_LIMIT {
            long.push(format!("{}: {lines} lines", path.strip_prefix(repository_root())?.display()));
        }
    }
    assert!(long.is_empty(), "split these files (limit {FILE_LIMIT}):\n{}", long.join("\n"));
    Ok(())
}

#[test]
fn modules_open_with_what_they_are_for() -> Result<()> {
    let mut mute = Vec::new();
    for path in files_ending(".rs")? {
        if !fs::read_to_string(&path)?.lines().take(5).any(|line| line.starts_with("//!")) {
            mute.push(path.strip_prefix(repository_root())?.display().to_string());
        }
    }
    assert!(mute.is_empty(), "these modules don't say what they are for:\n{}", mute.join("\n"));
    Ok(())
}

/// Relies on rustfmt: a function ends at the first `}` with the indent of its `fn`.
#[test]
fn functions_are_short_enough() -> Result<()> {
    let mut long = Vec::new();
    for path in files_ending(".rs")? {
        let text = fs::read_to_string(&path)?;
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let body = line.trim_start();
            let indent = line.len() - body.len();
            if !is_function(body) {
                continue;
            }
            let end = format!("{}}}", " ".repeat(indent));
            let length = lines.iter().skip(start).position(|l| **l == end).map_or(0, |n| n + 1);
            if length > FUNCTION_LIMIT {
                long.push(format!("{}:{}: {length} lines", path.strip_prefix(repository_root())?.display(), start + 1));
            }
        }
    }
    assert!(long.is_empty(), "split these functions (limit {FUNCTION_LIMIT}):\n{}", long.join("\n"));
    Ok(())
}

fn is_function(line: &str) -> bool {
    let words = line.split('(').next().unwrap_or_default();
    words.split_whitespace().any(|word| word == "fn") && !line.starts_with("//") && !line.ends_with(';')
}
