//! What a rule changes in requests, and the roots that it verifies servers against.

use std::{collections::BTreeMap, path::PathBuf};

use policy::{
    HostName, HostPattern,
    model::{
        Rule,
        transform::{PathPrefix, Transform, TransformProblem},
    },
};

use super::{Converter, parts, problem::Problem};
use crate::{place::Place, wire};

impl<'f> Converter<'f> {
    pub(super) fn transform(&mut self, written: &wire::Transform, place: &Place<'_>) -> Option<Transform> {
        let set = self.given_fields(&written.set, &place.key("set"));
        let insert = self.given_fields(&written.insert, &place.key("insert"));
        let remove_place = place.key("remove");
        let names = written.remove.iter().enumerate();
        let remove: Vec<String> =
            names.filter_map(|(index, name)| self.header_name(name, &remove_place.index(index))).collect();
        let host = self.optional(&place.key("host"), written.host.as_ref(), exact_host);
        let path = written.path.as_ref();
        let path = path.map(|path| PathPrefix { from: path.prefix.clone(), to: path.with.clone() });
        let whole = remove.len() == written.remove.len();
        let to_tls = written.scheme == Some(wire::NewScheme::Https);
        Some(Transform { set: set?, insert: insert?, remove, to_tls, host: host?, path }).filter(|_| whole)
    }

    fn given_fields(
        &mut self,
        written: &BTreeMap<String, String>,
        place: &Place<'_>,
    ) -> Option<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let mut whole = true;
        for (name, value) in written {
            let here = place.key(name);
            match self.header_name(name, &here) {
                Some(name) if found.insert(name.clone(), value.clone()).is_none() => {}
                Some(name) => {
                    self.report(&here, Problem::Repeated { what: "header field", value: name, first: None });
                    whole = false;
                }
                None => whole = false,
            }
        }
        whole.then_some(found)
    }

    /// What a rule's changes ask for beside what else the rule says.
    pub(super) fn check_transform(&mut self, rule: &Rule, written: &wire::Rule, place: &Place<'_>) {
        if let (Some(problem), Some(written)) = (self.spec.transform_problem(rule), &written.transform) {
            let transform = place.key("transform");
            let (set, insert, remove) = (transform.key("set"), transform.key("insert"), transform.key("remove"));
            let path = transform.key("path");
            let found = Problem::Transform(problem.clone());
            match &problem {
                TransformProblem::Header(name)
                | TransformProblem::Value(name)
                | TransformProblem::Twice(name)
                | TransformProblem::Carries(name) => {
                    let is = |own: &&String| own.eq_ignore_ascii_case(name);
                    let (in_set, in_insert) = (written.set.keys().find(is), written.insert.keys().find(is));
                    let index = written.remove.iter().position(|own| own.eq_ignore_ascii_case(name));
                    match (in_set, in_insert, index) {
                        (_, _, Some(index)) => self.report(&remove.index(index), found),
                        (_, Some(key), None) => self.report(&insert.key(key), found),
                        (Some(key), None, None) => self.report(&set.key(key), found),
                        (None, None, None) => self.report(&transform, found),
                    }
                }
                TransformProblem::Path(text) => {
                    let first = written.path.as_ref().is_some_and(|path| path.prefix == *text);
                    self.report(&path.key(if first { "prefix" } else { "with" }), found);
                }
                TransformProblem::BoundPath => self.report(&path, found),
                TransformProblem::Host(_) => self.report(&transform.key("host"), found),
                TransformProblem::Scheme => self.report(&transform.key("scheme"), found),
                TransformProblem::Denies
                | TransformProblem::Protocol
                | TransformProblem::Passthrough
                | TransformProblem::Empty
                | TransformProblem::TooMany(_) => self.report(&transform, found),
            }
        }
        if rule.upstream_ca.is_some() && !rule.verifies_upstream() {
            let what = "`upstreamCa` is for rules that let requests inside TLS through".to_owned();
            self.report(&place.key("upstreamCa"), Problem::Contradiction { what, hint: None });
        }
    }

    pub(super) fn upstream_ca(&mut self, written: &wire::Rule, place: &Place<'_>) -> Option<Option<PathBuf>> {
        let read = |text: &str| parts::own_file(text).map(PathBuf::from);
        self.optional(&place.key("upstreamCa"), written.upstream_ca.as_ref(), read)
    }
}

/// One host, no wildcard.
fn exact_host(text: &str) -> Result<HostName, Problem> {
    match parts::host(text)? {
        HostPattern::Exact(name) => Ok(name),
        HostPattern::Subnames(_) | HostPattern::Domain(_) | HostPattern::Any => {
            Err(Problem::NotA { text: text.to_owned(), what: "one host: a request goes to one" })
        }
    }
}
