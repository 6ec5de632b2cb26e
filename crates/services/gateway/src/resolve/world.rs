//! What tests of names need: a policy, a log, and who is asked upstream.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use audit_event::{DnsDecided, Event, RunContext};
use audit_log::{AuditLog, Options};
use policy::{
    CompiledPolicy, HostPattern, OwnAddresses,
    model::{Action, Group, Lists, Mode, PolicySpec, RecordType, Rule, To},
};
use tempfile::TempDir;
use values::{Labels, Revision, RuleName};

use super::Names;
use crate::{
    in_force::{CurrentPolicy, InForce},
    settings::Settings,
    summary::Tally,
};

/// A sandbox's names, and all around them.
pub(crate) struct World {
    pub(crate) names: Arc<Names>,
    pub(crate) policy: Arc<CurrentPolicy>,
    pub(crate) audit: AuditLog,
    pub(crate) tally: Arc<Tally>,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) fn new(spec: PolicySpec, servers: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let context = RunContext { sandbox: "run-test".into(), thread: None, tool_call: None };
        let audit = AuditLog::open(&folder.path().join("events.jsonl"), context, Options::default()).unwrap();
        let tally = Arc::new(Tally::default());
        let settings = Settings {
            host_resolvers: servers.to_vec(),
            resolve_timeout: Duration::from_secs(2),
            ..Settings::default()
        };
        let names = Names::new(&settings, audit.clone(), Arc::clone(&tally));
        let policy = Arc::new(CurrentPolicy::new(in_force(spec, 1)));
        Self { names, policy, audit, tally, folder }
    }

    /// Every DNS record so far.
    pub(crate) fn records(&self) -> Vec<DnsDecided> {
        let text = std::fs::read_to_string(self.audit.path()).unwrap();
        let events = text.lines().map(|line| match audit_event::parse(line).unwrap().body {
            audit_event::Body::Known(Event::DnsDecided(record)) => *record,
            other => panic!("{other:?}"),
        });
        events.collect()
    }

    /// Each record in short: verdict, rule, name, type, response, answers.
    pub(crate) fn told(&self) -> Vec<String> {
        let short = |record: &DnsDecided| {
            let answers = record.answers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let DnsDecided { verdict, rule, name, record_type, response, .. } = record;
            format!("{verdict} {rule} {name} {record_type} {response} {answers}").trim_end().to_owned()
        };
        self.records().iter().map(short).collect()
    }

    /// From now on no record can be written.
    pub(crate) fn break_log(&self) {
        std::fs::rename(self.audit.path(), self.folder.path().join("elsewhere")).unwrap();
    }
}

pub(crate) fn in_force(spec: PolicySpec, revision: u64) -> Arc<InForce> {
    let policy = CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), Revision(revision)).unwrap();
    InForce::new(Arc::new(policy), &Labels::default(), BTreeMap::new())
}

pub(crate) fn rule(name: &str, priority: i64, action: Action, hosts: &[&str]) -> Rule {
    let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    Rule::new(RuleName::new(name).unwrap(), priority, action, To::Inline(Group { hosts, ..Group::default() }))
}

/// Names under `zone.example` are allowed, with text records; `asked.example` is asked about; `evil.zone.example`
/// is denied; 10.1.0.0/16 is open; all else is closed.
pub(crate) fn spec() -> PolicySpec {
    let mut zone = rule("zone", 20, Action::Allow, &["*.zone.example", "zone.example"]);
    zone.record_types = vec![RecordType::Txt];
    let mut range = rule("range", 40, Action::Allow, &[]);
    range.to = To::Inline(Group { cidrs: vec!["10.1.0.0/16".parse().unwrap()], ..Group::default() });
    PolicySpec {
        mode: Mode::Limited,
        rules: vec![
            rule("no-evil", 10, Action::Deny, &["evil.zone.example"]),
            zone,
            rule("ask", 30, Action::Ask, &["asked.example"]),
            range,
        ],
        ..PolicySpec::default()
    }
}
