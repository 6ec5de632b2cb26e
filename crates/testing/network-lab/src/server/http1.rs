//! HTTP/1.1, lenient on purpose: what a strict gateway should never have passed on is understood here in the way
//! that is worst for it, so that it shows.
//!
//! | path | answer |
//! | --- | --- |
//! | `/bytes/N` | N bytes |
//! | `/chunked/N` | N bytes in chunks |
//! | `/events/N` | N server-sent events |
//! | `/status/N` | that status |
//! | `/websocket` | WebSocket echo |
//! | `/hold` | a head, then nothing until the client goes |
//! | `/switch` | 101 though nobody asked, then HTTP/1.1 as before |
//! | `/git/…` | git's smart HTTP |
//! | `/files/…` | that file of the lab's folder |
//! | `/reflect`, `/redirect?to=URL`, `/token` | see `reflect` |
//! | any other | the method, host, target and the body sent |
//!
//! A body with both Content-Length and Transfer-Encoding is chunked, unless the target says `prefer=length`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{carried::Stream, files, git, http1_answers, recorder::Visit, web::Web, websocket};
use crate::reached::What;

/// The longest head.
const HEAD: usize = 256 * 1024;
/// How much of a body is kept.
const BODY: usize = 16 << 20;
/// How long a client may be silent within a request or between two.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request, read.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) version: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The path, without an absolute form's front and without the query.
    pub(super) fn path(&self) -> &str {
        let target = match self.target.split_once("://") {
            Some((_, rest)) if !self.target.starts_with('/') => {
                rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/")
            }
            _ => &self.target,
        };
        target.split('?').next().unwrap_or(target)
    }

    /// The value of `name=` in the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Serves requests until the client has had enough.
pub(super) async fn serve<S: Stream>(mut stream: S, visit: &Visit, sni: Option<String>, web: &Web) -> Result<()> {
    let mut buffered = Vec::new();
    loop {
        let Some(head) = read_head(&mut stream, &mut buffered).await? else { return Ok(()) };
        let mut request = parse(&head)?;
        visit.tell(What::Request {
            sni: sni.clone(),
            version: request.version.clone(),
            method: request.method.clone(),
            target: request.target.clone(),
            host: request.header("host").map(str::to_owned),
            headers: request.headers.clone(),
        });
        if request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            return websocket::serve(stream, &request, buffered).await;
        }
        if request.header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        request.body = read_body(&mut stream, &mut buffered, &request).await?;
        if request.path().starts_with("/git/") {
            git::answer(&mut stream, &request, &web.folder).await?;
        } else if request.path().starts_with("/files/") {
            files::answer(&mut stream, &request, &web.folder).await?;
        } else {
            http1_answers::answer(&mut stream, &request).await?;
        }
        let close = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if close || request.version != "1.1" {
            stream.shutdown().await?;
            return Ok(());
        }
    }
}

/// Reads to the empty line; `None` where the client ended between requests.
async fn read_head(stream: &mut impl Stream, buffered: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    loop {
        // A bare LF ends a line too: lenient.
        let end =
            find(buffered, b"\r\n\r\n").map(|at| at + 4).into_iter().chain(find(buffered, b"\n\n").map(|at| at + 2));
        if let Some(end) = end.min() {
            return Ok(Some(buffered.drain(..end).collect()));
        }
        // HTTP/0.9: one line and no version.
        if let Some(line) = find(buffered, b"\n")
            && buffered.starts_with(b"GET ")
            && find(buffered.get(..line).unwrap_or_default(), b"HTTP/").is_none()
        {
            return Ok(Some(buffered.drain(..=line).collect()));
        }
        if buffered.len() > HEAD {
            bail!("an endless head");
        }
        if !more(stream, buffered).await? {
            return Ok(None);
        }
    }
}

async fn more(stream: &mut impl Stream, buffered: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 8192];
    let count = timeout(PATIENCE, stream.read(&mut buffer)).await.context("a silent client")??;
    buffered.extend_from_slice(buffer.get(..count).unwrap_or_default());
    Ok(count > 0)
}

pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse(head: &[u8]) -> Result<Request> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
    let first = lines.next().context("a request line")?;
    let mut words = first.split_ascii_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let version = words.next().map_or("0.9", |version| version.trim_start_matches("HTTP/")).to_owned();
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t'])
            && let Some((_, value)) = headers.last_mut()
        {
            value.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    Ok(Request { method, target, version, headers, body: Vec::new() })
}

async fn read_body(stream: &mut impl Stream, buffered: &mut Vec<u8>, request: &Request) -> Result<Vec<u8>> {
    let coded = request.headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("transfer-encoding") && value.to_ascii_lowercase().contains("chunked")
    });
    let length = request.header("content-length").and_then(|value| value.trim_start_matches('+').parse::<u64>().ok());
    match length {
        Some(length) if !coded || request.query("prefer") == Some("length") => {
            read_exactly(stream, buffered, length).await
        }
        _ if coded => read_chunks(stream, buffered).await,
        _ => Ok(Vec::new()),
    }
}

/// Reads `length` bytes and keeps the first of them.
async fn read_exactly(stream: &mut impl Stream, buffered: &mut Vec<u8>, length: u64) -> Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut left = length;
    while left > 0 {
        if buffered.is_empty() && !more(stream, buffered).await? {
            bail!("a body cut short");
        }
        let count = buffered.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read: Vec<u8> = buffered.drain(..count).collect();
        kept.extend_from_slice(read.get(..BODY.saturating_sub(kept.len())).unwrap_or(&read));
        left -= count as u64;
    }
    Ok(kept)
}

async fn read_chunks(stream: &mut impl Stream, buffered: &mut Vec<u8>) -> Result<Vec<u8>> {
    let mut kept = Vec::new();
    loop {
        let line = read_line(stream, buffered).await?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).with_context(|| format!("a chunk's size: {line:?}"))?;
        if size == 0 {
            // Trailers, to the empty line.
            while !read_line(stream, buffered).await?.is_empty() {}
            return Ok(kept);
        }
        let chunk = read_exactly(stream, buffered, size).await?;
        kept.extend_from_slice(chunk.get(..BODY.saturating_sub(kept.len())).unwrap_or(&chunk));
        read_line(stream, buffered).await?;
    }
}

async fn read_line(stream: &mut impl Stream, buffered: &mut Vec<u8>) -> Result<String> {
    loop {
        if let Some(end) = find(buffered, b"\n") {
            let line: Vec<u8> = buffered.drain(..=end).collect();
            return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
        }
        if buffered.len() > HEAD || !more(stream, buffered).await? {
            bail!("a line cut short");
        }
    }
}
