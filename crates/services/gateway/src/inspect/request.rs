//! One request inside opened TLS: prepared, sent on, answered.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use audit_log::Recorded;
use http::{Request, Response, StatusCode};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::OnUpgrade,
};
use policy::{Decision, HostName, Permit};
use wire::http_head::{Framing, RequestHead};

use super::{
    arriving::Arriving,
    body::{Answer, Download, Upload},
    connection::Connection,
    expiry::Expiry,
    head,
    lines::{Line, Sender},
    preparing::{Ready, Refused, has_no_effect, prepare},
    strict::{Heads, Read},
    under_way::{ANSWER_TOO_LONG, Side, UnderWay},
    websocket::{self, Agreed},
};
use crate::{
    credential::{self, Along, Carried, Echo, EchoError},
    decide,
    establish::{self, Refusal},
    flow::OpenFlow,
    in_force::InForce,
    refuse::{self, Status},
    rejudge::{self, Look},
    report::report,
};

/// Answers one request.
pub(super) async fn answer(
    connection: Rc<Connection>,
    head: Read,
    request: Request<Incoming>,
    heads: Option<Arc<Heads>>,
) -> Response<Answer> {
    let mut request = request;
    let is_http1 = heads.is_some();
    let host = connection.host.to_string();
    let tunnel = match &head {
        Ok(head) if head.websocket => heads.map(|heads| (heads, hyper::upgrade::on(&mut request))),
        Ok(_) | Err(_) => None,
    };
    let bare = head.as_ref().is_ok_and(|head| head.method == "HEAD");
    let unanswered = Unanswered::new(&connection);
    let waits = tunnel.as_ref().map(|(heads, _)| Arc::clone(heads));
    let body = Arriving::new(request.into_body());
    let rest = (!is_http1).then(|| body.clone());
    let outcome = match prepare(&connection, head, body).await {
        Ok((ready, head)) => forward(&connection, ready, &head, tunnel).await,
        Err(refused) => Err(refused),
    };
    unanswered.answered();
    match outcome {
        Ok(response) => response,
        Err(refused) => {
            if let Some(heads) = waits {
                heads.answer_upgrade(false);
            }
            if let Some(rest) = rest {
                rest.throw_away();
            }
            told(refused, &host, is_http1, bare)
        }
    }
}

/// A request without an answer. One that its client takes back before there is one has cost us all of its way.
struct Unanswered {
    connection: Rc<Connection>,
    answered: bool,
}

impl Unanswered {
    fn new(connection: &Rc<Connection>) -> Self {
        connection.link.serves();
        Self { connection: Rc::clone(connection), answered: false }
    }

    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.connection.link.served();
        if !self.answered {
            self.connection.note_taken_back();
        }
    }
}

/// What the client of a refused request is told.
fn told(refused: Refused, host: &str, is_http1: bool, bare: bool) -> Response<Answer> {
    let Refused { refusal, status } = refused;
    let problem = match refusal {
        Refusal::Denied(decision, revision) => refuse::denied(&decision, revision, status, host),
        Refusal::Unreachable(status, error) => refuse::failed(status, &error),
        Refusal::Unrecorded => {
            refuse::failed(Status::Unavailable, "the gateway can't write its record, so nothing leaves")
        }
        Refusal::Gone => refuse::failed(Status::Unavailable, "the gateway could not take the request"),
    };
    let last = is_http1 && problem.status == Status::BadRequest;
    head::problem(problem, last, bare)
}

/// A request as it goes out, with its secret.
fn write(head: &RequestHead, line: &Line, body: Upload, along: &Along) -> Result<Request<Upload>, String> {
    let http2 = matches!(line.sender, Sender::Http2(_));
    let length = body.new_length();
    let mut outgoing =
        head::outgoing(head, http2, body).map_err(|error| format!("the request can't be written: {error}"))?;
    if let Some(length) = length {
        head::set_length(&mut outgoing, length);
    }
    if let Some(resigner) = along.put_into(head, &mut outgoing).map_err(|error| error.to_string())? {
        outgoing.body_mut().resign(resigner);
    }
    Ok(outgoing)
}

/// Sends a request on: the one place where one leaves. The permit and the record's proof are used up by it.
///
/// The policy that is in force now may be another than the one that decided. The check and the entry among those under
/// way are one step of this thread, and a new policy goes over these, so that none slips between the two.
async fn forward(
    connection: &Rc<Connection>,
    ready: Ready,
    head: &RequestHead,
    tunnel: Option<(Arc<Heads>, OnUpgrade)>,
) -> Result<Response<Answer>, Refused> {
    let Ready { permit, recorded, open, in_force, room, line, along, body, form } = ready;
    let shared = &connection.worker.shared;
    let open = Rc::new(RefCell::new(open));
    let under_way = UnderWay::enter(&connection.worker, Rc::clone(&open), Arc::clone(&connection.link), room);
    let current = shared.in_force();
    if !Arc::ptr_eq(&in_force, &current)
        && let Some(decision) = no_longer_allowed(&under_way, &current)
    {
        let mut flow = connection.flow();
        connection.see(&mut flow, head);
        let judged = decide::Judged { decision, addresses: decide::nowhere(), in_force: current, failed: None };
        return Err(establish::refuse(shared, &mut flow, judged).await.into());
    }
    let bodyless = body.is_end_stream() && head.framing == Framing::Empty;
    let bare = has_no_effect(head) && bodyless;
    let body = Upload::new(body, Rc::clone(&under_way)).read_along(form);
    let outgoing = match write(head, &line, body, &along) {
        Ok(outgoing) => outgoing,
        Err(error) => return Err(broken(connection, &open, error).await),
    };
    let _used_up: (Permit, Recorded) = (permit, recorded);
    connection.note_sent(&open);
    let sent = match send(&under_way, outgoing, line).await {
        Sent::Closed(unsent, line) if bare || unsent.is_some() => {
            Box::pin(send_again(connection, &under_way, (head, &along), unsent, line)).await
        }
        sent => sent,
    };
    let sent = match sent {
        Sent::Answered(response, line) if response.status() == StatusCode::UNAUTHORIZED => {
            let renewable = bodyless && tunnel.is_none();
            refused(connection, &under_way, (head, &along), renewable, (response, line)).await
        }
        sent => sent,
    };
    if !matches!(sent, Sent::Answered(..))
        && let Some((decision, revision)) = under_way.denied_body()
    {
        if decision.reason == refuse::TOO_LONG {
            return Err(Refusal::Denied(Box::new(decision), revision).into());
        }
        // What the body says is another request than the one that was allowed: its denial is recorded, too.
        let mut flow = connection.flow();
        connection.see(&mut flow, head);
        let judged = decide::Judged { decision, addresses: decide::nowhere(), in_force, failed: None };
        return Err(establish::refuse(shared, &mut flow, judged).await.into());
    }
    let (response, line) = match sent {
        Sent::Answered(response, line) => (response, line),
        Sent::Cut => return Err(cut(&under_way)),
        Sent::Closed(..) => {
            let error = "upstream: the server closed its connection as the request came".to_owned();
            return Err(broken(connection, &open, error).await);
        }
        Sent::Broken(error) => return Err(broken(connection, &open, error).await),
    };
    let agreed = match look_at(head, &response, tunnel.is_some(), &under_way) {
        Ok(agreed) => agreed,
        Err(fault) => return Err(broken(connection, &open, format!("upstream: {fault}")).await),
    };
    let response = match Box::pin(credential::shield(response, along.looking.as_ref())).await {
        Ok(response) => response,
        Err(error) => return Err(unfit(connection, &open, &error).await),
    };
    Ok(match (tunnel, agreed) {
        (Some((heads, client)), Some(agreed)) => {
            websocket::relay(connection, under_way, agreed, response, client, &heads, along.looking)
        }
        (Some((heads, _)), None) => {
            heads.answer_upgrade(false);
            through(connection, under_way, response, line, along.secret)
        }
        (None, _) => through(connection, under_way, response, line, along.secret),
    })
}

/// Whether an answer may be passed on, and what became of a WebSocket's handshake.
fn look_at<B: hyper::body::Body>(
    head: &RequestHead,
    response: &Response<B>,
    asked_for_upgrade: bool,
    under_way: &UnderWay,
) -> Result<Option<Agreed>, &'static str> {
    if asked_for_upgrade && response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Agreed::of(head, response).map(Some);
    }
    let least = if head.method == "HEAD" { 0 } else { response.body().size_hint().lower() };
    if under_way.answer_bound().is_some_and(|bound| least > bound) {
        return Err(ANSWER_TOO_LONG);
    }
    head::fault(response).map_or(Ok(None), Err)
}

/// The decision that ends it under this policy, or `None` where it goes on.
fn no_longer_allowed(under_way: &UnderWay, in_force: &InForce) -> Option<Decision> {
    match under_way.look(in_force) {
        Look::GoesOn => None,
        Look::Cut(decision) => Some(decision),
        Look::NeedsProcess => Some(rejudge::undecided()),
    }
}

fn through(
    connection: &Rc<Connection>,
    under_way: Rc<UnderWay>,
    response: Response<Echo>,
    line: Line,
    secret: Option<Carried>,
) -> Response<Answer> {
    let expires = secret.filter(Carried::may_expire);
    let expiry = match (expires, Expiry::of(response.status())) {
        (Some(secret), Some(_)) if Expiry::stands_in(response.headers()) => {
            secret.renew_later(&connection.worker);
            None
        }
        (Some(secret), Some(expiry)) => Some((expiry, secret)),
        (None, _) | (_, None) => None,
    };
    head::answer(response, |body| {
        let download = Download::new(body, under_way, Rc::clone(connection), line).expecting(expiry);
        Answer::Server(Box::new(download))
    })
}

/// What came of sending.
enum Sent {
    Answered(Response<Incoming>, Line),
    /// The server closed the kept connection without an answer; the request, where nothing of it left.
    Closed(Option<Request<Upload>>, Line),
    Cut,
    Broken(String),
}

async fn send(under_way: &UnderWay, outgoing: Request<Upload>, line: Line) -> Sent {
    let mut line = line;
    if head::is_last(&outgoing) {
        line.carries_body();
    }
    let sending = async {
        match &mut line.sender {
            Sender::Http1(sender) => sender.try_send_request(outgoing).await,
            Sender::Http2(sender) => sender.try_send_request(outgoing).await,
        }
    };
    let sent = tokio::select! {
        biased;
        () = std::future::poll_fn(|cx| under_way.poll_cut(Side::Head, cx)) => None,
        sent = sending => Some(sent),
    };
    match sent {
        None => Sent::Cut,
        Some(Ok(response)) => Sent::Answered(response, line),
        Some(Err(mut error)) => match error.take_message() {
            Some(unsent) if line.used => Sent::Closed(Some(unsent), line),
            None if line.used && error.error().is_incomplete_message() => Sent::Closed(None, line),
            Some(_) | None => Sent::Broken(match line.unidentified() {
                Some(fault) => format!("upstream: {fault}"),
                None => format!("upstream: {}", report(error.error())),
            }),
        },
    }
}

/// After a 401: the request once more with a new secret, where there is one and it can be sent again. Else the answer
/// that came.
async fn refused(
    connection: &Connection,
    under_way: &Rc<UnderWay>,
    (head, along): (&RequestHead, &Along),
    renewable: bool,
    (response, line): (Response<Incoming>, Line),
) -> Sent {
    match &along.secret {
        Some(secret) if secret.may_be_refused() && renewable => match secret.renewed(&connection.worker.shared).await {
            Some(secret) => {
                drop(response);
                let along = along.with(secret);
                send_again(connection, under_way, (head, &along), None, line).await
            }
            None => Sent::Answered(response, line),
        },
        Some(secret) if secret.may_be_refused() => {
            secret.renew_later(&connection.worker);
            Sent::Answered(response, line)
        }
        Some(_) | None => Sent::Answered(response, line),
    }
}

/// Sends a request on a new connection, in place of a kept one that the server closed.
async fn send_again(
    connection: &Connection,
    under_way: &Rc<UnderWay>,
    (head, along): (&RequestHead, &Along),
    unsent: Option<Request<Upload>>,
    line: Line,
) -> Sent {
    let was_http2 = matches!(line.sender, Sender::Http2(_));
    let shared = &connection.worker.shared;
    let Some(inspector) = &shared.inspector else { return Sent::Broken("TLS is not opened here".to_owned()) };
    let hold = |host: &HostName, address| shared.names.hold(host, address);
    let how = (connection.protocols, shared.settings.connect_timeout);
    let line = match connection.lines.again(inspector, &line, how, hold).await {
        Ok(line) => line,
        Err(error) => return Sent::Broken(error.to_string()),
    };
    let http2 = matches!(line.sender, Sender::Http2(_));
    match unsent {
        Some(unsent) if http2 == was_http2 => send(under_way, unsent, line).await,
        Some(_) => Sent::Broken("upstream: the server speaks another protocol than before".to_owned()),
        None => match write(head, &line, Upload::empty(Rc::clone(under_way)), along) {
            Ok(outgoing) => send(under_way, outgoing, line).await,
            Err(error) => Sent::Broken(error),
        },
    }
}

/// Cut by a new policy before its answer began.
fn cut(under_way: &UnderWay) -> Refused {
    match under_way.take_cut() {
        Some((decision, revision)) => Refusal::Denied(Box::new(decision), revision).into(),
        None => Refusal::Gone.into(),
    }
}

/// The answer can't be looked through.
async fn unfit(connection: &Connection, open: &RefCell<Box<OpenFlow>>, error: &EchoError) -> Refused {
    let by = if error.status() == Status::Unavailable { "" } else { "upstream: " };
    let mut refused = broken(connection, open, format!("{by}{error}")).await;
    if let Refusal::Unreachable(status, _) = &mut refused.refusal {
        *status = error.status();
    }
    refused
}

/// The server did not answer.
async fn broken(connection: &Connection, open: &RefCell<Box<OpenFlow>>, error: String) -> Refused {
    let event = {
        let open = open.borrow();
        establish::unreachable_event(&connection.worker.shared, &open, &error)
    };
    connection.worker.record_now(event).await;
    Refusal::Unreachable(Status::BadGateway, error).into()
}
