//! What a failed handshake means, in words that people know, and whose it is to mend.

use std::{
    fmt, io,
    time::{Duration, UNIX_EPOCH},
};

use rustls::{AlertDescription, CertificateError, Error, pki_types::UnixTime};
use time::OffsetDateTime;

/// Of the names in a certificate, so many are told; it may hold hundreds.
const MOST_NAMES: usize = 8;
/// The longest host name.
const LONGEST_NAME: usize = 253;

/// Why TLS with an upstream failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server's certificate has ended.
    Expired(Option<String>),
    /// The server's certificate does not hold yet.
    NotYetValid(Option<String>),
    /// The server's certificate is for other names; the first of them.
    WrongName(Vec<String>),
    /// Nobody we trust signed it.
    UnknownIssuer,
    /// It signed itself, or a CA's certificate is used as a server's.
    SelfSigned,
    /// It was revoked, as far as was looked at: we ask nobody about revocation.
    Revoked,
    /// It is not for servers.
    WrongPurpose,
    /// Its signature is wrong or of a kind that is not accepted.
    Signature,
    /// It can't be read.
    Malformed,
    /// The server wants a certificate from us, and there is none.
    ClientCertificateWanted,
    /// The server refused the certificate that we showed.
    ClientCertificateRefused,
    /// No version or cipher in common.
    NothingInCommon,
    /// No application protocol in common.
    NoApplicationProtocol,
    /// What answers does not speak TLS.
    NotTls,
    /// Something else, in the library's words.
    Other(String),
}

impl Fault {
    /// Reads an error of the library. `asked`: whether the server asked for a certificate ([`crate::Upstream::asked`]);
    /// `shown`: whether we have one to show.
    pub fn of(error: &Error, asked: bool, shown: bool) -> Self {
        match error {
            Error::InvalidCertificate(wrong) => Self::of_certificate(wrong),
            Error::AlertReceived(alert) => Self::of_alert(*alert, asked, shown),
            Error::PeerIncompatible(_) => Fault::NothingInCommon,
            Error::NoApplicationProtocol => Fault::NoApplicationProtocol,
            Error::InvalidMessage(_) => Fault::NotTls,
            Error::NoCertificatesPresented => Fault::Malformed,
            other => Fault::Other(other.to_string()),
        }
    }

    /// The same for an error of a stream, where it carries one of the library.
    pub fn of_stream(error: &io::Error, asked: bool, shown: bool) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Error>().map(|error| Self::of(error, asked, shown))
    }

    fn of_certificate(wrong: &CertificateError) -> Self {
        match wrong {
            CertificateError::Expired => Fault::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => Fault::Expired(day(*not_after)),
            CertificateError::NotValidYet => Fault::NotYetValid(None),
            CertificateError::NotValidYetContext { not_before, .. } => Fault::NotYetValid(day(*not_before)),
            CertificateError::NotValidForName => Fault::WrongName(Vec::new()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                Fault::WrongName(presented.iter().take(MOST_NAMES).map(|name| bare(name)).collect())
            }
            CertificateError::UnknownIssuer => Fault::UnknownIssuer,
            CertificateError::Revoked => Fault::Revoked,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Fault::WrongPurpose,
            CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Fault::Signature,
            CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => Fault::Malformed,
            // The verifier says this of a CA's certificate that stands in a server's place.
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Fault::SelfSigned,
            other => Fault::Other(other.to_string()),
        }
    }

    fn of_alert(alert: AlertDescription, asked: bool, shown: bool) -> Self {
        let of_client = match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => true,
            // TLS 1.2 has no alert of its own for it, and servers differ.
            AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => asked,
            _ => false,
        };
        match (of_client, shown, alert) {
            (true, false, _) => Fault::ClientCertificateWanted,
            (true, true, _) => Fault::ClientCertificateRefused,
            (false, _, AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion) => {
                Fault::NothingInCommon
            }
            (false, _, AlertDescription::InsufficientSecurity) => Fault::NothingInCommon,
            (false, _, AlertDescription::NoApplicationProtocol) => Fault::NoApplicationProtocol,
            (false, _, other) => Fault::Other(format!("the server ended the handshake ({other:?})")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Expired(Some(day)) => write!(f, "the server's certificate expired on {day}"),
            Fault::Expired(None) => f.write_str("the server's certificate has expired"),
            Fault::NotYetValid(Some(day)) => write!(f, "the server's certificate is not valid before {day}"),
            Fault::NotYetValid(None) => f.write_str("the server's certificate is not valid yet"),
            Fault::WrongName(names) if names.is_empty() => f.write_str("the server's certificate is for another name"),
            Fault::WrongName(names) => write!(f, "the server's certificate is for {}", names.join(", ")),
            Fault::UnknownIssuer => f.write_str(
                "the server's certificate was issued by nobody that this machine or the rule's bundle trusts",
            ),
            Fault::SelfSigned => f.write_str("the server's certificate is self-signed"),
            Fault::Revoked => f.write_str("the server's certificate was revoked"),
            Fault::WrongPurpose => f.write_str("the server's certificate is not one for servers"),
            Fault::Signature => f.write_str("the signature of the server's certificate is not accepted"),
            Fault::Malformed => f.write_str("the server's certificate can't be read"),
            Fault::ClientCertificateWanted => {
                f.write_str("the server wants a client certificate: give the rule a credential with `attach: clientCertificate`, or pass the host through unopened (`tls: passthrough`)")
            }
            Fault::ClientCertificateRefused => f.write_str("the server refused the client certificate"),
            Fault::NothingInCommon => {
                f.write_str("the server speaks no TLS version or cipher that we accept (TLS 1.2 and 1.3)")
            }
            Fault::NoApplicationProtocol => f.write_str("the server speaks none of the application protocols offered"),
            Fault::NotTls => f.write_str("the server does not answer with TLS"),
            Fault::Other(what) => f.write_str(what),
        }
    }
}

/// Whether the sandbox's client ended the handshake because it does not trust our certificate: it pins another, or has
/// a trust store of its own. Such a host needs a rule that passes it through.
pub fn distrusts_us(error: &Error) -> bool {
    matches!(
        error,
        Error::AlertReceived(
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateExpired
        )
    )
}

/// A name as people write it: the library says `DnsName("…")` and `IpAddress(…)`. The server chose it, so what does
/// not belong in a name is left out.
fn bare(name: &str) -> String {
    let inside = |start: &str, end: &str| name.strip_prefix(start)?.strip_suffix(end);
    let inner = inside("DnsName(\"", "\")").or_else(|| inside("IpAddress(", ")")).unwrap_or(name);
    inner.chars().filter(char::is_ascii_graphic).take(LONGEST_NAME).collect()
}

fn day(at: UnixTime) -> Option<String> {
    let at = UNIX_EPOCH + Duration::from_secs(at.as_secs());
    let seconds = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok()?.date();
    Some(format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()))
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError, Error, pki_types::UnixTime};

    use super::{Fault, distrusts_us};

    #[test]
    fn certificates_at_fault_are_told_in_words() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        for (wrong, words) in [
            (
                CertificateError::ExpiredContext { time: at(1_800_000_000), not_after: at(1_700_000_000) },
                "the server's certificate expired on 2023-11-14",
            ),
            (
                CertificateError::NotValidYetContext { time: at(1_700_000_000), not_before: at(1_800_000_000) },
                "the server's certificate is not valid before 2027-01-15",
            ),
            (CertificateError::NotValidForName, "the server's certificate is for another name"),
            (CertificateError::Revoked, "the server's certificate was revoked"),
            (CertificateError::BadSignature, "the signature of the server's certificate is not accepted"),
        ] {
            assert_eq!(Fault::of(&Error::InvalidCertificate(wrong), false, false).to_string(), words);
        }
    }

    #[test]
    fn names_that_a_server_chose_are_bounded_and_harmless() {
        let names = vec!["DnsName(\"a\u{1b}[2J\u{202e}b.example\")".to_owned(); 100];
        assert_eq!(super::bare(&names[0]), "a[2Jb.example");
        assert_eq!(super::bare("IpAddress(192.0.2.1)"), "192.0.2.1");
        let expected = rustls::pki_types::ServerName::try_from("b.example").unwrap();
        let wrong = CertificateError::NotValidForNameContext { expected, presented: names };
        let Fault::WrongName(told) = Fault::of(&Error::InvalidCertificate(wrong), false, false) else { panic!() };
        assert_eq!(told.len(), super::MOST_NAMES);
    }

    #[test]
    fn alerts_are_told_apart_by_whether_a_certificate_was_asked_for() {
        use AlertDescription as Alert;
        for (alert, asked, shown, expected) in [
            (Alert::CertificateRequired, true, false, Fault::ClientCertificateWanted),
            (Alert::CertificateRequired, false, false, Fault::ClientCertificateWanted),
            (Alert::HandshakeFailure, true, false, Fault::ClientCertificateWanted),
            (Alert::HandshakeFailure, false, false, Fault::NothingInCommon),
            (Alert::UnknownCA, true, true, Fault::ClientCertificateRefused),
            (Alert::ProtocolVersion, true, false, Fault::NothingInCommon),
            (Alert::NoApplicationProtocol, true, true, Fault::NoApplicationProtocol),
        ] {
            assert_eq!(Fault::of(&Error::AlertReceived(alert), asked, shown), expected, "{alert:?}");
        }
        assert!(distrusts_us(&Error::AlertReceived(Alert::UnknownCA)));
        assert!(!distrusts_us(&Error::AlertReceived(Alert::CloseNotify)));
    }
}
