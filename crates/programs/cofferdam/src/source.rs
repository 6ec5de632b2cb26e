//! From a policy file on disk to a compiled policy, feeds and service tags included.
//!
//! A list that can't be read at the start refuses the policy. In a live run ([`ListReader`] is kept), a list that was
//! read once stays as it was when it can't be read again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use certificates::UpstreamRoots;
use jiff::Timestamp;
use policy::{
    CompileError, CompiledPolicy, OwnAddresses,
    model::{ListContent, Lists},
};
use policy_file::{Diagnostics, NeededLists, PolicyFile, TestOutcome};
use values::Revision;

use crate::{
    failure::{Failure, code},
    files,
    output::{Colour, Style},
    run::{self, Bundles, Guard},
};

/// The largest policy file that is read.
const FILE_LIMIT: u64 = 64 << 20;

/// A policy as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The file's name for messages; `-` is standard input.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// What its feeds are relative to.
    pub(crate) folder: PathBuf,
    /// What it says.
    pub(crate) file: PolicyFile,
}

/// A policy that failed, drawn for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Without colours: for records, and for who asks from another terminal.
    pub(crate) drawing: String,
    /// With the colours of this process's standard error.
    coloured: String,
}

impl Refusal {
    /// A drawing for each style.
    pub(crate) fn new(draw: impl Fn(Style) -> String) -> Self {
        Self { drawing: draw(Style::PLAIN), coloured: draw(Style::of_stderr()) }
    }

    /// As an error of a command: the drawing goes before, the code is 7 (or `otherwise` where the caller has its own).
    pub(crate) fn into_failure(self, name: &str, code: u8) -> Failure {
        eprint!("{}", self.coloured);
        Failure::new(code, format!("{name} can't be used as a policy"))
    }
}

/// Reads the bytes of a file, or of standard input for `-`.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(FILE_LIMIT).read_to_end(&mut bytes)
    } else {
        files::open_or_given(path).and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("reading {}", path.display()))?;
    Ok(bytes)
}

/// Reads and parses a policy file.
pub(crate) fn read(path: &Path) -> Result<Result<Source, Refusal>> {
    let bytes = read_bytes(path)?;
    let folder = std::path::absolute(path)?.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    Ok(parse(&path.display().to_string(), &bytes, folder))
}

/// Reads and parses a policy file; a refusal is an error with code 7.
pub(crate) fn read_or_fail(path: &Path) -> Result<Source> {
    read(path)?.map_err(|refusal| refusal.into_failure(&path.display().to_string(), code::INVALID).into())
}

/// Parses a policy's bytes.
pub(crate) fn parse(name: &str, bytes: &[u8], folder: PathBuf) -> Result<Source, Refusal> {
    match policy_file::parse(name, bytes) {
        Ok(file) => {
            Ok(Source { name: name.to_owned(), text: String::from_utf8_lossy(bytes).into_owned(), folder, file })
        }
        Err(found) => Err(Refusal::new(|style| found.render(&String::from_utf8_lossy(bytes), style.coloured))),
    }
}

/// Findings with line and caret.
pub(crate) fn draw(found: &Diagnostics, text: &str) -> String {
    found.render(text, Style::of_stderr().coloured)
}

impl Source {
    /// Whether it lies in this folder, by whatever way that is named.
    pub(crate) fn lies_in(&self, folder: &Path) -> bool {
        let real = |folder: &Path| fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        self.folder == folder || real(&self.folder) == real(folder)
    }

    /// What its lists hold now, and the policy compiled with them.
    pub(crate) fn compile(&self, own: OwnAddresses, revision: Revision) -> Result<CompiledPolicy, Refusal> {
        let mut reader = ListReader::new(self.folder.clone());
        let lists = reader.read(&self.file.spec).map_err(|errors| self.refusal(&errors))?;
        self.compile_with(lists, own, revision)
    }

    /// Compiled with lists that were read already.
    pub(crate) fn compile_with(
        &self,
        lists: Lists,
        own: OwnAddresses,
        revision: Revision,
    ) -> Result<CompiledPolicy, Refusal> {
        let compiled = CompiledPolicy::compile(Arc::clone(&self.file.spec), lists, own, revision)
            .map_err(|errors| self.refusal(&errors.iter().map(|error| self.locate(error)).collect::<Vec<_>>()))?;
        gateway::check_built(&compiled).map_err(|error| self.refusal(&[error.to_string()]))?;
        Ok(compiled)
    }

    /// What is no error and does not do what it seems to.
    pub(crate) fn doubts(&self) -> Vec<String> {
        run::doubts(&self.file.spec, &self.folder, Timestamp::now())
    }

    /// Checked as a file alone: a list that can't be read here counts as empty, and is told, as is a bundle of roots.
    pub(crate) fn check(&self) -> Result<Vec<String>, Refusal> {
        let (mut lists, mut missing) = ListReader::new(self.folder.clone()).read_again(&self.file.spec);
        let needed = NeededLists::of(&self.file.spec);
        for feed in needed.feeds {
            lists.feeds.entry(feed.list.path).or_default();
        }
        for tag in needed.service_tags {
            lists.service_tags.entry(tag.list).or_default();
        }
        let compiled = self.compile_with(lists, OwnAddresses::default(), Revision(1))?;
        let bundles: BTreeSet<&Path> =
            compiled.demanding_rules().filter_map(|rule| rule.upstream_ca.as_deref()).collect();
        for bundle in bundles {
            let path = self.folder.join(bundle);
            let read = files::open(&path).map_err(anyhow::Error::from);
            let read = read.and_then(|_| Ok(UpstreamRoots::from_bundle(&path)?));
            missing.extend(read.err().map(|error| format!("upstreamCa {}: {error:#}", bundle.display())));
        }
        Ok(missing)
    }

    /// A failing test refuses the policy.
    pub(crate) fn pass_tests(&self, compiled: &CompiledPolicy) -> Result<(), Refusal> {
        let outcomes = policy_file::run_tests(compiled, &self.file.tests, Timestamp::now());
        let failed: Vec<String> = outcomes.iter().filter(|o| !o.passed).map(|o| self.describe(o)).collect();
        if failed.is_empty() { Ok(()) } else { Err(self.refusal(&failed)) }
    }

    /// A failed test with its place.
    pub(crate) fn describe(&self, outcome: &TestOutcome) -> String {
        let place = self.file.test_positions.get(outcome.index).map(|p| format!("{}:{}: ", p.line, p.column));
        format!("{}test of {}: {}", place.unwrap_or_default(), outcome.to, outcome.failures.join("; "))
    }

    fn locate(&self, error: &CompileError) -> String {
        let rule = error.rule().and_then(|rule| self.file.rules.get(rule));
        let place = rule.or_else(|| error.group().and_then(|group| self.file.groups.get(group)));
        format!("{}{error}", place.map(|p| format!("{}:{}: ", p.line, p.column)).unwrap_or_default())
    }

    /// SHA-256 in hexadecimal: of its text, and where it has lists or bundles of roots, of what each of them held after
    /// that.
    pub(crate) fn digest(&self, lists: &Lists, bundles: &Bundles) -> String {
        use sha2::{Digest as _, Sha256};
        let mut hash = Sha256::new_with_prefix(self.text.as_bytes());
        let feeds = lists.feeds.iter().map(|(path, content)| (path.clone(), content));
        let tags = lists.service_tags.iter().map(|(tag, content)| (format!("{}\0{}", tag.path, tag.name), content));
        for (name, content) in feeds.chain(tags) {
            hash.update(format!("\0{name}\0{}\0{}\0", content.hosts.len(), content.cidrs.len()));
            content.hosts.iter().for_each(|host| hash.update(format!("{host}\0")));
            content.cidrs.iter().for_each(|range| hash.update(format!("{range}\0")));
        }
        for (path, content) in bundles {
            hash.update(format!("\0{}\0", path.display()));
            hash.update(content);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn refusal(&self, errors: &[String]) -> Refusal {
        let line = |error: &String, style: Style| {
            let separator = if error.starts_with(|c: char| c.is_ascii_digit()) { ":" } else { ": " };
            format!("{} {}{separator}{error}\n", style.paint("error:", Colour::Red), self.name)
        };
        Refusal::new(|style| errors.iter().map(|error| line(error, style)).collect())
    }

    /// The shortest refresh that its lists ask for.
    pub(crate) fn refresh(&self) -> Option<Duration> {
        NeededLists::of(&self.file.spec).feeds.iter().filter_map(|needed| needed.list.refresh).min()
    }
}

/// Reads lists, and keeps what each held when it was last good.
#[derive(Debug)]
pub(crate) struct ListReader {
    folder: PathBuf,
    last_good: Lists,
    guard: Guard,
}

impl ListReader {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, last_good: Lists::default(), guard: Guard::default() }
    }

    /// From now on, no list is read that a workload may have written.
    pub(crate) fn guard(&mut self, guard: Guard) {
        self.guard = guard;
    }

    /// What each list held when it was last good.
    pub(crate) fn last_good(&self) -> &Lists {
        &self.last_good
    }

    /// Reads every list of a policy. One that can't be read and never was is an error.
    pub(crate) fn read(&mut self, spec: &policy::model::PolicySpec) -> Result<Lists, Vec<String>> {
        let (lists, errors) = self.read_again(spec);
        if errors.is_empty() { Ok(lists) } else { Err(errors) }
    }

    /// Reads every list of a policy; what can't be read stays as it was. Beside it: what could not be read.
    pub(crate) fn read_again(&mut self, spec: &policy::model::PolicySpec) -> (Lists, Vec<String>) {
        let needed = NeededLists::of(spec);
        let mut lists = Lists::default();
        let mut errors = Vec::new();
        for list in needed.feeds {
            let feed = list.list;
            let bytes = self.bytes(&feed.path);
            let content =
                bytes.and_then(|bytes| policy_lists::read_feed(feed.format, &bytes).map_err(|e| e.to_string()));
            let kept = self.last_good.feeds.get(&feed.path);
            keep(content, kept, &mut errors, || format!("the feed {} of {}", feed.path, list.named_by))
                .into_iter()
                .for_each(|content| insert(&mut lists.feeds, feed.path.clone(), content));
        }
        for list in needed.service_tags {
            let tag = list.list;
            let bytes = self.bytes(&tag.path);
            let content =
                bytes.and_then(|bytes| policy_lists::read_service_tag(&tag, &bytes).map_err(|e| e.to_string()));
            let kept = self.last_good.service_tags.get(&tag);
            keep(content, kept, &mut errors, || format!("the service tags {} of {}", tag.path, list.named_by))
                .into_iter()
                .for_each(|content| insert(&mut lists.service_tags, tag.clone(), content));
        }
        self.last_good.clone_from(&lists);
        (lists, errors)
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, String> {
        let path = self.folder.join(path);
        self.guard.check(&path)?;
        read_list(&path).map_err(|error| error.to_string())
    }
}

/// A whole list.
fn read_list(path: &Path) -> std::io::Result<Vec<u8>> {
    let refused = |reason: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, reason);
    let file = files::open(path)?;
    let limit = policy_lists::FILE_LIMIT as u64;
    let mut bytes = Vec::new();
    // One byte more than is taken, so that the reader sees that it is too long.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(refused(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

fn insert<K: Ord>(map: &mut BTreeMap<K, ListContent>, key: K, content: ListContent) {
    map.insert(key, content);
}

fn keep(
    content: Result<ListContent, String>,
    kept: Option<&ListContent>,
    errors: &mut Vec<String>,
    what: impl Fn() -> String,
) -> Option<ListContent> {
    match content {
        Ok(content) => Some(content),
        Err(error) => {
            errors.push(format!("{} can't be read: {error}", what()));
            kept.cloned()
        }
    }
}

/// Every address of this host, for the guard over its own.
pub(crate) fn own_addresses() -> OwnAddresses {
    OwnAddresses { addresses: ipv4_addresses().into_iter().chain(ipv6_addresses()).collect() }
}

/// `/proc/net/fib_trie` lists each local IPv4 address twice: as a leaf before `/32 host LOCAL`.
fn ipv4_addresses() -> Vec<IpAddr> {
    let text = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut found: Vec<IpAddr> = Vec::new();
    let mut leaf = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = leaf
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// `/proc/net/if_inet6`: 32 hexadecimal digits first.
fn ipv6_addresses() -> Vec<IpAddr> {
    let text = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let address = |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok();
    text.lines().filter_map(address).map(|bits| IpAddr::V6(bits.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  groups:\n    \
                          bad: { feed: { path: bad.txt, format: domains, refresh: 10m } }\n  rules:\n    \
                          - { name: bad, priority: 1, from: any, to: bad, action: deny }\n";

    #[test]
    fn a_list_that_is_missing_refuses_at_the_start_and_stays_later() {
        let folder = tempfile::tempdir().unwrap();
        let source = parse("p.yaml", POLICY.as_bytes(), folder.path().to_owned()).unwrap();
        assert_eq!(source.refresh(), Some(Duration::from_secs(600)));
        let refusal = source.compile(OwnAddresses::default(), Revision(1)).unwrap_err();
        assert!(refusal.drawing.contains("the feed bad.txt of group bad can't be read"), "{}", refusal.drawing);

        let list = folder.path().join("bad.txt");
        fs::write(&list, "bad.example\n").unwrap();
        let mut reader = ListReader::new(folder.path().to_owned());
        let first = reader.read(&source.file.spec).unwrap();
        fs::write(&list, "bad.exam").unwrap();
        let (again, errors) = reader.read_again(&source.file.spec);
        assert_eq!((again, errors.len()), (first.clone(), 1));
        let none = Bundles::new();
        let digest = source.digest(&first, &none);
        assert_ne!(digest, source.digest(&Lists::default(), &none));
        let [one, other] = [[1; 32], [2; 32]].map(|held| Bundles::from([("roots.pem".into(), held)]));
        assert_ne!(digest, source.digest(&first, &one));
        assert_ne!(source.digest(&first, &one), source.digest(&first, &other), "bundles count");
        fs::write(&list, "bad.example\nworse.example\n").unwrap();
        assert_ne!(digest, source.digest(&reader.read(&source.file.spec).unwrap(), &none), "the lists count");
    }

    #[test]
    fn this_host_has_loopback() {
        let own = own_addresses().addresses;
        assert!(own.contains(&"127.0.0.1".parse().unwrap()), "{own:?}");
    }
}
