//! One connection that is answered here: heads in, answers out, each recorded before it is given.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use audit_event::{EndedBy, Process};
use jiff::Timestamp;
use policy::{Decision, Fact, Guard, Layer, NameSource, NamedHost, Target, Verdict, model::metadata_service::Cloud};
use tokio::time::Instant;
use values::Revision;
use wire::http_head::{self, Head, RequestHead};

use super::{
    answer::Answer,
    open::Connection,
    place::Place,
    rate::Turn,
    service::{self, Scene},
};
use crate::{
    decide::{self, Judged},
    establish::{self, Refusal},
    flow::{Counted, Ends, Flow},
    in_force::InForce,
    record::{self, Said},
    refuse::{self, Status},
    shared::Shared,
    socket::Socket,
    worker::Worker,
};

/// The longest head of a request.
const HEAD_LIMIT: usize = 16 * 1024;
/// Why a request of a flood is refused.
const TOO_MANY: &str = "too many requests to the metadata service";
/// How long a connection may rest between requests, and an answer wait for its reader.
const REST: Duration = Duration::from_secs(15);

/// The place that a connection of the sandbox goes to, where the policy answers there.
pub(crate) fn place(shared: &Shared, target: &Target, port: u16) -> Option<Place> {
    let in_force = shared.policy.load();
    let service = &in_force.policy.spec().metadata_service;
    if service.is_empty() { None } else { Place::of(service, target, port) }
}

/// Answers the requests of a connection until its end; `bytes` are there already. `first` is one that was read before, of
/// a client that asks a proxy: then it is the only one.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    stream: Socket,
    bytes: Vec<u8>,
    first: Option<&RequestHead>,
    flow: Flow,
    place: Place,
) {
    let (number, connection) = worker.metadata.add(place);
    let mut client = Client {
        worker: Rc::clone(worker),
        connection: Rc::clone(&connection),
        stream,
        bytes,
        place,
        id: flow.id,
        ends: Ends { client: flow.client, server: flow.server },
        port: flow.facts.port,
        original: flow.facts.original,
        process: flow.process.clone(),
    };
    let by = tokio::select! {
        biased;
        () = connection.closed.notified() => EndedBy::Policy,
        by = client.requests(first) => by,
    };
    worker.record_end(worker.metadata.remove(number, by)).await;
    match by {
        EndedBy::Policy | EndedBy::Bound => client.stream.reset(),
        EndedBy::Client | EndedBy::Server | EndedBy::Finished | EndedBy::Shutdown | EndedBy::Unreachable => {}
    }
    // Counted as open until here.
    drop(flow);
}

/// A connection.
struct Client {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    stream: Socket,
    /// Read, and not looked at.
    bytes: Vec<u8>,
    place: Place,
    id: u64,
    ends: Ends,
    port: u16,
    original: Option<SocketAddr>,
    process: Option<Process>,
}

/// What a client sent next.
enum Next {
    Request(Box<RequestHead>),
    Malformed(&'static str),
    Ended(EndedBy),
}

/// What a request is answered.
struct Reply {
    decision: Decision,
    message: Vec<u8>,
    /// Whether it is the last.
    closes: bool,
}

impl Client {
    async fn requests(&mut self, first: Option<&RequestHead>) -> EndedBy {
        if let Some(head) = first {
            return self.answer(head, true).await.unwrap_or(EndedBy::Finished);
        }
        loop {
            match self.next().await {
                Next::Request(head) => {
                    let closes = !head.version_1_1 || asks_to_close(&head);
                    if let Some(by) = self.answer(&head, closes).await {
                        return by;
                    }
                }
                Next::Malformed(reason) => {
                    let (shared, mut flow) = (&self.worker.shared, self.flow());
                    let refused = establish::refuse_by_guard(shared, &mut flow, Guard::Malformed, Layer::Http, reason);
                    if let Refusal::Denied(decision, revision) = refused.await {
                        self.last(&refuse::denial(&decision, revision, Status::BadRequest, "")).await;
                    }
                    return EndedBy::Finished;
                }
                Next::Ended(by) => return by,
            }
        }
    }

    /// Reads the head of a request.
    async fn next(&mut self) -> Next {
        let mut deadline = Instant::now() + REST;
        let mut is_begun = false;
        loop {
            if !self.bytes.is_empty() {
                match http_head::read(&self.bytes, HEAD_LIMIT, false) {
                    Head::Incomplete => {}
                    Head::Malformed(reason) => return Next::Malformed(reason),
                    Head::NotHttp | Head::Http2 => return Next::Malformed("a metadata service speaks HTTP/1.1"),
                    Head::Complete(head, used) => {
                        self.bytes.drain(..used);
                        return Next::Request(head);
                    }
                }
                if !std::mem::replace(&mut is_begun, true) {
                    deadline = Instant::now() + self.worker.shared.settings.sniff_timeout;
                }
            }
            match tokio::time::timeout_at(deadline, self.stream.read(&mut self.bytes)).await {
                Ok(Ok(0)) if self.bytes.is_empty() => return Next::Ended(EndedBy::Finished),
                Ok(Ok(0)) => return Next::Malformed("a request that ends too early"),
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Next::Ended(EndedBy::Client),
                Err(_) if self.bytes.is_empty() => return Next::Ended(EndedBy::Bound),
                Err(_) => return Next::Malformed("a request that took too long"),
            }
        }
    }

    /// Answers one request; how the connection ends, where it does.
    async fn answer(&mut self, head: &RequestHead, closes: bool) -> Option<EndedBy> {
        let worker = Rc::clone(&self.worker);
        let shared = &worker.shared;
        let in_force = shared.in_force();
        let mut flow = self.flow();
        flow.see_request(head);
        if let Target::Name(name) = &head.authority.host {
            flow.facts.name = Fact::Known(NamedHost { name: name.clone(), source: NameSource::HttpHost });
        }
        let turn = shared.metadata.rate.turn(std::time::Instant::now());
        if turn == Turn::Told {
            shared.tally.denied_untold(1, &flow.what(), Guard::Metadata.as_str());
            self.last(&refuse::failure(Status::TooMany, TOO_MANY)).await;
            return Some(EndedBy::Finished);
        }
        let Reply { decision, message, closes } = self.reply(head, &in_force, turn, &flow.what(), closes);
        if flow.process.is_none() {
            decide::learn_process(shared, &mut flow).await;
            self.process.clone_from(&flow.process);
        }
        let revision = in_force.policy.revision();
        if let Err(error) = record::decided(shared, &flow, &decision, revision, Said::default()).await {
            tracing::error!(%error, "a decision could not be recorded: nothing is answered");
            shared.tally.error();
            let error = "the gateway can't write its record, so nothing is answered";
            self.last(&refuse::failure(Status::Unavailable, error)).await;
            return Some(EndedBy::Finished);
        }
        if decision.verdict == Verdict::Allowed && !self.connection.was_answered() {
            self.note_answered(flow, decision, in_force);
        }
        if closes {
            self.last(&message).await;
            return Some(EndedBy::Finished);
        }
        match tokio::time::timeout(REST, self.stream.write_all(&message)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(EndedBy::Client),
            Err(_) => Some(EndedBy::Bound),
        }
    }

    /// What a request is answered, and the decision behind it.
    fn reply(&self, head: &RequestHead, in_force: &InForce, turn: Turn, what: &str, closes: bool) -> Reply {
        let shared = &self.worker.shared;
        let revision = in_force.policy.revision();
        let scene = Scene {
            placeholders: &shared.metadata.placeholders,
            exposed: &shared.settings.secrets.placeholders,
            sessions: &shared.metadata.sessions,
            now: Timestamp::now(),
        };
        let answered = match turn {
            Turn::Within => service::answer(&in_force.policy.spec().metadata_service, self.place, head, &scene),
            Turn::Tell | Turn::Told => Err((Status::TooMany, TOO_MANY)),
        };
        match answered {
            Ok((cloud, answer)) => {
                let decision = decided(cloud, &answer);
                let answer = if answer.is_given() { answer } else { with_verdict(answer, &decision, revision) };
                Reply { message: answer.write(head.method == "HEAD", closes), decision, closes }
            }
            Err((status, reason)) => {
                let decision = Decision::by_guard(Guard::Metadata, Layer::Http, reason);
                Reply { message: refuse::denial(&decision, revision, status, what), decision, closes: true }
            }
        }
    }

    /// Gives a last answer and closes.
    async fn last(&mut self, message: &[u8]) {
        self.connection.leave();
        refuse::answer(std::mem::replace(&mut self.stream, Socket::Lost), message).await;
    }

    /// What is known of the connection, before a request is.
    fn flow(&self) -> Flow {
        let count = Counted::new(self.worker.shared.tally.clone(), Rc::clone(&self.worker.live));
        let mut flow = Flow::new(self.id, self.ends, self.port, self.original, count);
        flow.facts.name = Fact::Absent;
        flow.facts.tls = Fact::Absent;
        // Nothing is dialled: there is no address but the one that the client dialled.
        flow.facts.address = Fact::Absent;
        flow.process.clone_from(&self.process);
        flow
    }

    fn note_answered(&self, flow: Flow, decision: Decision, in_force: Arc<InForce>) {
        let judged = Judged { decision, addresses: decide::nowhere(), in_force, failed: None };
        let open = establish::open_flow(&self.worker.shared, flow, &judged, None, std::time::Instant::now());
        self.connection.note_answered(open);
    }
}

/// The decision about a request in place of a cloud's service. It has no permit: nothing is forwarded.
fn decided(cloud: Cloud, answer: &Answer) -> Decision {
    let mut decision = Decision::by_guard(Guard::Metadata, Layer::Http, answer.reason.clone());
    decision.rule = service::rule(cloud);
    if answer.is_given() {
        decision.verdict = Verdict::Allowed;
    }
    decision
}

fn with_verdict(answer: Answer, decision: &Decision, revision: Revision) -> Answer {
    answer.with("Cofferdam-Verdict", format!("denied; rule=\"{}\"; revision={revision}", decision.rule))
}

/// Whether the client says that this is its last request (RFC 9112, 9.6).
fn asks_to_close(head: &RequestHead) -> bool {
    let mut options = head
        .fields
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("connection"))
        .flat_map(|(_, value)| value.split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}
