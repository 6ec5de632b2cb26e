//! What a policy says that is no error and does not do what it seems to: told by `policy validate` and at a run's start,
//! while a person is there.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use jiff::Timestamp;
use policy::model::{Action, PolicySpec, Rule};

use super::secrets;
use crate::files;

/// Everything of the kind, a line each. `folder` is the policy's.
pub(crate) fn doubts(spec: &PolicySpec, folder: &Path, now: Timestamp) -> Vec<String> {
    let expired = spec.rules.iter().filter_map(|rule| expired(rule, now));
    let files = secrets::written(spec).filter_map(|(name, path)| {
        let path = folder.join(path);
        of_secret_file(&path).map(|what| format!("credential {name}: {} {what}", path.display()))
    });
    expired.chain(files).collect()
}

fn expired(rule: &Rule, now: Timestamp) -> Option<String> {
    let at = rule.expires.filter(|at| *at <= now)?;
    match rule.action {
        Action::Allow | Action::Ask => {
            Some(format!("rule {} expired at {at}: it lets nothing through any more", rule.name))
        }
        // Stays in force.
        Action::Deny => None,
    }
}

fn of_secret_file(path: &Path) -> Option<String> {
    let until = "requests that need it fail until it does";
    let found = match files::open(path).and_then(|file| file.metadata()) {
        Ok(found) => found,
        Err(error) => return Some(format!("can't be read ({error}); {}", until.replace("does", "can"))),
    };
    if found.len() == 0 {
        return Some(format!("holds nothing; {until}"));
    }
    match found.mode() & 0o006 {
        0 => None,
        4 => Some(format!(
            "can be read by every user of this machine (mode {:03o}); `chmod 600` it",
            found.mode() & 0o777
        )),
        _ => Some(format!(
            "can be changed by every user of this machine (mode {:03o}); `chmod 600` it",
            found.mode() & 0o777
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use super::doubts;

    const POLICY: &str = r#"
apiVersion: cofferdam/v1
kind: EgressPolicy
spec:
  rules:
    - { name: past, priority: 1, to: { hosts: [a.test] }, ports: [443], action: allow, expires: 2020-01-01T00:00:00Z, credential: api }
    - { name: held, priority: 2, to: { hosts: [b.test] }, action: deny, expires: 2020-01-01T00:00:00Z }
    - { name: yet, priority: 3, to: { hosts: [c.test] }, action: ask, expires: 2999-01-01T00:00:00Z }
  credentials:
    api: { from: { file: token }, attach: bearer, bind: { hosts: [a.test] } }
"#;

    #[test]
    fn what_does_not_do_what_it_seems_to_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = policy_file::parse("p.yaml", POLICY.as_bytes()).unwrap();
        let told = || {
            let mut told = doubts(&file.spec, folder.path(), "2026-01-01T00:00:00Z".parse().unwrap());
            assert_eq!(told.remove(0), "rule past expired at 2020-01-01T00:00:00Z: it lets nothing through any more");
            told.concat()
        };
        let path = folder.path().join("token");
        assert!(told().starts_with(&format!("credential api: {} can't be read (No such file", path.display())));
        fs::write(&path, "").unwrap();
        assert!(told().ends_with(" holds nothing; requests that need it fail until it does"));
        fs::write(&path, "secret").unwrap();
        for (mode, words) in [(0o644, "read"), (0o666, "changed"), (0o602, "changed")] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let expected = format!("can be {words} by every user of this machine (mode {mode:o}); `chmod 600` it");
            assert!(told().ends_with(&expected), "{}", told());
        }
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert_eq!(told(), "");
    }
}
