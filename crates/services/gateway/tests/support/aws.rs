//! Requests that are signed with AWS keys.

use std::time::SystemTime;

use credentials::{
    AwsKeys,
    sigv4::{self, Payload, Scope},
};
use policy::model::credential::{Attach, Aws, AwsKeys as Keys, Source, Stored};
use values::Secret;

use super::{
    secrets::{Keeping, SECRET, credential},
    tls::Tls,
};

/// The value of a field in a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A run that signs for this service.
pub fn sigv4(tls: &Tls, service: &str) -> Keeping {
    let file = tls.folder().join("aws");
    std::fs::write(&file, SECRET).unwrap();
    let aws = Aws {
        keys: Keys::Static {
            access_key_id: "AKIAREALREALREALREAL".to_owned(),
            secret_access_key: Stored::File(file.clone()),
        },
        assume_role: None,
        sts_endpoint: None,
        region: "eu-central-1".to_owned(),
    };
    let attach = Attach::SigV4 { service: service.to_owned(), region: "eu-central-1".to_owned() };
    Keeping::of(tls, credential(Source::Aws(Box::new(aws)), attach), file)
}

/// Whether a request as a server got it is signed with the real keys, over this payload.
pub fn is_signed(request: &str, service: &str, payload: &Payload) -> bool {
    let (head, _) = request.split_once("\r\n\r\n").unwrap();
    let mut first = head.lines().next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap(), first.next().unwrap());
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let fields: Vec<(&str, &[u8])> =
        head.lines().skip(1).filter_map(|line| line.split_once(": ")).map(|(n, v)| (n, v.as_bytes())).collect();
    let date: jiff::civil::DateTime =
        jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", field(head, "x-amz-date").unwrap()).unwrap();
    let now: SystemTime = date.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().into();
    let keys = AwsKeys {
        access_key_id: "AKIAREALREALREALREAL".to_owned(),
        secret_access_key: Secret::from(SECRET.to_owned()),
        session_token: None,
    };
    let scope = Scope { service, region: "eu-central-1" };
    let signed =
        sigv4::sign(&sigv4::Request { method, path, query, headers: &fields }, payload, &keys, &scope, now).unwrap();
    let expected = signed.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
    field(head, "authorization").map(str::as_bytes) == Some(expected.1.expose())
}
