//! A request inside opened TLS, judged and recorded, and a connection to its server: nothing of it was sent yet.

use std::{borrow::Cow, net::IpAddr, rc::Rc, sync::Arc};

use audit_log::Recorded;
use policy::{Guard, HostName, Layer, Permit};
use smallvec::SmallVec;
use wire::{
    form::MethodField,
    http_head::{Framing, RequestHead},
};

use super::{
    arriving::Arriving,
    connection::Connection,
    lines::{Destination, Line, Place},
    strict::Read,
    upstream::{ReachError, Shown},
};
use crate::{
    budget::Room,
    credential::{self, Along, Carried, NoSecret, RequestBody, Wanted},
    decide::{self, Limits},
    establish::{self, Going, Refusal},
    flow::{Flow, OpenFlow},
    in_force::InForce,
    readings,
    refuse::{self, Status},
    rewrite,
    shared::Shared,
};

/// A request that may go on, and what is kept of it.
pub(super) struct Ready {
    pub(super) permit: Permit,
    pub(super) recorded: Recorded,
    pub(super) open: Box<OpenFlow>,
    pub(super) in_force: Arc<InForce>,
    pub(super) room: Arc<Room>,
    pub(super) line: Line,
    pub(super) along: Along,
    pub(super) body: RequestBody,
    /// What the body is read along for.
    pub(super) form: Option<Box<MethodField>>,
}

/// Why it does not.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// The status of a denial.
    pub(super) status: Status,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::Denied(decision, _) if decision.reason == refuse::TOO_LONG => Status::TooLong,
            Refusal::Denied(..) | Refusal::Unreachable(..) | Refusal::Unrecorded | Refusal::Gone => Status::Forbidden,
        };
        Self { refusal, status }
    }
}

/// Judges a request and finds a way to its server. Nothing of it was sent yet.
pub(super) async fn prepare(
    connection: &Rc<Connection>,
    head: Read,
    body: Arriving,
) -> Result<(Ready, Box<RequestHead>), Refused> {
    let shared = &connection.worker.shared;
    let mut flow = connection.flow();
    let head = match head {
        Ok(head) => head,
        Err((layer, reason)) => {
            let refusal =
                Box::pin(establish::refuse_by_guard(shared, &mut flow, Guard::Malformed, layer, reason)).await;
            return Err(Refused { refusal, status: Status::BadRequest });
        }
    };
    connection.see(&mut flow, &head);
    if !connection.is_for(&head) {
        let reason = format!("the TLS is for {}, the request for {}", connection.host, head.authority.host);
        let refusal =
            Box::pin(establish::refuse_by_guard(shared, &mut flow, Guard::Binding, Layer::Http, reason)).await;
        return Err(Refused { refusal, status: Status::Misdirected });
    }
    let going = judge(connection, &mut flow, &head).await;
    connection.keep_process(&flow);
    let going = going?;
    // Judged with the request: the form can be read.
    let form = MethodField::of(&head).ok().flatten().map(Box::new);
    let policy = &going.judged.in_force.policy;
    let head = match rewrite::as_sent(&head, policy.request_changes(&going.judged.decision.rule)) {
        Some(Cow::Owned(sent)) => Box::new(sent),
        Some(Cow::Borrowed(_)) => head,
        // Judged with the request. Should it come here all the same, it goes nowhere.
        None => {
            let (guard, layer, reason) = (Guard::Malformed, Layer::Http, rewrite::TWO_READINGS);
            return Err(Box::pin(establish::refuse_by_guard(shared, &mut flow, guard, layer, reason)).await.into());
        }
    };
    let ready = reach(connection, flow, going, &head, body).await?;
    Ok((Ready { form, ..ready }, head))
}

async fn judge(connection: &Connection, flow: &mut Flow, head: &RequestHead) -> Result<Going, Refusal> {
    let shared = &connection.worker.shared;
    let judged = decide::judge(shared, flow, &connection.readings, Limits::default()).await;
    let judged = judged
        .unwrap_or_else(|| decide::denied(shared, Guard::Malformed, Layer::Http, "the policy came to no decision"));
    // Here every request was opened to be judged, whatever the rule that decides looks at.
    flow.judged_by_request = true;
    let judged = readings::hold_to_request(shared, flow, head, judged);
    establish::go(shared, flow, &connection.readings, judged).await
}

/// A connection to the server of a recorded request.
async fn reach(
    connection: &Rc<Connection>,
    flow: Flow,
    going: Going,
    head: &RequestHead,
    body: Arriving,
) -> Result<Ready, Refusal> {
    let shared = &connection.worker.shared;
    let Going { permit, recorded, judged, approved } = going;
    let mut open = establish::open_flow(shared, flow, &judged, approved, std::time::Instant::now());
    let (host, addresses) = match goes_to(connection, &judged).await {
        Ok(place) => place,
        Err(error) => return Err(establish::unreachable(shared, &open, Status::BadGateway, error).await),
    };
    let host = &host;
    let Some(inspector) = &shared.inspector else {
        let error = "gateway: TLS is not opened here".to_owned();
        return Err(establish::unreachable(shared, &open, Status::BadGateway, error).await);
    };
    let room = match inspector.rooms().of_request(head, &body).await {
        Ok(room) => room,
        Err(error) => return Err(establish::unreachable(shared, &open, Status::Unavailable, error.to_string()).await),
    };
    let wanted = Wanted { permit: &permit, in_force: &judged.in_force, flow: open.id, host, head };
    let (along, body, shown) = match obtain(shared, wanted, body).await {
        Ok(obtained) => obtained,
        Err(error) => {
            let said = (error.to_string(), error.for_sandbox());
            return Err(establish::unreachable_told(shared, &open, error.status(), said).await);
        }
    };
    open.credential = along.secret.as_ref().map(|secret| secret.key().0);
    let policy = &judged.in_force.policy;
    let roots = judged.in_force.roots(&judged.decision.rule);
    if let Some((path, None)) = roots {
        let error = format!("the bundle of roots {} was not read", path.display());
        let told = "the bundle of roots that the rule names was not read".to_owned();
        return Err(establish::unreachable_told(shared, &open, Status::BadGateway, (error, told)).await);
    }
    let error = match policy.route(judged.decision.route.as_ref()) {
        Some(route) => {
            let place = Place {
                host: host.clone(),
                port: connection.port,
                route: route.clone(),
                credential: along.secret.as_ref().map(Carried::key),
                roots: roots.map(|(path, _)| path.to_owned()),
                revision: policy.revision(),
            };
            let to = Destination {
                place,
                addresses: &addresses,
                shown: shown.as_ref(),
                roots: roots.and_then(|(_, roots)| roots),
                protocols: connection.protocols,
                timeout: shared.settings.connect_timeout,
                repeatable: has_no_effect(head),
            };
            let hold = |host: &HostName, address| shared.names.hold(host, address);
            match connection.lines.reach(&connection.worker.inspected.pool, inspector, &to, hold).await {
                Ok(line) => {
                    let (mut open, mut line) = (open, line);
                    line.note(head);
                    open.facts.address = policy::Fact::Known(line.address);
                    let in_force = judged.in_force;
                    return Ok(Ready { permit, recorded, open, in_force, room, line, along, body, form: None });
                }
                Err(error) => error,
            }
        }
        None => ReachError::Own("the policy has no such route".to_owned()),
    };
    Err(establish::unreachable(shared, &open, error.status(), error.to_string()).await)
}

/// The host that a request goes to, and its addresses: its own, or the one that the rule sends it to.
async fn goes_to(
    connection: &Connection,
    judged: &decide::Judged,
) -> Result<(HostName, SmallVec<[IpAddr; 4]>), String> {
    let rule = &judged.decision.rule;
    match judged.in_force.policy.request_changes(rule).and_then(|changes| changes.host.as_ref()) {
        Some(host) => {
            let addresses = rewrite::addresses(&connection.worker.shared, judged, host, rule).await?;
            Ok((host.clone(), addresses))
        }
        None => Ok((connection.host.clone(), judged.addresses.clone())),
    }
}

/// The secret that the permit names, where it names one, and what is shown to the server because of it.
async fn obtain(
    shared: &Shared,
    wanted: Wanted<'_>,
    body: Arriving,
) -> Result<(Along, RequestBody, Option<Shown>), NoSecret> {
    let (along, body) = credential::obtain(shared, wanted, body).await?;
    let shown = match &along.secret {
        Some(secret) => secret.certificate()?.map(|certificate| Shown { id: secret.key().1, certificate }),
        None => None,
    };
    Ok((along, body, shown))
}

/// Whether a request may be sent twice where nobody knows if the first was taken up (RFC 9110, 9.2.2).
pub(super) fn has_no_effect(head: &RequestHead) -> bool {
    matches!(head.method.as_str(), "GET" | "HEAD" | "OPTIONS") && !head.websocket && head.framing == Framing::Empty
}
