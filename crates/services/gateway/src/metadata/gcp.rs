//! Google Cloud: the default service account of a machine, its tokens, and the project.

use policy::model::metadata_service::GcpIdentity;
use serde_json::{Value, json};

use super::{
    answer::{Answer, Code},
    asked::{Asked, Field, Parameter},
    service::Scene,
};

const ROOT: &str = "/computeMetadata/v1/";
const ACCOUNTS: &str = "instance/service-accounts/";
/// The header field by which both sides know each other.
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");
/// How long tokens are said to live, in seconds.
const LIFE: i64 = 3599;
/// The scope of all of Google Cloud's APIs, and the starts of those that are a part of it.
const CLOUD_PLATFORM: &str = "cloud-platform";
const CLOUD_PARTS: [&str; 14] = [
    "bigquery",
    "bigtable.",
    "cloud-platform.",
    "cloud.",
    "cloudkms",
    "compute",
    "datastore",
    "devstorage.",
    "logging.",
    "monitoring",
    "pubsub",
    "spanner.",
    "sqlservice.",
    "trace.",
];
const SCOPE_ROOT: &str = "https://www.googleapis.com/auth/";

/// Answers a request.
pub(super) fn answer(identity: &GcpIdentity, asked: &Asked<'_>, path: &str, scene: &Scene<'_>) -> Answer {
    let answer = if asked.is_forwarded() {
        refuse(Code::Forbidden, "a request that was forwarded is given nothing")
    } else if !matches!(asked.method, "GET" | "HEAD") {
        refuse(Code::MethodNotAllowed, "this is read by GET").with("Allow", "GET, HEAD")
    } else if path == "/" {
        // Libraries find out by it where they are, and some send no header field with it.
        text("computeMetadata/\n", "the root: where a program is")
    } else if asked.field("metadata-flavor") != Field::Once(FLAVOR.1) {
        refuse(Code::Forbidden, "the header field Metadata-Flavor: Google is missing")
    } else if asked.parameter("wait_for_change") != Parameter::Missing {
        refuse(Code::BadRequest, "nothing here changes: it can't be waited for")
    } else {
        entry(identity, asked, path, scene)
    };
    answer.with(FLAVOR.0, FLAVOR.1).with("Server", "Metadata Server for VM")
}

fn entry(identity: &GcpIdentity, asked: &Asked<'_>, path: &str, scene: &Scene<'_>) -> Answer {
    let Some(entry) = path.strip_prefix(ROOT).or_else(|| (path == ROOT.trim_end_matches('/')).then_some("")) else {
        return nothing();
    };
    let plain = entry.strip_suffix('/').unwrap_or(entry);
    match plain {
        "" => listing("instance/\nproject/\nuniverse/\n"),
        "instance" => listing("service-accounts/\n"),
        "project" => listing("project-id\n"),
        "project/project-id" => value(asked, &identity.project, "the project's id"),
        "project/numeric-project-id" => match identity.project_number {
            Some(number) => value(asked, &number.to_string(), "the project's number"),
            None => nothing(),
        },
        "universe/universe-domain" => value(asked, "googleapis.com", "the universe"),
        "instance/service-accounts" if is_recursive(asked) => {
            let account = account(identity);
            json_of(&json!({ "default": account, identity.email.as_str(): account }), "the service accounts")
        }
        "instance/service-accounts" => listing(&format!("default/\n{}/\n", identity.email)),
        _ => match plain.strip_prefix(ACCOUNTS) {
            Some(rest) => of_account(identity, asked, rest, scene),
            None => nothing(),
        },
    }
}

/// What is below one service account.
fn of_account(identity: &GcpIdentity, asked: &Asked<'_>, rest: &str, scene: &Scene<'_>) -> Answer {
    let (account_name, part) = rest.split_once('/').unwrap_or((rest, ""));
    if account_name != "default" && account_name != identity.email {
        return nothing();
    }
    match part {
        "" if is_recursive(asked) => json_of(&account(identity), "the service account"),
        "" => listing("aliases\nemail\nscopes\ntoken\n"),
        "aliases" => text("default\n", "the service account's other name"),
        "email" => value(asked, &identity.email, "the service account's address"),
        "scopes" => text(identity.scopes.iter().map(|scope| format!("{scope}\n")).collect::<String>(), "the scopes"),
        "token" => token(identity, asked, scene),
        _ => nothing(),
    }
}

fn token(identity: &GcpIdentity, asked: &Asked<'_>, scene: &Scene<'_>) -> Answer {
    let allowed = match asked.parameter("scopes") {
        Parameter::Missing => true,
        Parameter::Once(scopes) => scopes.split(',').all(|scope| has_scope(identity, scope.trim())),
        Parameter::Ambiguous => false,
    };
    if !allowed {
        return refuse(Code::Forbidden, "the policy gives no token for these scopes");
    }
    let body = json!({
        "access_token": scene.exposed(&identity.credential).unwrap_or(&scene.placeholders.google_token),
        "expires_in": LIFE,
        "token_type": "Bearer",
    });
    json_of(&body, format!("a placeholder token, for credential {}", identity.credential))
}

/// Whether a scope is one of the identity's, or a part of one.
fn has_scope(identity: &GcpIdentity, scope: &str) -> bool {
    let plain = |scope: &str| scope.strip_prefix(SCOPE_ROOT).unwrap_or(scope).to_owned();
    let wanted = plain(scope);
    let has = |scope: &str| identity.scopes.iter().any(|own| plain(own) == scope);
    has(&wanted) || (has(CLOUD_PLATFORM) && CLOUD_PARTS.iter().any(|part| wanted.starts_with(part)))
}

fn account(identity: &GcpIdentity) -> Value {
    json!({ "aliases": ["default"], "email": identity.email, "scopes": identity.scopes })
}

fn is_recursive(asked: &Asked<'_>) -> bool {
    matches!(asked.parameter("recursive"), Parameter::Once(value) if value.eq_ignore_ascii_case("true"))
}

/// One value; as JSON where that is asked for.
fn value(asked: &Asked<'_>, value: &str, reason: &'static str) -> Answer {
    match asked.parameter("alt") {
        Parameter::Once(form) if form == "json" => json_of(&value.into(), reason),
        Parameter::Once(_) | Parameter::Missing | Parameter::Ambiguous => text(value, reason),
    }
}

fn listing(names: &str) -> Answer {
    text(names, "what there is")
}

fn text(body: impl Into<String>, reason: impl Into<std::borrow::Cow<'static, str>>) -> Answer {
    Answer::new(Code::Ok, "application/text", body.into(), reason)
}

fn json_of(body: &Value, reason: impl Into<std::borrow::Cow<'static, str>>) -> Answer {
    Answer::json(body, reason)
}

fn nothing() -> Answer {
    refuse(Code::NotFound, "nothing is answered there in place of Google Cloud")
}

fn refuse(code: Code, reason: &'static str) -> Answer {
    Answer::refusal(code, reason)
}
