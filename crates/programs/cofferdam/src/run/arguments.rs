//! `run`'s flags, and the small grammars in them.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{
    Args, ValueEnum, ValueHint,
    builder::{OsStringValueParser, TypedValueParser as _},
};
use ipnet::IpNet;
use jiff::SignedDuration;

use crate::{completions, config};

const EXAMPLES: &str = "\
Examples:
  nothing may leave; the end says what was denied:
    cofferdam run -- ./agent.py
  one host, one port (without it: every port):
    cofferdam run --allow api.example.com:443 -- ./agent.py
  a host whose addresses are private:
    cofferdam run --allow 'wiki.corp.example@10.20.0.0/16' -- ./agent.py
  package registries, from their own configuration:
    cofferdam run --managed pip,npm -- ./build.sh
  a policy, and a record in a place of its own:
    cofferdam run --policy prod.yaml --events ~/records/run.jsonl -- ./agent.py
  all recorded, nothing but the guards blocked:
    cofferdam run --watch -- ./agent.py
  a known program, with its own folders and hosts:
    cofferdam run -- claude
";

/// `run`
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The policy file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Policy",
          conflicts_with_all = ["preset", "mode", "allow", "deny", "managed"])]
    pub(crate) policy: Option<PathBuf>,
    /// A ready policy.
    #[arg(long, value_name = "NAME", help_heading = "Policy", conflicts_with_all = ["mode", "allow", "deny", "managed"])]
    pub(crate) preset: Option<PolicyPreset>,
    /// What happens to what no rule names. `unrestricted` must be said.
    #[arg(long, value_name = "MODE", help_heading = "Policy")]
    pub(crate) mode: Option<Mode>,
    /// Allow HOST[:PORT][@CIDR] or CIDR[:PORT]: `api.example.com:443` one port, `api.example.com` every port. HOST may be
    /// `*.example.com`, which is every sub-name and not `example.com`; a host whose addresses are private needs its
    /// range. `registry:NAME` is `--managed NAME`.
    #[arg(long, value_name = "WHERE", help_heading = "Policy")]
    pub(crate) allow: Vec<Destination>,
    /// Deny HOST[:PORT] or CIDR[:PORT], before everything that is allowed.
    #[arg(long, value_name = "WHERE", help_heading = "Policy")]
    pub(crate) deny: Vec<Destination>,
    /// Open the registries of these package managers: pip, npm, cargo, apt, nuget, go. Their hosts come from your
    /// own configuration of them, never from the checkout's.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', help_heading = "Policy",
          add = completions::package_managers())]
    pub(crate) managed: Vec<String>,
    /// The range of your registries, where their addresses are private.
    #[arg(long, value_name = "CIDR", help_heading = "Policy")]
    pub(crate) managed_address: Vec<IpNet>,
    /// Record everything, block nothing but what the guards and malformed traffic hold.
    #[arg(long, help_heading = "Policy")]
    pub(crate) watch: bool,
    /// Who signs the certificates of TLS that is opened: `run`, an authority of this run whose key is gone with it; or
    /// `installation`, one that all such runs share (`cofferdam authority show`). Else as the settings say, or `run`.
    #[arg(long, value_name = "WHOSE", help_heading = "Policy")]
    pub(crate) authority: Option<config::Signing>,
    /// Where `always` answers write their rule, in place of --policy: a policy that holds the rule which asks. Where it
    /// is missing it begins as a copy of this run's policy. Name it with --policy in the next run.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Policy")]
    pub(crate) ask_file: Option<PathBuf>,

    /// Write the record here instead of into the run's own folder. Where the command may write, it needs a folder of its
    /// own, which is read-only for the command.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Record")]
    pub(crate) events: Option<PathBuf>,
    /// When a record counts as written: in the file, or on the disk.
    #[arg(long, value_name = "WHEN", help_heading = "Record")]
    pub(crate) durability: Option<config::Durability>,
    /// No notes at the start, no summary at the end.
    #[arg(long, short, help_heading = "Record")]
    pub(crate) quiet: bool,

    /// Set NAME=VALUE inside, or pass your own NAME.
    #[arg(long, short, value_name = "NAME[=VALUE]", help_heading = "What the command sees",
          value_parser = OsStringValueParser::new().try_map(|text| Variable::parse(&text)))]
    pub(crate) env: Vec<Variable>,
    /// Also set HTTP_PROXY and the like. Not needed: every connection is caught without them.
    #[arg(long, help_heading = "What the command sees")]
    pub(crate) proxy_env: bool,
    /// Mount a folder or file of yours: SOURCE:TARGET, `:ro` for read-only.
    #[arg(long, value_name = "SRC:DST[:ro]", help_heading = "What the command sees")]
    pub(crate) mount: Vec<MountFlag>,
    /// The writable working directory. The current one where not given.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "What the command sees")]
    pub(crate) workdir: Option<PathBuf>,
    /// Let the command write your home, or a folder that holds it or your settings. What lies there runs programs outside
    /// the sandbox.
    #[arg(long, help_heading = "What the command sees")]
    pub(crate) allow_home: bool,
    /// Go on where not every Unix socket of the host in what is mounted can be found or masked.
    #[arg(long, help_heading = "What the command sees")]
    pub(crate) allow_host_sockets: bool,
    /// Give your terminal every control sequence of the command's, also those that act: the clipboard, device
    /// reports, notifications, images.
    #[arg(long, help_heading = "What the command sees")]
    pub(crate) unfiltered_terminal: bool,
    /// What a known program needs: found by the command's name; NAME picks one, `none` turns it off.
    #[arg(long, value_name = "NAME|none", value_delimiter = ',', help_heading = "What the command sees",
          add = completions::program_presets())]
    pub(crate) program_preset: Vec<String>,

    /// Processors' worth of time, such as 1.5.
    #[arg(long, value_name = "N", value_parser = processors, help_heading = "Limits")]
    pub(crate) cpus: Option<f64>,
    /// Memory, such as 512M or 2G.
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(crate) memory: Option<Size>,
    /// Processes and threads.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    pub(crate) pids: Option<u64>,
    /// End everything after this time, such as 90s or 10m. The exit code is then 125.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub(crate) timeout: Option<Duration>,

    /// The command and its arguments.
    #[arg(value_name = "CMD", required = true, last = true, value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// A ready policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyPreset {
    /// Everything may leave but what the guards hold.
    Open,
    /// Package registries and code repositories allowed, the rest denied.
    Balanced,
    /// Nothing leaves.
    LockedDown,
}

impl PolicyPreset {
    pub(crate) fn name(self) -> &'static str {
        match self {
            PolicyPreset::Open => "open",
            PolicyPreset::Balanced => "balanced",
            PolicyPreset::LockedDown => "locked-down",
        }
    }
}

/// `--mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Deny what is not allowed.
    Limited,
    /// Allow what is not denied, but for the guards.
    Unrestricted,
}

/// `--allow` and `--deny`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// `HOST[:PORT]`, opened at these ranges where `@CIDR` is given.
    Host { host: String, port: Option<u16>, addresses: Option<IpNet> },
    /// `CIDR[:PORT]`.
    Range { range: IpNet, port: Option<u16> },
    /// `registry:NAME`.
    Registry(String),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("registry:") {
            return Ok(Destination::Registry(name.to_owned()));
        }
        if let Some(error) = as_url(text) {
            return Err(error);
        }
        let (place, addresses) = match text.split_once('@') {
            Some((place, range)) => (place, Some(range_of(range).ok_or_else(|| format!("{range:?} is no range"))?)),
            None => (text, None),
        };
        let (front, port) = split_port(place)?;
        if let Some(range) = range_of(front) {
            return match addresses {
                None => Ok(Destination::Range { range, port }),
                Some(_) => Err("@CIDR goes with a host name".to_owned()),
            };
        }
        if front.contains('/') {
            return Err(format!("{front:?} is no range such as 10.0.0.0/8"));
        }
        let host = policy::HostPattern::parse(front).map_err(|error| error.to_string())?;
        Ok(Destination::Host { host: host.to_string(), port, addresses })
    }
}

/// What to write instead of a URL: rules are about hosts and ports.
fn as_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = match (host.rsplit_once(':'), scheme.to_ascii_lowercase().as_str()) {
        (Some((_, digits)), _) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => "",
        (_, "https" | "wss") => ":443",
        (_, "http" | "ws") => ":80",
        (_, _) => "",
    };
    Some(format!("a host is expected, not a URL: write {host}{port} (paths and methods are a policy file's `http`)"))
}

/// `10.0.0.0/8`, `::1`, `[fd00::]/8`.
fn range_of(text: &str) -> Option<IpNet> {
    let plain = text.replace(['[', ']'], "");
    let one_address = || plain.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    plain.parse::<IpNet>().ok().map(|net| net.trunc()).or_else(one_address)
}

/// Divides `:PORT` off; the colons of a bare IPv6 address are its own.
fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let bare_v6 = !text.contains(']') && text.matches(':').count() > 1;
    match text.rsplit_once(':') {
        Some((front, port)) if !bare_v6 && !port.contains(']') => {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
            let port = port.parse().ok().filter(|_| digits).ok_or_else(|| format!("{port:?} is no port"))?;
            Ok((front, Some(port)))
        }
        _ => Ok((text, None)),
    }
}

/// `--env`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    /// `None` passes the caller's own. Any bytes, as for the kernel.
    pub(crate) value: Option<OsString>,
}

impl Variable {
    pub(crate) fn parse(text: &OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let (name, value) = match bytes.iter().position(|byte| *byte == b'=').map(|at| bytes.split_at(at)) {
            Some((name, value)) => (name, value.get(1..).map(|value| OsStr::from_bytes(value).to_owned())),
            None => (bytes, None),
        };
        if name.is_empty() || bytes.contains(&0) {
            return Err("expected NAME=VALUE, or NAME".to_owned());
        }
        let name = str::from_utf8(name).map_err(|_| "the name of a variable is UTF-8 text".to_owned())?;
        Ok(Variable { name: name.to_owned(), value })
    }
}

/// `--mount`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountFlag {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) writable: bool,
}

impl FromStr for MountFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected SOURCE:TARGET or SOURCE:TARGET:ro".to_owned();
        let (both, writable) = match text.strip_suffix(":ro") {
            Some(both) => (both, false),
            None => (text.strip_suffix(":rw").unwrap_or(text), true),
        };
        let (source, target) = both.split_once(':').ok_or_else(expected)?;
        let target = PathBuf::from(target);
        let climbs = target.components().any(|part| part == std::path::Component::ParentDir);
        if source.is_empty()
            || !target.is_absolute()
            || climbs
            || target.parent().is_none()
            || target.to_string_lossy().contains(':')
        {
            return Err(format!("{}; TARGET is absolute, without `..`", expected()));
        }
        Ok(MountFlag { source: PathBuf::from(source), target, writable })
    }
}

/// Bytes: a number with K, M, G or T (powers of 1024), with or without `iB` or `B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let power = match unit.to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return Err(format!("{unit:?} is no unit: K, M, G or T")),
        };
        let number: u64 = number.parse().map_err(|_| "expected a number such as 512M".to_owned())?;
        number.checked_mul(1 << power).filter(|size| *size > 0).map(Size).ok_or_else(|| "out of range".to_owned())
    }
}

fn processors(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number such as 1.5".to_owned())?;
    if (0.01..=4096.0).contains(&number) { Ok(number) } else { Err("from 0.01 to 4096".to_owned()) }
}

/// A time such as `90s`, `10m`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|_| "expected a time such as 90s or 10m".to_owned())?;
    Duration::try_from(parsed).ok().filter(|time| !time.is_zero()).ok_or_else(|| "must be more than nothing".to_owned())
}

#[cfg(test)]
mod tests;
