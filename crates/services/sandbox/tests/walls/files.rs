//! What the workload sees of the host's files, and what it can do to them.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};

use sandbox::{Mount, PlanRequest, Spec};

use crate::bench::{Bench, as_anybody, host_socket, nothing};

#[test]
fn the_working_directory_is_the_callers() {
    as_anybody(|| {
        let bench = Bench::bash("echo made > here; mkdir -p a/b; mv here a/b/; cat given; ls -ln given a/b/here");
        let folder = bench.path();
        fs::write(folder.join("given"), "given\n").unwrap();
        fs::set_permissions(folder.join("given"), PermissionsExt::from_mode(0o600)).unwrap();
        let kept = bench.folder.path().to_owned();
        assert_eq!(kept.canonicalize().unwrap(), folder);
        let Bench { folder: keep, request, limits } = bench;
        let output = Bench { folder: tempfile::tempdir().unwrap(), request, limits }.run().good();
        assert!(output.starts_with("given\n"), "{output}");
        let made = fs::metadata(folder.join("a/b/here")).unwrap();
        let own = fs::metadata(folder.join("given")).unwrap();
        assert_eq!(
            (made.uid(), made.gid()),
            (own.uid(), own.gid()),
            "what is made inside belongs to the folder's owner"
        );
        drop(keep);
    });
}

#[test]
fn the_system_can_not_be_written() {
    as_anybody(|| {
        let output = Bench::bash(
            "for place in /etc/passwd /etc/x /usr/x /x /proc/sys/kernel/hostname /sys/x /bin/x /dev/x; do \
             (echo x > $place) 2>/dev/null && echo WROTE $place; done; \
             echo ok > /tmp/x && echo ok > /var/tmp/x && echo ok > /dev/shm/x && echo ok > /run/x && cat /tmp/x; \
             echo ok > /dev/null; cat /etc/shadow /root/.ssh 2>/dev/null; ls -A /run /home 2>/dev/null",
        )
        .run();
        assert!(!output.output.contains("WROTE"), "{output:?}");
        assert!(output.output.contains("ok\n"), "{output:?}");
    });
}

#[test]
fn hooks_and_settings_of_the_repository_stay_as_they_are() {
    as_anybody(|| {
        let bench = Bench::bash(
            "(echo evil > .git/hooks/pre-commit) 2>/dev/null && echo HOOK; \
             (echo evil >> .git/config) 2>/dev/null && echo CONFIG; \
             mv .git .git2 2>/dev/null && echo MOVED; rm -rf .git/hooks 2>/dev/null; \
             mv .git/hooks .git/h2 2>/dev/null && echo MOVED; \
             (echo evil > .git/config.new && mv .git/config.new .git/config) 2>/dev/null && echo REPLACED; \
             (echo /elsewhere > .git/commondir) 2>/dev/null && echo LED; rm .git/commondir 2>/dev/null && echo GONE; \
             echo objects > .git/index && echo fine",
        );
        let git = bench.path().join(".git");
        fs::create_dir_all(git.join("hooks")).unwrap();
        fs::create_dir_all(git.join("objects")).unwrap();
        fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(git.join("config"), "[core]\n").unwrap();
        fs::write(git.join("hooks/sample"), "").unwrap();
        let Bench { folder, request, limits } = bench;
        let output = Bench { folder: tempfile::tempdir().unwrap(), request, limits }.run().output;
        assert_eq!(output.trim(), "fine");
        assert_eq!(fs::read_to_string(git.join("config")).unwrap(), "[core]\n");
        assert!(git.join("hooks/sample").exists());
        assert!(!git.join("commondir").exists(), "what stood for its absence is gone");
        drop(folder);
    });
}

/// Another sandbox's workload that may write the folder above could put it there.
#[test]
fn a_link_that_is_put_on_the_way_after_the_plan_leads_nowhere() {
    as_anybody(|| {
        for linked in ["outer", "outer/work", "outer/mounted"] {
            let Bench { folder, request, limits } = Bench::bash("cat secret mounted/secret");
            let root = folder.path().canonicalize().unwrap();
            for name in ["outer/work", "outer/mounted", "other/work", "other/mounted"] {
                fs::create_dir_all(root.join(name)).unwrap();
                fs::write(root.join(name).join("secret"), name).unwrap();
            }
            let mut request = PlanRequest { working_directory: root.join("outer/work"), ..request };
            request.mounts.push(Mount::own(root.join("outer/mounted"), false));
            let plan = request.plan().unwrap().plan;
            let other = root.join(linked.replace("outer", "other"));
            fs::rename(root.join(linked), root.join("gone")).unwrap();
            std::os::unix::fs::symlink(other, root.join(linked)).unwrap();
            let spec = Spec { plan, limits, streams: nothing() };
            let error = sandbox::start(&spec).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("outer"), "{linked}: {error}");
        }
    });
}

#[test]
fn no_socket_of_the_host_is_reachable() {
    as_anybody(|| {
        let mut bench = Bench::inside("connect");
        let within = bench.path().join("agent.sock");
        host_socket(&within);
        let other = tempfile::tempdir().unwrap();
        let outside = other.path().join("docker.sock");
        host_socket(&outside);
        let name = format!("cofferdam-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();

        let tried = format!("{}:{}:/run/dbus/system_bus_socket:@{name}", within.display(), outside.display());
        bench.request.environment.push(("SANDBOX_CONNECT".to_owned(), tried.into()));
        let planned = bench.request.clone().plan().unwrap();
        assert!(planned.notes.iter().any(|note| note.contains("agent.sock")), "{:?}", planned.notes);
        let output = bench.run().good();
        let refused = output.lines().filter(|line| line.starts_with("check: connect") && !line.ends_with("= 0"));
        assert_eq!(refused.count(), 4, "{output}");
    });
}

#[test]
fn a_socket_that_was_asked_for_by_its_own_path_is_reachable() {
    as_anybody(|| {
        let mut bench = Bench::inside("connect");
        let other = tempfile::tempdir().unwrap();
        let socket = other.path().join("engine.sock");
        host_socket(&socket);
        bench.request.mounts.push(Mount::own(&socket, true));
        bench.request.environment.push(("SANDBOX_CONNECT".to_owned(), socket.into()));
        let output = bench.run().good();
        assert!(output.contains("= 0\n"), "{output}");
    });
}

#[test]
fn a_link_left_behind_leads_nowhere_outside() {
    as_anybody(|| {
        let bench = Bench::new(&["true"]);
        let folder = bench.path();
        // As a workload could leave it: the place of a mount is a link out of the folder.
        std::os::unix::fs::symlink("/../../../etc", folder.join("data")).unwrap();
        let mut request: PlanRequest = bench.request.clone();
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("mine"), "mine").unwrap();
        request.mounts.push(Mount::Bind {
            source: source.path().to_owned(),
            target: folder.join("data"),
            writable: false,
            optional: false,
            owned: true,
        });
        request.command = ["cat", "/etc/mine"].map(Into::into).to_vec();
        let output = Bench { folder: tempfile::tempdir().unwrap(), request, limits: bench.limits }.run().good();
        assert_eq!(output, "mine", "the link was followed inside the sandbox's root");
        assert!(!std::path::Path::new("/etc/mine").exists());
    });
}

#[test]
fn a_mount_of_the_hosts_whole_root_does_not_hold_the_sandboxs_own() {
    as_anybody(|| {
        let check = "test -e /host/usr && ! test -e /host/proc/driver/etc && ! test -e /host/proc/fs/etc";
        let mut bench = Bench::new(&["sh", "-c", check]);
        bench.request.mounts.push(Mount::Bind {
            source: "/".into(),
            target: "/host".into(),
            writable: false,
            optional: false,
            owned: false,
        });
        bench.request.allow_host_sockets = true;
        bench.run().good();
    });
}

#[test]
fn no_mount_point_is_made_in_a_folder_of_the_host() {
    let bench = Bench::new(&["true"]);
    let folder = bench.path();
    let mut request = bench.request.clone();
    request.mounts.push(Mount::Tmpfs { target: folder.join("new/place"), size: 4096, mode: 0o755 });
    let spec = sandbox::Spec { plan: request.plan().unwrap().plan, limits: bench.limits, streams: nothing() };
    let error = sandbox::start(&spec).unwrap_err();
    assert!(matches!(error, sandbox::StartError::Wall { .. }), "{error:?}");
    assert!(!folder.join("new").exists());
}
