//! Git over HTTP: `git http-backend` (git-http-backend(1)) on the repositories in the lab's folder.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    carried::Stream,
    http1::{Request, find},
};

pub(super) async fn answer(stream: &mut impl Stream, request: &Request, folder: &Path) -> Result<()> {
    let path = request.path().strip_prefix("/git").unwrap_or_default();
    let query = request.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder.join("git"))
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "lab")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", request.header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", request.header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("run git http-backend")?;
    let mut input = child.stdin.take().context("git's standard input")?;
    let (written, output) = tokio::join!(
        async {
            let written = input.write_all(&request.body).await;
            drop(input);
            written
        },
        child.wait_with_output()
    );
    written.context("give git the request")?;
    let output = output?.stdout;
    let end = find(&output, b"\r\n\r\n").context("git's answer has no head")?;
    let (head, body) = output.split_at(end);
    let head = String::from_utf8_lossy(head);
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    let fields: String =
        head.lines().filter(|line| !line.starts_with("Status:")).map(|line| format!("{line}\r\n")).collect();
    let body = body.get(4..).unwrap_or_default();
    let answer = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[answer.as_bytes(), body].concat()).await?;
    stream.flush().await?;
    Ok(())
}
