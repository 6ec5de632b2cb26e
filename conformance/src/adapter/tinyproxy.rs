//! A network namespace whose only route leads to an allow-list tinyproxy.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use network_lab::Lab;

use super::{LISTED, proxy_environment, split};
use crate::instance::{Instance, Places, Trust};

/// The proxy's end of the link.
const PROXY: &str = "10.99.0.1";
const PORT: u16 = 8888;

pub(super) fn start(lab: &Lab, places: &Places) -> Result<()> {
    let folder = places.work.join("tinyproxy");
    fs::create_dir_all(&folder)?;
    // Whoever is boxed is nobody, and writes into the working directory as in any other sandbox.
    for open in [&places.work, &folder] {
        fs::set_permissions(open, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    }
    let listed: String = LISTED
        .iter()
        .map(|name| {
            let exact = name.trim_start_matches("*.").replace('.', "\\.");
            if name.starts_with('*') { format!("\\.{exact}$\n") } else { format!("^{exact}$\n") }
        })
        .collect();
    fs::write(folder.join("listed"), listed)?;
    let configuration = folder.join("tinyproxy.conf");
    fs::write(
        &configuration,
        format!(
            "Port {PORT}\nListen {PROXY}\nTimeout 60\nMaxClients 200\nFilter \"{}/listed\"\nFilterDefaultDeny Yes\n\
             FilterExtended On\nConnectPort 443\nConnectPort 8443\nLogLevel Error\n",
            folder.display()
        ),
    )?;
    let mut links = lab.host().command("sh");
    links.arg("-ec").arg(format!(
        "ip netns add boxed; ip link add box0 type veth peer name up0 netns boxed; \
         ip addr add {PROXY}/30 dev box0; ip link set box0 up; \
         nsenter --net=/run/netns/boxed sh -ec 'ip link set lo up; ip addr add 10.99.0.2/30 dev up0; ip link set up0 up'; \
         setsid -f tinyproxy -d -c {} >/dev/null 2>&1",
        configuration.display()
    ));
    // Not `run`, which ends what it started.
    let made = links.status().context("make the boxed namespace")?;
    if !made.success() {
        bail!("make the boxed namespace: {made}");
    }
    wait_for(lab, PORT, PROXY)
}

/// Waits until a port of the host answers, within bounds.
pub(super) fn wait_for(lab: &Lab, port: u16, address: &str) -> Result<()> {
    let mut command = lab.host().command("bash");
    command.arg("-c").arg(format!(
        "for turn in $(seq 200); do (: </dev/tcp/{address}/{port}) 2>/dev/null && exit 0; sleep 0.05; done; exit 1"
    ));
    let waited = lab.host().run(command, Duration::from_secs(20))?;
    if !waited.status.is_some_and(|status| status.success()) {
        bail!("nothing listens at {address}:{port}");
    }
    Ok(())
}

pub(super) fn command(lab: &Lab, places: &Places, instance: &Instance<'_>) -> Result<Command> {
    let (program, rest) = split(instance)?;
    let mut command = lab.host().command_in(&places.work, "nsenter");
    command.args(["--net=/run/netns/boxed", "--", "setpriv"]);
    // A plain namespace keeps whoever has no privilege: root could just leave it.
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all", "--"]);
    command.arg(program).args(rest);
    command.envs(instance.environment(places, Trust::Servers)).envs(proxy_environment(&format!("{PROXY}:{PORT}")));
    Ok(command)
}
