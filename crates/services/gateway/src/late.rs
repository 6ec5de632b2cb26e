//! What is judged after a connection was taken up: the first bytes of a tunnel, and every further request.
//!
//! A tunnel by CONNECT or SOCKS5 was judged by its target: what it then says must name the same host. One that was
//! judged as silent may turn out to speak after all, and is judged again with what it says.

use std::rc::Rc;

use audit_event::{EndedBy, Transfer};
use policy::{Decision, EchState, Fact, Guard, Layer, NameSource, NamedHost, Target, TlsFacts};
use wire::{exchange::Exchange, http_head::RequestHead, intent::Intent};

use crate::{
    decide,
    establish::{self, Refusal},
    flow::{Counted, Ends, Flow, OpenFlow, Seen},
    pump::{self, Asked, Gate, Key},
    readings,
    record::{self, End},
    refuse::{self, Status},
    shared::Shared,
    socket::Socket,
    worker::Worker,
};

/// Why a connection does not go on.
#[derive(Debug)]
pub(crate) struct Denial {
    /// The guard.
    pub(crate) guard: Guard,
    /// The layer.
    pub(crate) layer: Layer,
    /// Why.
    pub(crate) reason: String,
}

impl Denial {
    fn new(guard: Guard, layer: Layer, reason: impl Into<String>) -> Self {
        Self { guard, layer, reason: reason.into() }
    }
}

/// Answers what the pump asks. What can be told at once is; the rest gets a task.
pub(crate) fn take_up(worker: &Rc<Worker>, key: Key, asked: Asked) {
    let mut pump = worker.pump.borrow_mut();
    let Some(open) = pump.flow(key) else { return };
    match asked {
        Asked::ServerFirst => match server_may_speak_first(open) {
            Ok(()) => {
                let gate = Gate::raw(open.facts.host_name().is_some());
                pump.pass_first(key, gate, Vec::new(), Vec::new());
            }
            Err(denial) => {
                drop(pump);
                refuse_later(worker, key, denial, None);
            }
        },
        Asked::First(intent, bytes) => match judged_target(open) {
            Some(named) => match hold_to_target(&named, open.facts.port, &intent) {
                Err(denial) => {
                    drop(pump);
                    refuse_later(worker, key, denial, Some(intent));
                }
                Ok(()) if !needs_judgement(open, &intent) => {
                    note(open, &intent);
                    drop(pump);
                    pass_first(worker, key, &intent, bytes);
                }
                Ok(()) => {
                    drop(pump);
                    worker.spawn_for(key, judge_first(Rc::clone(worker), key, intent, bytes));
                }
            },
            None => {
                drop(pump);
                worker.spawn_for(key, judge_first(Rc::clone(worker), key, intent, bytes));
            }
        },
        Asked::Request(head) => {
            if !open.is_for_judged_host(&head) {
                let reason = format!("{} is not the host of this connection", head.authority.host);
                drop(pump);
                refuse_later(
                    worker,
                    key,
                    Denial::new(Guard::Binding, Layer::Http, reason),
                    Some(Intent::Http(head, 0)),
                );
            } else if open.judged_by_request {
                drop(pump);
                worker.spawn_for(key, judge_request(Rc::clone(worker), key, head));
            } else {
                let (bounds, sent) = (open.held(), open.as_sent(&head));
                pump.pass_request(key, &sent, bounds);
            }
        }
        Asked::Broken(reason) => {
            drop(pump);
            refuse_later(worker, key, Denial::new(Guard::Malformed, Layer::Http, reason), None);
        }
    }
}

fn server_may_speak_first(open: &OpenFlow) -> Result<(), Denial> {
    if open.facts.original.is_none() && matches!(open.facts.port, 80 | 443) {
        return Err(Denial::new(Guard::Malformed, Layer::Tls, "the server spoke first on a port for TLS or HTTP"));
    }
    Ok(())
}

/// The name that a tunnel was granted for.
fn judged_target(open: &OpenFlow) -> Option<NamedHost> {
    open.facts.name.known().filter(|named| named.source == NameSource::ProxyTarget).cloned()
}

/// Whether what a tunnel says is for the host it was granted for.
pub(crate) fn hold_to_target(named: &NamedHost, port: u16, intent: &Intent) -> Result<(), Denial> {
    let target = &named.name;
    match intent {
        Intent::Malformed(layer, reason) => Err(Denial::new(Guard::Malformed, *layer, *reason)),
        Intent::Tls(_) if port == 80 => Err(Denial::new(Guard::Malformed, Layer::Http, "TLS on a port for HTTP")),
        Intent::Tls(hello) => match &hello.server_name {
            Some(name) if name == target => Ok(()),
            Some(name) => Err(Denial::new(
                Guard::Binding,
                Layer::Tls,
                format!("the tunnel is for {target}, the ClientHello for {name}"),
            )),
            None if port == 443 => {
                Err(Denial::new(Guard::Malformed, Layer::Tls, "a ClientHello without a server name"))
            }
            None => Ok(()),
        },
        Intent::Http(..) if port == 443 => {
            Err(Denial::new(Guard::Malformed, Layer::Tls, "plain HTTP on a port for TLS"))
        }
        Intent::Http(head, _) => {
            let same_port = head.authority.port.is_none_or(|other| other == port);
            if same_port && head.authority.host == Target::Name(target.clone()) {
                Ok(())
            } else {
                let reason = format!("the tunnel is for {target}, the request for {}", head.authority.host);
                Err(Denial::new(Guard::Binding, Layer::Http, reason))
            }
        }
        Intent::Http2 => Err(Denial::new(Guard::Malformed, Layer::Http, "HTTP/2 without TLS")),
        Intent::Raw | Intent::Silent if port == 443 => {
            Err(Denial::new(Guard::Malformed, Layer::Tls, "no TLS on a port for TLS"))
        }
        Intent::Raw | Intent::Silent if port == 80 => {
            Err(Denial::new(Guard::Malformed, Layer::Http, "no HTTP on a port for HTTP"))
        }
        Intent::Raw | Intent::Silent => Ok(()),
    }
}

/// Whether the first bytes of a granted tunnel hold something that the policy has not judged.
fn needs_judgement(open: &OpenFlow, intent: &Intent) -> bool {
    match intent {
        Intent::Tls(hello) => hello.encrypted || open.judged_by_request,
        Intent::Http(..) | Intent::Raw | Intent::Silent | Intent::Http2 | Intent::Malformed(..) => {
            open.judged_by_request
        }
    }
}

/// Takes the first bytes of a granted tunnel into what is known of it.
fn note(open: &mut OpenFlow, intent: &Intent) {
    if let Intent::Http(head, _) = intent {
        open.request_host = Some(head.authority.host.clone());
    }
    (open.facts.tls, open.facts.http) = match intent {
        Intent::Tls(hello) => (Fact::Known(TlsFacts { alpn: hello.alpn.clone(), ech: EchState::None }), Fact::Absent),
        Intent::Http(head, _) => (Fact::Absent, Fact::Known(head.facts())),
        Intent::Http2 | Intent::Raw | Intent::Silent | Intent::Malformed(..) => (Fact::Absent, Fact::Absent),
    };
}

/// Takes first bytes into a flow that is not decided yet.
pub(crate) async fn see(shared: &Shared, flow: &mut Flow, intent: &Intent) {
    match intent {
        Intent::Tls(hello) => readings::see_hello(shared, flow, hello, None).await,
        Intent::Http(head, _) => flow.see_request(head),
        Intent::Http2 | Intent::Raw | Intent::Silent | Intent::Malformed(..) => {
            flow.facts.tls = Fact::Absent;
            flow.request = Fact::Absent;
        }
    }
}

fn pass_first(worker: &Worker, key: Key, intent: &Intent, bytes: Vec<u8>) {
    let limit = worker.shared.settings.sniff_limit;
    let mut pump = worker.pump.borrow_mut();
    match intent {
        Intent::Http(head, used) => {
            let mut bytes = bytes;
            let unread = bytes.split_off((*used).min(bytes.len()));
            let Some(open) = pump.flow(key) else { return };
            let (bounds, sent) = (open.held(), open.as_sent(head));
            let exchange = Exchange::new(head, bounds, false, limit);
            let sent = sent.write(exchange.is_last());
            pump.pass_first(key, Gate::Http(Box::new(exchange)), sent, unread);
        }
        Intent::Raw => {
            let gate = Gate::raw(pump.flow(key).is_some_and(|open| open.facts.host_name().is_some()));
            pump.pass_first(key, gate, Vec::new(), bytes);
        }
        Intent::Tls(_) | Intent::Http2 | Intent::Silent | Intent::Malformed(..) => {
            pump.pass_first(key, Gate::Open, bytes, Vec::new());
        }
    }
    drop(pump);
    worker.wake_if_due();
}

/// A flow as it was before its decision, to be judged again beside the open one.
fn again(worker: &Worker, key: Key) -> Option<Flow> {
    let mut pump = worker.pump.borrow_mut();
    let open = pump.flow(key)?;
    let ends = Ends { client: open.client, server: open.server };
    let count = Counted::new(worker.shared.tally.clone(), Rc::clone(&worker.live));
    let mut flow = Flow::new(open.id, ends, open.facts.port, open.facts.original, count);
    flow.facts = open.facts.clone();
    flow.request = open.facts.http.clone();
    flow.judged_by_request = open.judged_by_request;
    flow.seen = Seen::default();
    flow.process = open.process.get().cloned();
    Some(flow)
}

/// Judges a tunnel again by its first bytes: for the same address, or not at all.
async fn judge_first(worker: Rc<Worker>, key: Key, intent: Intent, bytes: Vec<u8>) {
    let Some(mut flow) = again(&worker, key) else { return };
    let shared = &worker.shared;
    let address = flow.facts.address.known().copied();
    let (readings, judged) = match (flow.facts.original, flow.facts.name.known().cloned()) {
        (Some(original), _) => readings::judge(shared, &mut flow, original, &intent).await,
        (None, Some(named)) => {
            match &intent {
                Intent::Tls(hello) => readings::see_hello(shared, &mut flow, hello, address).await,
                Intent::Http(..) | Intent::Http2 | Intent::Raw | Intent::Silent | Intent::Malformed(..) => {
                    see(shared, &mut flow, &intent).await;
                }
            }
            let mut readings = decide::by_name(named);
            for reading in &mut readings {
                reading.address = address.map_or(Fact::Absent, Fact::Known);
            }
            let judged = decide::judge(shared, &mut flow, &readings, decide::Limits::default()).await;
            let judged = judged.unwrap_or_else(|| no_decision(shared));
            let judged = match &intent {
                Intent::Http(head, _) => readings::hold_to_request(shared, &flow, head, judged),
                Intent::Tls(_) | Intent::Http2 | Intent::Raw | Intent::Silent | Intent::Malformed(..) => judged,
            };
            (readings, judged)
        }
        (None, None) => (readings::Readings::new(), no_decision(shared)),
    };
    let head = match &intent {
        Intent::Http(head, _) => Some(head.clone()),
        Intent::Tls(_) | Intent::Http2 | Intent::Raw | Intent::Silent | Intent::Malformed(..) => None,
    };
    let judged = same_address(shared, judged, address);
    match establish::permit(shared, flow, &readings, judged).await {
        Ok(passed) => {
            if passed.take_over(&worker, key) {
                pass_first(&worker, key, &intent, bytes);
            }
        }
        Err(refusal) => refuse_now(&worker, key, refusal, head.as_deref()).await,
    }
}

/// A connection is to one address: a decision for another does not help it.
fn same_address(shared: &Shared, judged: decide::Judged, address: Option<std::net::IpAddr>) -> decide::Judged {
    if decide::may_go_on(&judged) && !judged.addresses.iter().any(|judged| Some(*judged) == address) {
        return decide::denied(shared, Guard::Binding, Layer::Ip, "what it says is allowed at another address only");
    }
    judged
}

fn no_decision(shared: &Shared) -> decide::Judged {
    decide::denied(shared, Guard::Malformed, Layer::Ip, "the policy came to no decision")
}

/// Judges a further request of an open connection.
async fn judge_request(worker: Rc<Worker>, key: Key, head: Box<RequestHead>) {
    let Some(mut flow) = again(&worker, key) else { return };
    let shared = &worker.shared;
    let reading = decide::Reading { name: flow.facts.name.clone(), address: flow.facts.address };
    let address = flow.facts.address.known().copied();
    flow.see_request(&head);
    let readings = [reading];
    let judged = decide::judge(shared, &mut flow, &readings, decide::Limits::default()).await;
    let judged = judged.unwrap_or_else(|| no_decision(shared));
    let judged = readings::hold_to_request(shared, &flow, &head, same_address(shared, judged, address));
    match establish::permit(shared, flow, &readings, judged).await {
        Ok(passed) => {
            if passed.take_over(&worker, key) {
                let mut pump = worker.pump.borrow_mut();
                let Some(open) = pump.flow(key) else { return };
                let (bounds, sent) = (open.held(), open.as_sent(&head));
                pump.pass_request(key, &sent, bounds);
                drop(pump);
                worker.wake_if_due();
            }
        }
        Err(refusal) => refuse_now(&worker, key, refusal, Some(&head)).await,
    }
}

/// Records a denial by a guard, with what the client said, and refuses the connection.
fn refuse_later(worker: &Rc<Worker>, key: Key, denial: Denial, said: Option<Intent>) {
    let worker_of_task = Rc::clone(worker);
    worker.spawn_for(key, async move {
        let worker = worker_of_task;
        let Some(mut flow) = again(&worker, key) else { return };
        let head = match said {
            Some(Intent::Http(head, _)) => {
                flow.see_request(&head);
                Some(head)
            }
            Some(Intent::Tls(hello)) => {
                flow.seen.server_name = hello.server_name.as_ref().map(ToString::to_string);
                flow.facts.tls = Fact::Known(TlsFacts { alpn: hello.alpn, ech: EchState::None });
                None
            }
            Some(Intent::Http2 | Intent::Raw | Intent::Silent | Intent::Malformed(..)) | None => None,
        };
        let Denial { guard, layer, reason } = denial;
        let refusal = establish::refuse_by_guard(&worker.shared, &mut flow, guard, layer, reason).await;
        refuse_now(&worker, key, refusal, head.as_deref()).await;
    });
}

/// Takes a connection out and tells its client.
async fn refuse_now(worker: &Worker, key: Key, refusal: Refusal, head: Option<&RequestHead>) {
    let (left, can_answer) = {
        let mut pump = worker.pump.borrow_mut();
        let can_answer = pump.can_answer(key);
        let left = pump.take(key);
        if let Some(left) = &left {
            pump.forget(&left.client);
        }
        (left, can_answer)
    };
    let Some(left) = left else { return };
    worker.forget_waiting(key);
    pump::reset(&left.upstream);
    drop(left.upstream);
    let end = End {
        by: EndedBy::Policy,
        cut: None,
        bytes: Transfer { sent: left.sent, received: left.received },
        error: None,
    };
    worker.shared.tally.moved(left.sent, left.received);
    if left.flow.records_end {
        worker.record_now(record::ended(&left.flow, end)).await;
    }
    let message = match (head, &refusal) {
        (Some(head), Refusal::Denied(decision, revision)) => Some(refusal_of(decision, *revision, head)),
        (Some(_), Refusal::Unrecorded) => {
            Some(refuse::failure(Status::Unavailable, "the gateway can't write its record, so nothing leaves"))
        }
        (_, _) => None,
    };
    match message {
        Some(message) if can_answer => {
            refuse::answer(Socket::Own(left.client), &message).await;
        }
        Some(_) | None => pump::reset(&left.client),
    }
}

fn refusal_of(decision: &Decision, revision: values::Revision, head: &RequestHead) -> Vec<u8> {
    refuse::denial(decision, revision, refuse::status_of(decision), &head.authority.host.to_string())
}
