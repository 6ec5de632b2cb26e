//! What a plan has, refuses, and in which order.

use std::path::{Path, PathBuf};

use init_protocol::Mount;
use proptest::prelude::{prop_assert, proptest};

use super::{PlanError, PlanRequest, is_name};

fn request(directory: &Path) -> PlanRequest {
    let mut request = PlanRequest::new(vec!["true".to_owned()], directory).unwrap();
    request.home = PathBuf::from("/home/someone");
    request
}

#[test]
fn the_working_directory_stands_after_what_would_cover_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().canonicalize().unwrap();
    let mut request = request(&directory);
    request.mounts = vec![Mount::own(directory.join("tool"), false), Mount::own(directory.parent().unwrap(), false)];
    let targets: Vec<PathBuf> =
        request.plan().unwrap().plan.mounts.iter().map(|mount| mount.target().to_owned()).collect();
    let place = |path: &Path| targets.iter().rposition(|target| target == path).unwrap();
    assert!(place(Path::new("/tmp")) < place(&directory));
    assert!(place(directory.parent().unwrap()) < place(&directory));
    assert!(place(&directory) < place(&directory.join("tool")));
    assert!(place(Path::new("/home/someone")) < place(&directory));
}

#[test]
fn the_system_is_no_working_directory() {
    for path in ["/", "/usr", "/etc", "/tmp", "/proc/self", "/dev/shm"] {
        let Ok(request) = PlanRequest::new(vec!["true".to_owned()], Path::new(path)) else { continue };
        assert!(matches!(request.plan(), Err(PlanError::SystemDirectory { .. })), "{path}");
    }
    let gone = PlanRequest::new(vec!["true".to_owned()], Path::new("/nonexistent/folder"));
    assert!(matches!(gone, Err(PlanError::WorkingDirectory { .. })));
}

#[test]
fn places_and_names_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    for target in ["relative", "/a/../etc"] {
        let mut bad = request(folder.path());
        bad.mounts = vec![Mount::Tmpfs { target: target.into(), size: 1, mode: 0o755 }];
        assert!(matches!(bad.plan(), Err(PlanError::Target { .. })), "{target}");
    }
    let mut bad = request(folder.path());
    bad.hosts = vec![([127, 0, 0, 1].into(), "a\nb".to_owned())];
    assert!(matches!(bad.plan(), Err(PlanError::Name { .. })));
}

#[test]
fn no_host_folder_but_the_listed_ones() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().canonicalize().unwrap();
    for mount in request(&directory).plan().unwrap().plan.mounts {
        if let Mount::Bind { source, target, writable, .. } = mount {
            assert_eq!(writable, source == directory, "{}", source.display());
            for hidden in ["/run", "/home", "/root", "/var/run", "/sys", "/proc"] {
                assert!(!target.starts_with(hidden), "{}", target.display());
            }
        }
    }
}

proptest! {
    #[test]
    fn a_name_never_starts_a_field_or_a_line(name in "\\PC{0,80}") {
        if is_name(&name) {
            prop_assert!(!name.contains([':', '\n', ' ', '/', '\0']));
        }
    }
}
