//! The folder is the layer: a crate uses only crates of the layers before its own.

use std::path::Path;

use anyhow::Result;
use house_rules::{own_packages, repository_root};

/// From the ground up. Crates of `domain` may use each other (cargo refuses cycles); of the others none may.
const LAYERS: [&str; 6] = ["domain", "contracts", "mechanisms", "services", "programs", "testing"];

fn layer_of(manifest_or_folder: &Path) -> Option<usize> {
    let relative = manifest_or_folder.strip_prefix(repository_root()).ok()?;
    let mut parts = relative.iter().map(|part| part.to_string_lossy());
    if parts.next()? != "crates" {
        return None;
    }
    let layer = parts.next()?;
    LAYERS.iter().position(|known| *known == layer)
}

#[test]
fn a_crate_uses_only_the_layers_before_its_own() -> Result<()> {
    let mut wrong = Vec::new();
    for package in &own_packages()? {
        let Some(own) = layer_of(&package.manifest_path) else { continue };
        for dependency in package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev")) {
            let Some(other) = dependency.path.as_deref().and_then(layer_of) else { continue };
            let allowed = other < own || (other == own && LAYERS.get(own) == Some(&"domain"));
            if !allowed {
                wrong.push(format!("{} ({}) uses {} ({})", package.name, LAYERS[own], dependency.name, LAYERS[other]));
            }
        }
    }
    assert!(wrong.is_empty(), "against the layers:\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn domain_crates_do_no_io() -> Result<()> {
    const FORBIDDEN: [&str; 6] = ["tokio", "rustix", "libc", "socket2", "nix", "hyper"];
    let mut wrong = Vec::new();
    for package in own_packages()?.iter().filter(|package| layer_of(&package.manifest_path) == Some(0)) {
        for dependency in &package.dependencies {
            if dependency.kind.is_none() && FORBIDDEN.contains(&dependency.name.as_str()) {
                wrong.push(format!("{} uses {}", package.name, dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "the domain has no I/O:\n{}", wrong.join("\n"));
    Ok(())
}
