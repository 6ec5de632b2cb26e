//! Files of the lab's folder, as they stand: what a package registry serves.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{carried::Stream, http1::Request, http1_answers::respond};

/// Answers with the file of the path below `folder`; a path that ends with a slash means its `index.html`.
pub(super) async fn answer(stream: &mut impl Stream, request: &Request, folder: &Path) -> Result<()> {
    let path = request.path();
    let inside: PathBuf = path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    let mut file = folder.join(inside);
    if path.ends_with('/') {
        file.push("index.html");
    }
    let kind = match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html",
        Some("json") | None => "application/json",
        Some(_) => "application/octet-stream",
    };
    match std::fs::read(&file) {
        Ok(_) if request.method == "HEAD" => respond(stream, "200 OK", "", b"").await,
        Ok(body) => respond(stream, "200 OK", &format!("Content-Type: {kind}\r\n"), &body).await,
        Err(_) => respond(stream, "404 Not Found", "", b"").await,
    }
}
