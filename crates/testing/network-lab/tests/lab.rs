//! The lab does what its users rely on: it answers, it records, it has no way out, and it ends.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use network_lab::{
    Certificates, DnsAnswer, DnsName, DnsRecord, Lab, LabSpec, Output, Place, Privilege, Reached, What, addresses,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

const TIME: Duration = Duration::from_secs(60);

fn curl(lab: &Lab, arguments: &[&str]) -> Result<Output> {
    let mut command = lab.host().command("curl");
    command.args(["-sS", "--max-time", "20"]).args(arguments);
    command.envs(Certificates::environment(lab.certificates().bundle()));
    lab.host().run(command, TIME)
}

fn script(lab: &Lab, text: &str) -> Result<Output> {
    let mut command = lab.host().command("bash");
    command.args(["-c", text]);
    lab.host().run(command, TIME)
}

fn told(reached: &[Reached]) -> String {
    reached.iter().map(|one| format!("{one}\n")).collect()
}

fn requests<'a>(reached: &'a [Reached], server: &str) -> Vec<&'a Reached> {
    reached.iter().filter(|one| one.server == server && matches!(one.what, What::Request { .. })).collect()
}

#[test]
fn web_servers_answer_and_tell_what_reached_them() -> Result<()> {
    for privilege in [Privilege::Own, Privilege::Rootless] {
        let lab = Lab::start_as(LabSpec::standard(), privilege)?;
        let plain = curl(&lab, &["http://allowed.test/hello?canary=abc"])?;
        ensure!(plain.stdout == "GET allowed.test /hello?canary=abc\n", "{plain:?}");
        let secure = curl(&lab, &["--http1.1", "https://allowed.test/tls"])?;
        ensure!(secure.stdout == "GET allowed.test /tls\n", "{secure:?}");
        let second = curl(&lab, &["--http2", "-w", "%{http_version}", "https://cdn-a.test/two"])?;
        ensure!(second.stdout == "GET cdn-a.test /two\n2", "{second:?}");
        let six = curl(&lab, &["-6", "http://dual.test/six"])?;
        ensure!(six.stdout == "GET dual.test /six\n", "{six:?}");

        let reached = lab.reached()?;
        ensure!(requests(&reached, "allowed").len() == 3 && requests(&reached, "cdn").len() == 1, "{}", told(&reached));
        ensure!(requests(&reached, "allowed").iter().any(|one| one.holds("CANARY=abc")));
        ensure!(reached.iter().any(|one| matches!(&one.what, What::Query { name, .. } if name == "cdn-a.test")));
        let hello = |one: &Reached| matches!(&one.what, What::Hello { sni: Some(sni), .. } if sni == "cdn-a.test");
        ensure!(reached.iter().any(hello));
        ensure!(lab.reached()?.is_empty(), "told once");
    }
    Ok(())
}

#[test]
fn nothing_that_is_sent_goes_unseen() -> Result<()> {
    let lab = Lab::start(LabSpec::standard())?;
    let sent = script(
        &lab,
        "busybox ping -c1 -W1 198.51.100.77 >/dev/null; \
         echo canary-udp | socat - UDP-SENDTO:198.51.100.78:9999; \
         timeout 2 bash -c 'echo > /dev/tcp/198.51.100.79/12345'; \
         echo canary-raw | timeout 5 socat - TCP:198.51.100.66:4444 >/dev/null; \
         printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 socat - UNIX:/run/docker.sock; \
         curl -s --max-time 5 http://169.254.169.254/latest/meta-data/ ; \
         curl -s --max-time 5 'http://[fd00:ec2::254]/six' ; \
         curl -s --max-time 5 http://127.0.0.1:8200/host; true",
    )?;
    let reached = lab.reached()?;
    let packet = |address: &str, number: u8, needle: &str| {
        reached.iter().any(|one| {
            one.server == "link"
                && one.local.is_some_and(|local| local.ip().to_string() == address)
                && matches!(&one.what, What::Packet { protocol, .. } if *protocol == number)
                && (needle.is_empty() || one.holds(needle))
        })
    };
    ensure!(packet("198.51.100.77", 1, ""), "ping: {sent:?} {}", told(&reached));
    ensure!(packet("198.51.100.78", 17, "canary-udp"), "{}", told(&reached));
    ensure!(packet("198.51.100.79", 6, ""), "{}", told(&reached));
    ensure!(reached.iter().any(|one| one.server == "attacker" && one.holds("canary-raw")), "{}", told(&reached));
    ensure!(reached.iter().any(|one| one.server == "engine" && one.holds("GET / HTTP/1.0")), "{}", told(&reached));
    ensure!(
        requests(&reached, "metadata").len() == 2 && requests(&reached, "host-service").len() == 1,
        "{}",
        told(&reached)
    );
    Ok(())
}

#[test]
fn names_follow_their_scripts() -> Result<()> {
    let lab = Lab::start(LabSpec::standard())?;
    let dig =
        |arguments: &str| -> Result<String> { Ok(script(&lab, &format!("dig +time=2 +tries=1 {arguments}"))?.stdout) };
    ensure!(dig("+short rebind.allowed.test")?.trim() == addresses::ALLOWED);
    ensure!(dig("+short rebind.allowed.test")?.trim() == "169.254.169.254");
    ensure!(dig("+short rebind.allowed.test")?.trim() == "169.254.169.254");
    ensure!(dig("+short second.allowed.test")?.trim() == format!("second.test.\n{}", addresses::SECOND));
    ensure!(dig("+short AAAA dual.test")?.trim() == addresses::ALLOWED_V6);
    ensure!(dig("+short TXT any.attacker.test")?.contains("from the attacker"));
    ensure!(dig("+short MX attacker.test")?.trim() == "10 mx.attacker.test.");
    ensure!(dig("+notcp +ignore truncated.allowed.test")?.contains("flags: qr aa tc"));
    ensure!(dig("+short truncated.allowed.test")?.lines().count() == 61);
    ensure!(dig("broken.allowed.test")?.contains("SERVFAIL") && dig("missing.test")?.contains("NXDOMAIN"));
    let https = dig("TYPE65 ech.allowed.test")?;
    ensure!(https.contains("ech=") || https.contains("\\# ") || https.contains("HTTPS"), "{https}");
    ensure!(dig("silent.allowed.test")?.contains("no servers could be reached"));
    ensure!(dig("@10.20.0.53 +short intranet.corp.test")?.trim() == addresses::INTRANET);
    ensure!(dig("+short intranet.corp.test")?.trim().is_empty());

    lab.script_name(
        Place::Internet,
        "late.test",
        DnsName::answers(vec![DnsAnswer::Records(vec![DnsRecord::address("203.0.113.10")]), DnsAnswer::Code(5)]),
    )?;
    lab.reached()?;
    ensure!(dig("+short late.test")?.trim() == "203.0.113.10" && dig("late.test")?.contains("REFUSED"));
    Ok(())
}

#[test]
fn the_corporate_network_is_another_way() -> Result<()> {
    let lab = Lab::start(LabSpec::standard())?;
    let proxied = curl(&lab, &["-x", "http://10.20.0.3:3128", "-p", "http://allowed.test/by-proxy"])?;
    ensure!(proxied.stdout == "GET allowed.test /by-proxy\n", "{proxied:?}");
    let socks = curl(&lab, &["--socks5-hostname", "10.20.0.4:1080", "http://allowed.test/by-socks"])?;
    ensure!(socks.stdout == "GET allowed.test /by-socks\n", "{socks:?}");
    let bound = curl(&lab, &["--interface", "corp0", "http://203.0.113.10/by-interface"])?;
    ensure!(bound.stdout.contains("/by-interface"), "{bound:?}");
    let intranet = curl(&lab, &["http://10.20.0.80/"])?;
    ensure!(intranet.stdout.starts_with("GET 10.20.0.80"), "{intranet:?}");
    let reached = lab.reached()?;
    let from = |path: &str| {
        let one = requests(&reached, "allowed").into_iter().find(|one| one.holds(path));
        one.and_then(|one| one.peer).map(|peer| peer.ip().to_string())
    };
    ensure!(from("/by-proxy").as_deref() == Some(addresses::CORPORATE_GATEWAY), "{:?}", from("/by-proxy"));
    ensure!(from("/by-socks").as_deref() == Some(addresses::CORPORATE_GATEWAY));
    ensure!(from("/by-interface").as_deref() == Some(addresses::HOST_CORPORATE));
    Ok(())
}

#[test]
fn bodies_streams_and_git_work() -> Result<()> {
    let lab = Lab::start(LabSpec::standard())?;
    let big = curl(&lab, &["-o", "/dev/null", "-w", "%{size_download}", "https://allowed.test/bytes/50000000"])?;
    ensure!(big.stdout == "50000000", "{big:?}");
    let chunked = curl(&lab, &["-o", "/dev/null", "-w", "%{size_download}", "http://allowed.test/chunked/12345"])?;
    ensure!(chunked.stdout == "12345", "{chunked:?}");
    let events = curl(&lab, &["http://allowed.test/events/3"])?;
    ensure!(events.stdout.matches("data: event").count() == 3, "{events:?}");
    let redirect = curl(&lab, &["-L", "http://allowed.test/redirect?to=http://second.test/there"])?;
    ensure!(redirect.stdout == "GET second.test /there\n", "{redirect:?}");
    let grpc = ["--http2-prior-knowledge", "-H", "content-type: application/grpc", "--data-binary", "message"];
    let grpc = curl(&lab, &[&grpc[..], &["-D", "-", "http://allowed.test/lab.Echo/Say"]].concat())?;
    ensure!(grpc.stdout.contains("grpc-status: 0") && grpc.stdout.contains("message"), "{grpc:?}");
    let banner = script(&lab, "timeout 5 bash -c 'head -c 11 < /dev/tcp/plain.test/22'")?;
    ensure!(banner.stdout == "SSH-2.0-Lab", "{banner:?}");

    let repository = lab.folder().join("git/one.git");
    let made = script(
        &lab,
        &format!("git init -q --bare {0} && git -C {0} config http.receivepack true", repository.display()),
    )?;
    ensure!(made.status.is_some_and(|status| status.success()), "{made:?}");
    let mut clone = lab.host().command_in(lab.folder(), "bash");
    clone.envs(Certificates::environment(lab.certificates().bundle()));
    clone.args([
        "-ec",
        "git clone -q https://git.test/git/one.git work && cd work && echo hello > a && git add a && \
         git -c user.name=a -c user.email=a@b.test commit -qm one && git push -q origin HEAD && \
         git clone -q https://git.test/git/one.git ../again && cat ../again/a",
    ]);
    let cloned = lab.host().run(clone, TIME)?;
    ensure!(cloned.stdout == "hello\n", "{cloned:?}");
    Ok(())
}

#[test]
fn there_is_no_way_out_and_no_host_socket() -> Result<()> {
    for privilege in [Privilege::Own, Privilege::Rootless] {
        let lab = Lab::start_as(LabSpec::standard(), privilege)?;
        for place in Place::ALL {
            let mut command = lab.namespace(place).command("bash");
            command.args([
                "-c",
                "for link in /proc/self/net/dev; do tail -n +3 $link; done; ls /run; ls /proc | grep -c '^[0-9]'",
            ]);
            let seen = lab.host().run(command, TIME)?;
            let links: Vec<_> = seen
                .stdout
                .lines()
                .filter_map(|line| line.split_once(':').map(|(name, _)| name.trim().to_owned()))
                .collect();
            let known = ["lo", "up0", "corp0", "lan0", "down0", "down1"];
            ensure!(!links.is_empty() && links.iter().all(|link| known.contains(&link.as_str())), "{seen:?}");
            let processes: u32 = seen.stdout.lines().last().context("a count")?.trim().parse()?;
            ensure!(processes < 20, "only the lab's processes are seen: {seen:?}");
        }
    }
    Ok(())
}

#[test]
fn a_dropped_lab_ends_what_runs_in_it() -> Result<()> {
    let lab = Lab::start(LabSpec::standard())?;
    let mut command = lab.host().command("setsid");
    let mut child = command.args(["sleep", "3600"]).stdout(Stdio::null()).spawn()?;
    ensure!(Path::new(&format!("/proc/{}", lab.anchor())).exists());
    drop(lab);
    // The kernel ends every process of the lab before its first one is gone (pid_namespaces(7)).
    ensure!(!child.wait()?.success(), "killed with the lab");
    Ok(())
}

/// Set for the process that is to die in the test below.
const DIES: &str = "NETWORK_LAB_TEST_DIES";

#[test]
fn a_dead_test_leaves_nothing_behind() -> Result<()> {
    if std::env::var_os(DIES).is_some() {
        let lab = Lab::start(LabSpec::standard())?;
        println!("\nanchor={}\nfolder={}", lab.anchor(), lab.folder().display());
        // No destructor runs.
        std::process::abort();
    }
    let own = std::env::current_exe()?;
    let mut command = Command::new(own);
    command.args(["--exact", "a_dead_test_leaves_nothing_behind", "--nocapture"]).env(DIES, "1");
    let output = command.output()?;
    ensure!(!output.status.success(), "it died");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let anchor: i32 =
        text.lines().find_map(|line| line.split_once("anchor=")).context("an anchor")?.1.trim().parse()?;
    let anchor = Pid::from_raw(anchor).context("a pid")?;
    let Ok(process) = pidfd_open(anchor, PidfdFlags::empty()) else { return Ok(()) };
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&Timespec { tv_sec: 20, tv_nsec: 0 }))?;
    ensure!(ended == 1, "the lab's first process ends with the test");
    Ok(())
}
