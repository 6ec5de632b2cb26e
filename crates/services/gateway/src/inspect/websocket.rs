//! What becomes of a WebSocket's handshake: once the server agreed, its frames go both ways as they are, or looked
//! through for secrets.
//!
//! Both directions are read along: what is no frame, or a message longer than its bound, ends both. So a handshake
//! opens a way for messages, and for nothing else.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;
use http::{
    HeaderMap, HeaderName, Response,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, UPGRADE},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::{
    http_head::RequestHead,
    websocket::{Messages, Sender},
};

use super::{
    body::Answer,
    connection::Connection,
    head,
    strict::Heads,
    under_way::{Side, UnderWay},
};
use crate::credential::{self, Echo, Looking};

/// What is put behind a client's key (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The one extension that is let through (RFC 7692): the frames stay what they are.
const DEFLATE: &[u8] = b"permessage-deflate";
/// The most bytes of a message, where the rule says nothing.
const MESSAGE: u64 = 64 * 1024 * 1024;

/// What client and server agreed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreed {
    deflate: bool,
}

impl Agreed {
    /// Whether this answer agrees to that handshake, and to nothing more.
    pub(super) fn of<B>(head: &RequestHead, response: &Response<B>) -> Result<Self, &'static str> {
        let headers = response.headers();
        if !lists(headers, &UPGRADE, b"websocket") || !lists(headers, &CONNECTION, b"upgrade") {
            return Err("a switch of protocols that was not asked for");
        }
        let mut keys = fields(head, "sec-websocket-key");
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err("an answer to a WebSocket's handshake without one key");
        };
        let expected = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.trim_ascii(), GUID].concat());
        let accepted = headers.get(SEC_WEBSOCKET_ACCEPT).map(http::HeaderValue::as_bytes);
        if accepted != Some(BASE64.encode(expected.as_ref()).as_bytes()) {
            return Err("an answer to another WebSocket's handshake");
        }
        let offered = fields(head, "sec-websocket-extensions").any(is_known_extension);
        let mut deflate = false;
        for agreed in headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
            if deflate || !offered || !is_known_extension(agreed.as_bytes()) || agreed.as_bytes().contains(&b',') {
                return Err("an extension of WebSocket that was not asked for");
            }
            deflate = true;
        }
        Ok(Self { deflate })
    }
}

/// Whether all that is offered here is let through.
pub(super) fn is_known_extension(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').all(|offer| {
        offer.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().eq_ignore_ascii_case(DEFLATE)
    })
}

fn fields<'a>(head: &'a RequestHead, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    head.fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
}

fn lists(headers: &HeaderMap, name: &HeaderName, what: &[u8]) -> bool {
    let mut options = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(what))
}

/// Passes the agreement on, and then the frames until either side ends or a new policy denies the handshake.
pub(super) fn relay(
    connection: &Rc<Connection>,
    under_way: Rc<UnderWay>,
    agreed: Agreed,
    response: Response<Echo>,
    client: OnUpgrade,
    heads: &Arc<Heads>,
    looking: Option<Looking>,
) -> Response<Answer> {
    let mut response = response;
    let server = hyper::upgrade::on(&mut response);
    heads.answer_upgrade(true);
    let whole = Rc::clone(connection);
    let bounds = under_way.open.borrow().bounds;
    under_way.is_tunnel.set(true);
    let relaying = async move {
        let (Ok(client), Ok(server)) = (client.await, server.await) else { return };
        let fault = Rc::new(Cell::new(None));
        let held = |sender, bound: Option<u64>| {
            Messages::new(sender, agreed.deflate, bound.map_or(MESSAGE, |bound| bound.min(MESSAGE)))
        };
        let mut client = Frames::new(TokioIo::new(client), held(Sender::Client, bounds.body), &fault);
        let mut server = Frames::new(TokioIo::new(server), held(Sender::Server, bounds.response), &fault);
        tokio::select! {
            biased;
            () = std::future::poll_fn(|cx| under_way.poll_cut(Side::Down, cx)) => whole.cut_by_policy(),
            // However it ends, both sides are closed.
            _ = credential::relay(&mut client, &mut server, looking) => {}
        }
        if let Some(fault) = fault.get() {
            whole.cut_for(fault);
        }
    };
    *connection.tunnel.borrow_mut() = Some(tokio::task::spawn_local(relaying));
    head::answer(response, |_| Answer::Own(None))
}

/// A stream that what is read of must be frames.
struct Frames<T> {
    stream: T,
    messages: Messages,
    fault: Rc<Cell<Option<&'static str>>>,
}

impl<T> Frames<T> {
    fn new(stream: T, messages: Messages, fault: &Rc<Cell<Option<&'static str>>>) -> Self {
        Self { stream, messages, fault: Rc::clone(fault) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Frames<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = self.messages.advance(buf.filled().get(before..).unwrap_or_default());
        if let Err(fault) = read {
            buf.set_filled(before);
            self.fault.set(Some(fault));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Frames<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
