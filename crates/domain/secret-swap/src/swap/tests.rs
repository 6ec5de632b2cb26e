//! Placeholders where they count, and where they do not.

use data_encoding::BASE64;
use policy::model::credential::Format;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const SECRET: &[u8] = b"real/secret+\"9f8e";

fn placeholder() -> Placeholder {
    Placeholder::make(Format::Github, |bytes| bytes.fill(7))
}

fn field(method: &str, path: &str, place: Place) -> Field {
    Field { method: method.to_owned(), path: path.to_owned(), place }
}

fn fields() -> Vec<Field> {
    vec![
        field("POST", "/form", Place::Form("token".to_owned())),
        field("POST", "/json", Place::Json("/auth/keys/1".to_owned())),
        field("GET", "/query", Place::Query("key".to_owned())),
        field("GET", "/bot/{placeholder}/send", Place::Path),
    ]
}

fn headers() -> Vec<String> {
    vec!["authorization".to_owned(), "x-api-key".to_owned()]
}

/// The parts of a request with the secret put in: the target, the fields that are left, the body.
fn swapped(method: &str, target: &str, sent: &[(&str, &[u8])], body: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>, Vec<u8>) {
    let (placeholder, headers, fields) = (placeholder(), headers(), fields());
    let swap = Swap { placeholder: &placeholder, headers: &headers, fields: &fields };
    let sent: Vec<(String, Vec<u8>)> = sent.iter().map(|(n, v)| ((*n).to_owned(), v.to_vec())).collect();
    let request = Request { method, target, fields: &sent };
    let head = swap.head(request, SECRET);
    let mut left = Vec::new();
    for (number, (_, value)) in sent.iter().enumerate() {
        match head.fields.iter().find(|(at, _)| *at == number) {
            Some((_, Some(value))) => left.push(value.expose().to_vec()),
            Some((_, None)) => {}
            None => left.push(value.clone()),
        }
    }
    let new_body = swap.looks_at_body(request).then(|| swap.body(request, body, SECRET)).flatten();
    let target = head.target.map_or(target.as_bytes().to_vec(), |target| target.expose().to_vec());
    (target, left, new_body.map_or(body.to_vec(), |body| body.expose().to_vec()))
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn a_token_is_swapped_where_it_is_the_whole_value_and_another_s_is_removed() {
    let placeholder = placeholder();
    let p = placeholder.text();
    let basic = |text: &str| format!("Basic {}", BASE64.encode(text.as_bytes()));
    let secret = std::str::from_utf8(SECRET).unwrap();
    for (name, value, expected) in [
        ("Authorization", format!("Bearer {p}"), Some(format!("Bearer {secret}"))),
        ("authorization", format!("token  {p}"), Some(format!("token {secret}"))),
        ("AUTHORIZATION", p.to_owned(), Some(secret.to_owned())),
        ("X-Api-Key", p.to_owned(), Some(secret.to_owned())),
        ("x_api_key", p.to_owned(), Some(secret.to_owned())),
        ("Authorization", basic(&format!("user:{p}")), Some(basic(&format!("user:{secret}")))),
        ("Authorization", basic(&format!("{p}:x-oauth-basic")), Some(basic(&format!("{secret}:x-oauth-basic")))),
        ("Authorization", basic(&format!("{p}:")), Some(basic(&format!("{secret}:")))),
        ("Authorization", "Bearer attacker".to_owned(), None),
        ("Authorization", format!("Bearer {p}x"), None),
        ("Authorization", format!("Bearer x {p}"), None),
        ("Authorization", format!("Basic {p}"), Some(format!("Basic {secret}"))),
        ("X-Api-Key", format!("Bearer {p}"), None),
        ("X-Note", format!("Bearer {p}"), Some(format!("Bearer {p}"))),
    ] {
        let (_, left, _) = swapped("GET", "/", &[(name, value.as_bytes())], b"");
        assert_eq!(left, Vec::from_iter(expected.map(String::into_bytes)), "{name}: {value}");
    }
}

#[test]
fn exact_fields_of_exact_requests_are_swapped_and_no_others() {
    let placeholder = placeholder();
    let p = placeholder.text();
    let encoded = "real%2Fsecret%2B%229f8e";
    for (method, target, expected) in [
        ("GET", format!("/query?a=1&key={p}&b"), format!("/query?a=1&key={encoded}&b")),
        ("GET", format!("/query?key={p}&key=x"), format!("/query?key={p}&key=x")),
        ("GET", format!("/query?key=x{p}"), format!("/query?key=x{p}")),
        ("GET", format!("/other?key={p}"), format!("/other?key={p}")),
        ("POST", format!("/query?key={p}"), format!("/query?key={p}")),
        ("GET", format!("/bot/{p}/send?x=%20"), format!("/bot/{encoded}/send?x=%20")),
        ("GET", format!("/./bot/{p}/send"), format!("/bot/{encoded}/send")),
        ("GET", format!("/bot/{p}/other"), format!("/bot/{p}/other")),
        ("GET", format!("/bot/{p}{p}/send"), format!("/bot/{p}{p}/send")),
    ] {
        let (made, ..) = swapped(method, &target, &[], b"");
        assert_eq!(String::from_utf8(made).unwrap(), expected, "{method} {target}");
    }
}

#[test]
fn bodies_are_swapped_at_the_field_and_stay_else() {
    let placeholder = placeholder();
    let p = placeholder.text();
    let (form, json) = ("application/x-www-form-urlencoded", "application/vnd.x+json; charset=utf-8");
    let own = "real/secret+\\\"9f8e";
    for (target, kind, body, expected) in [
        ("/form", form, format!("é=%20&token={p}&c="), None),
        ("/form", form, format!("a=%20&token={p}&c="), Some("a=%20&token=real%2Fsecret%2B%229f8e&c=".to_owned())),
        ("/form", form, format!("token={p}&TOKEN=x"), None),
        ("/form", form, format!("note={p}"), None),
        ("/form", json, format!("token={p}"), None),
        (
            "/json",
            json,
            format!(" {{\"n\":\"{p}\", \"auth\": {{\"keys\":[1 ,\"{p}\"]}}}}"),
            Some(format!(" {{\"n\":\"{p}\", \"auth\": {{\"keys\":[1 ,\"{own}\"]}}}}")),
        ),
        ("/json", json, format!("{{\"auth\":{{\"keys\":[1,\"x{p}\"]}}}}"), None),
        ("/json", json, format!("{{\"auth\":1,\"auth\":{{\"keys\":[1,\"{p}\"]}}}}"), None),
        ("/json", json, format!("{{\"auth\":{{\"keys\":[1,\"{p}\"]}}}} x"), None),
        (
            "/json",
            json,
            format!("{{\"auth\":{{\"keys\":{{\"1\":\"{p}\"}}}}}}"),
            Some(format!("{{\"auth\":{{\"keys\":{{\"1\":\"{own}\"}}}}}}")),
        ),
        ("/json", "text/plain", format!("{{\"auth\":{{\"keys\":[1,\"{p}\"]}}}}"), None),
    ] {
        let (.., made) = swapped("POST", target, &[("content-type", kind.as_bytes())], body.as_bytes());
        assert_eq!(String::from_utf8(made).unwrap(), expected.unwrap_or(body.clone()), "{target} {body}");
    }
    let body = format!("token={p}");
    let twice = [("Content-Type", form.as_bytes()), ("content-type", b"text/plain")];
    let encoded = [("Content-Type", form.as_bytes()), ("Content_Encoding", b"gzip")];
    for fields in [twice, encoded] {
        assert_eq!(swapped("POST", "/form", &fields, body.as_bytes()).2, body.as_bytes());
    }
}

/// Text in which a placeholder stands now and then, in forms that should and should not count.
fn text() -> impl Strategy<Value = String> {
    let p = placeholder().text().to_owned();
    let basic = BASE64.encode(format!("u:{p}").as_bytes());
    let words = vec![
        p.clone(),
        format!("Bearer {p}"),
        format!("Basic {basic}"),
        format!("token={p}"),
        format!("key={p}"),
        format!("{{\"auth\":{{\"keys\":[0,\"{p}\"]}}}}"),
        format!("/bot/{p}/send"),
        "&".to_owned(),
        "/".to_owned(),
        "?".to_owned(),
        "x".to_owned(),
    ];
    vec(select(words), 0..4).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn the_secret_stands_only_where_the_policy_says(
        method in select(vec!["GET", "POST"]),
        path in select(vec!["/form", "/json", "/query", "/bot", "/other"]),
        more in text(),
        names in vec(select(vec!["authorization", "x-api-key", "x-note", "cookie"]), 0..4),
        values in vec(text(), 4),
        kind in select(vec!["application/json", "application/x-www-form-urlencoded", "text/plain"]),
        body in text(),
    ) {
        let target = format!("{path}{more}");
        let mut sent: Vec<(&str, &[u8])> = vec![("content-type", kind.as_bytes())];
        sent.extend(names.iter().copied().zip(values.iter().map(String::as_bytes)));
        let (made, left, new_body) = swapped(method, &target, &sent, body.as_bytes());
        let percent = b"real%2Fsecret";
        // What stands in a place that is not named is as it was.
        let unnamed = |name: &str| !headers().iter().any(|header| header == name);
        let kept: Vec<&[u8]> = sent.iter().filter(|(name, _)| unnamed(name)).map(|(_, value)| *value).collect();
        prop_assert!(kept.iter().all(|value| left.iter().any(|left| left == value)));
        for value in left.iter().filter(|value| contains(value, b"real/secret")) {
            prop_assert!(!kept.contains(&value.as_slice()));
        }
        let query = method == "GET" && (path == "/query" || path == "/bot");
        prop_assert!(query || made == target.as_bytes());
        prop_assert_eq!(made.windows(percent.len()).filter(|window| window == percent).count(), usize::from(made != target.as_bytes()));
        let named = method == "POST" && ((path == "/form" && kind.ends_with("urlencoded")) || (path == "/json" && kind.ends_with("json")));
        prop_assert!(named || new_body == body.as_bytes());
    }
}
