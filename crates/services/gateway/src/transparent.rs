//! The life of a connection that was made to an address: redirected, or by address through the proxy.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use policy::{Fact, Guard, Layer, Step, Target, Verdict};
use tokio::time::Instant;
use wire::{
    exchange::Exchange,
    intent::{self, Intent},
};

use crate::{
    accept::Arrived,
    decide::{Judged, Limits, Reading},
    establish::{self, Established, Refusal},
    flow::{Ends, Flow},
    forward, inspect, metadata,
    pump::{Gate, Start},
    readings::{self, Readings},
    refuse::{self, Status},
    shared::Shared,
    socket::Socket,
    worker::Worker,
};

/// How long a flow that is denied anyway may take to say what it is, so that it can be told and recorded.
const DENIED_WAIT: Duration = Duration::from_millis(50);
/// Ports on which the client speaks first: a pause there is a slow client, not a protocol.
const CLIENT_FIRST: [u16; 8] = [80, 443, 853, 3000, 5000, 8000, 8080, 8443];

/// Takes a redirected connection.
pub(crate) async fn serve(worker: Rc<Worker>, arrived: Arrived) {
    let Arrived { socket, client, local, count } = arrived;
    let shared = &worker.shared;
    match socket.original_destination(local) {
        Ok(original) => {
            let ends = Ends { client, server: original };
            let flow = Flow::new(shared.flow_number(), ends, original.port(), Some(original), count);
            serve_address(&worker, socket, Vec::new(), flow, original).await;
        }
        Err(error) => {
            let ends = Ends { client, server: local };
            let mut flow = Flow::new(shared.flow_number(), ends, local.port(), Some(local), count);
            let reason = format!("the connection has no destination of its own: {error}");
            establish::refuse_by_guard(shared, &mut flow, Guard::OwnAddress, Layer::Ip, reason).await;
            socket.reset();
        }
    }
}

/// Takes a connection to an address from its first byte; `bytes` are there already.
pub(crate) async fn serve_address(
    worker: &Rc<Worker>,
    stream: Socket,
    bytes: Vec<u8>,
    flow: Flow,
    original: SocketAddr,
) {
    let (mut stream, mut bytes, mut flow) = (stream, bytes, flow);
    let shared = &worker.shared;
    let settings = &shared.settings;
    if let Some(place) = metadata::place(shared, &Target::Address(original.ip()), original.port()) {
        return metadata::serve(worker, stream, bytes, None, flow, place).await;
    }
    let wait = if is_denied_by_address(shared, &mut flow, original) {
        DENIED_WAIT
    } else if CLIENT_FIRST.contains(&original.port()) {
        settings.sniff_timeout
    } else {
        settings.server_first
    };
    let Some(intent) = read_intent(&mut stream, &mut bytes, shared, wait).await else { return };
    let may_open = Limits { may_read_request: true, approved: false };
    let (readings, judged) = readings::judge_or_open(shared, &mut flow, original, &intent, may_open).await;
    let Some(judged) = judged else {
        return open(worker, stream, bytes, flow, readings, &intent);
    };
    let established = establish_for(&mut stream, shared, flow, &readings, judged).await;
    match established {
        Ok(established) => {
            let start = start(&intent, bytes, settings.sniff_limit, &established);
            forward::forward(worker, stream, established, start);
        }
        Err(refusal) => tell(stream, refusal, matches!(intent, Intent::Http(..)), &intent).await,
    }
}

/// Opens a flow's TLS: the policy has to see the requests inside. Nothing else comes without a decision.
pub(crate) fn open(
    worker: &Rc<Worker>,
    stream: Socket,
    bytes: Vec<u8>,
    flow: Flow,
    readings: Readings,
    intent: &Intent,
) {
    match intent {
        Intent::Tls(hello) => inspect::serve(worker, stream, bytes, flow, readings, hello.clone()),
        Intent::Http(..) | Intent::Http2 | Intent::Raw | Intent::Silent | Intent::Malformed(..) => stream.reset(),
    }
}

/// How the pump takes up a judged flow.
pub(crate) fn start(intent: &Intent, bytes: Vec<u8>, limit: usize, established: &Established) -> Start {
    let by_name = established.open.facts.host_name().is_some();
    match intent {
        Intent::Http(head, used) => {
            let mut bytes = bytes;
            let unread = bytes.split_off((*used).min(bytes.len()));
            let exchange = Exchange::new(head, established.open.held(), false, limit);
            Start {
                to_upstream: established.open.as_sent(head).write(exchange.is_last()),
                to_client: Vec::new(),
                unread,
                gate: Gate::Http(Box::new(exchange)),
            }
        }
        // Judged as one whose server speaks first. Should the client do so after all, it is judged again.
        Intent::Silent => Start::first(Vec::new(), limit),
        Intent::Raw => {
            Start { to_upstream: Vec::new(), to_client: Vec::new(), unread: bytes, gate: Gate::raw(by_name) }
        }
        Intent::Tls(_) | Intent::Http2 | Intent::Malformed(..) => {
            Start { to_upstream: bytes, to_client: Vec::new(), unread: Vec::new(), gate: Gate::Open }
        }
    }
}

/// Reads until the first bytes are known. `None` where the client went away without a byte.
pub(crate) async fn read_intent(
    stream: &mut Socket,
    bytes: &mut Vec<u8>,
    shared: &Shared,
    first_byte: Duration,
) -> Option<Intent> {
    let settings = &shared.settings;
    let started = Instant::now();
    loop {
        if !bytes.is_empty()
            && let Some(intent) = intent::classify(bytes, settings.sniff_limit)
        {
            return Some(intent);
        }
        let bound = if bytes.is_empty() { first_byte } else { settings.sniff_timeout };
        match tokio::time::timeout_at(started + bound, stream.read(bytes)).await {
            Ok(Ok(0)) if bytes.is_empty() => return None,
            Ok(Ok(0)) => return Some(intent::classify_whole(bytes, settings.sniff_limit)),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return None,
            Err(_) if bytes.is_empty() => return Some(Intent::Silent),
            Err(_) => return Some(Intent::Malformed(Layer::Ip, "first bytes that took too long")),
        }
    }
}

/// Whether the address alone is enough for a denial, whatever the first bytes say.
fn is_denied_by_address(shared: &Shared, flow: &mut Flow, original: SocketAddr) -> bool {
    if shared.names.synthetic(original.ip()).is_some() {
        return false;
    }
    flow.facts.address = Fact::Known(original.ip());
    match flow.facts.judge(&shared.in_force()) {
        Step::Decided(decision) => decision.verdict == Verdict::Denied,
        Step::Needs(_) => false,
    }
}

/// Tells the client about a refusal, as far as its protocol can be told.
pub(crate) async fn tell(stream: Socket, refusal: Refusal, is_http: bool, intent: &Intent) {
    let malformed_http = matches!(intent, Intent::Malformed(Layer::Http, _));
    match refusal {
        Refusal::Gone => drop(stream),
        Refusal::Denied(decision, revision) if is_http || malformed_http => {
            let status = if malformed_http { Status::BadRequest } else { refuse::status_of(&decision) };
            let what = match intent {
                Intent::Http(head, _) => head.authority.host.to_string(),
                Intent::Tls(_) | Intent::Http2 | Intent::Raw | Intent::Silent | Intent::Malformed(..) => String::new(),
            };
            refuse::answer(stream, &refuse::denial(&decision, revision, status, &what)).await;
        }
        Refusal::Unreachable(status, error) if is_http => {
            refuse::answer(stream, &refuse::failure(status, &error)).await;
        }
        Refusal::Unrecorded if is_http => {
            let message = refuse::failure(Status::Unavailable, "the gateway can't write its record, so nothing leaves");
            refuse::answer(stream, &message).await;
        }
        Refusal::Denied(..) | Refusal::Unreachable(..) | Refusal::Unrecorded => stream.reset(),
    }
}

/// Establishes a flow; a question about it is withdrawn when its client goes away.
pub(crate) async fn establish_for(
    stream: &mut Socket,
    shared: &Shared,
    flow: Flow,
    readings: &[Reading],
    judged: Judged,
) -> Result<Established, Refusal> {
    if judged.decision.verdict != Verdict::Asked {
        return establish::establish(shared, flow, readings, judged).await;
    }
    tokio::select! {
        established = establish::establish(shared, flow, readings, judged) => established,
        () = broken(stream) => Err(Refusal::Gone),
    }
}

/// Completes when the connection broke. The end of what a client sends is no such thing, and from one that goes on
/// sending nothing can be told.
async fn broken(stream: &mut Socket) {
    let mut peeked = [0; 1];
    if let Ok(stream) = stream.watched()
        && stream.peek(&mut peeked).await.is_ok()
    {
        std::future::pending::<()>().await;
    }
}
