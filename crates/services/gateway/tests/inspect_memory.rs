//! A sandbox that asks for much and takes nothing: what it makes the gateway hold is bounded, for all its connections
//! together, and others of the sandbox go on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    future::poll_fn,
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use gateway::Settings;
use http::Response;
use rustls::ServerConfig;
use support::{
    PATIENCE, World,
    frames::{END_STREAM, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, frame, get, read_frame, request, setting, status},
    peak,
    tls::{ClientTls, Shown, Tls, inspected},
};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
/// As many as ask on so many streams each: for more than there is room.
const CLIENTS: usize = 20;
const STREAMS: u32 = 100;
/// How many answers there is room for, connections left out.
const ANSWERS: usize = 384 * 1024 / 384;
/// What all that may take, in KiB: the bound, and a third more for the test's own ends.
const GROWTH: usize = 512 * 1024;

/// A server of HTTP/2 whose answers have no end. Counts the requests.
fn endless(config: Arc<ServerConfig>) -> (SocketAddr, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let (ready, address) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counter) = (TlsAcceptor::from(Arc::clone(&config)), Arc::clone(&counter));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        pour(stream, &counter).await;
                    }
                });
            }
        });
    });
    (address.recv_timeout(PATIENCE).unwrap(), requests)
}

async fn pour(stream: TlsStream<tokio::net::TcpStream>, counter: &AtomicUsize) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        counter.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
            loop {
                stream.reserve_capacity(ZEROS.len());
                let Some(Ok(count)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                if stream.send_data(Bytes::from_static(&ZEROS[..count.min(ZEROS.len())]), false).is_err() {
                    return;
                }
            }
        });
    }
}

/// Clients that ask with windows as large as can be, and read nothing.
fn ask_and_take_nothing(tls: &Tls, world: &World, port: u16) -> Vec<ClientTls> {
    let ask = || {
        let mut client = tls.client_of(world, &["h2"], port);
        let window = frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000u32.to_be_bytes());
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &setting(4, 0x7fff_ffff)), &window].concat();
        for stream in 0..STREAMS {
            bytes.extend(request(stream * 2 + 1, END_STREAM, &get("/ok/1")));
        }
        client.write_all(&bytes).unwrap();
        client
    };
    (0..CLIENTS).map(|_| ask()).collect()
}

#[test]
fn answers_that_nobody_takes_have_a_bound_for_the_whole_sandbox() {
    let tls = Tls::new();
    let (origin, requests) = endless(tls.server_config(Shown::Good, &["h2"]));
    let world = tls.world(inspected());
    let before = peak();
    let mut clients = ask_and_take_nothing(&tls, &world, origin.port());
    world.event("flow.ended", |event| {
        event["ended_by"] == "unreachable"
            && event["error"].as_str().is_some_and(|error| error.contains("the memory for requests inside TLS"))
    });
    // The last one to come had none of it.
    let told = std::iter::from_fn(|| read_frame(clients.last_mut().unwrap())).find(|frame| frame.kind == HEADERS);
    assert_eq!(status(&told.unwrap().payload), 503);
    assert!(requests.load(Ordering::SeqCst) <= ANSWERS);
    let grown = peak().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} KiB");
}

#[test]
fn who_takes_nothing_gives_way_to_others_of_the_sandbox() {
    let tls = Tls::new();
    let (origin, _) = endless(tls.server_config(Shown::Good, &["h2"]));
    let world = World::with(inspected(), None, |settings| {
        tls.settings(Settings { progress_timeout: Duration::from_secs(1), ..settings })
    });
    let clients = ask_and_take_nothing(&tls, &world, origin.port());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = tls.client_of(&world, &["h2"], origin.port());
        let ask = request(1, END_STREAM, &get("/ok/1"));
        client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b""), &ask].concat()).unwrap();
        let head = std::iter::from_fn(|| read_frame(&mut client)).find(|frame| frame.kind == HEADERS).unwrap();
        match status(&head.payload) {
            200 => break,
            told => assert!(told == 503 && Instant::now() < deadline, "{told}"),
        }
    }
    world.event("flow.ended", |event| {
        event["ended_by"] == "bound" && event["error"].as_str().is_some_and(|error| error.contains("held memory"))
    });
    drop(clients);
}
