//! Amazon Web Services: an instance's keys by IMDSv2, a task's (ECS) and a pod's (EKS).
//!
//! The first version of the instance's service, a GET without a session token, is not answered.

use policy::model::metadata_service::AwsIdentity;
use serde_json::{Value, json};

use super::{
    answer::{Answer, Code},
    asked::{Asked, Field},
    place::Kind,
    service::Scene,
    session,
};

const TOKEN: &str = "/latest/api/token";
const TOKEN_FIELD: &str = "x-aws-ec2-metadata-token";
const LIFE_FIELD: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const KEYS: &str = "/latest/meta-data/iam/security-credentials/";
const REGION: &str = "/latest/meta-data/placement/region";
const ZONE: &str = "/latest/meta-data/placement/availability-zone";
const TASK_KEYS: &str = "/v2/credentials/";
const POD_KEYS: &str = "/v1/credentials";
/// How long keys are said to live: libraries ask again some minutes ahead.
const LIFE: i64 = 3600;

/// Answers a request to this place.
pub(super) fn answer(identity: &AwsIdentity, kind: Kind, asked: &Asked<'_>, path: &str, scene: &Scene<'_>) -> Answer {
    if asked.is_forwarded() {
        return Answer::refusal(Code::Forbidden, "a request that was forwarded is given no token");
    }
    match kind {
        Kind::Machine => machine(identity, asked, path, scene),
        Kind::Task => match path.strip_prefix(TASK_KEYS) {
            Some(role) if role == identity.role => read(asked, || keys(identity, scene, json!({}))),
            Some(_) | None => nothing(),
        },
        // The library sends what the variable `AWS_CONTAINER_AUTHORIZATION_TOKEN` holds; a request that was talked out of
        // somebody else's program does not.
        Kind::Pod => match (path, asked.field("authorization")) {
            (POD_KEYS, Field::Once(token)) if !token.is_empty() => read(asked, || keys(identity, scene, json!({}))),
            (POD_KEYS, _) => {
                Answer::refusal(Code::Unauthorized, "a pod's keys are asked for with its authorization token")
            }
            (_, _) => nothing(),
        },
    }
}

fn machine(identity: &AwsIdentity, asked: &Asked<'_>, path: &str, scene: &Scene<'_>) -> Answer {
    if path == TOKEN {
        return token(asked, scene);
    }
    let holds = match asked.field(TOKEN_FIELD) {
        Field::Once(token) => scene.sessions.holds(token, scene.now.as_second()),
        Field::Missing | Field::Odd => false,
    };
    if !holds {
        return Answer::refusal(Code::Unauthorized, "IMDSv2: no session token, or one that has ended");
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path == KEYS.trim_end_matches('/') {
        return read(asked, || Answer::text(identity.role.as_str(), "the role's name"));
    }
    match (path.strip_prefix(KEYS), path, &identity.region) {
        (Some(role), ..) if role == identity.role => {
            let updated = json!({ "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": time(scene, 0) });
            read(asked, || keys(identity, scene, updated))
        }
        (None, REGION, Some(region)) => read(asked, || Answer::text(region.as_str(), "the region")),
        (None, ZONE, Some(region)) => read(asked, || Answer::text(format!("{region}a"), "the availability zone")),
        (_, _, _) => nothing(),
    }
}

/// A session token.
fn token(asked: &Asked<'_>, scene: &Scene<'_>) -> Answer {
    if asked.method != "PUT" {
        return Answer::refusal(Code::MethodNotAllowed, "a session token is asked for by PUT")
            .with("Allow", "OPTIONS, PUT");
    }
    let life = match asked.field(LIFE_FIELD) {
        Field::Once(seconds) if seconds.bytes().all(|byte| byte.is_ascii_digit()) => seconds.parse().ok(),
        Field::Once(_) | Field::Missing | Field::Odd => None,
    };
    match life {
        Some(life @ 1..=session::LONGEST) => {
            let token = scene.sessions.issue(scene.now.as_second().saturating_add(life));
            Answer::text(token, "a session token of IMDSv2")
                .with("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", life.to_string())
        }
        Some(_) | None => {
            Answer::refusal(Code::BadRequest, "IMDSv2: how long the token shall live is missing, or out of bounds")
        }
    }
}

/// The placeholder keys.
fn keys(identity: &AwsIdentity, scene: &Scene<'_>, more: Value) -> Answer {
    let mut body = json!({
        "AccessKeyId": scene.placeholders.access_key_id,
        "SecretAccessKey": scene.placeholders.secret_access_key,
        "Token": scene.placeholders.session_token,
        "Expiration": time(scene, LIFE),
    });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
        if let Some(account) = &identity.account_id {
            body.insert("AccountId".to_owned(), account.as_str().into());
            body.insert("RoleArn".to_owned(), format!("arn:aws:iam::{account}:role/{}", identity.role).into());
        }
    }
    Answer::json(
        &body,
        format!("placeholder keys of the role {}, for credential {}", identity.role, identity.credential),
    )
}

/// What is only read.
fn read(asked: &Asked<'_>, answer: impl FnOnce() -> Answer) -> Answer {
    match asked.method {
        "GET" | "HEAD" => answer(),
        _ => Answer::refusal(Code::MethodNotAllowed, "this is read by GET").with("Allow", "GET, HEAD"),
    }
}

fn nothing() -> Answer {
    Answer::refusal(Code::NotFound, "nothing is answered there in place of AWS")
}

/// A moment from now, to the second.
fn time(scene: &Scene<'_>, seconds: i64) -> String {
    let second = scene.now.as_second().saturating_add(seconds);
    jiff::Timestamp::from_second(second).unwrap_or(scene.now).to_string()
}
