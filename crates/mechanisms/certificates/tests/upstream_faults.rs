//! What is wrong with an upstream's certificate is told in words, from real handshakes.

#[expect(dead_code, reason = "the handshakes use the rest")]
mod support;

use std::{
    fs,
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use certificates::{Fault, Protocols, RootsError, UpstreamRoots};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ServerConfig,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use support::{Served, ask, serve};

const HOST: &str = "api.example.com";

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?)
}

fn server(certificate: CertificateDer<'static>, key: &KeyPair) -> Result<Arc<ServerConfig>> {
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(secret)?;
    let certified = rustls::sign::CertifiedKey::new(vec![certificate], key);
    Ok(Arc::new(
        ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified))),
    ))
}

/// How a handshake with a server that shows this certificate fails; `None`: it does not.
fn fault_of(roots: &UpstreamRoots, certificate: CertificateDer<'static>, key: &KeyPair) -> Result<Option<Fault>> {
    let upstream = roots.client_config(Protocols::Http1, None, Resumption::disabled())?;
    let Served { at, .. } = serve(server(certificate, key)?)?;
    let Err(error) = ask(at, HOST, upstream.config()) else { return Ok(None) };
    let stream = error.downcast_ref::<std::io::Error>().context("no stream's error")?;
    let read = upstream.stream_fault(stream).context("no error of the library")?;
    Ok(Some(read))
}

#[test]
fn each_fault_has_its_words() -> Result<()> {
    let (trusted, foreign) = (authority("trusted")?, authority("foreign")?);
    let folder = tempfile::tempdir()?;
    let bundle = folder.path().join("bundle.pem");
    fs::write(&bundle, trusted.pem())?;
    let roots = UpstreamRoots::from_bundle(&bundle)?;
    let key = KeyPair::generate()?;
    let plain = || CertificateParams::new(vec![HOST.to_owned()]);
    assert_eq!(fault_of(&roots, plain()?.signed_by(&key, &trusted)?.into(), &key)?, None);

    let mut expired = plain()?;
    expired.not_after = date_time_ymd(2020, 2, 3);
    let mut early = plain()?;
    early.not_before = date_time_ymd(2999, 4, 5);
    let other = CertificateParams::new(vec!["other.example.com".to_owned()])?;
    let mut for_clients = plain()?;
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    for (parameters, words) in [
        (expired, "the server's certificate expired on 2020-02-03"),
        (early, "the server's certificate is not valid before 2999-04-05"),
        (other, "the server's certificate is for other.example.com"),
        (for_clients, "the server's certificate is not one for servers"),
    ] {
        let certificate = parameters.signed_by(&key, &trusted)?.into();
        let fault = fault_of(&roots, certificate, &key)?.context(words)?;
        assert_eq!(fault.to_string(), words);
    }

    let unknown = fault_of(&roots, plain()?.signed_by(&key, &foreign)?.into(), &key)?;
    assert_eq!(unknown, Some(Fault::UnknownIssuer));
    let mut own = plain()?;
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(fault_of(&roots, own.self_signed(&key)?.into(), &key)?, Some(Fault::SelfSigned));
    Ok(())
}

#[test]
fn a_machine_without_roots_is_told_what_to_install() -> Result<()> {
    let child = Command::new(std::env::current_exe()?)
        .args(["--exact", "child_has_no_roots", "--ignored"])
        .env("SSL_CERT_FILE", "/nowhere/roots.pem")
        .env_remove("SSL_CERT_DIR")
        .stdout(Stdio::piped())
        .output()?;
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    Ok(())
}

#[test]
#[ignore = "started by a_machine_without_roots_is_told_what_to_install"]
fn child_has_no_roots() {
    let error = UpstreamRoots::system().expect_err("there are roots");
    assert!(matches!(error, RootsError::None { .. }));
    let words = error.to_string();
    assert!(words.contains("install its `ca-certificates` package") && words.contains("/nowhere/roots.pem"), "{words}");
}
