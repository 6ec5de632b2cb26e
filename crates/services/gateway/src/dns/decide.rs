//! What is done about a question.
//!
//! [`DnsContext::first`] does all that needs no waiting: it reads, judges, and answers from what is known. Only a name
//! that must be asked for upstream comes back as [`First::Upstream`], to be finished by
//! [`DnsContext::finish`]. An answer stands in the buffer before it may leave: the caller records its event first.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use audit_event::{Event, bounded};
use jiff::Timestamp;
use policy::{Guard, HostName, NameAnswer, NameDecision, QueryType, Verdict};
use smallvec::SmallVec;

use wire::dns::{
    question::{Parsed, Question, ResponseCode, parse, type_text},
    reply::{self, Transport},
};

use super::{
    DnsContext,
    case::{Case, of_type, write},
    repeat::{Known, Place, Repeats},
};
use crate::{
    in_force::InForce,
    metadata,
    resolve::{Asked, DnsRecord, Found, Rate, ResolveError, guarded, is_host},
};

/// The rule under which names of the sandbox's own loopback are recorded (RFC 6761, 6.3).
const LOCALHOST_RULE: &str = "local:localhost";
/// How long the sandbox may keep a local or synthetic answer.
const LOCAL_TTL: u32 = 5;
/// The longest name in a record.
const NAME_LIMIT: usize = 255;

/// What the first look at a message led to.
#[derive(Debug)]
pub(super) enum First {
    /// It gets no answer.
    Nothing,
    /// The answer is in the buffer; its event goes first. No event: that was told already.
    Answer(Option<Event>),
    /// The answer is in the buffer; the event that goes first is kept with the answers that are given again.
    Again(Place),
    /// The name is to be asked for.
    Upstream(Box<Pending>),
}

/// A question that waits for upstream.
#[derive(Debug)]
pub(super) struct Pending {
    message: Vec<u8>,
    in_force: Arc<InForce>,
    decision: NameDecision,
    name: HostName,
    transport: Transport,
    started: Instant,
}

impl DnsContext {
    /// Before a batch of messages.
    pub(super) fn begin(&self, repeats: &mut Repeats) {
        repeats.begin(&self.policy.load());
    }

    /// Reads and judges a message, and answers it where nothing has to be waited for.
    pub(super) fn first(
        &self,
        message: &[u8],
        transport: Transport,
        repeats: Option<&mut Repeats>,
        out: &mut Vec<u8>,
    ) -> First {
        let started = Instant::now();
        let in_force = self.policy.load();
        let question = match parse(message) {
            Parsed::Ignore => return First::Nothing,
            Parsed::Question(question) => question,
            Parsed::Reject { head, question, code, reason } => {
                return match self.rate(&in_force, started) {
                    Some(crossed) => {
                        reply::headless(out, head, ResponseCode::Refused);
                        First::Answer(crossed.map(|reason| {
                            self.turned_away(
                                &in_force,
                                question,
                                Guard::DnsLimit,
                                reason,
                                ResponseCode::Refused,
                                started,
                            )
                        }))
                    }
                    None => {
                        match &question {
                            Some(question) => reply::bare(out, question, code),
                            None => reply::headless(out, head, code),
                        }
                        let event =
                            self.turned_away(&in_force, question, Guard::Malformed, reason.to_owned(), code, started);
                        First::Answer(Some(event))
                    }
                };
            }
        };
        let case = Case { in_force: &in_force, question, transport, started };
        if let Some(crossed) = self.rate(&in_force, started) {
            let code = case.refusal();
            reply::bare(out, &question, code);
            return First::Answer(
                crossed
                    .map(|reason| self.turned_away(&in_force, Some(question), Guard::DnsLimit, reason, code, started)),
            );
        }
        let Some(repeats) = repeats else { return self.judge(&case, message, None, out) };
        if let Some((place, known)) = repeats.find(&in_force, &case.question, started) {
            self.give(&case, known, started, out);
            repeats.took(place, started);
            return First::Again(place);
        }
        self.judge(&case, message, Some(repeats), out)
    }

    /// Finishes a question that upstream had to be asked for: the answer, its record written.
    pub(super) async fn finish(&self, pending: Pending) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let event = self.second(pending, &mut out).await;
        if self.record(event).await { out } else { reply::withheld(&out) }
    }

    /// Writes an event; false where an answer must not leave.
    pub(super) async fn record(&self, event: Option<Event>) -> bool {
        let Some(event) = event else { return true };
        match self.audit.record(event).await {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, "a DNS answer is withheld: its record could not be written");
                false
            }
        }
    }

    /// Writes events at once; false for those whose answer must not leave.
    pub(super) async fn record_all<'e>(&self, events: impl IntoIterator<Item = &'e Event>) -> Vec<bool> {
        let recorded = self.audit.record_all(events).await;
        if let Some(error) = recorded.iter().find_map(|one| one.as_ref().err()) {
            tracing::error!(%error, "DNS answers are withheld: their records could not be written");
        }
        recorded.iter().map(Result::is_ok).collect()
    }

    /// Asks upstream. No event: what there is to tell is told.
    async fn second(&self, pending: Pending, out: &mut Vec<u8>) -> Option<Event> {
        let Parsed::Question(question) = parse(&pending.message) else { return None };
        let Pending { in_force, decision, name, transport, started, .. } = &pending;
        let case = Case { in_force, question, transport: *transport, started: *started };
        let asked = Asked {
            in_force,
            decision,
            route: decision.route.as_ref(),
            name,
            record: question.record(),
            started: *started,
        };
        match self.names.ask(asked).await {
            Ok(found) => Some(self.answer(&case, decision, name, &found, out).0),
            Err(ResolveError::Bound(_)) => {
                reply::bare(out, &question, case.refusal());
                None
            }
            Err(ResolveError::Record(_)) => {
                reply::bare(out, &question, ResponseCode::ServFail);
                None
            }
            Err(error) => Some(self.fail(&case, decision, name, &error, out)),
        }
    }

    /// Whether the question is over the rate; then what there is to tell.
    #[expect(clippy::option_option, reason = "over the rate or not, and then told or not: two questions")]
    fn rate(&self, in_force: &InForce, now: Instant) -> Option<Option<String>> {
        match self.names.count_question(&in_force.policy, now) {
            Rate::Within => None,
            Rate::Tell(crossed) => Some(Some(crossed.to_string())),
            Rate::Told => {
                self.tally.refused("dns", None, Guard::DnsLimit.as_str());
                Some(None)
            }
        }
    }

    fn judge(&self, case: &Case<'_>, message: &[u8], repeats: Option<&mut Repeats>, out: &mut Vec<u8>) -> First {
        let question = &case.question;
        let Some(text) = question.name() else {
            return First::Answer(Some(self.malformed(case, "the name holds what no host name can", out)));
        };
        if is_localhost(text.as_str()) {
            return First::Answer(Some(self.localhost(case, text.as_str(), out)));
        }
        let name = match HostName::parse(text.as_str()) {
            Ok(name) => name,
            Err(error) => return First::Answer(Some(self.malformed(case, &error.to_string(), out))),
        };
        let InForce { policy, source, .. } = &**case.in_force;
        if let Some(address) = metadata::address_of(&policy.spec().metadata_service, &name) {
            return First::Answer(Some(self.metadata(case, &name, address, out)));
        }
        let record = question.record();
        let mut decision = policy.judge_name(source, &name, record, Timestamp::now());
        if matches!(record, QueryType::Other(_)) && decision.answer != NameAnswer::Refuse {
            // No rule opens another type; that a policy ever says so must not send a query.
            decision = guarded(Guard::DnsLimit.rule_name(), "this record type is answered for no name");
        }
        match decision.answer {
            NameAnswer::Refuse => First::Answer(Some(self.refuse(case, &decision, &name, out))),
            NameAnswer::Synthetic => First::Answer(Some(self.stand_in(case, &decision, &name, out))),
            NameAnswer::Resolve if is_host(&name) => First::Answer(Some(self.stand_in(case, &decision, &name, out))),
            NameAnswer::Resolve => {
                match self.names.cached(policy, decision.route.as_ref(), &name, record, case.started) {
                    Some(Ok(found)) => {
                        let (event, known) = self.answer(case, &decision, &name, &found, out);
                        match (known, repeats) {
                            (Some(known), Some(repeats)) if repeats.takes(case.in_force, &known) => {
                                First::Again(repeats.keep(&case.question, known, event))
                            }
                            (Some(_) | None, _) => First::Answer(Some(event)),
                        }
                    }
                    Some(Err(error)) => First::Answer(Some(self.fail(case, &decision, &name, &error, out))),
                    None => First::Upstream(Box::new(Pending {
                        message: message.to_vec(),
                        in_force: Arc::clone(case.in_force),
                        decision,
                        name,
                        transport: case.transport,
                        started: case.started,
                    })),
                }
            }
        }
    }

    /// Answers with what was found; what the answer was made of, where it was not refused.
    fn answer(
        &self,
        case: &Case<'_>,
        decision: &NameDecision,
        name: &HostName,
        found: &Arc<Found>,
        out: &mut Vec<u8>,
    ) -> (Event, Option<Known>) {
        let policy = &case.in_force.policy;
        let admitted = found.admitted(policy.revision(), |address| {
            policy.admits_answer(&case.in_force.source, name, address, Timestamp::now())
        });
        if let (Some(address), true) = (admitted.kept_back, admitted.passed.is_empty()) {
            let (rule, reason) = case.why_kept_back(decision, address);
            return (self.refuse(case, &guarded(rule, reason), name, out), None);
        }
        let known = Known { name: name.clone(), found: Arc::clone(found), admitted };
        let code = self.give(case, &known, Instant::now(), out);
        let mut record = case.record(decision, name.as_str(), code);
        if let Some(address) = known.admitted.kept_back {
            let (_, why) = case.why_kept_back(decision, address);
            record.reason = Cow::Owned(format!("{}; left out {why}", decision.reason));
        }
        record.answers = &known.admitted.passed;
        (record.event(), Some(known))
    }

    /// Binds and writes what is known.
    fn give(&self, case: &Case<'_>, known: &Known, now: Instant, out: &mut Vec<u8>) -> ResponseCode {
        let Known { name, found, admitted } = known;
        self.names.bind(name, found, &admitted.passed, now);
        let code = if found.answer.exists { ResponseCode::NoError } else { ResponseCode::NxDomain };
        write(out, case, code, &admitted.passed, &found.answer.records, found.ttl(now));
        self.tally.answered();
        code
    }

    /// Answers a name that nobody may be asked about yet with an address that stands for it.
    fn stand_in(&self, case: &Case<'_>, decision: &NameDecision, name: &HostName, out: &mut Vec<u8>) -> Event {
        let (four, six) = self.names.synthetic_addresses(name);
        let addresses = of_type(case.question.record(), four, six);
        write(out, case, ResponseCode::NoError, &addresses, &[], LOCAL_TTL);
        self.tally.answered();
        let mut record = case.record(decision, name.as_str(), ResponseCode::NoError);
        record.answers = &addresses;
        record.event()
    }

    /// The name of Google Cloud's metadata service, in place of which the gateway answers.
    fn metadata(&self, case: &Case<'_>, name: &HostName, address: Ipv4Addr, out: &mut Vec<u8>) -> Event {
        let is_a = case.question.record() == QueryType::A;
        let addresses: SmallVec<[IpAddr; 4]> = is_a.then_some(IpAddr::V4(address)).into_iter().collect();
        write(out, case, ResponseCode::NoError, &addresses, &[], LOCAL_TTL);
        self.tally.answered();
        let reason = "the gateway answers there itself";
        let decision = NameDecision { answer: NameAnswer::Resolve, ..guarded(metadata::name_rule(), reason) };
        let mut record = case.record(&decision, name.as_str(), ResponseCode::NoError);
        record.answers = &addresses;
        record.event()
    }

    /// The sandbox's own loopback.
    fn localhost(&self, case: &Case<'_>, name: &str, out: &mut Vec<u8>) -> Event {
        let addresses = of_type(case.question.record(), Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        write(out, case, ResponseCode::NoError, &addresses, &[], LOCAL_TTL);
        self.tally.answered();
        DnsRecord {
            revision: case.in_force.policy.revision(),
            verdict: Some(Verdict::Allowed),
            rule: LOCALHOST_RULE,
            reason: Cow::Borrowed("the sandbox's own loopback"),
            would: &[],
            name: Cow::Borrowed(name),
            record_type: type_text(case.question.number),
            answers: &addresses,
            response: ResponseCode::NoError.text(),
            route: None,
            duration: case.started.elapsed(),
            error: None,
        }
        .event()
    }

    fn refuse(&self, case: &Case<'_>, decision: &NameDecision, name: &HostName, out: &mut Vec<u8>) -> Event {
        let code = case.refusal();
        reply::bare(out, &case.question, code);
        self.tally.refused(&format!("dns {name}"), Some(case.question.record()), decision.rule.as_str());
        case.record(decision, name.as_str(), code).event()
    }

    fn malformed(&self, case: &Case<'_>, reason: &str, out: &mut Vec<u8>) -> Event {
        let code = case.refusal();
        reply::bare(out, &case.question, code);
        self.turned_away(case.in_force, Some(case.question), Guard::Malformed, reason.to_owned(), code, case.started)
    }

    /// Upstream failed, or we did.
    fn fail(
        &self,
        case: &Case<'_>,
        decision: &NameDecision,
        name: &HostName,
        error: &ResolveError,
        out: &mut Vec<u8>,
    ) -> Event {
        reply::bare(out, &case.question, ResponseCode::ServFail);
        let mut record = case.record(decision, name.as_str(), ResponseCode::ServFail);
        record.verdict = None;
        record.error = Some(error.report());
        record.event()
    }

    /// The event of a message that no policy judged.
    fn turned_away(
        &self,
        in_force: &InForce,
        question: Option<Question<'_>>,
        guard: Guard,
        reason: String,
        code: ResponseCode,
        started: Instant,
    ) -> Event {
        let name = question.map_or_else(String::new, |question| bounded(&question.escaped_name(), NAME_LIMIT));
        self.tally.refused(&format!("dns {name}"), question.map(|question| question.record()), guard.as_str());
        DnsRecord {
            revision: in_force.policy.revision(),
            verdict: Some(Verdict::Denied),
            rule: guard.as_str(),
            reason: Cow::Owned(reason),
            would: &[],
            name: Cow::Owned(name),
            record_type: question.map_or_else(String::new, |question| type_text(question.number)),
            answers: &[],
            response: code.text(),
            route: None,
            duration: started.elapsed(),
            error: None,
        }
        .event()
    }
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}
