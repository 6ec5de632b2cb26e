//! `bwrap --unshare-net` with an allow-list Squid as the one way out, through a Unix socket.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};
use network_lab::Lab;

use super::{LISTED, proxy_environment, split};
use crate::instance::{Instance, Places, Trust};

/// Where Squid listens on the host, and where it seems to inside.
const PORT: u16 = 3128;

pub(super) fn start(lab: &Lab, places: &Places) -> Result<()> {
    let folder = places.work.join("squid");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let listed: Vec<String> = LISTED.iter().map(|name| name.replace('*', "")).collect();
    let listed: Vec<_> = listed.iter().filter(|name| !listed.contains(&format!(".{name}"))).cloned().collect();
    let configuration = folder.join("squid.conf");
    let (names, folder_name) = (listed.join(" "), folder.display());
    let settings = format!(
        "http_port 127.0.0.1:{PORT}\n\
         acl listed dstdomain {names}\n\
         acl ports port 80 443 8080 8443\n\
         acl tls port 443 8443\n\
         http_access deny !ports\n\
         http_access deny CONNECT !tls\n\
         http_access deny to_localhost\n\
         http_access allow listed\n\
         http_access deny all\n\
         cache deny all\n\
         server_persistent_connections off\n\
         shutdown_lifetime 1 seconds\n\
         pid_filename {folder_name}/squid.pid\n\
         access_log stdio:{folder_name}/access.log\n\
         cache_log {folder_name}/cache.log\n\
         pinger_enable off\n\
         coredump_dir {folder_name}\n",
    );
    fs::write(&configuration, settings)?;
    // Both go on in sessions of their own and end with the lab.
    let mut helpers = lab.host().command("sh");
    helpers.arg("-ec").arg(format!(
        "setsid -f squid -N -f {folder_name}/squid.conf >/dev/null 2>&1; \
         setsid -f socat UNIX-LISTEN:{folder_name}/proxy.sock,fork,mode=666 TCP:127.0.0.1:{PORT} >/dev/null 2>&1"
    ));
    // Not `run`, which ends what it started.
    let started = helpers.status().context("start squid and socat")?;
    if !started.success() {
        bail!("start squid and socat: {started}");
    }
    super::tinyproxy::wait_for(lab, PORT, "127.0.0.1")
}

pub(super) fn command(lab: &Lab, places: &Places, instance: &Instance<'_>) -> Result<Command> {
    let (program, rest) = split(instance)?;
    let mut command = lab.host().command_in(&places.work, "bwrap");
    command.args([
        "--ro-bind",
        "/usr",
        "/usr",
        "--symlink",
        "usr/bin",
        "/bin",
        "--symlink",
        "usr/lib",
        "/lib",
        "--symlink",
        "usr/lib64",
        "/lib64",
        "--symlink",
        "usr/sbin",
        "/sbin",
        "--ro-bind",
        "/etc",
        "/etc",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
    ]);
    command.arg("--bind").arg(&places.work).arg(&places.work).arg("--chdir").arg(&places.work);
    command.args(["--unshare-all", "--die-with-parent", "--", "bash", "-c"]);
    // The bridge ends with the sandbox.
    command.arg(format!(
        "socat TCP-LISTEN:{PORT},bind=127.0.0.1,fork,reuseaddr UNIX-CONNECT:{}/squid/proxy.sock 2>/dev/null & \
         for turn in 1 2 3 4 5 6 7 8 9; do (: </dev/tcp/127.0.0.1/{PORT}) 2>/dev/null && break; sleep 0.05; done; exec \"$@\"",
        places.work.display()
    ));
    command.arg("sandbox").arg(program).args(rest);
    command.envs(instance.environment(places, Trust::Servers)).envs(proxy_environment(&format!("127.0.0.1:{PORT}")));
    Ok(command)
}
