//! Web servers: TLS or not, HTTP/2 or HTTP/1.1, anything else recorded and echoed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{Acceptor, WebPkiClientVerifier},
};
use tokio::{io::AsyncReadExt as _, time::timeout};
use tokio_rustls::LazyConfigAcceptor;

use super::{
    carried::{Carried, Stream},
    http1, http2,
    recorder::Visit,
    serve::{Connection, copy_back},
};
use crate::{reached::What, spec::Identity};

/// How long a client may take to say something.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first bytes of HTTP/2 with prior knowledge (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS record that holds a handshake message.
const TLS_HANDSHAKE: u8 = 0x16;

/// One web server.
pub(super) struct Web {
    tls: Arc<ServerConfig>,
    /// Where git repositories and files stand.
    pub(super) folder: PathBuf,
}

impl Web {
    pub(super) fn new(identity: &Identity, http2: bool, mutual: bool, folder: &Path) -> Result<Self> {
        let Identity::Issued { certificate, key } = identity else { bail!("no certificate was issued") };
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(folder.join("ca.pem"))?)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut tls = builder.with_single_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()].split_off(usize::from(!http2));
        Ok(Self { tls: Arc::new(tls), folder: folder.to_owned() })
    }

    pub(super) async fn visit(&self, (mut stream, visit): Connection) -> Result<()> {
        let first = timeout(PATIENCE, stream.read_u8()).await.context("a silent client")??;
        stream.put_back(&[first]);
        if first != TLS_HANDSHAKE {
            return self.speak(stream, &visit, None).await;
        }
        let hello = timeout(PATIENCE, LazyConfigAcceptor::new(Acceptor::default(), stream)).await??;
        let sni = hello.client_hello().server_name().map(str::to_owned);
        let alpn: Vec<String> = hello
            .client_hello()
            .alpn()
            .map(|protocols| protocols.map(|one| String::from_utf8_lossy(one).into_owned()).collect())
            .unwrap_or_default();
        visit.tell(What::Hello { sni: sni.clone(), alpn: alpn.clone() });
        let mut tls = self.tls.clone();
        if !alpn.iter().any(|one| one == "h2" || one == "http/1.1") {
            // Whatever else was offered (a scan, an odd client): answer without ALPN rather than refuse.
            let mut without = ServerConfig::clone(&tls);
            without.alpn_protocols.clear();
            tls = Arc::new(without);
        }
        let stream = timeout(PATIENCE, hello.into_stream(tls)).await??;
        visit.tell(What::Handshake);
        let stream = Carried::new(stream, &visit);
        self.speak(stream, &visit, sni).await
    }

    /// Speaks HTTP/2 where the preface says so, HTTP/1.1 where a method may begin, else echoes.
    async fn speak<S: Stream + 'static>(
        &self,
        mut stream: Carried<S>,
        visit: &Visit,
        sni: Option<String>,
    ) -> Result<()> {
        let mut start = Vec::new();
        let mut buffer = [0; 512];
        // The preface or a request: enough to tell them apart.
        while start.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(&start) {
            let count = timeout(PATIENCE, stream.read(&mut buffer)).await??;
            if count == 0 {
                break;
            }
            start.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        stream.put_back(&start);
        if start.starts_with(HTTP2_PREFACE) {
            return http2::serve(stream, visit, sni).await;
        }
        if start.first().is_some_and(u8::is_ascii_uppercase) && !start.starts_with(b"SSH-") {
            return http1::serve(stream, visit, sni, self).await;
        }
        copy_back(&mut stream).await
    }
}
