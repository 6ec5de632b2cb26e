//! A run in a laboratory internet that a test looks at while it lives.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use network_lab::{Certificates, Lab, LabSpec, Output};

use crate::support::World;

/// The longest that anything here may take.
pub(crate) const TIME: Duration = Duration::from_secs(120);
/// Allowed: the plain services, and some names.
pub(crate) const POLICY: &str = "\
apiVersion: cofferdam/v1
kind: EgressPolicy
spec:
  rules:
    - { name: plain, priority: 1, to: { cidrs: [203.0.113.40/32, 203.0.113.77/32] }, action: allow }
    - { name: web, priority: 2, to: { hosts: [allowed.test, \"*.allowed.test\"] }, action: allow }
";
/// Allows nothing.
pub(crate) const NOTHING: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec: { mode: limited }\n";
/// The Python that every sandbox has.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A lab, and a world for the program in it. Policies and records stand where no workload may write.
pub(crate) struct Setting {
    pub(crate) lab: Lab,
    pub(crate) world: World,
}

/// A live run.
pub(crate) struct Live {
    pub(crate) child: Child,
    pub(crate) out: BufReader<ChildStdout>,
}

impl Setting {
    pub(crate) fn new() -> Result<Self> {
        let setting = Self { lab: Lab::start(LabSpec::standard())?, world: World::new()? };
        std::fs::write(setting.beside("policy.yaml"), POLICY)?;
        std::fs::write(setting.beside("nothing.yaml"), NOTHING)?;
        Ok(setting)
    }

    /// A path beside the working directory.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.world.path().join(name)
    }

    /// The program in the lab, behind this shell line where there is one: `ulimit -n 1024`.
    pub(crate) fn command(&self, first: &str, arguments: &[&str]) -> Command {
        let mut command = self.lab.host().command_in(&self.world.work(), "sh");
        let line = format!("{first}\nexec \"$@\"");
        command.args(["-c", &line, "sh", env!("CARGO_BIN_EXE_cofferdam")]).args(arguments);
        command.envs(Certificates::environment(self.lab.certificates().bundle()));
        self.world.settle(&mut command);
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.lab.host().run(self.command("", arguments), TIME)
    }

    /// Runs a shell line on the lab's host.
    pub(crate) fn shell(&self, line: &str) -> Result<Output> {
        let mut command = self.lab.host().command("sh");
        command.args(["-c", line]);
        self.lab.host().run(command, TIME)
    }

    /// Whether no process of the lab has this in its command line. The pattern must not match itself: `[x]yz`.
    pub(crate) fn nobody_is_called(&self, pattern: &str) -> Result<bool> {
        let found = self.shell(&format!("pgrep -f '{pattern}'"))?;
        Ok(found.status.and_then(|status| status.code()) == Some(1))
    }

    /// Starts a run of a Python program with the usual policy.
    pub(crate) fn python(&self, first: &str, options: &[&str], script: &str, arguments: &[&str]) -> Result<Live> {
        self.world.write("probe.py", &format!("{PRELUDE}{script}"))?;
        let policy = self.beside("policy.yaml");
        let policy = policy.to_str().context("a path")?;
        let before = ["run", "--program-preset", "none", "--policy", policy];
        let after = ["--", PYTHON, "-u", "probe.py"];
        let arguments = [&before, options, &after, arguments].concat();
        Live::start(self.command(first, &arguments))
    }

    /// The gateway's process, by its number in the lab.
    pub(crate) fn gateway(&self) -> Result<String> {
        let rows: serde_json::Value = serde_json::from_str(&self.world.run(&["ps", "--json"])?.expect(0).out)?;
        Ok(rows.pointer("/0/pid").and_then(serde_json::Value::as_u64).context("no run is live")?.to_string())
    }

    /// A field of `/proc/PID/status` of the gateway, in its unit.
    pub(crate) fn status(&self, field: &str) -> Result<u64> {
        let text = self.shell(&format!("cat /proc/{}/status", self.gateway()?))?.stdout;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        line.trim_start_matches(':').split_whitespace().next().context("no value")?.parse().context(field.to_owned())
    }

    /// The processor time that the gateway took so far, in ticks of a hundredth of a second.
    pub(crate) fn processor_time(&self) -> Result<u64> {
        let text = self.shell(&format!("cat /proc/{}/stat", self.gateway()?))?.stdout;
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).context("no time");
        Ok(ticks(11)? + ticks(12)?)
    }

    /// Puts `nothing.yaml` in force in the live run; gives how many connections were cut.
    pub(crate) fn deny_all(&self) -> Result<u64> {
        let path = self.beside("nothing.yaml");
        let done = self.run(&["policy", "apply", path.to_str().context("a path")?, "--json"])?;
        ensure!(done.status.is_some_and(|status| status.success()), "{}{}", done.stdout, done.stderr);
        let applied: serde_json::Value = serde_json::from_str(&done.stdout)?;
        applied.get("cut").and_then(serde_json::Value::as_u64).context("no count")
    }
}

impl Live {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let out = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, out })
    }

    /// The rest of the next line that begins so; the lines before are passed over.
    pub(crate) fn line(&mut self, front: &str) -> Result<String> {
        let mut passed = String::new();
        loop {
            let mut line = String::new();
            if self.out.read_line(&mut line)? == 0 {
                let mut told = String::new();
                if let Some(mut error) = self.child.stderr.take() {
                    std::io::Read::read_to_string(&mut error, &mut told)?;
                }
                anyhow::bail!("it ended without {front:?}: {passed}{told}");
            }
            if let Some(rest) = line.trim_end().strip_prefix(front) {
                return Ok(rest.trim().to_owned());
            }
            passed.push_str(&line);
        }
    }

    /// A number behind a word.
    pub(crate) fn number(&mut self, front: &str) -> Result<u64> {
        let text = self.line(front)?;
        text.parse().with_context(|| format!("{front} {text}"))
    }

    /// Tells the workload to go on.
    pub(crate) fn go(&mut self) -> Result<()> {
        use std::io::Write as _;
        Ok(self.child.stdin.as_mut().context("no input")?.write_all(b"go\n")?)
    }

    /// Waits for the end, within bounds: its code, and what it said on standard error.
    pub(crate) fn end(mut self) -> Result<(Option<i32>, String)> {
        // Both at once: who waits to say something on one must not hold up the end of the other.
        let errors = self.child.stderr.take();
        let reading = std::thread::spawn(move || {
            let mut told = Vec::new();
            // A test may have taken it away.
            errors.map_or(Ok(0), |mut errors| std::io::Read::read_to_end(&mut errors, &mut told)).map(|_| told)
        });
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.out, &mut rest)?;
        let status = self.child.wait()?;
        let told = reading.join().map_err(|_| anyhow::anyhow!("reading standard error panicked"))??;
        Ok((status.code(), format!("{rest}{}", String::from_utf8_lossy(&told))))
    }
}

/// Tries until it holds; an error says what was not reached in time.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + TIME;
    while !holds()? {
        ensure!(Instant::now() < deadline, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// What the workloads of these tests share.
const PRELUDE: &str = r#"
import os, resource, socket, struct, sys, threading, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
PLAIN = ("203.0.113.40", 7)
PROXY = ("127.0.0.1", 3128)
def wait():
    sys.stdin.readline()
known = {}
def address(host):
    # Once: questions are bounded in their rate.
    if host not in known:
        known[host] = socket.gethostbyname(host)
    return known[host]
def get(path, host="allowed.test", bound=20):
    """The status of a plain request, 0 where there was no answer."""
    try:
        with socket.create_connection((address(host), 80), bound) as s:
            s.settimeout(bound)
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return int((s.recv(4096) or b"HTTP/1.1 0 ").split(b" ")[1])
    except (OSError, ValueError) as error:
        print("failed", path, repr(error))
        return 0
def ended(s):
    """Whether the other side ended it, within bounds."""
    s.settimeout(60)
    try:
        while s.recv(65536):
            pass
        return True
    except TimeoutError:
        return False
    except OSError:
        return True
"#;
