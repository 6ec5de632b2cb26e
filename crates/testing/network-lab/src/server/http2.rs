//! HTTP/2: `/bytes/N` gives N bytes, `/reflect`, `/redirect` and `/token` what `reflect` says; a gRPC request (by its content type) gets its messages back and a
//! `grpc-status` trailer; any other is answered with what was asked and the body sent.

use std::future::poll_fn;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use super::{
    carried::Stream,
    recorder::Visit,
    reflect::{Reflection, Told},
};
use crate::reached::What;

pub(super) async fn serve<S: Stream + 'static>(stream: S, visit: &Visit, sni: Option<String>) -> Result<()> {
    let mut connection = h2::server::Builder::new().enable_connect_protocol().handshake::<_, Bytes>(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        visit.tell(What::Request {
            sni: sni.clone(),
            version: "2".to_owned(),
            method: request.method().to_string(),
            target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            host: request.uri().authority().map(ToString::to_string),
            headers: texts(request.headers()),
        });
        tokio::spawn(async move {
            // A client that breaks off one stream is no fault of the lab.
            let _broken_off = answer(request, respond).await;
        });
    }
    Ok(())
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<()> {
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    if ["/reflect", "/redirect", "/token"].iter().any(|own| target.starts_with(own)) {
        return reflected(request, &target, respond).await;
    }
    let content_type = request.headers().get("content-type").cloned();
    let grpc = content_type.as_ref().is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let line = format!(
        "{} {} {}\n",
        request.method(),
        request.uri().authority().map(ToString::to_string).unwrap_or_default(),
        target
    );
    let response = Response::builder()
        .status(200)
        .header("content-type", content_type.unwrap_or_else(|| HeaderValue::from_static("text/plain")));
    let mut send = respond.send_response(response.body(())?, false)?;
    if let Some(length) = request.uri().path().strip_prefix("/bytes/") {
        return give(send, length.parse()?).await;
    }
    if request.method() == Method::HEAD {
        return Ok(send.send_data(Bytes::new(), true)?);
    }
    if !grpc {
        send.send_data(Bytes::from(line), false)?;
    }
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        send.send_data(data, false)?;
    }
    if grpc {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        send.send_trailers(trailers)?;
    } else {
        send.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

fn texts(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    fields.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

async fn reflected(request: Request<RecvStream>, target: &str, mut respond: SendResponse<Bytes>) -> Result<()> {
    let (parts, mut stream) = request.into_parts();
    let headers = texts(&parts.headers);
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let (is_head, told) = (parts.method == Method::HEAD, Told { target, headers: &headers, body: &body });
    let Some(Reflection { status, fields, body, pieces }) = told.answer() else { return Ok(()) };
    let mut response = Response::builder().status(status);
    for (name, value) in &fields {
        response = response.header(name, value);
    }
    let mut send = respond.send_response(response.body(())?, false)?;
    for piece in body.chunks(pieces).filter(|_| !is_head) {
        send.send_data(Bytes::copy_from_slice(piece), false)?;
    }
    Ok(send.send_data(Bytes::new(), true)?)
}

/// Gives `length` bytes as the client's window allows.
async fn give(mut send: SendStream<Bytes>, length: usize) -> Result<()> {
    let block = Bytes::from(vec![b'x'; 64 * 1024]);
    let mut left = length;
    while left > 0 {
        send.reserve_capacity(left.min(block.len()));
        let capacity = poll_fn(|cx| send.poll_capacity(cx)).await.context("the client left")??;
        let count = capacity.min(left).min(block.len());
        send.send_data(block.slice(..count), false)?;
        left -= count;
    }
    send.send_data(Bytes::new(), true)?;
    Ok(())
}
