//! Where limits are written, and how.

use super::{Controller, GroupLimits, Hierarchies, Version};
use std::fs;
use std::path::{Path, PathBuf};

const HYBRID_GROUPS: &str = "3:memory:/user\n2:cpu,cpuacct:/\n1:name=systemd:/x\n0::/user.slice/me\n";
const HYBRID_MOUNTS: &str = "\
30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct
33 24 0:29 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
";

#[test]
fn hierarchies_are_found_by_their_mounts() {
    let found = Hierarchies::parse(HYBRID_GROUPS, HYBRID_MOUNTS);
    let two = found.two.as_ref().map(|(_, own)| own.clone());
    assert_eq!(two, Some(PathBuf::from("/sys/fs/cgroup/unified/user.slice/me")));
    assert_eq!(found.one_of(Controller::Memory), Some(PathBuf::from("/sys/fs/cgroup/memory/user").as_path()));
    assert_eq!(found.one_of(Controller::Cpu), Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct").as_path()));
    assert_eq!(found.one_of(Controller::Pids), None);
    let inside = Hierarchies::parse("5:pids:/docker/abc/child\n", HYBRID_MOUNTS);
    assert_eq!(inside.one_of(Controller::Pids), Some(PathBuf::from("/sys/fs/cgroup/pids/child").as_path()));
}

#[test]
fn limits_are_written_as_each_version_has_them() {
    let limits = GroupLimits { cpus: Some(1.5), memory: Some(1 << 20), pids: Some(64) };
    let cases = [
        (Controller::Cpu, Version::Two, vec![("cpu.max", "150000 100000", true)]),
        (
            Controller::Cpu,
            Version::One,
            vec![("cpu.cfs_period_us", "100000", true), ("cpu.cfs_quota_us", "150000", true)],
        ),
        (Controller::Memory, Version::Two, vec![("memory.max", "1048576", true), ("memory.swap.max", "0", false)]),
        (Controller::Pids, Version::One, vec![("pids.max", "64", true)]),
    ];
    for (controller, version, expected) in cases {
        let expected: Vec<_> = expected.into_iter().map(|(file, value, must)| (file, value.to_owned(), must)).collect();
        assert_eq!(limits.settings(controller, version), expected);
    }
}

/// A folder with the files of a group of version 2 that passes some controllers on.
fn group(folder: &Path, passed_on: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("cgroup.procs"), "").unwrap();
    fs::write(folder.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
    fs::write(folder.join("cgroup.subtree_control"), format!("{passed_on}\n")).unwrap();
}

#[test]
fn version_two_is_used_at_the_nearest_group_that_passes_the_controllers_on() {
    let mount = tempfile::tempdir().unwrap();
    let (upper, own) = (mount.path().join("deleg"), mount.path().join("deleg/leaf"));
    group(mount.path(), "");
    group(&upper, "cpu memory pids");
    group(&own, "");
    let found = Hierarchies { two: Some((mount.path().to_owned(), own)), one: Vec::new() };
    let places = found.places(&Controller::ALL).unwrap();
    assert_eq!(places, [(Version::Two, upper, Controller::ALL.to_vec())]);
}

#[test]
fn a_refusal_names_the_controller_that_is_missing_and_what_to_do() {
    let mount = tempfile::tempdir().unwrap();
    group(mount.path(), "cpu");
    let found = Hierarchies { two: Some((mount.path().to_owned(), mount.path().to_owned())), one: Vec::new() };
    let refused = found.places(&[Controller::Cpu, Controller::Memory]).unwrap_err().to_string();
    assert!(refused.starts_with("the limit on memory can't be enforced here"), "{refused}");
    assert!(refused.contains(&format!("{} is writable, but", mount.path().display())), "{refused}");

    fs::remove_file(mount.path().join("cgroup.procs")).unwrap();
    let refused = found.places(&[Controller::Cpu, Controller::Memory]).unwrap_err().to_string();
    assert!(refused.starts_with("the limit on processors can't"), "{refused}");
    assert!(refused.contains("systemd-run --user --scope"), "{refused}");
}
