//! Licences and bans of `deny.toml`, held without the network. (`cargo deny check` reads the same file.)

use std::fs;

use anyhow::Result;
use house_rules::{Foreign, foreign_packages, repository_root};
use serde::Deserialize;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
}

fn rules() -> Result<Deny> {
    Ok(toml::from_str(&fs::read_to_string(repository_root().join("deny.toml"))?)?)
}

/// An SPDX expression is acceptable when one side of each OR, and all sides of each AND, are.
fn acceptable(expression: &str, allowed: &[String]) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|name| allowed.iter().any(|a| a == name.trim())))
}

#[test]
fn every_licence_is_allowed() -> Result<()> {
    let allowed = rules()?.licenses.allow;
    let wrong: Vec<Foreign> = foreign_packages()?.into_iter().filter(|p| !acceptable(&p.license, &allowed)).collect();
    assert!(wrong.is_empty(), "not in deny.toml's licences: {wrong:#?}");
    Ok(())
}

#[test]
fn no_banned_crate_is_used() -> Result<()> {
    let banned = rules()?.bans.deny;
    let used = foreign_packages()?;
    assert!(used.len() > 20, "cargo tree said too little to judge by");
    let wrong: Vec<&Foreign> = used.iter().filter(|p| banned.iter().any(|b| b.name == p.name)).collect();
    assert!(wrong.is_empty(), "banned by deny.toml: {wrong:?}");
    Ok(())
}

#[test]
fn an_expression_is_read_rightly() {
    let allowed = ["MIT".to_owned(), "Apache-2.0".to_owned()];
    for (expression, expected) in [
        ("MIT", true),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0", false),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR Apache-2.0) AND Apache-2.0", true),
        ("MIT/Apache-2.0", true),
    ] {
        assert_eq!(acceptable(expression, &allowed), expected, "{expression}");
    }
}
