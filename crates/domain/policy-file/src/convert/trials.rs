//! Tests of a policy.

use std::collections::BTreeSet;

use policy::{Guard, Verdict};
use values::{CredentialName, Labels, RuleName};

use super::{Converter, parts, problem::Problem};
use crate::{flow::Destination, place::Place, trial::PolicyTest, wire};

impl<'f> Converter<'f> {
    pub(super) fn all_tests(&mut self, spec: &Place<'_>) {
        let place = spec.key("tests");
        let known = self.deciding_names();
        for (index, written) in self.written.tests.iter().enumerate() {
            let place = place.index(index);
            let test = self.test(written, &known, &place);
            self.tests.extend(test.map(|test| PolicyTest { index, ..test }));
        }
    }

    fn test(&mut self, written: &wire::TestCase, known: &BTreeSet<String>, place: &Place<'_>) -> Option<PolicyTest> {
        let to =
            Destination::parse(&written.to).map_err(|source| Problem::Destination { text: written.to.clone(), source });
        let to = self.take(&place.key("to"), to);
        let method = self.optional(&place.key("method"), written.method.as_ref(), parts::method);
        let process = self.optional(&place.key("process"), written.process.as_ref(), parts::process);
        let address = self.optional(&place.key("address"), written.address.as_ref(), parts::address);
        let rule = match &written.rule {
            Some(rule) => self.deciding_rule(rule, known, &place.key("rule")).map(Some),
            None => Some(None),
        };
        let credential: Option<Option<CredentialName>> = match &written.credential {
            Some(name) => self.rule_credential(name, &place.key("credential")).map(Some),
            None => Some(None),
        };
        let mut would = Vec::new();
        let place_of_would = place.key("would");
        for (index, name) in written.would.iter().flat_map(wire::OneOrMany::as_slice).enumerate() {
            would.extend(self.deciding_rule(name, known, &place_of_would.index(index)));
        }
        Some(PolicyTest {
            index: 0,
            written: written.to.clone(),
            from: Labels(written.from.clone()),
            to: to?,
            method: method?,
            process: process?,
            address: address?,
            expect: match written.expect {
                wire::Verdict::Allowed => Verdict::Allowed,
                wire::Verdict::Denied => Verdict::Denied,
                wire::Verdict::Asked => Verdict::Asked,
            },
            rule: rule?,
            credential: credential?,
            would,
        })
    }

    fn deciding_rule(&mut self, name: &str, known: &BTreeSet<String>, place: &Place<'_>) -> Option<RuleName> {
        if !known.contains(name) {
            self.unknown(place, "rule", name, known.iter().map(String::as_str));
            return None;
        }
        self.take(place, parts::name(name, RuleName::new))
    }

    /// Everything that can decide: the rules, the guards, and what comes behind the rules.
    fn deciding_names(&self) -> BTreeSet<String> {
        let mut known: BTreeSet<String> = self.written.rules.iter().map(|rule| rule.name.clone()).collect();
        known.extend(self.spec.rules.iter().map(|rule| rule.name.to_string()));
        known.extend(["allowed-hosts", "mode-default", "managed-path:additional-hosts"].map(str::to_owned));
        let managed = &self.spec.managed_path;
        let toggles = managed.package_registries.iter().chain(&managed.code_repositories);
        known.extend(toggles.map(|toggle| format!("managed-path:{}", toggle.toggle)));
        known.extend(Guard::ALL.iter().map(|guard| guard.as_str().to_owned()));
        known
    }
}
