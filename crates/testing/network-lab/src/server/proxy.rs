//! The unfiltered proxy: CONNECT, absolute-form and SOCKS5 on one port, dialling from its own namespace.
//!
//! It stands for a corporate proxy, and on the host for "nothing in the way" when an attack is proven to work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
};

use super::{carried::Carried, http1::find, serve::Connection};
use crate::reached::What;

pub(super) async fn visit((mut stream, visit): Connection) -> Result<()> {
    let first = stream.read_u8().await?;
    if first == 5 {
        let target = socks_target(&mut stream).await?;
        visit.tell(What::Request {
            sni: None,
            version: "socks5".to_owned(),
            method: "CONNECT".to_owned(),
            target: target.clone(),
            host: None,
            headers: Vec::new(),
        });
        return match TcpStream::connect(worst(&target)?).await {
            Ok(mut upstream) => {
                stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
                copy_bidirectional(&mut stream, &mut upstream).await?;
                Ok(())
            }
            Err(error) => {
                stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
                Err(error.into())
            }
        };
    }
    stream.put_back(&[first]);
    http(&mut stream, &visit).await
}

async fn http(stream: &mut Carried<TcpStream>, visit: &super::recorder::Visit) -> Result<()> {
    let mut buffered = Vec::new();
    let end = loop {
        if let Some(end) = find(&buffered, b"\r\n\r\n") {
            break end + 4;
        }
        if buffered.len() > 64 * 1024 || stream.read_buf(&mut buffered).await? == 0 {
            bail!("no request");
        }
    };
    let head = String::from_utf8_lossy(buffered.get(..end).unwrap_or_default()).into_owned();
    let line = head.split("\r\n").next().unwrap_or_default();
    // Whatever stands between the method and the version, spaces too.
    let (method, target) = line.split_once(' ').unwrap_or((line, ""));
    let target = target.rsplit_once(" HTTP/").map_or(target, |(target, _)| target);
    visit.tell(What::Request {
        sni: None,
        version: "1.1".to_owned(),
        method: method.to_owned(),
        target: target.to_owned(),
        host: None,
        headers: Vec::new(),
    });
    let connect = method == "CONNECT";
    let authority = if connect {
        target.to_owned()
    } else {
        let rest = target.strip_prefix("http://").context("neither CONNECT nor absolute-form")?;
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        if authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        }
    };
    let mut upstream = match TcpStream::connect(worst(&authority)?).await {
        Ok(upstream) => upstream,
        Err(error) => {
            stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await?;
            return Err(error.into());
        }
    };
    if connect {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        upstream.write_all(buffered.get(end..).unwrap_or_default()).await?;
    } else {
        // A server takes the absolute form too (RFC 9112, 3.2.2).
        upstream.write_all(&buffered).await?;
    }
    copy_bidirectional(stream, &mut upstream).await?;
    Ok(())
}

/// The target as a careless resolver would read it: every full stop a dot, control characters and spaces gone,
/// what stands before an `@` dropped, brackets and a last dot forgiven, zones understood.
fn worst(target: &str) -> Result<(String, u16)> {
    let target = target.rsplit('@').next().unwrap_or(target);
    let dots = |letter| if matches!(letter, '\u{3002}' | '\u{ff0e}' | '\u{ff61}') { '.' } else { letter };
    let text: String = target.chars().map(dots).filter(|letter| !letter.is_control() && *letter != ' ').collect();
    let (host, port) = text.rsplit_once(':').context("a port")?;
    Ok((host.trim_matches(['[', ']']).trim_end_matches('.').to_owned(), port.parse().context("a port")?))
}

/// Reads the greeting and the request (RFC 1928), answers the greeting, gives the target as `host:port`.
async fn socks_target(stream: &mut Carried<TcpStream>) -> Result<String> {
    let methods = stream.read_u8().await?;
    let mut offered = vec![0; usize::from(methods)];
    stream.read_exact(&mut offered).await?;
    stream.write_all(&[5, 0]).await?;
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    let [5, 1, _, kind] = request else { bail!("not a SOCKS5 connect: {request:?}") };
    let host = match kind {
        1 => {
            let mut octets = [0; 4];
            stream.read_exact(&mut octets).await?;
            IpAddr::from(Ipv4Addr::from(octets)).to_string()
        }
        4 => {
            let mut octets = [0; 16];
            stream.read_exact(&mut octets).await?;
            format!("[{}]", Ipv6Addr::from(octets))
        }
        3 => {
            let length = stream.read_u8().await?;
            let mut name = vec![0; usize::from(length)];
            stream.read_exact(&mut name).await?;
            String::from_utf8(name)?
        }
        other => bail!("address type {other}"),
    };
    let port = stream.read_u16().await?;
    Ok(format!("{host}:{port}"))
}
