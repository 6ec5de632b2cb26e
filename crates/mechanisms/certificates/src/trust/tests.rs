//! The bundle, the variables and the files.

use std::{collections::HashSet, path::PathBuf, time::SystemTime};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::{Files, SYSTEM_FILES, VARIABLES, bundle, environment, java_store, pem};
use crate::{Issuer, Scope};

fn anchors() -> Vec<CertificateDer<'static>> {
    Issuer::for_run(Scope::Any, SystemTime::now()).unwrap().anchors().to_vec()
}

fn files() -> Files {
    Files { bundle: "/run/c/bundle.pem".into(), anchors: "/run/c/ours.pem".into(), java: "/run/c/java.jks".into() }
}

#[test]
fn a_bundle_reads_back_with_ours_first_and_none_twice() {
    let (ours, system) = (anchors(), [anchors(), anchors()].concat());
    let both = bundle(&[system.clone(), ours.clone()].concat(), &ours);
    let read: Vec<_> = CertificateDer::pem_slice_iter(both.as_bytes()).collect::<Result<_, _>>().unwrap();
    assert_eq!(read, [ours, system].concat());
    assert!(both.lines().all(|line| line.len() <= 64) && both.ends_with("-----END CERTIFICATE-----\n"));
}

#[test]
fn each_variable_is_there_once_with_its_readers_and_where_that_is_written() {
    for variable in &VARIABLES {
        assert!(variable.source.starts_with("https://") && !variable.readers.is_empty(), "{}", variable.name);
    }
    let names: HashSet<_> = VARIABLES.iter().map(|variable| variable.name).collect();
    assert_eq!(names.len(), VARIABLES.len());
}

#[test]
fn the_variables_name_files_of_the_sandbox_and_keep_the_callers_java_options() {
    let all = environment(&files(), Some("-Xmx1g"));
    let value = |name| all.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()).unwrap();
    assert_eq!(value("SSL_CERT_FILE"), "/run/c/bundle.pem");
    assert_eq!(value("NODE_EXTRA_CA_CERTS"), "/run/c/ours.pem");
    assert!(value("JAVA_TOOL_OPTIONS").starts_with("-Xmx1g \"-Djavax.net.ssl.trustStore=/run/c/java.jks\" "));
    let alone = environment(&files(), None);
    assert!(alone.iter().any(|(_, value)| value.starts_with("\"-Djavax")));
}

#[test]
fn the_systems_files_are_absolute_and_none_twice() {
    let paths: HashSet<PathBuf> = SYSTEM_FILES.iter().map(|file| file.path.into()).collect();
    assert_eq!(paths.len(), SYSTEM_FILES.len());
    assert!(paths.iter().all(|path| path.is_absolute()));
}

#[test]
fn a_java_store_has_its_head_and_the_same_bytes_each_time() {
    let ours = anchors();
    let store = java_store(&ours);
    assert_eq!(store[..12], [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1]);
    assert_eq!(store, java_store(&ours));
    assert_ne!(pem(&ours), "");
}
