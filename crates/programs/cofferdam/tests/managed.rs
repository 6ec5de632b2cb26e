//! Package managers behind `--managed`, with sources in the lab.

mod support;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use network_lab::{DnsName, Lab, LabSpec, Place};
use support::World;

/// A folder over HTTP at an address of the lab's internet that nobody else has.
const SERVER: &str = "import functools, http.server, sys
serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(('203.0.113.77', 80), serve)
print('ready', flush=True)
server.serve_forever()
";
const PACKAGES: &str = "Package: lab-hello
Version: 1.2.3
Architecture: all
Maintainer: nobody <nobody@apt.test>
Filename: ./lab-hello.deb
Size: 5
SHA256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
Description: a package of the lab

";

/// The server; it ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn server(lab: &Lab, folder: &std::path::Path) -> Result<Server> {
    let mut command = lab.namespace(Place::Internet).command("/usr/bin/python3");
    command.args(["-c", SERVER]).arg(folder).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Server(command.spawn()?);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().context("no output")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "{line:?}");
    Ok(server)
}

#[test]
fn apt_finds_its_sources_and_fetches() -> Result<()> {
    let lab = Lab::start(LabSpec::standard())?;
    let world = World::new()?;
    let site = world.path().join("site");
    let settings = world.path().join("etc-apt");
    for folder in [&site, &settings] {
        std::fs::create_dir(folder)?;
    }
    std::fs::write(site.join("Packages"), PACKAGES)?;
    std::fs::write(site.join("lab-hello.deb"), "hello")?;
    let source = "deb [trusted=yes allow-insecure=yes] http://apt.test/ ./\n";
    std::fs::write(settings.join("sources.list"), source)?;
    let configuration = world.path().join("apt.conf");
    std::fs::write(&configuration, format!("Dir::Etc \"{}\";\n", settings.display()))?;
    lab.script_name(Place::Internet, "apt.test", DnsName::addresses(&["203.0.113.77"]))?;
    let _server = server(&lab, &site)?;
    let run = |arguments: &[&str]| -> Result<_> {
        let mut command: Command = lab.host().command_in(&world.work(), env!("CARGO_BIN_EXE_cofferdam"));
        command.args(arguments);
        world.settle(&mut command);
        command.env("APT_CONFIG", &configuration);
        lab.host().run(command, Duration::from_secs(60))
    };
    let script =
        "apt-get -q update && apt-get -q download lab-hello && cat lab-hello*.deb; touch $1/x || echo read-only";
    world.write("fetch.sh", script)?;
    let settings = settings.to_str().context("a path")?;
    let done = run(&["run", "--managed", "apt", "--", "sh", "fetch.sh", settings])?;
    ensure!(done.stdout.ends_with("helloread-only\n"), "{}\n{}", done.stdout, done.stderr);
    ensure!(done.stderr.contains("apt's registry: apt.test:80"), "{}", done.stderr);
    let seen = world.run(&["observe", "--rule", "managed-apt", "--type", "flow.decided"])?.expect(0).out;
    ensure!(seen.contains("GET /./lab-hello.deb"), "{seen}");
    // Without it, the sources are there for nobody.
    let done = run(&["run", "--", "sh", "-c", "ls $0", settings])?;
    ensure!(done.status.is_some_and(|status| !status.success()), "{}", done.stdout);
    Ok(())
}
