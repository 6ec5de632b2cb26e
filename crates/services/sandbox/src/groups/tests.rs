//! Where limits are written, and how.

use super::{Controller, GroupLimits, Hierarchies, Version};
use std::path::PathBuf;

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
