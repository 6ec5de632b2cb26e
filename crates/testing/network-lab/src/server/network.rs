//! Links, addresses and routes, set by `ip` (iproute2) in namespaces that only the lab's mount namespace names.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{addresses, reached::Place};

pub(super) fn build() -> Result<()> {
    let namespaces = Place::ALL.map(|place| format!("netns add {}\n", place.name())).concat();
    ip(None, &namespaces)?;
    for place in Place::ALL {
        // Set before there are links, which inherit it: addresses are usable at once, and nobody asks for routers.
        sysctl(place, "net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0")?;
        sysctl(place, "net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0")?;
        // Anyone may ping and bind low ports: an ordinary user's namespace is no reason for another outcome.
        sysctl(place, "net.ipv4.ip_unprivileged_port_start=0")?;
    }
    // host ── internet, host ── corporate, corporate ── internet
    ip(
        None,
        "link add up0 netns host type veth peer name down0 netns internet\n\
         link add corp0 netns host type veth peer name lan0 netns corporate\n\
         link add up0 netns corporate type veth peer name down1 netns internet\n",
    )?;
    ip(Some(Place::Host), &host())?;
    ip(Some(Place::Internet), &internet())?;
    // A route alone makes an IPv6 address ours to answer at, but not to bind to.
    sysctl(Place::Internet, "net.ipv6.ip_nonlocal_bind=1")?;
    sysctl(Place::Internet, "net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0")?;
    sysctl(Place::Corporate, "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
    sysctl(Place::Corporate, "net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0")?;
    sysctl(Place::Host, "net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.default.rp_filter=2")?;
    ip(Some(Place::Corporate), &corporate())
}

fn host() -> String {
    use addresses::{
        CORPORATE_GATEWAY, CORPORATE_MARK, HOST, HOST_CORPORATE, HOST_CORPORATE_V6, HOST_GATEWAY, HOST_GATEWAY_V6,
        HOST_V6,
    };
    format!(
        "link set lo up\n\
         addr add {HOST}/30 dev up0\n\
         addr add {HOST_V6}/64 dev up0 nodad\n\
         link set up0 up\n\
         addr add {HOST_CORPORATE}/16 dev corp0\n\
         addr add {HOST_CORPORATE_V6}/64 dev corp0 nodad\n\
         link set corp0 up\n\
         route add default via {HOST_GATEWAY} dev up0\n\
         route add ::/0 via {HOST_GATEWAY_V6} dev up0\n\
         route add default via {CORPORATE_GATEWAY} dev corp0 metric 500\n\
         route add ::/0 via 2001:db8:20::1 dev corp0 metric 2048\n\
         route add default via {CORPORATE_GATEWAY} dev corp0 table {CORPORATE_MARK}\n\
         rule add fwmark {CORPORATE_MARK} table {CORPORATE_MARK}\n"
    )
}

/// Every address that is not on a link is the internet's own: whoever calls any address is heard there.
/// That route stands in the main table: in the local one it would come before the links.
fn internet() -> String {
    use addresses::{BLACKHOLE, HOST_GATEWAY, HOST_GATEWAY_V6};
    format!(
        "link set lo up\n\
         addr add {HOST_GATEWAY}/30 dev down0\n\
         addr add {HOST_GATEWAY_V6}/64 dev down0 nodad\n\
         addr add fe80::1/64 dev down0 nodad\n\
         link set down0 up\n\
         addr add 192.0.2.133/30 dev down1\n\
         addr add 2001:db8:fffe::1/64 dev down1 nodad\n\
         link set down1 up\n\
         route add 10.20.0.0/16 via 192.0.2.134 dev down1\n\
         route add 2001:db8:20::/64 via 2001:db8:fffe::2 dev down1\n\
         route add local default dev lo table main\n\
         route add local ::/0 dev lo table main\n\
         route add blackhole {BLACKHOLE}/32\n"
    )
}

fn corporate() -> String {
    use addresses::{CORPORATE_DNS, CORPORATE_GATEWAY, CORPORATE_PROXY, CORPORATE_SOCKS, INTRANET};
    format!(
        "link set lo up\n\
         addr add {CORPORATE_GATEWAY}/16 dev lan0\n\
         addr add {CORPORATE_PROXY}/16 dev lan0\n\
         addr add {CORPORATE_SOCKS}/16 dev lan0\n\
         addr add {CORPORATE_DNS}/16 dev lan0\n\
         addr add {INTRANET}/16 dev lan0\n\
         addr add 2001:db8:20::1/64 dev lan0 nodad\n\
         link set lan0 up\n\
         addr add 192.0.2.134/30 dev up0\n\
         addr add 2001:db8:fffe::2/64 dev up0 nodad\n\
         link set up0 up\n\
         route add default via 192.0.2.133 dev up0 src {CORPORATE_GATEWAY}\n\
         route add ::/0 via 2001:db8:fffe::1 dev up0\n"
    )
}

/// Runs a batch of `ip` commands, in a namespace or in the lab's own.
fn ip(place: Option<Place>, batch: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(place) = place {
        command = Command::new("nsenter");
        command.args([&format!("--net=/run/netns/{}", place.name()), "--", "ip"]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run ip (iproute2)")?;
    child.stdin.take().context("ip's standard input")?.write_all(batch.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip in {place:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn sysctl(place: Place, settings: &str) -> Result<()> {
    for setting in settings.split_whitespace() {
        let (name, value) = setting.split_once('=').context("a setting")?;
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        // /proc/sys/net shows the namespace of the process that opens it.
        let output = Command::new("nsenter")
            .args([&format!("--net=/run/netns/{}", place.name()), "--", "sh", "-c"])
            .arg(format!("echo {value} > {path}"))
            .output()
            .context("run nsenter (util-linux)")?;
        if !output.status.success() {
            bail!("set {setting} in {place:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(())
}
