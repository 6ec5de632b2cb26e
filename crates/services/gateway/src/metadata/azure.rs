//! Microsoft Azure: a managed identity's tokens, by the instance metadata service and by App Service's endpoint.

use policy::model::metadata_service::AzureIdentity;
use serde_json::json;

use super::{
    answer::{Answer, Code},
    asked::{Asked, Field, Parameter},
    placeholders::AzureToken,
    service::Scene,
};

const MACHINE: &str = "/metadata/identity/oauth2/token";
const APP_SERVICE: &str = "/msi/token";
/// The first version of the instance metadata service that gives tokens, and App Service's that takes a header.
const MACHINE_SINCE: &str = "2018-02-01";
const APP_SERVICE_SINCE: &str = "2019-08-01";
const JSON: &str = "application/json; charset=utf-8";
/// How long tokens are said to live, in seconds.
const LIFE: i64 = 3599;

/// Which of the two is asked: they say errors in different words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Machine,
    AppService,
}

/// Answers a request.
pub(super) fn answer(identity: &AzureIdentity, asked: &Asked<'_>, path: &str, scene: &Scene<'_>) -> Answer {
    let door = match path.strip_suffix('/').unwrap_or(path) {
        MACHINE => Door::Machine,
        APP_SERVICE => Door::AppService,
        _ => return error(Door::Machine, Code::NotFound, "not_found", "nothing is answered there in place of Azure"),
    };
    match token(identity, asked, door, scene) {
        Ok(answer) => answer,
        Err((code, kind, reason)) => error(door, code, kind, reason),
    }
}

type Refusal = (Code, &'static str, &'static str);

fn token(identity: &AzureIdentity, asked: &Asked<'_>, door: Door, scene: &Scene<'_>) -> Result<Answer, Refusal> {
    let refuse = |reason| Err((Code::BadRequest, "invalid_request", reason));
    if asked.is_forwarded() {
        return refuse("a request that was forwarded is given no token");
    }
    if !matches!(asked.method, "GET" | "HEAD") {
        return Err((Code::MethodNotAllowed, "invalid_request", "a token is asked for by GET"));
    }
    let since = match (door, asked.field("metadata"), asked.field("x-identity-header")) {
        (Door::Machine, Field::Once(value), _) if value.eq_ignore_ascii_case("true") => MACHINE_SINCE,
        (Door::Machine, ..) => return refuse("Required metadata header not specified"),
        (Door::AppService, _, Field::Once(value)) if !value.is_empty() => APP_SERVICE_SINCE,
        (Door::AppService, ..) => return refuse("Required header X-IDENTITY-HEADER not specified"),
    };
    match asked.parameter("api-version") {
        Parameter::Once(version) if is_date(&version) && version.as_str() >= since => {}
        Parameter::Once(_) => return refuse("The requested version is not supported"),
        Parameter::Missing | Parameter::Ambiguous => return refuse("Required query variable 'api-version' is missing"),
    }
    if !is_for(identity, asked) {
        return refuse("Identity not found");
    }
    let resource = match asked.parameter("resource") {
        Parameter::Once(resource) if !resource.is_empty() => resource,
        Parameter::Once(_) | Parameter::Missing | Parameter::Ambiguous => {
            return refuse("Required query variable 'resource' is missing");
        }
    };
    if !identity.resources.iter().any(|allowed| is_same(allowed, &resource)) {
        return Err((Code::BadRequest, "invalid_resource", "the policy gives no token for this resource"));
    }
    Ok(given(identity, door, &resource, scene))
}

fn given(identity: &AzureIdentity, door: Door, resource: &str, scene: &Scene<'_>) -> Answer {
    let issued = scene.now.as_second();
    let expires = issued.saturating_add(LIFE);
    let client_id = identity.client_id.as_deref();
    let token = AzureToken { resource, client_id, tenant: identity.tenant.as_deref(), issued, expires };
    let token = match scene.exposed(&identity.credential) {
        Some(exposed) => exposed.to_owned(),
        None => scene.placeholders.azure_token(&token),
    };
    let body = match door {
        Door::Machine => json!({
            "access_token": token,
            "client_id": client_id.unwrap_or_default(),
            "expires_in": LIFE.to_string(),
            "expires_on": expires.to_string(),
            "ext_expires_in": LIFE.to_string(),
            "not_before": issued.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        }),
        Door::AppService => json!({
            "access_token": token,
            "client_id": client_id.unwrap_or_default(),
            "expires_on": expires.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        }),
    };
    Answer::new(
        Code::Ok,
        JSON,
        body.to_string(),
        format!("a placeholder token, for credential {}", identity.credential),
    )
}

/// Whether the identity that is asked for, where one is, is this one.
fn is_for(identity: &AzureIdentity, asked: &Asked<'_>) -> bool {
    let others = ["object_id", "principal_id", "mi_res_id", "msi_res_id"];
    let client = match (asked.parameter("client_id"), &identity.client_id) {
        (Parameter::Missing, _) => true,
        (Parameter::Once(asked), Some(client_id)) => asked.eq_ignore_ascii_case(client_id),
        (Parameter::Once(_) | Parameter::Ambiguous, _) => false,
    };
    client && others.iter().all(|other| asked.parameter(other) == Parameter::Missing)
}

/// Whether two resources are one: libraries write them with a slash at the end and without.
fn is_same(one: &str, other: &str) -> bool {
    let plain = |text: &str| text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
    plain(one) == plain(other)
}

/// `YYYY-MM-DD`.
fn is_date(text: &str) -> bool {
    text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() })
}

fn error(door: Door, status: Code, kind: &'static str, reason: &'static str) -> Answer {
    let body = match door {
        Door::Machine => json!({ "error": kind, "error_description": reason }),
        Door::AppService => json!({ "statusCode": status.number(), "message": format!("{kind}: {reason}") }),
    };
    let answer = Answer::new(status, JSON, body.to_string(), reason);
    if status == Code::MethodNotAllowed { answer.with("Allow", "GET, HEAD") } else { answer }
}
