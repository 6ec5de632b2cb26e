//! CONNECT and SOCKS5 to the next hop.
//!
//! Both are told the checked address and never a name. An answer is read strictly, to a bound, and not one byte
//! beyond its end: what follows is the upstream's (a server may speak first).

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wire::response;

use super::{DialError, Fault};

/// The longest answer head of an HTTP proxy.
const HEAD_LIMIT: usize = 8 * 1024;

/// What a proxy did instead of connecting us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// Its name can't be resolved by the host.
    #[error("its name can't be resolved")]
    Unresolved(#[source] io::Error),
    /// It can't be reached.
    #[error("it can't be reached")]
    Unreachable(#[source] Box<DialError>),
    /// It closed or reset before it answered.
    #[error("it closed the connection before it answered")]
    Closed(#[source] io::Error),
    /// It answered a CONNECT with this status.
    #[error("it answered CONNECT with status {0}")]
    Status(u16),
    /// It refused by a SOCKS5 reply code.
    #[error("it answered SOCKS5 with code {code}: {}", meaning(*code))]
    Socks5Reply {
        /// RFC 1928, section 6.
        code: u8,
    },
    /// It wants an authentication that the route does not have.
    #[error("it wants an authentication that the route does not give")]
    Authentication,
    /// Its answer is not of the protocol, or too long.
    #[error("its answer is malformed: {0}")]
    Malformed(&'static str),
}

impl ProxyError {
    /// Whether the proxy, or the way to it, only took too long.
    pub(super) fn timed_out(&self) -> bool {
        match self {
            ProxyError::Status(504) | ProxyError::Socks5Reply { code: 6 } => true,
            ProxyError::Unreachable(error) => error.timed_out(),
            ProxyError::Unresolved(_)
            | ProxyError::Closed(_)
            | ProxyError::Status(_)
            | ProxyError::Socks5Reply { .. }
            | ProxyError::Authentication
            | ProxyError::Malformed(_) => false,
        }
    }

    /// Who is at fault: a proxy that says it could not reach the upstream only passes the news on.
    pub(super) fn fault(&self) -> Fault {
        match self {
            ProxyError::Status(502..=504) | ProxyError::Socks5Reply { code: 3..=6 } => Fault::Upstream,
            ProxyError::Unresolved(_)
            | ProxyError::Unreachable(_)
            | ProxyError::Closed(_)
            | ProxyError::Status(_)
            | ProxyError::Socks5Reply { .. }
            | ProxyError::Authentication
            | ProxyError::Malformed(_) => Fault::Operator,
        }
    }
}

/// RFC 1928, section 6.
fn meaning(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unassigned",
    }
}

/// Asks an HTTP proxy for a tunnel (RFC 9110, 9.3.6).
pub(super) async fn http_connect(stream: &mut TcpStream, target: SocketAddr) -> Result<(), ProxyError> {
    // `SocketAddr` prints an IPv6 address in brackets, as an authority wants it.
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(ProxyError::Closed)?;
    let head = read_head(stream).await?;
    match response::status(&head).map_err(ProxyError::Malformed)? {
        200..=299 => Ok(()),
        407 => Err(ProxyError::Authentication),
        other => Err(ProxyError::Status(other)),
    }
}

/// Reads to the empty line and no further.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, ProxyError> {
    let mut head = Vec::with_capacity(512);
    let mut window = [0_u8; 1024];
    loop {
        let seen = stream.peek(&mut window).await.map_err(ProxyError::Closed)?;
        if seen == 0 {
            return Err(ProxyError::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
        let before = head.len();
        head.extend_from_slice(window.get(..seen).unwrap_or_default());
        let from = before.saturating_sub(3);
        let end = head.get(from..).unwrap_or_default().windows(4).position(|four| four == b"\r\n\r\n");
        head.truncate(end.map_or(head.len(), |at| from + at + 4));
        let mut taken = head.len() - before;
        while taken > 0 {
            let part = window.get_mut(..taken).unwrap_or_default();
            taken -= stream.read(part).await.map_err(ProxyError::Closed)?;
        }
        if head.len() > HEAD_LIMIT {
            return Err(ProxyError::Malformed("its head is too long"));
        }
        if end.is_some() {
            return Ok(head);
        }
    }
}

/// Asks a SOCKS5 proxy for a connection, by address (RFC 1928).
pub(super) async fn socks5(stream: &mut TcpStream, target: SocketAddr) -> Result<(), ProxyError> {
    stream.write_all(&[5, 1, 0]).await.map_err(ProxyError::Closed)?;
    let mut chosen = [0_u8; 2];
    stream.read_exact(&mut chosen).await.map_err(ProxyError::Closed)?;
    match chosen {
        [5, 0] => {}
        [5, _] => return Err(ProxyError::Authentication),
        _ => return Err(ProxyError::Malformed("it speaks another version of SOCKS")),
    }
    let mut request = vec![5, 1, 0];
    match target.ip() {
        IpAddr::V4(address) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
    }
    request.extend_from_slice(&target.port().to_be_bytes());
    stream.write_all(&request).await.map_err(ProxyError::Closed)?;
    socks5_reply(stream).await
}

async fn socks5_reply(stream: &mut TcpStream) -> Result<(), ProxyError> {
    let mut reply = [0_u8; 4];
    stream.read_exact(&mut reply).await.map_err(ProxyError::Closed)?;
    let [version, code, reserved, kind] = reply;
    if version != 5 || reserved != 0 {
        return Err(ProxyError::Malformed("its reply is no SOCKS5"));
    }
    if code != 0 {
        return Err(ProxyError::Socks5Reply { code });
    }
    let rest = match kind {
        1 => 4 + 2,
        4 => 16 + 2,
        3 => {
            let length = stream.read_u8().await.map_err(ProxyError::Closed)?;
            usize::from(length) + 2
        }
        _ => return Err(ProxyError::Malformed("its reply names an unknown address type")),
    };
    let mut bound = [0_u8; 257];
    let bound = bound.get_mut(..rest).ok_or(ProxyError::Malformed("its reply is too long"))?;
    stream.read_exact(bound).await.map_err(ProxyError::Closed)?;
    Ok(())
}
