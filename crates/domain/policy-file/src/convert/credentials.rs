//! Credentials: how they are attached, and what they are bound to.

/// Where providers listen.
mod endpoint;
/// Where secrets come from.
mod sources;

use std::collections::BTreeSet;

use policy::model::{
    Rule,
    credential::{Attach, Bind, Credential, CredentialProblem, Expose, Field, Format, Place as FieldPlace},
};
use values::{CredentialName, LabelSelector};

pub(super) use sources::GOOGLE_SCOPE;

use super::{Converter, parts, problem::Problem};
use crate::{
    place::Place,
    wire::{self, credential as written},
};

/// What a header field carries where no format is written.
const VALUE: &str = "{value}";

impl<'f> Converter<'f> {
    pub(super) fn all_credentials(&mut self, spec: &Place<'_>) {
        let place = spec.key("credentials");
        for (name, written) in &self.written.credentials {
            let place = place.key(name);
            let credential = self.credential(written, &place);
            let name = self.take(&place, parts::name(name, CredentialName::new));
            if let (Some(name), Some(credential)) = (name, credential) {
                self.spec.credentials.insert(name, credential);
            }
        }
    }

    fn credential(&mut self, written: &'f written::Credential, place: &Place<'_>) -> Option<Credential> {
        let bind = self.bind(&written.bind, &place.key("bind"));
        let attach = self.attach(&written.attach, &place.key("attach"));
        let region = match &attach {
            Some(Attach::SigV4 { region, .. }) => Some(region.clone()),
            Some(_) | None => None,
        };
        let source = self.source(&written.from, region, &place.key("from"));
        let expose = match &written.expose {
            Some(expose) => self.expose(expose, &place.key("expose")).map(Some),
            None => Some(None),
        };
        let credential = Credential { source: source?, attach: attach?, bind, expose: expose? };
        for problem in credential.problems() {
            self.report_credential(written, problem, place);
        }
        Some(credential)
    }

    /// Says what is wrong where it stands.
    fn report_credential(&mut self, written: &written::Credential, problem: CredentialProblem, place: &Place<'_>) {
        let (bind, attach) = (place.key("bind"), place.key("attach"));
        let (hosts, placeholder) = (bind.key("hosts"), attach.key("placeholder"));
        let (headers, fields) = (placeholder.key("headers"), placeholder.key("fields"));
        let swapped = match &written.attach {
            written::Attach::Form(form) => form.placeholder.as_ref(),
            written::Attach::Word(_) => None,
        };
        let at = |index: Option<usize>| index.unwrap_or(0);
        let expose = place.key("expose");
        let found = Problem::Credential(problem.clone());
        match &problem {
            CredentialProblem::NoHosts => self.report(&hosts, found),
            CredentialProblem::TooWide(pattern) => {
                let is = |text: &String| parts::host(text).is_ok_and(|host| host == *pattern);
                self.report(&hosts.index(at(written.bind.hosts.iter().position(is))), found);
            }
            // Said when the bindings were read.
            CredentialProblem::PathGlob { .. } => {}
            CredentialProblem::NoKeys
            | CredentialProblem::KeysSent
            | CredentialProblem::NoCertificate
            | CredentialProblem::CertificateSent => self.report(&attach, found),
            CredentialProblem::NoPlaceholder | CredentialProblem::NowhereToSwap => self.report(&placeholder, found),
            CredentialProblem::Header(name) => match swapped {
                Some(swapped) => {
                    let index = swapped.headers.iter().position(|header| header.eq_ignore_ascii_case(name));
                    self.report(&headers.index(at(index)), found);
                }
                None => self.report(&attach.key("header"), found),
            },
            CredentialProblem::Format(_) => self.report(&attach.key("format"), found),
            CredentialProblem::FieldPath(path) => {
                let index = swapped.and_then(|swapped| swapped.fields.iter().position(|field| field.path == *path));
                self.report(&fields.index(at(index)).key("path"), found);
            }
            CredentialProblem::ExposedCertificate
            | CredentialProblem::ExposedKeys
            | CredentialProblem::ExposedNowhere => self.report(&expose, found),
        }
    }

    fn bind(&mut self, written: &written::Bind, place: &Place<'_>) -> Bind {
        let hosts = self.each(&written.hosts, &place.key("hosts"), parts::host);
        let methods = self.each(&written.methods, &place.key("methods"), parts::method);
        let paths = self.each(&written.paths, &place.key("paths"), parts::path_glob);
        let ports = match &written.ports {
            Some(ports) if ports.as_slice().is_empty() => {
                let what = "no port is named, so that of the rule, or 443, would do".to_owned();
                self.report(&place.key("ports"), Problem::Contradiction { what, hint: Some("leave out `ports`") });
                Vec::new()
            }
            Some(ports) => self.port_list(ports, &place.key("ports")),
            None => Vec::new(),
        };
        let sandboxes = (!written.sandboxes.is_empty()).then(|| LabelSelector(written.sandboxes.clone()));
        Bind { hosts, methods, paths, ports, sandboxes }
    }

    fn attach(&mut self, written: &written::Attach, place: &Place<'_>) -> Option<Attach> {
        let form = match written {
            written::Attach::Word(written::AttachWord::Bearer) => return Some(Attach::Bearer),
            written::Attach::Word(written::AttachWord::ClientCertificate) => return Some(Attach::ClientCertificate),
            written::Attach::Form(form) => form,
        };
        let there = [
            ("basic", form.basic.is_some()),
            ("header", form.header.is_some()),
            ("query", form.query.is_some()),
            ("cookie", form.cookie.is_some()),
            ("sigv4", form.sigv4.is_some()),
            ("placeholder", form.placeholder.is_some()),
        ];
        let key = self.only_one("`attach`", &there, place)?;
        if form.format.is_some() && key != "header" {
            let what = "`format` belongs to `header`".to_owned();
            self.report(&place.key("format"), Problem::Contradiction { what, hint: None });
        }
        let here = place.key(key);
        if let Some(basic) = &form.basic {
            let fine = !basic.username.contains(':') && !basic.username.chars().any(char::is_control);
            let username = self.fitting(fine, &basic.username, "user name of HTTP Basic", &here.key("username"))?;
            return Some(Attach::Basic { username });
        }
        if let Some(name) = &form.header {
            let format = form.format.as_deref().unwrap_or(VALUE).to_owned();
            return Some(Attach::Header { name: self.header_name(name, &here)?, format });
        }
        if let Some(name) = &form.query {
            let fine = !name.is_empty() && !name.chars().any(char::is_control);
            return Some(Attach::Query { name: self.fitting(fine, name, "parameter of a query", &here)? });
        }
        if let Some(name) = &form.cookie {
            return Some(Attach::Cookie {
                name: self.fitting(parts::is_token(name), name, "name of a cookie", &here)?,
            });
        }
        if let Some(sigv4) = &form.sigv4 {
            let service = self.scope_word(&sigv4.service, "service of AWS", &here.key("service"));
            let region = self.scope_word(&sigv4.region, "region of AWS", &here.key("region"));
            return Some(Attach::SigV4 { service: service?, region: region? });
        }
        form.placeholder.as_ref().and_then(|written| self.placeholder(written, &here))
    }

    fn placeholder(&mut self, written: &written::Placeholder, place: &Place<'_>) -> Option<Attach> {
        let mut headers = Vec::with_capacity(written.headers.len());
        let header_place = place.key("headers");
        for (index, name) in written.headers.iter().enumerate() {
            headers.extend(self.header_name(name, &header_place.index(index)));
        }
        let mut fields = Vec::with_capacity(written.fields.len());
        let field_place = place.key("fields");
        for (index, field) in written.fields.iter().enumerate() {
            fields.extend(self.field(field, &field_place.index(index)));
        }
        let whole = headers.len() == written.headers.len() && fields.len() == written.fields.len();
        whole.then_some(Attach::Placeholder { headers, fields })
    }

    fn field(&mut self, written: &written::PlaceholderField, place: &Place<'_>) -> Option<Field> {
        let method = self.take(&place.key("method"), parts::method(&written.method));
        let there =
            [("query", written.query.is_some()), ("form", written.form.is_some()), ("json", written.json.is_some())];
        if there.iter().any(|(_, there)| *there) {
            self.only_one("a field", &there, place)?;
        }
        let named = |text: &String| !text.is_empty() && !text.chars().any(char::is_control);
        let what = "parameter of a request";
        let place = if let Some(name) = &written.query {
            FieldPlace::Query(self.fitting(named(name), name, what, &place.key("query"))?)
        } else if let Some(name) = &written.form {
            FieldPlace::Form(self.fitting(named(name), name, what, &place.key("form"))?)
        } else if let Some(pointer) = &written.json {
            FieldPlace::Json(self.fitting(is_pointer(pointer), pointer, "JSON Pointer", &place.key("json"))?)
        } else {
            FieldPlace::Path
        };
        Some(Field { method: method?, path: written.path.clone(), place })
    }

    fn expose(&mut self, written: &written::Expose, place: &Place<'_>) -> Option<Expose> {
        let env = match &written.env {
            Some(name) => {
                let fine = parts::is_variable(name);
                Some(self.fitting(fine, name, "name of an environment variable", &place.key("env"))?)
            }
            None => None,
        };
        let format = match written.format {
            Some(written::PlaceholderFormat::Plain) | None => Format::Plain,
            Some(written::PlaceholderFormat::Github) => Format::Github,
            Some(written::PlaceholderFormat::Gitlab) => Format::Gitlab,
            Some(written::PlaceholderFormat::Openai) => Format::Openai,
            Some(written::PlaceholderFormat::Anthropic) => Format::Anthropic,
            Some(written::PlaceholderFormat::Slack) => Format::Slack,
            Some(written::PlaceholderFormat::Aws) => Format::Aws,
            Some(written::PlaceholderFormat::Jwt) => Format::Jwt,
            Some(written::PlaceholderFormat::Google) => Format::Google,
        };
        Some(Expose { env, format })
    }

    /// The one that is written, of which there must be exactly one.
    fn only_one(&mut self, whole: &str, there: &[(&'static str, bool)], place: &Place<'_>) -> Option<&'static str> {
        let mut written = there.iter().filter(|(_, there)| *there).map(|(key, _)| *key);
        let Some(first) = written.next() else {
            let known: Vec<&str> = there.iter().map(|(key, _)| *key).collect();
            let what = format!("{whole} is empty; write one of {}", known.join(", "));
            self.report(place, Problem::Contradiction { what, hint: None });
            return None;
        };
        if let Some(second) = written.next() {
            let what = format!("{whole} is one thing; `{second}` is a second beside `{first}`");
            self.report(&place.key(second), Problem::Contradiction { what, hint: Some("make two credentials of it") });
            return None;
        }
        Some(first)
    }

    /// The text where it is fine, or a finding.
    pub(super) fn fitting(&mut self, fine: bool, text: &str, what: &'static str, place: &Place<'_>) -> Option<String> {
        let text = text.to_owned();
        self.take(place, if fine { Ok(text) } else { Err(Problem::NotA { text, what }) })
    }

    pub(super) fn scope_word(&mut self, text: &str, what: &'static str, place: &Place<'_>) -> Option<String> {
        let fine = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        self.fitting(fine, text, what, place)
    }

    pub(super) fn header_name(&mut self, text: &str, place: &Place<'_>) -> Option<String> {
        self.fitting(parts::is_token(text), text, "name of a header field", place).map(|name| name.to_ascii_lowercase())
    }

    /// The credential that a rule attaches.
    pub(super) fn rule_credential(&mut self, name: &str, place: &Place<'_>) -> Option<CredentialName> {
        if !self.written.credentials.contains_key(name) {
            self.unknown(place, "credential", name, self.written.credentials.keys().map(String::as_str));
            return None;
        }
        self.take(place, parts::name(name, CredentialName::new))
    }

    /// What a rule's credential asks for beside what else the rule says.
    pub(super) fn check_credential(&mut self, rule: &Rule, place: &Place<'_>) {
        let name = rule.credential.as_ref();
        // One that is wrong in itself was said to be.
        let Some(credential) = name.and_then(|name| self.spec.credentials.get(name)) else { return };
        if let Some(misuse) = self.spec.credential_misuse(rule, credential) {
            self.report(&place.key("credential"), Problem::Misuse(misuse));
        }
    }

    /// A credential that no rule attaches does nothing.
    pub(super) fn unused_credentials(&mut self, spec: &Place<'_>) {
        let used: BTreeSet<&str> =
            self.written.rules.iter().filter_map(|rule: &wire::Rule| rule.credential.as_deref()).collect();
        let place = spec.key("credentials");
        for name in self.written.credentials.keys().filter(|name| !used.contains(name.as_str())) {
            let what = format!("no rule attaches the credential {name:?}");
            let hint = Some("name it in a rule: `credential: NAME`");
            self.report(&place.key(name), Problem::Warning { what, hint });
        }
    }

    /// Where a secret may come back that nobody looks for; told of rules that are without errors.
    pub(super) fn unopened_traffic(&mut self, spec: &Place<'_>) {
        if self.findings.iter().any(|finding| !matches!(finding.problem, Problem::Warning { .. })) {
            return;
        }
        let rules = spec.key("rules");
        for unopened in self.spec.unopened() {
            let own = self.written.rules.iter().position(|rule| rule.name == unopened.rule.as_str());
            let hint = Some(
                "put the rule behind one that attaches the credential, without `tls: passthrough`, and with `ports: [443]`",
            );
            let problem = Problem::Warning { what: unopened.to_string(), hint };
            match own {
                Some(index) => self.report(&rules.index(index).key("to"), problem),
                None => self.report(&spec.key("preset"), problem),
            }
        }
    }
}

/// Whether a text is a JSON Pointer (RFC 6901) to something in a document.
fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    text.starts_with('/') && escapes && !text.chars().any(char::is_control)
}
