//! The life of a connection to the explicit proxy: CONNECT, absolute-form HTTP and SOCKS5 on one port.

use std::{net::SocketAddr, rc::Rc};

use policy::{Fact, Guard, Layer, NameSource, NamedHost, Step, Target, Verdict};
use tokio::time::Instant;
use wire::{
    exchange::Exchange,
    http_head::{self, Form, Head, RequestHead},
    intent::Intent,
    socks5::{self, Method, Reply},
};

use crate::{
    accept::Arrived,
    decide::{self, Limits},
    establish::{self, Refusal},
    flow::{Counted, Ends, Flow},
    forward, late, metadata,
    pump::{Gate, Start},
    readings,
    refuse::{self, Status},
    socket::Socket,
    transparent,
    worker::Worker,
};

/// What a tunnel's client is told.
const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// How the client asked for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Connect,
    Socks5,
}

impl Asked {
    fn success(self) -> Vec<u8> {
        match self {
            Asked::Connect => CONNECTED.to_vec(),
            Asked::Socks5 => socks5::reply(Reply::Succeeded).to_vec(),
        }
    }
}

/// What a client asked the proxy for.
enum Request {
    Http(Box<RequestHead>),
    Socks5(Target, u16),
}

/// Takes a connection to the proxy's port.
pub(crate) async fn serve(worker: Rc<Worker>, arrived: Arrived) {
    let Arrived { socket: mut stream, client, local: server, count } = arrived;
    let mut bytes = Vec::new();
    let ends = Ends { client, server };
    match read_request(&worker, &mut stream, &mut bytes).await {
        Ok(Some(Request::Socks5(target, port))) => {
            let flow = new_flow(&worker, ends, port, &target, count);
            tunnel(&worker, stream, bytes, flow, target, Asked::Socks5).await;
        }
        Ok(Some(Request::Http(head))) => match head.form {
            Form::Authority => {
                let port = head.authority.port.unwrap_or_default();
                let target = head.authority.host.clone();
                let flow = new_flow(&worker, ends, port, &target, count);
                tunnel(&worker, stream, bytes, flow, target, Asked::Connect).await;
            }
            Form::Absolute(_) => {
                let port = head.authority.port.unwrap_or(80);
                let flow = new_flow(&worker, ends, port, &head.authority.host, count);
                absolute(&worker, stream, bytes, flow, &head).await;
            }
            Form::Origin => {
                let broken = Broken { layer: Layer::Http, reason: "a request to the proxy itself", answer: None };
                refuse_broken(&worker, stream, ends, count, broken).await;
            }
        },
        Ok(None) => {}
        Err(broken) => refuse_broken(&worker, stream, ends, count, broken).await,
    }
}

/// A request without one meaning, or in a protocol that is not spoken here.
struct Broken {
    layer: Layer,
    reason: &'static str,
    /// What is to be answered as it stands; HTTP gets 400.
    answer: Option<Vec<u8>>,
}

impl Broken {
    fn socks(reply: Option<Reply>, reason: &'static str) -> Self {
        Self { layer: Layer::Ip, reason, answer: reply.map(|reply| socks5::reply(reply).to_vec()) }
    }
}

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has said nothing that was understood.
    First,
    /// A SOCKS5 greeting is answered: its user name and password come next.
    Password,
    /// A SOCKS5 request comes next.
    Request,
}

/// Reads a proxy request; `bytes` then holds what followed it. `None` where the client went away.
async fn read_request(worker: &Worker, stream: &mut Socket, bytes: &mut Vec<u8>) -> Result<Option<Request>, Broken> {
    let settings = &worker.shared.settings;
    let deadline = Instant::now() + settings.sniff_timeout;
    let mut stage = Stage::First;
    loop {
        match (stage, bytes.first()) {
            (_, None) => {}
            (Stage::First, Some(&socks5::VERSION)) | (Stage::Password, _) => {
                if let Some((next, answer)) = greet(stage, bytes)? {
                    stage = next;
                    if stream.write_all(&answer).await.is_err() {
                        return Ok(None);
                    }
                    continue;
                }
            }
            (Stage::Request, _) => match socks5::request(bytes) {
                socks5::Read::Incomplete => {}
                socks5::Read::Refused(reply, reason) => return Err(Broken::socks(reply, reason)),
                socks5::Read::Complete((target, port), used) => {
                    bytes.drain(..used);
                    return Ok(Some(Request::Socks5(target, port)));
                }
            },
            (Stage::First, Some(&socks5::VERSION_4)) => {
                let answer = Some(socks5::REFUSED_4.to_vec());
                return Err(Broken { layer: Layer::Ip, reason: "SOCKS4, which is not supported: use SOCKS5", answer });
            }
            (Stage::First, Some(_)) => match http_head::read(bytes, settings.sniff_limit, true) {
                Head::Incomplete => {}
                Head::Malformed(reason) => return Err(Broken { layer: Layer::Http, reason, answer: None }),
                Head::NotHttp | Head::Http2 => return Err(Broken::socks(None, "no proxy request")),
                Head::Complete(head, used) => {
                    bytes.drain(..used);
                    return Ok(Some(Request::Http(head)));
                }
            },
        }
        match tokio::time::timeout_at(deadline, stream.read(bytes)).await {
            Ok(Ok(0) | Err(_)) => return Ok(None),
            Ok(Ok(_)) => {}
            Err(_) if bytes.is_empty() && stage == Stage::First => return Ok(None),
            Err(_) => return Err(Broken::socks(None, "a proxy request that took too long")),
        }
    }
}

/// A SOCKS5 client's greeting, or its user name and password: what comes next, and what to answer.
fn greet(stage: Stage, bytes: &mut Vec<u8>) -> Result<Option<(Stage, [u8; 2])>, Broken> {
    let (next, answer, used) = if stage == Stage::First {
        match socks5::greeting(bytes) {
            socks5::Read::Incomplete => return Ok(None),
            socks5::Read::Refused(reply, reason) => return Err(Broken::socks(reply, reason)),
            socks5::Read::Complete(Some(method), used) => {
                let next = match method {
                    Method::Open => Stage::Request,
                    Method::Password => Stage::Password,
                };
                (next, socks5::greeting_answer(Some(method)), used)
            }
            socks5::Read::Complete(None, _) => {
                let answer = Some(socks5::greeting_answer(None).to_vec());
                let reason = "SOCKS5 with neither no authentication nor a password on offer";
                return Err(Broken { layer: Layer::Ip, reason, answer });
            }
        }
    } else {
        match socks5::password(bytes) {
            socks5::Read::Incomplete => return Ok(None),
            socks5::Read::Refused(reply, reason) => return Err(Broken::socks(reply, reason)),
            socks5::Read::Complete((), used) => (Stage::Request, socks5::PASSWORD_TAKEN, used),
        }
    };
    bytes.drain(..used);
    Ok(Some((next, answer)))
}

async fn refuse_broken(worker: &Worker, stream: Socket, ends: Ends, count: Counted, broken: Broken) {
    let mut flow = Flow::new(worker.shared.flow_number(), ends, ends.server.port(), Some(ends.server), count);
    let Broken { layer, reason, answer } = broken;
    let refusal = establish::refuse_by_guard(&worker.shared, &mut flow, Guard::Malformed, layer, reason).await;
    match (refusal, answer, layer) {
        (_, Some(answer), _) => refuse::answer(stream, &answer).await,
        (Refusal::Denied(decision, revision), None, Layer::Http) => {
            refuse::answer(stream, &refuse::denial(&decision, revision, Status::BadRequest, "")).await;
        }
        (_, None, _) => stream.reset(),
    }
}

fn new_flow(worker: &Worker, ends: Ends, port: u16, target: &Target, count: Counted) -> Flow {
    let original = match target {
        Target::Address(address) => Some(SocketAddr::new(*address, port)),
        Target::Name(_) => None,
    };
    Flow::new(worker.shared.flow_number(), ends, port, original, count)
}

/// CONNECT and SOCKS5: judged by their target first, then held to it by what the tunnel says.
async fn tunnel(worker: &Rc<Worker>, stream: Socket, bytes: Vec<u8>, flow: Flow, target: Target, asked: Asked) {
    if let Some(place) = metadata::place(&worker.shared, &target, flow.facts.port) {
        let mut stream = stream;
        if stream.write_all(&asked.success()).await.is_ok() {
            metadata::serve(worker, stream, bytes, None, flow, place).await;
        }
        return;
    }
    match target {
        Target::Name(name) => {
            let named = NamedHost { name, source: NameSource::ProxyTarget };
            tunnel_by_name(worker, stream, bytes, flow, named, asked).await;
        }
        Target::Address(address) => {
            let original = SocketAddr::new(address, flow.facts.port);
            let mut flow = flow;
            flow.facts.address = Fact::Known(address);
            let in_force = worker.shared.in_force();
            if let Step::Decided(decision) = flow.facts.judge(&in_force)
                && decision.verdict == Verdict::Denied
            {
                flow.facts.name = Fact::Absent;
                let judged = decide::Judged { decision, addresses: decide::nowhere(), in_force, failed: None };
                let refusal = establish::refuse(&worker.shared, &mut flow, judged).await;
                return tell(stream, refusal, asked).await;
            }
            let mut stream = stream;
            if stream.write_all(&asked.success()).await.is_ok() {
                transparent::serve_address(worker, stream, bytes, flow, original).await;
            }
        }
    }
}

async fn tunnel_by_name(
    worker: &Rc<Worker>,
    stream: Socket,
    bytes: Vec<u8>,
    flow: Flow,
    named: NamedHost,
    asked: Asked,
) {
    let (mut stream, mut bytes, mut flow) = (stream, bytes, flow);
    let shared = &worker.shared;
    let limit = shared.settings.sniff_limit;
    let readings = decide::by_name(named.clone());
    let limits = Limits { may_read_request: true, approved: false };
    match decide::judge(shared, &mut flow, &readings, limits).await {
        Some(judged) => {
            let established = transparent::establish_for(&mut stream, shared, flow, &readings, judged).await;
            match established {
                Ok(established) => {
                    let start = Start {
                        to_upstream: Vec::new(),
                        to_client: asked.success(),
                        unread: bytes,
                        gate: Gate::first(limit),
                    };
                    forward::forward(worker, stream, established, start);
                }
                Err(refusal) => tell(stream, refusal, asked).await,
            }
        }
        None => {
            // A rule looks at the request, which comes only after the tunnel is granted.
            if stream.write_all(&asked.success()).await.is_err() {
                return;
            }
            let wait = shared.settings.sniff_timeout;
            let Some(intent) = transparent::read_intent(&mut stream, &mut bytes, shared, wait).await else { return };
            let is_http = matches!(intent, Intent::Http(..));
            let established = match late::hold_to_target(&named, flow.facts.port, &intent) {
                Ok(()) => {
                    late::see(shared, &mut flow, &intent).await;
                    match decide::judge(shared, &mut flow, &readings, limits).await {
                        Some(judged) => {
                            let judged = match &intent {
                                Intent::Http(head, _) => readings::hold_to_request(shared, &flow, head, judged),
                                Intent::Tls(_)
                                | Intent::Http2
                                | Intent::Raw
                                | Intent::Silent
                                | Intent::Malformed(..) => judged,
                            };
                            transparent::establish_for(&mut stream, shared, flow, &readings, judged).await
                        }
                        None => return transparent::open(worker, stream, bytes, flow, readings, &intent),
                    }
                }
                Err(denial) => {
                    flow.facts.name = Fact::Known(named);
                    Err(establish::refuse_by_guard(shared, &mut flow, denial.guard, denial.layer, denial.reason).await)
                }
            };
            match established {
                Ok(established) => {
                    let start = transparent::start(&intent, bytes, limit, &established);
                    forward::forward(worker, stream, established, start);
                }
                Err(refusal) => transparent::tell(stream, refusal, is_http, &intent).await,
            }
        }
    }
}

/// A plain request to the proxy: one, then the connection closes.
async fn absolute(worker: &Rc<Worker>, stream: Socket, bytes: Vec<u8>, flow: Flow, head: &RequestHead) {
    let (mut stream, mut flow) = (stream, flow);
    let shared = &worker.shared;
    if let Some(place) = metadata::place(shared, &head.authority.host, flow.facts.port) {
        return metadata::serve(worker, stream, bytes, Some(head), flow, place).await;
    }
    flow.see_request(head);
    let reading = match &head.authority.host {
        Target::Name(name) => decide::by_name(NamedHost { name: name.clone(), source: NameSource::HttpHost }),
        Target::Address(address) => readings::by_address(shared, SocketAddr::new(*address, flow.facts.port)),
    };
    let established = match decide::judge(shared, &mut flow, &reading, Limits::default()).await {
        Some(judged) => {
            let judged = readings::hold_to_request(shared, &flow, head, judged);
            transparent::establish_for(&mut stream, shared, flow, &reading, judged).await
        }
        None => Err(Refusal::Gone),
    };
    match established {
        Ok(established) => {
            let exchange = Exchange::new(head, established.open.held(), true, shared.settings.sniff_limit);
            let start = Start {
                to_upstream: established.open.as_sent(head).write(true),
                to_client: Vec::new(),
                unread: bytes,
                gate: Gate::Http(Box::new(exchange)),
            };
            forward::forward(worker, stream, established, start);
        }
        Err(refusal) => tell(stream, refusal, Asked::Connect).await,
    }
}

async fn tell(stream: Socket, refusal: Refusal, asked: Asked) {
    let (message, reply) = match refusal {
        Refusal::Gone => return,
        Refusal::Denied(decision, revision) => {
            (refuse::denial(&decision, revision, Status::Forbidden, ""), Reply::NotAllowed)
        }
        Refusal::Unreachable(status, error) => (refuse::failure(status, &error), Reply::HostUnreachable),
        Refusal::Unrecorded => {
            let error = "the gateway can't write its record, so nothing leaves";
            (refuse::failure(Status::Unavailable, error), Reply::Failed)
        }
    };
    match asked {
        Asked::Connect => refuse::answer(stream, &message).await,
        Asked::Socks5 => refuse::answer(stream, &socks5::reply(reply)).await,
    }
}
