//! The line at the end of a run: what was allowed, what was denied and by which rule, and how to go on.

use gateway::Summary;

/// How many denials are named.
const NAMED: usize = 5;

/// The line, and a hint where something was denied.
pub(crate) fn line(summary: &Summary) -> String {
    let denied = summary.denied + summary.dns_denied;
    let mut line = format!("{} allowed, {denied} denied", summary.allowed);
    for (count, word) in [(summary.asked, "asked"), (summary.errors, "failed"), (summary.cut, "cut by a new policy")] {
        if count > 0 {
            line.push_str(&format!(", {count} {word}"));
        }
    }
    if summary.denials.is_empty() {
        return line;
    }
    let named: Vec<String> = summary.denials.iter().take(NAMED).map(group).collect();
    line.push_str(&format!(": {}", named.join(", ")));
    let more = summary.denials.len().saturating_sub(NAMED);
    if more > 0 {
        line.push_str(&format!(", and {more} more"));
    }
    line
}

fn group(group: &gateway::Group) -> String {
    let rule = if group.rule == "mode-default" { "default" } else { &group.rule };
    let times = if group.count > 1 { format!(" ×{}", group.count) } else { String::new() };
    format!("{}{times} ({rule})", group.what)
}

/// How to see and allow what was denied. `managed` are the package managers that the program would fetch with.
pub(crate) fn hint(run: &str, summary: &Summary, is_bare: bool, managed: &[String]) -> String {
    let private = summary.denials.iter().any(|denial| denial.rule == "guard:private");
    let allow = match (is_bare, managed) {
        (true, []) => "no policy was given: allow with --allow HOST or --managed NAME,".to_owned(),
        (true, names) => format!("no policy was given: allow with --managed {},", names.join(",")),
        (false, _) => "allow with a rule,".to_owned(),
    };
    let private = if private { " (a private address needs its range: --allow HOST@CIDR)" } else { "" };
    format!(
        "see `cofferdam observe --run {run} --verdict denied`; {allow}{private} or learn one: `cofferdam policy learn --run {run}`"
    )
}

#[cfg(test)]
mod tests {
    use gateway::Group;

    use super::*;

    #[test]
    fn denials_are_named_with_their_rule() {
        let denial = |what: &str, rule: &str, count| Group { what: what.to_owned(), rule: rule.to_owned(), count };
        let mut summary = Summary { allowed: 3, denied: 1, dns_denied: 2, ..Summary::default() };
        summary.denials =
            vec![denial("dns evil.example", "mode-default", 2), denial("POST api.example.com", "no-api", 1)];
        assert_eq!(line(&summary), "3 allowed, 3 denied: dns evil.example ×2 (default), POST api.example.com (no-api)");
        summary.denials = (0..7).map(|n| denial(&format!("h{n}:443"), "r", 1)).collect();
        assert!(line(&summary).ends_with("h4:443 (r), and 2 more"));
        assert_eq!(line(&Summary::default()), "0 allowed, 0 denied");
    }
}
