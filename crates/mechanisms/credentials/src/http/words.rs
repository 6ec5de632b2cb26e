//! What a provider says of its refusal: its code and its words, cut and cleaned. Nothing else of the answer is told.

use serde::Deserialize;

use crate::fault::cleaned;

const MOST_OF_A_CODE: usize = 80;
const MOST_OF_WORDS: usize = 300;

/// RFC 6749 (`error`, `error_description`), Vault (`errors`), Kubernetes and GitHub (`reason`, `message`), Google (`error` as an object).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: Option<OneOf>,
    error_description: Option<String>,
    errors: Vec<serde_json::Value>,
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOf {
    Code(String),
    Object { status: Option<String>, message: Option<String> },
}

/// The code and the words of a refusal.
pub(super) fn of_refusal(body: &[u8], sent: &[&[u8]]) -> (Option<Box<str>>, Option<Box<str>>) {
    let (code, words) = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => of_json(refusal),
        Err(_) => of_xml(body),
    };
    let clean = |text: Option<String>, most| text.and_then(|text| cleaned(&text, most, sent)).map(Box::from);
    (clean(code, MOST_OF_A_CODE), clean(words, MOST_OF_WORDS))
}

fn of_json(refusal: Refusal) -> (Option<String>, Option<String>) {
    let first = refusal.errors.into_iter().find_map(|error| error.as_str().map(str::to_owned));
    match refusal.error {
        Some(OneOf::Code(code)) => (Some(code), refusal.error_description),
        Some(OneOf::Object { status, message }) => (status, message),
        None => (refusal.reason, refusal.message.or(first)),
    }
}

/// AWS's: `<Error><Code>…</Code><Message>…</Message></Error>`.
fn of_xml(body: &[u8]) -> (Option<String>, Option<String>) {
    let Some(document) = std::str::from_utf8(body).ok().and_then(|text| roxmltree::Document::parse(text).ok()) else {
        return (None, None);
    };
    let text = |name: &str| {
        let found = document.descendants().find(|node| node.has_tag_name(name) || node.tag_name().name() == name);
        found.and_then(|node| node.text()).map(str::to_owned)
    };
    (text("Code"), text("Message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_and_the_words_of_each_family() {
        let cases = [
            (r#"{"error":"invalid_client","error_description":"unknown"}"#, Some("invalid_client"), Some("unknown")),
            (r#"{"errors":["permission denied"]}"#, None, Some("permission denied")),
            (r#"{"kind":"Status","reason":"Forbidden","message":"no"}"#, Some("Forbidden"), Some("no")),
            (r#"{"message":"Bad credentials"}"#, None, Some("Bad credentials")),
            (
                r#"{"error":{"status":"PERMISSION_DENIED","message":"no","code":403}}"#,
                Some("PERMISSION_DENIED"),
                Some("no"),
            ),
            (
                "<ErrorResponse xmlns=\"https://sts.example/\"><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>",
                Some("AccessDenied"),
                Some("no"),
            ),
            ("<html>surprise</html>", None, None),
            ("\u{0}", None, None),
        ];
        for (body, code, words) in cases {
            let found = of_refusal(body.as_bytes(), &[]);
            assert_eq!((found.0.as_deref(), found.1.as_deref()), (code, words), "{body}");
        }
    }

    #[test]
    fn words_that_echo_what_was_sent_are_not_told() {
        let body = br#"{"error":"invalid_grant","error_description":"refresh token canary-55 is used up"}"#;
        assert_eq!(of_refusal(body, &[b"canary-55"]), (Some(Box::from("invalid_grant")), None));
    }
}
