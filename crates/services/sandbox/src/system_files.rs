//! Which parts of the host's system a sandbox sees: what programs need to run, nothing that tells about the host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use init_protocol::Mount;

/// Programs and libraries. On merged systems all but the first are symbolic links.
const PROGRAMS: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];

/// Entries of `/etc`: of these names, read-only.
const SETTINGS: [&str; 30] = [
    "alternatives",
    "bash.bashrc",
    "bashrc",
    "crypto-policies",
    "dotnet",
    "fonts",
    "gai.conf",
    "gitconfig",
    "host.conf",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.conf",
    "localtime",
    "maven",
    "mime.types",
    "npmrc",
    "os-release",
    "pip.conf",
    "pki/ca-trust",
    "pki/tls/certs",
    "profile",
    "profile.d",
    "protocols",
    "services",
    "ssl",
    "terminfo",
    "timezone",
    "wgetrc",
];
/// Entries of `/etc` whose names begin so: interpreters that keep their settings there.
const SETTINGS_BEGIN: [&str; 6] = ["java", "openjdk", "perl", "php", "python", "ruby"];
/// A longer file is mounted.
const MOST_COPIED: u64 = 16 * 1024;
/// Certificates that some distributions keep elsewhere and link to.
const CERTIFICATES: [&str; 1] = ["/var/lib/ca-certificates"];

/// The mounts for them.
pub(crate) fn mounts() -> Vec<Mount> {
    let mut mounts: Vec<Mount> = PROGRAMS.iter().filter_map(|path| program(Path::new(path))).collect();
    let mut settings: Vec<String> = SETTINGS.iter().map(|name| (*name).to_owned()).collect();
    let begins = |name: &String| SETTINGS_BEGIN.iter().any(|start| name.starts_with(start));
    let listed = fs::read_dir("/etc").into_iter().flatten().flatten();
    settings.extend(listed.filter_map(|entry| entry.file_name().into_string().ok()).filter(begins));
    mounts.extend(settings.iter().filter_map(|name| setting(&Path::new("/etc").join(name))));
    mounts.extend(CERTIFICATES.iter().filter(|path| Path::new(path).exists()).map(|path| Mount::system(*path)));
    mounts
}

/// A folder of programs, or the link that stands for it.
fn program(path: &Path) -> Option<Mount> {
    match fs::read_link(path) {
        Ok(to) => Some(Mount::Symlink { target: path.to_owned(), to }),
        Err(_) => path.exists().then(|| Mount::system(path)),
    }
}

/// An entry of `/etc`. A link stays one where it leads to what is mounted anyway: programs read the name of the time
/// zone from it. A small file is copied: that costs less than a mount, and a run sees one state of it.
fn setting(path: &Path) -> Option<Mount> {
    let found = fs::symlink_metadata(path).ok()?;
    if found.is_symlink() {
        let real = path.canonicalize().ok()?;
        if real.starts_with("/usr") || real.starts_with("/nix/store") {
            return Some(Mount::Symlink { target: path.to_owned(), to: real });
        }
        return Some(Mount::Bind {
            source: real,
            target: path.to_owned(),
            writable: false,
            optional: true,
            owned: false,
        });
    }
    // What not everybody may read is not for the sandbox to read, even where the caller could.
    let small = found.is_file() && found.len() <= MOST_COPIED && found.mode() & 0o004 != 0;
    let content = small.then(|| fs::read_to_string(path).ok()).flatten();
    Some(match content {
        Some(content) => Mount::File { target: path.to_owned(), content },
        None => Mount::system(path),
    })
}

#[cfg(test)]
mod tests {
    use super::{SETTINGS, mounts};
    use init_protocol::Mount;
    use std::path::Path;

    #[test]
    fn nothing_of_the_system_is_writable_or_outside_the_list() {
        for mount in mounts() {
            match &mount {
                Mount::Bind { target, writable, owned, .. } => {
                    assert!(!writable && !owned, "{mount:?}");
                    let known = ["/usr", "/bin", "/sbin", "/lib", "/nix/store", "/etc/", "/var/lib/ca-certificates"];
                    assert!(known.iter().any(|start| target.to_str().unwrap().starts_with(start)), "{mount:?}");
                }
                Mount::File { target, .. } => assert!(target.starts_with("/etc"), "{mount:?}"),
                Mount::Symlink { .. } => {}
                Mount::Tmpfs { .. } => panic!("{mount:?}"),
            }
        }
    }

    #[test]
    fn what_tells_about_the_host_or_its_users_is_not_listed() {
        for secret in ["shadow", "passwd", "group", "hosts", "resolv.conf", "machine-id", "ssh", "sudoers", "fstab"] {
            assert!(!SETTINGS.contains(&secret), "{secret}");
        }
        assert!(SETTINGS.iter().all(|name| !Path::new(name).is_absolute()));
    }
}
