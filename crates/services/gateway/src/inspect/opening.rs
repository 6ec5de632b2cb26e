//! The handshake with the client, and its connection until the end.

use std::{convert::Infallible, rc::Rc, sync::Arc, time::SystemTime};

use audit_event::EndedBy;
use certificates::Protocols;
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::{Decision, Guard, Layer, Target, Verdict};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use wire::client_hello::ClientHello;

use super::{
    connection::{Connection, LocalTasks},
    head,
    link::{ClientStream, Link},
    rejections::Counting,
    request,
    room::GAVE_WAY,
    strict::{Heads, Strict},
};
use crate::{
    budget::Room,
    flow::Flow,
    readings::Readings,
    record::{self, Said},
    report::report,
    shared::Shared,
    socket::Socket,
    worker::Worker,
};

/// The most header fields of a request.
const FIELDS: usize = 256;
/// The most streams of one client at a time.
const STREAMS: u32 = 128;
/// How many streams may be reset before they were taken up, and for our own errors (CVE-2023-44487).
const RESETS: usize = 32;
/// How much of a stream, and of a connection, a client may send ahead of the server.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How much of a body waits in memory.
const BUFFER: usize = 128 * 1024;

/// A client's opened stream. Some kilobytes, which every future that it passes through would keep room for.
type Opened = Box<TlsStream<ClientStream>>;

/// What of a client's offer can be opened; nothing where it has no server name or speaks something else.
pub(crate) fn openable(shared: &Shared, hello: &ClientHello) -> bool {
    shared.inspector.is_some()
        && hello.server_name.is_some()
        && Protocols::of_offer(hello.alpn.iter().map(String::as_bytes)).is_some()
}

/// Opens a flow's TLS and serves the requests inside until the end. In a task of its own, so that what led here is let
/// go of: most of a connection's life is waiting, and then it should hold little.
pub(crate) fn serve(
    worker: &Rc<Worker>,
    stream: Socket,
    bytes: Vec<u8>,
    flow: Flow,
    readings: Readings,
    hello: ClientHello,
) {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let link = Link::new(&worker.moves);
        let mut flow = flow;
        flow.seen.inspected = true;
        match Box::pin(open(&worker.shared, stream, bytes, &hello, &link)).await {
            Ok((opened, _room)) => live_until_end(&worker, opened, flow, readings, hello, link).await,
            Err(error) => {
                let decision = Decision::by_guard(Guard::Malformed, Layer::Tls, "its TLS could not be opened");
                Box::pin(refused(&worker.shared, &flow, decision, error)).await;
            }
        }
    });
}

/// The requests of an opened connection, and its end.
async fn live_until_end(
    worker: &Rc<Worker>,
    opened: Opened,
    flow: Flow,
    readings: Readings,
    hello: ClientHello,
    link: Arc<Link>,
) {
    let Some(host) = hello.server_name else { return };
    let is_http1 = opened.get_ref().1.alpn_protocol() != Some(b"h2");
    let connection = Rc::new(Connection::new(worker, flow, readings, host, is_http1, link));
    let number = worker.inspected.add(&connection);
    let (by, error) = live(&connection, opened, is_http1).await;
    worker.inspected.remove(number);
    let rejected = connection.rejected();
    let all: Vec<String> = error.into_iter().chain(rejected.clone()).collect();
    let error = (!all.is_empty()).then(|| all.join("; "));
    match (connection.end(by, error.clone()), rejected, error) {
        (Some(event), _, _) => worker.record_now(event).await,
        (None, Some(_), Some(error)) => {
            let decision = Decision::by_guard(Guard::Malformed, Layer::Http, "no HTTP/2 inside its TLS");
            Box::pin(refused(&worker.shared, &connection.flow(), decision, error)).await;
        }
        (None, None, _) | (None, _, None) => {}
    }
}

/// The handshake.
async fn open(
    shared: &Shared,
    stream: Socket,
    bytes: Vec<u8>,
    hello: &ClientHello,
    link: &Arc<Link>,
) -> Result<(Opened, Room), String> {
    let (Some(inspector), Some(name)) = (&shared.inspector, &hello.server_name) else {
        return Err("this TLS can't be opened".to_owned());
    };
    let room = inspector.rooms().of_connection().await.map_err(|error| error.to_string())?;
    let protocols = Protocols::of_offer(hello.alpn.iter().map(String::as_bytes)).unwrap_or(Protocols::Unnamed);
    let target = Target::Name(name.clone());
    let config = inspector.leaves.server_config(&target, protocols, SystemTime::now());
    let config = config.map_err(|error| report(&error))?;
    let stream = stream.into_stream().map_err(|error| report(&error))?;
    let stream = ClientStream::new(&bytes, stream, Arc::clone(link));
    let accepting = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(shared.settings.sniff_timeout, accepting).await {
        Ok(Ok(opened)) => Ok((Box::new(opened), room)),
        Ok(Err(error)) => {
            let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            Err(if tls.is_some_and(certificates::distrusts_us) {
                format!(
                    "the client does not trust the certificate of this run for {name} (it pins another, or has trust \
                     of its own); a rule with `tls: passthrough` lets it through unopened"
                )
            } else {
                format!("the TLS handshake with the client failed: {}", report(&error))
            })
        }
        Err(_) => Err("the client did not finish its TLS handshake in time".to_owned()),
    }
}

/// Records a flow of which nothing was sent on, because it could not be read.
async fn refused(shared: &Shared, flow: &Flow, decision: Decision, error: String) {
    let said = Said { verdict: Some(Verdict::Denied.as_str()), reason: None, error: Some(error) };
    let revision = shared.in_force().policy.revision();
    if let Err(error) = record::decided(shared, flow, &decision, revision, said).await {
        tracing::error!(%error, "a refusal could not be recorded");
    }
}

/// Serves requests; who ended it, and why where that was no good end.
async fn live(connection: &Rc<Connection>, opened: Opened, is_http1: bool) -> (EndedBy, Option<String>) {
    let settings = Arc::clone(&connection.worker.shared.settings);
    let serving = async {
        let served = if is_http1 {
            serve_http1(connection, opened).await
        } else {
            Box::pin(serve_http2(connection, opened)).await
        };
        let tunnel = connection.tunnel.borrow_mut().take();
        if let Some(mut tunnel) = tunnel.map(Ended) {
            // A tunnel that panicked is over as well.
            let _ = (&mut tunnel.0).await;
        }
        served
    };
    let total = async {
        match settings.total_timeout {
            Some(total) => tokio::time::sleep(total).await,
            None => std::future::pending().await,
        }
    };
    // The reader of HTTP/1.1 bounds its heads itself.
    let unasked = async {
        if !is_http1 {
            tokio::time::sleep(settings.sniff_timeout).await;
        }
        if is_http1 || connection.was_asked() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = serving => match served {
            _ if connection.was_cut() => (EndedBy::Server, connection.fault()),
            Ok(()) => (EndedBy::Finished, None),
            Err(error) => (EndedBy::Client, Some(report(&error))),
        },
        () = connection.link.idle(settings.idle_timeout) => (EndedBy::Bound, None),
        () = total => (EndedBy::Bound, None),
        () = unasked => (EndedBy::Bound, Some("the client asked for nothing in time".to_owned())),
        () = connection.gives_way.notified() => {
            connection.link.tear();
            (EndedBy::Bound, Some(GAVE_WAY.to_owned()))
        }
        () = connection.is_flooded() => (EndedBy::Bound, Some("the client takes back too many requests".to_owned())),
    }
}

/// A task that does not outlive its connection.
struct Ended(JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve_http1(connection: &Rc<Connection>, opened: Opened) -> hyper::Result<()> {
    let settings = &connection.worker.shared.settings;
    let heads = Arc::new(Heads::default());
    let strict = Strict::new(opened, Arc::clone(&heads), settings.sniff_limit, settings.sniff_timeout);
    let service = service_fn(|request: Request<Incoming>| {
        let (connection, head, heads) = (Rc::clone(connection), heads.next(), Arc::clone(&heads));
        // The library keeps the place of a future between requests as well.
        Box::pin(async move { Ok::<_, Infallible>(request::answer(connection, head, request, Some(heads)).await) })
    });
    // No timer of the library's: `Strict` bounds the time for a head, and `live` the time without a byte.
    http1::Builder::new()
        .max_headers(FIELDS)
        .max_buf_size(BUFFER)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(strict), service)
        .with_upgrades()
        .await
}

async fn serve_http2(connection: &Rc<Connection>, opened: Opened) -> hyper::Result<()> {
    let limit = connection.worker.shared.settings.sniff_limit;
    let service = service_fn(|request: Request<Incoming>| {
        connection.note_asked();
        let (connection, head) = (Rc::clone(connection), head::of_http2(&request, limit));
        // The library keeps the place of a future as long as a client leaves its answer lying.
        Box::pin(async move { Ok::<_, Infallible>(request::answer(connection, head, request, None).await) })
    });
    http2::Builder::new(LocalTasks)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limit).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(BUFFER)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(Counting::new(opened, &connection.rejections)), service)
        .await
}
