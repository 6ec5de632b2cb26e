//! Where secrets may be sent, and what a form looks like.

use super::{form, metadata_url, provider_url};

#[test]
fn secrets_go_by_https_or_stay_on_this_machine() {
    for good in
        ["https://vault.example.com", "https://vault.example.com:8200/x", "http://127.0.0.1:8200", "http://[::1]/"]
    {
        assert!(provider_url(good, "the address").is_ok(), "{good}");
    }
    let bad = [
        "http://vault.example.com",
        "http://127.0.0.1.example.com",
        "http://169.254.169.254",
        "https://user:word@vault.example.com",
        "https://vault.example.com/#x",
        "ftp://vault.example.com",
        "file:///etc/passwd",
        "vault.example.com",
        "",
    ];
    for bad in bad {
        assert!(provider_url(bad, "the address").is_err(), "{bad}");
    }
}

#[test]
fn a_metadata_service_may_be_near_without_tls() {
    for good in
        ["http://169.254.169.254", "http://metadata.google.internal", "http://[fd00:ec2::254]", "http://10.0.0.3:80/"]
    {
        assert!(metadata_url(good, "the endpoint").is_ok(), "{good}");
    }
    for bad in ["http://192.0.2.1", "http://metadata.example.com", "http://u@169.254.169.254"] {
        assert!(metadata_url(bad, "the endpoint").is_err(), "{bad}");
    }
}

#[test]
fn a_forms_parameters_are_escaped() {
    let body = form(&[("grant type", b"a+b&c"), ("scope", "x y/ü".as_bytes())]);
    assert_eq!(String::from_utf8_lossy(&body), "grant+type=a%2Bb%26c&scope=x+y%2F%C3%BC");
}
