//! The range files of Azure, AWS and Google, in the providers' own formats.
//!
//! | provider | file | a tag's name |
//! | --- | --- | --- |
//! | Azure | `ServiceTags_*.json` | `AzureActiveDirectory`, `Storage.WestEurope` |
//! | AWS | `ip-ranges.json` | `S3`, `S3.eu-west-1` |
//! | Google | `cloud.json` | `Google Cloud`, `us-east1`, `Google Cloud.us-east1` |
//! | Google | `goog.json` | `Google` |

use std::collections::BTreeSet;

use policy::model::{Provider, ServiceTag};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Gather, LIST_BYTES, ListError, ListLimits, ListRead, range};
use crate::diagnostics::nearest;

/// The word that names the entries of `goog.json`, which carry no service.
const GOOGLE: &str = "Google";

#[derive(Deserialize)]
struct AzureFile {
    values: Vec<AzureTag>,
}

#[derive(Deserialize)]
struct AzureTag {
    name: String,
    properties: AzureProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AzureProperties {
    address_prefixes: Vec<String>,
}

#[derive(Deserialize)]
struct AwsFile {
    prefixes: Vec<AwsPrefix>,
    #[serde(default)]
    ipv6_prefixes: Vec<AwsPrefix>,
}

#[derive(Deserialize)]
struct AwsPrefix {
    #[serde(alias = "ipv6_prefix")]
    ip_prefix: String,
    region: String,
    service: String,
}

#[derive(Deserialize)]
struct GoogleFile {
    prefixes: Vec<GooglePrefix>,
}

#[derive(Deserialize)]
struct GooglePrefix {
    #[serde(rename = "ipv4Prefix", alias = "ipv6Prefix")]
    prefix: String,
    service: Option<String>,
    scope: Option<String>,
}

/// A range and the tags it stands under.
struct Tagged {
    prefix: String,
    tags: Vec<String>,
}

/// Reads the ranges of one tag from its provider's file. Tags compare without regard to case.
pub fn read_service_tag(tag: &ServiceTag, bytes: &[u8]) -> Result<ListRead, ListError> {
    if bytes.len() > LIST_BYTES {
        return Err(ListError::TooLarge(bytes.len()));
    }
    let (provider, all) = match tag.provider {
        Provider::Azure => ("Azure", azure(file("Azure", bytes)?)),
        Provider::Aws => ("AWS", aws(file("AWS", bytes)?)),
        Provider::Google => ("Google", google(file("Google", bytes)?)),
    };
    let mut gather = Gather::new(ListLimits::default());
    for (index, tagged) in all.iter().enumerate() {
        if !tagged.tags.iter().any(|name| name.eq_ignore_ascii_case(&tag.name)) {
            continue;
        }
        gather.read.records += 1;
        match range(&tagged.prefix) {
            Some(range) => gather.range(range)?,
            None => gather.bad(index + 1, &tagged.prefix),
        }
    }
    if gather.read.records == 0 {
        let names: BTreeSet<&str> = all.iter().flat_map(|tagged| &tagged.tags).map(String::as_str).collect();
        return Err(ListError::UnknownTag { provider, name: tag.name.clone(), nearest: nearest(&tag.name, names) });
    }
    gather.finish()
}

fn file<T: DeserializeOwned>(provider: &'static str, bytes: &[u8]) -> Result<T, ListError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|error| ListError::NotPublished { provider, message: error.to_string() })
}

fn azure(file: AzureFile) -> Vec<Tagged> {
    let tagged = |tag: AzureTag| {
        let name = tag.name;
        tag.properties.address_prefixes.into_iter().map(move |prefix| Tagged { prefix, tags: vec![name.clone()] })
    };
    file.values.into_iter().flat_map(tagged).collect()
}

fn aws(file: AwsFile) -> Vec<Tagged> {
    let tagged = |entry: AwsPrefix| {
        let regional = format!("{}.{}", entry.service, entry.region);
        Tagged { prefix: entry.ip_prefix, tags: vec![entry.service, regional] }
    };
    file.prefixes.into_iter().chain(file.ipv6_prefixes).map(tagged).collect()
}

fn google(file: GoogleFile) -> Vec<Tagged> {
    let tagged = |entry: GooglePrefix| {
        let service = entry.service.unwrap_or_else(|| GOOGLE.to_owned());
        let scoped = entry.scope.as_ref().map(|scope| format!("{service}.{scope}"));
        Tagged { prefix: entry.prefix, tags: [Some(service), entry.scope, scoped].into_iter().flatten().collect() }
    };
    file.prefixes.into_iter().map(tagged).collect()
}
