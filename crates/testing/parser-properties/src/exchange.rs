//! Both directions of a plain HTTP connection: the requests that were judged are the requests that an origin sees.

use wire::{
    exchange::{Bounds, ClientStep, Exchange},
    http_head::{Framing, Head, RequestHead, read},
};

use crate::http::chunked_end;

const LIMIT: usize = 64 * 1024;
/// What divides the client's bytes from the server's.
const DIVIDER: &[u8] = b"\n~~~\n";

/// The client's bytes, a divider, and the server's.
pub(crate) fn exchange(bytes: &[u8]) {
    let at = bytes.windows(DIVIDER.len()).position(|window| window == DIVIDER);
    let (client, server) = at.map_or((bytes, &b""[..]), |at| (&bytes[..at], &bytes[at + DIVIDER.len()..]));
    let Some(whole) = run(client, server, usize::MAX) else { return };
    for piece in [1, 5, 64] {
        let pieces = run(client, server, piece).expect("the first head does not depend on pieces");
        assert_eq!(pieces.broken, whole.broken, "in pieces of {piece}");
        assert_eq!(pieces.judged, whole.judged, "in pieces of {piece}");
        if whole.broken.is_some() {
            assert!(pieces.forwarded.starts_with(&whole.forwarded), "in pieces of {piece}");
        } else {
            assert_eq!(pieces.forwarded, whole.forwarded, "in pieces of {piece}");
        }
    }
    origin_sees(&whole);
}

#[derive(Debug, Default)]
struct Run {
    /// The heads that were judged, in order.
    judged: Vec<RequestHead>,
    /// What the origin gets.
    forwarded: Vec<u8>,
    /// Whether it became a tunnel.
    tunnel: bool,
    broken: Option<&'static str>,
}

/// Plays a connection: the client goes as far as it can, then the server answers, a piece at a time.
fn run(client: &[u8], server: &[u8], piece: usize) -> Option<Run> {
    let Head::Complete(first, used) = read(client, LIMIT, false) else { return None };
    let mut exchange = Exchange::new(&first, Bounds::default(), false, LIMIT);
    let mut run = Run { forwarded: first.write(false), judged: vec![*first], ..Run::default() };
    let mut waiting = client[used..].to_vec();
    let mut server = server;
    loop {
        if let Err(reason) = client_turn(&mut exchange, &mut waiting, &mut run, piece) {
            run.broken = Some(reason);
            return Some(run);
        }
        if server.is_empty() || !exchange.is_answering() {
            run.tunnel = exchange.unseen_from_client() == u64::MAX;
            return Some(run);
        }
        let part = &server[..server.len().min(piece)];
        match exchange.server(part) {
            Ok(taken) => {
                assert!(taken <= part.len() && (taken > 0 || !exchange.is_answering()), "no progress");
                server = &server[taken..];
            }
            Err(reason) => {
                run.broken = Some(reason);
                return Some(run);
            }
        }
        if exchange.has_due() {
            let mut held = exchange.take_held();
            held.append(&mut waiting);
            waiting = held;
        }
    }
}

fn client_turn(
    exchange: &mut Exchange,
    waiting: &mut Vec<u8>,
    run: &mut Run,
    piece: usize,
) -> Result<(), &'static str> {
    while !waiting.is_empty() && !exchange.is_full() {
        let part: Vec<u8> = waiting.drain(..waiting.len().min(piece).min(wire::exchange::PIECE_LIMIT)).collect();
        let mut rest = part.as_slice();
        while !rest.is_empty() {
            match exchange.client(rest)? {
                ClientStep::Forward(count) => {
                    assert!(count <= rest.len());
                    run.forwarded.extend_from_slice(&rest[..count]);
                    rest = &rest[count..];
                }
                ClientStep::Kept => break,
                ClientStep::Judge(head) => {
                    run.forwarded.extend(head.write(false));
                    let mut held = exchange.pass(&head, Bounds::default());
                    held.append(waiting);
                    *waiting = held;
                    run.judged.push(*head);
                    break;
                }
            }
        }
    }
    Ok(())
}

/// An origin with another parser finds exactly the requests that were judged.
fn origin_sees(run: &Run) {
    let mut rest = run.forwarded.as_slice();
    for (number, head) in run.judged.iter().enumerate() {
        let mut fields = [httparse::EMPTY_HEADER; 300];
        let mut request = httparse::Request::new(&mut fields);
        let Ok(httparse::Status::Complete(used)) = request.parse(rest) else {
            panic!("request {number} is none to the origin: {}", rest.escape_ascii());
        };
        assert_eq!(request.method, Some(head.method.as_str()));
        assert_eq!(request.path, Some(head.origin_target().as_str()));
        rest = &rest[used..];
        let last = number + 1 == run.judged.len();
        let length = match head.framing {
            Framing::Empty => Some(0),
            Framing::Length(length) => usize::try_from(length).ok().filter(|length| *length <= rest.len()),
            Framing::Chunked => chunked_end(rest, true),
        };
        match length {
            Some(length) => rest = &rest[length..],
            None => {
                assert!(last, "a request behind a body that has not ended");
                rest = &[];
            }
        }
    }
    assert!(rest.is_empty() || run.tunnel, "the origin gets what nobody judged: {}", rest.escape_ascii());
}
