//! The line at the end of a run: what was allowed, what was denied and by which rule, and what could not be resolved.

use gateway::Summary;

/// How many of a kind are named.
const NAMED: usize = 5;

/// The line: what was allowed, denied, and could not be resolved.
pub(crate) fn line(summary: &Summary) -> String {
    let denied = summary.denied + summary.lookups_denied;
    let mut line = format!("{} allowed, {denied} denied", summary.allowed);
    for (count, word) in [(summary.asked, "asked"), (summary.errors, "failed"), (summary.cut, "cut by the policy")] {
        if count > 0 {
            line.push_str(&format!(", {count} {word}"));
        }
    }
    if !summary.denials.is_empty() {
        line.push_str(&format!(": {}", named(&summary.denials, group)));
    }
    if !summary.unresolved.is_empty() {
        let names = named(&summary.unresolved, |one| format!("{} ({})", one.name, one.reason));
        line.push_str(&format!("; could not be resolved upstream: {names}"));
    }
    if !summary.failures.is_empty() {
        let failures = named(&summary.failures, |one| format!("{}{} ({})", one.what, times(one.count), one.reason));
        line.push_str(&format!("; failed: {failures}"));
    }
    line
}

/// The first of a list, and how many more there are.
fn named<T>(list: &[T], text: impl Fn(&T) -> String) -> String {
    let first: Vec<String> = list.iter().take(NAMED).map(text).collect();
    match list.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{}, and {more} more", first.join(", ")),
    }
}

fn group(group: &gateway::Group) -> String {
    format!("{}{} ({})", group.what, times(group.count), group.rule)
}

fn times(count: u64) -> String {
    if count > 1 { format!(" ×{count}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use gateway::{Failure, Group};

    use super::*;

    #[test]
    fn denials_are_named_with_their_rule() {
        let denial = |what: &str, rule: &str, count| Group { what: what.to_owned(), rule: rule.to_owned(), count };
        let mut summary = Summary { allowed: 3, denied: 1, lookups_denied: 2, ..Summary::default() };
        summary.denials =
            vec![denial("dns evil.example", "mode-default", 2), denial("POST api.example.com", "no-api", 1)];
        assert_eq!(
            line(&summary),
            "3 allowed, 3 denied: dns evil.example ×2 (mode-default), POST api.example.com (no-api)"
        );
        summary.denials = (0..7).map(|n| denial(&format!("h{n}:443"), "r", 1)).collect();
        assert!(line(&summary).ends_with("h4:443 (r), and 2 more"));
        assert_eq!(line(&Summary::default()), "0 allowed, 0 denied");
    }

    #[test]
    fn names_without_an_address_are_told_with_the_reason() {
        let one = |name: &str, reason: &str| gateway::Unresolved { name: name.to_owned(), reason: reason.to_owned() };
        let mut summary = Summary { allowed: 1, ..Summary::default() };
        summary.unresolved = vec![one("gone.example", "NXDOMAIN"), one("slow.example", "timeout")];
        let expected =
            "1 allowed, 0 denied; could not be resolved upstream: gone.example (NXDOMAIN), slow.example (timeout)";
        assert_eq!(line(&summary), expected);
        summary.unresolved = (0..7).map(|n| one(&format!("h{n}"), "SERVFAIL")).collect();
        assert!(line(&summary).ends_with("h4 (SERVFAIL), and 2 more"));
    }

    #[test]
    fn what_failed_inside_tls_is_told_with_the_reason() {
        let failures = vec![Failure { what: "web.example".to_owned(), reason: "it expired".to_owned(), count: 2 }];
        let summary = Summary { errors: 2, failures, ..Summary::default() };
        assert_eq!(line(&summary), "0 allowed, 0 denied, 2 failed; failed: web.example ×2 (it expired)");
    }
}
