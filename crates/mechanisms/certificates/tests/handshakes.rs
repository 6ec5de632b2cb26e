//! Handshakes with our own client and upstream roots.

mod support;

use std::{fs, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result};
use certificates::{
    Authority, ClientCertificate, ClientPemError, Fault, Issuer, Leaves, Protocols, Scope, Upstream, UpstreamRoots,
    distrusts_us, trust,
};
use policy::{HostPattern, Target};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ProtocolVersion, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use support::{PATIENCE, Served, ask, serve};

const HOST: &str = "api.example.com";

fn both_issuers() -> Result<Vec<(&'static str, Issuer)>> {
    let now = SystemTime::now();
    let folder = tempfile::tempdir()?;
    let authority = Authority::open_or_create(&folder.path().join("a"), now)?;
    let scope = Scope::of(&[HostPattern::parse(HOST)?]);
    Ok(vec![
        ("of the run, any", Issuer::for_run(Scope::Any, now)?),
        ("of the run, bounded", Issuer::for_run(scope.clone(), now)?),
        ("under the installation's, any", authority.issuer(Scope::Any, now)?),
        ("under the installation's, bounded", authority.issuer(scope, now)?),
    ])
}

fn upstream(issuer: &Issuer, protocols: Protocols, certificate: Option<&ClientCertificate>) -> Result<Upstream> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("bundle.pem");
    fs::write(&path, trust::pem(issuer.anchors()))?;
    let resumption = Resumption::in_memory_sessions(8);
    Ok(UpstreamRoots::from_bundle(&path)?.client_config(protocols, certificate, resumption)?)
}

fn fault(upstream: &Upstream, error: &anyhow::Error) -> Option<Fault> {
    upstream.stream_fault(error.downcast_ref::<std::io::Error>()?)
}

#[test]
fn a_client_that_trusts_the_anchors_takes_the_leaf_of_its_name_and_its_address() -> Result<()> {
    for (which, issuer) in both_issuers()? {
        let client = upstream(&issuer, Protocols::Either, None)?;
        let chain = if which.starts_with("under") { 2 } else { 1 };
        let leaves = Leaves::new(issuer, 4)?;
        for name in [HOST, "127.0.0.1"] {
            let target = Target::parse(name)?;
            if !leaves.issuer().scope().holds(&target) {
                continue;
            }
            let Served { at, .. } = serve(leaves.server_config(&target, Protocols::Http1, SystemTime::now())?)?;
            let seen = ask(at, name, client.config()).with_context(|| format!("{which}: {name}"))?;
            assert_eq!((seen.certificates, seen.version), (chain, Some(ProtocolVersion::TLSv1_3)), "{which}");
            assert_eq!(seen.protocol.as_deref(), Some(&b"http/1.1"[..]), "the server's choice counts");
            assert!(ask(at, name, client.config())?.resumed, "{which}: the second is resumed");
            let wrong = ask(at, "other.example.com", client.config()).err().context("a wrong name was taken")?;
            assert!(matches!(fault(&client, &wrong), Some(Fault::WrongName(names)) if names.len() == 1), "{wrong:?}");
        }
    }
    Ok(())
}

#[test]
fn a_client_that_does_not_trust_us_says_so_and_we_know() -> Result<()> {
    let leaves = Leaves::new(Issuer::for_run(Scope::Any, SystemTime::now())?, 4)?;
    let Served { at, ended } =
        serve(leaves.server_config(&Target::parse(HOST)?, Protocols::Http1, SystemTime::now())?)?;
    let stranger = upstream(&Issuer::for_run(Scope::Any, SystemTime::now())?, Protocols::Http1, None)?;
    let error = ask(at, HOST, stranger.config()).err().context("it was taken")?;
    assert_eq!(fault(&stranger, &error), Some(Fault::UnknownIssuer));
    let told = ended.recv_timeout(PATIENCE)?.err().context("the handshake went on")?;
    let told = told.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref).context("no stream's error")?;
    assert!(told.downcast_ref::<rustls::Error>().is_some_and(distrusts_us), "{told}");
    Ok(())
}

#[test]
fn no_protocol_in_common_and_no_tls_are_told_apart() -> Result<()> {
    let issuer = Issuer::for_run(Scope::Any, SystemTime::now())?;
    let client = upstream(&issuer, Protocols::Http2, None)?;
    let leaves = Leaves::new(issuer, 4)?;
    let Served { at, .. } = serve(leaves.server_config(&Target::parse(HOST)?, Protocols::Http1, SystemTime::now())?)?;
    let error = ask(at, HOST, client.config()).err().context("it was taken")?;
    assert_eq!(fault(&client, &error), Some(Fault::NoApplicationProtocol));
    let plain = std::net::TcpListener::bind("127.0.0.1:0")?;
    let at = plain.local_addr()?;
    std::thread::spawn(move || {
        use std::io::Write as _;
        for mut stream in plain.incoming().flatten() {
            let _ = stream.write_all(b"SSH-2.0-something\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let error = ask(at, HOST, client.config()).err().context("it was taken")?;
    assert_eq!(fault(&client, &error), Some(Fault::NotTls));
    Ok(())
}

/// A server that wants certificates, and what a client needs for it.
struct Demanding {
    config: Arc<ServerConfig>,
    anchor: String,
    certificate: String,
    key: String,
}

fn demanding(version: &'static rustls::SupportedProtocolVersion) -> Result<Demanding> {
    let mut parameters = CertificateParams::new(vec![HOST.to_owned()])?;
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
    let client = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["client.example".to_owned()])?.signed_by(&client, &authority)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
    let server = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&server, &authority)?;
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf.der().clone()], secret)?;
    Ok(Demanding {
        config: Arc::new(config),
        anchor: authority.pem(),
        certificate: certificate.pem(),
        key: client.serialize_pem(),
    })
}

#[test]
fn a_server_that_wants_a_client_certificate_is_told_apart_and_gets_one_where_there_is() -> Result<()> {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let Demanding { config, anchor, certificate, key } = demanding(version)?;
        fs::write(path("roots.pem"), anchor)?;
        let Served { at, .. } = serve(config)?;
        let roots = UpstreamRoots::from_bundle(&path("roots.pem"))?;
        let bare = roots.client_config(Protocols::Http1, None, Resumption::disabled())?;
        assert!(!bare.asked());
        let error = ask(at, HOST, bare.config()).err().context("it was taken without a certificate")?;
        assert!(bare.asked());
        assert_eq!(fault(&bare, &error), Some(Fault::ClientCertificateWanted), "{version:?}: {error:?}");
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let shown = ClientCertificate::from_pem(certificate, key)?;
        assert_eq!(format!("{shown:?}"), "ClientCertificate(..)");
        let mutual = roots.client_config(Protocols::Http1, Some(&shown), Resumption::disabled())?;
        ask(at, HOST, mutual.config())?;
        let mismatched = ClientCertificate::from_pem(certificate, KeyPair::generate()?.serialize_pem().as_bytes());
        assert!(matches!(mismatched, Err(ClientPemError::Pair(_))));
        assert!(matches!(ClientCertificate::from_pem(key, certificate), Err(ClientPemError::Chain(_))));
        assert!(matches!(ClientCertificate::from_pem(certificate, certificate), Err(ClientPemError::Key(_))));
    }
    Ok(())
}
