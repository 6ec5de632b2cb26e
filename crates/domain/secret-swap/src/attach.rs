//! Puts a secret where nothing of the sandbox's may stand: what the sandbox put there is taken out first.

use policy::http_query::{Parameter, parameter};
use values::Secret;
use zeroize::Zeroizing;

use crate::forms::percent;

/// The target with this parameter in its query once. `None` where servers could read the query in two ways.
pub fn parameter_in(target: &str, name: &str, secret: &Secret) -> Option<Secret> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if query.contains(';') {
        return None;
    }
    let mut out = Zeroizing::new(Vec::with_capacity(target.len() + name.len() + secret.expose().len() * 3 + 2));
    out.extend_from_slice(path.as_bytes());
    out.push(b'?');
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let raw = pair.split_once('=').map_or(pair, |(raw, _)| raw);
        // By its name alone: whatever its value is.
        if parameter(raw, name) == Parameter::Missing {
            out.extend_from_slice(pair.as_bytes());
            out.push(b'&');
        }
    }
    out.extend_from_slice(&percent(name.as_bytes(), b"", true));
    out.push(b'=');
    out.extend_from_slice(&percent(secret.expose(), b"", true));
    Some(Secret::new(std::mem::take(&mut out)))
}

/// One `Cookie` value out of those sent, with this cookie once.
pub fn cookie_in<'a>(sent: impl IntoIterator<Item = &'a [u8]>, name: &str, secret: &Secret) -> Secret {
    let mut out = Zeroizing::new(Vec::new());
    let pairs = sent.into_iter().flat_map(|value| value.split(|byte| *byte == b';'));
    // Some servers split at commas too.
    let is_it = |part: &[u8]| {
        let sent = part.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        sent.eq_ignore_ascii_case(name.as_bytes())
    };
    for pair in pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
        if !pair.split(|byte| *byte == b',').any(is_it) {
            out.extend_from_slice(pair);
            out.extend_from_slice(b"; ");
        }
    }
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    out.extend_from_slice(secret.expose());
    Secret::new(std::mem::take(&mut out))
}

/// The path of a target in the form that was judged, where the one sent has segments that mean another one. A server
/// that does not resolve them would act on a path that nobody judged.
pub fn as_judged(target: &str) -> Option<String> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let dots = (path.contains("/.") || path.contains("/%2"))
        && path.split('/').any(|segment| {
            let plain = segment.replace("%2e", ".").replace("%2E", ".");
            plain == "." || plain == ".."
        });
    if !dots {
        return Some(target.to_owned());
    }
    let normal = policy::http_path::normalise(target)?;
    let normal = percent(normal.as_bytes(), b"/!$&'()*+,=:@", true);
    let mut out = String::from_utf8(normal.to_vec()).ok()?;
    if let Some((_, query)) = target.split_once('?') {
        out.push('?');
        out.push_str(query);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::from("s/e c".to_owned())
    }

    #[test]
    fn a_parameter_stands_once_whatever_was_sent() {
        for (target, expected) in [
            ("/a", "/a?key=s%2Fe%20c"),
            ("/a?b=1", "/a?b=1&key=s%2Fe%20c"),
            ("/a?key=mine&b=1&key=other", "/a?b=1&key=s%2Fe%20c"),
            ("/a?KEY=mine&key[]=x&%6bey=y&b", "/a?b&key=s%2Fe%20c"),
            ("/a?key=a+b&&key", "/a?key=s%2Fe%20c"),
        ] {
            let made = parameter_in(target, "key", &secret()).unwrap();
            assert_eq!(made.expose_str(), Some(expected), "{target}");
        }
        assert!(parameter_in("/a?b=1;key=mine", "key", &secret()).is_none());
    }

    #[test]
    fn a_cookie_stands_once_whatever_was_sent() {
        for (sent, expected) in [
            (vec![], "sid=s/e c"),
            (vec!["a=1; sid=mine", "SID = x;b=2"], "a=1; b=2; sid=s/e c"),
            (vec!["a=1,2; b=1,sid=mine"], "a=1,2; sid=s/e c"),
        ] {
            let made = cookie_in(sent.iter().map(|value| value.as_bytes()), "sid", &secret());
            assert_eq!(made.expose_str(), Some(expected));
        }
    }

    #[test]
    fn a_path_is_sent_as_it_was_judged() {
        for (target, expected) in [
            ("/a/b?x=..", Some("/a/b?x=..")),
            ("/a/../b%20c?x", Some("/b%20c?x")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a/.", Some("/a/")),
            ("/a/..;/b/..", None),
        ] {
            assert_eq!(as_judged(target).as_deref(), expected, "{target}");
        }
    }
}
