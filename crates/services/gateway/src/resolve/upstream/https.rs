//! DNS over HTTPS (RFC 8484), over HTTP/2.
//!
//! One connection to each server is kept and shared. Its driver runs as a task of the worker that opened it; when
//! that worker stops, the connection fails for the others at once and the next question opens a new one.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, StatusCode, header};
use policy::model::Hop;

use super::{
    Roots, ServerError,
    exchange::connect,
    tls::{self, Protocol},
};

/// The media type of a DNS message.
const MESSAGE: &str = "application/dns-message";
/// The largest DNS message.
const BODY_LIMIT: usize = 65_535;
/// The most connections that are kept.
const SESSION_LIMIT: usize = 16;

/// One server by one hop.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    hop: Hop,
    address: SocketAddr,
    host: String,
}

/// The connections that are kept.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Mutex<Vec<(Place, SendRequest<Bytes>)>>,
}

impl Sessions {
    /// Posts a message and returns the answer's bytes.
    pub(super) async fn post(
        &self,
        roots: &Roots,
        hop: &Hop,
        (address, host, path): (SocketAddr, &str, &str),
        message: Vec<u8>,
    ) -> Result<Vec<u8>, ServerError> {
        let place = Place { hop: hop.clone(), address, host: host.to_owned() };
        let message = Bytes::from(message);
        if let Some(session) = self.get(&place) {
            match request(session, host, address.port(), path, message.clone()).await {
                Ok(answer) => return Ok(answer),
                // It may have been closed meanwhile: one more try on a new connection.
                Err(_) => self.forget(&place),
            }
        }
        let stream = connect(hop, address).await?;
        let stream = tls::handshake(roots, stream, host, Protocol::H2).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ServerError::Http("it does not speak HTTP/2".to_owned()));
        }
        let (session, driver) = h2::client::handshake(stream).await.map_err(failed)?;
        tokio::spawn(async move {
            // How the connection ended is seen by those whose requests it carried.
            drop(driver.await);
        });
        let answer = request(session.clone(), host, address.port(), path, message).await?;
        self.keep(place, session);
        Ok(answer)
    }

    fn get(&self, place: &Place) -> Option<SendRequest<Bytes>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().find(|(other, _)| other == place).map(|(_, session)| session.clone())
    }

    fn forget(&self, place: &Place) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| other != place);
    }

    fn keep(&self, place: Place, session: SendRequest<Bytes>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(other, _)| *other != place);
        if open.len() >= SESSION_LIMIT {
            open.remove(0);
        }
        open.push((place, session));
    }
}

fn failed(error: impl std::fmt::Display) -> ServerError {
    ServerError::Http(error.to_string())
}

/// One request on an open connection.
async fn request(
    session: SendRequest<Bytes>,
    host: &str,
    port: u16,
    path: &str,
    message: Bytes,
) -> Result<Vec<u8>, ServerError> {
    let authority = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("https://{authority}{path}"))
        .header(header::CONTENT_TYPE, MESSAGE)
        .header(header::ACCEPT, MESSAGE)
        .body(())
        .map_err(failed)?;
    let mut session = session.ready().await.map_err(failed)?;
    let (response, mut body) = session.send_request(request, false).map_err(failed)?;
    body.send_data(message, true).map_err(failed)?;
    let response = response.await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(ServerError::Http(format!("status {}", response.status().as_u16())));
    }
    if response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes() != MESSAGE.as_bytes()) {
        return Err(ServerError::Http("its answer is of another media type".to_owned()));
    }
    let mut body = response.into_body();
    let mut answer = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(failed)?;
        answer.extend_from_slice(&part);
        if answer.len() > BODY_LIMIT {
            return Err(ServerError::Http("its answer is too long".to_owned()));
        }
        body.flow_control().release_capacity(part.len()).map_err(failed)?;
    }
    Ok(answer)
}
