//! What a rule changes in a request that it let through. The request was judged as it was sent.

use std::{borrow::Cow, net::IpAddr};

use policy::{
    Decision, Guard, HostName, Layer, Target,
    model::{header_fields::is_same, transform::Transform},
};
use secret_swap::attach;
use smallvec::SmallVec;
use values::RuleName;
use wire::http_head::{Form, RequestHead};

use crate::{decide::Judged, shared::Shared};

/// The most addresses of the new host that are dialled.
const ADDRESSES: usize = 8;

/// Why a request is denied whose path can't be changed.
pub(crate) const TWO_READINGS: &str = "the rule changes the path, and this one can be read in two ways";

/// The request as it goes on, with the path that was judged. None where its path can be read in two ways.
pub(crate) fn as_sent<'h>(head: &'h RequestHead, changes: Option<&Transform>) -> Option<Cow<'h, RequestHead>> {
    let judged = as_judged(head);
    let Some(changes) = changes else { return Some(judged) };
    let mut sent = judged.into_owned();
    sent.target = changes.target(&sent.origin_target())?;
    sent.form = Form::Origin;
    let gone = |name: &str| changes.set.keys().chain(&changes.remove).any(|own| is_same(name, own));
    sent.fields.retain(|(name, _)| !gone(name));
    for (name, value) in &changes.insert {
        if !sent.fields.iter().any(|(own, _)| is_same(own, name)) {
            sent.fields.push((name.clone(), value.clone().into_bytes()));
        }
    }
    sent.fields.extend(changes.set.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())));
    if let Some(host) = &changes.host {
        sent.authority.host = Target::Name(host.clone());
    }
    Some(Cow::Owned(sent))
}

/// With the path that was judged: a server that resolves no dot segments would act on another.
fn as_judged(head: &RequestHead) -> Cow<'_, RequestHead> {
    let target = head.origin_target();
    match attach::as_judged(&target).filter(|judged| *judged != target) {
        Some(target) => Cow::Owned(RequestHead { target, form: Form::Origin, ..head.clone() }),
        // Read in two ways it matches no rule that looks at paths and allows.
        None => Cow::Borrowed(head),
    }
}

/// Why a request can't go on as its rule says. Judged with the request, before anything is recorded as allowed.
pub(crate) fn fault(head: &RequestHead, changes: &Transform, inspected: bool) -> Option<&'static str> {
    if !inspected && (changes.to_tls || changes.host.is_some()) {
        Some("the rule sends requests to another host or into TLS, which is not built for plain HTTP")
    } else if as_sent(head, Some(changes)).is_none() {
        Some(TWO_READINGS)
    } else {
        None
    }
}

/// The addresses of the host that a rule sends its requests to. No rule opens a guard over them.
pub(crate) async fn addresses(
    shared: &Shared,
    judged: &Judged,
    host: &HostName,
    rule: &RuleName,
) -> Result<SmallVec<[IpAddr; 4]>, String> {
    let policy = &judged.in_force.policy;
    let route = judged.decision.route.as_ref();
    let resolved = shared.names.resolve_for_rule(&judged.in_force, route, host, rule).await;
    let resolved = resolved.map_err(|error| error.report())?;
    let free: SmallVec<[IpAddr; 4]> =
        resolved.addresses.iter().copied().filter(|address| policy.guard(*address).is_none()).take(ADDRESSES).collect();
    if free.is_empty() { Err(format!("no address of {host} may be dialled")) } else { Ok(free) }
}

/// The denial of a request that its rule can't change as it says.
pub(crate) fn denial(rule: &RuleName, reason: &'static str) -> Decision {
    let mut decision = Decision::by_guard(Guard::Malformed, Layer::Http, reason);
    decision.rule = rule.clone();
    decision
}

#[cfg(test)]
mod tests {
    use policy::model::transform::{PathPrefix, Transform};
    use wire::http_head::{Head, read};

    use super::as_sent;

    #[test]
    fn fields_and_path_are_changed_and_nothing_else() {
        let text =
            "GET /v1/a?b=c HTTP/1.1\r\nHost: web.test\r\nX_Team: evil\r\nX-Debug: 1\r\nAccept: text/html\r\n\r\n";
        let Head::Complete(head, _) = read(text.as_bytes(), 4096, false) else { panic!("a head") };
        let changes = Transform {
            set: [("x-team".to_owned(), "sre".to_owned())].into(),
            insert: [("accept".to_owned(), "*/*".to_owned()), ("x-new".to_owned(), "1".to_owned())].into(),
            remove: vec!["x-debug".to_owned()],
            path: Some(PathPrefix { from: "/v1".to_owned(), to: "/v2".to_owned() }),
            ..Transform::default()
        };
        let sent = String::from_utf8(as_sent(&head, Some(&changes)).unwrap().write(false)).unwrap();
        let expected =
            "GET /v2/a?b=c HTTP/1.1\r\nHost: web.test\r\nAccept: text/html\r\nx-new: 1\r\nx-team: sre\r\n\r\n";
        assert_eq!(sent, expected);
        assert_eq!(as_sent(&head, None).unwrap().write(false), head.write(false));
    }
}
