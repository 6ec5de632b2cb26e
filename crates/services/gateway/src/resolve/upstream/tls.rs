//! TLS for DNS servers.
//!
//! A server's certificate is checked against the host's trusted roots and the name that the route gives; they are
//! loaded when the first such server is asked, since most policies name none.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::ServerError;

/// Which protocol is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// DNS over TLS.
    Dot,
    /// HTTP/2.
    H2,
}

/// Whose certificates are trusted.
#[derive(Debug)]
pub(crate) struct Roots {
    given: Option<RootCertStore>,
    loaded: OnceLock<Result<ClientConfig, Arc<rustls::Error>>>,
}

impl Roots {
    /// Those of this machine.
    pub(crate) fn platform() -> Self {
        Self { given: None, loaded: OnceLock::new() }
    }

    /// These alone.
    #[cfg(test)]
    pub(crate) fn only(given: RootCertStore) -> Self {
        Self { given: Some(given), loaded: OnceLock::new() }
    }

    fn config(&self, protocol: Protocol) -> Result<Arc<ClientConfig>, ServerError> {
        let loaded = self.loaded.get_or_init(|| self.load().map_err(Arc::new));
        let mut config = loaded.clone().map_err(ServerError::Roots)?;
        config.alpn_protocols = match protocol {
            Protocol::Dot => vec![b"dot".to_vec()],
            Protocol::H2 => vec![b"h2".to_vec()],
        };
        Ok(Arc::new(config))
    }

    fn load(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match &self.given {
            Some(given) => builder.with_root_certificates(given.clone()),
            None => builder.with_platform_verifier()?,
        };
        Ok(builder.with_no_client_auth())
    }
}

/// Sets up TLS with a server of this name.
pub(super) async fn handshake(
    roots: &Roots,
    stream: TcpStream,
    name: &str,
    protocol: Protocol,
) -> Result<TlsStream<TcpStream>, ServerError> {
    let host = ServerName::try_from(name.to_owned())
        .map_err(|_| ServerError::Tls(io::Error::new(io::ErrorKind::InvalidInput, "the server's name is no name")))?;
    TlsConnector::from(roots.config(protocol)?).connect(host, stream).await.map_err(ServerError::Tls)
}
