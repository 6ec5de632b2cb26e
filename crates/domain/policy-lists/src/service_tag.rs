//! Published address ranges of Azure, AWS and Google, in the providers' own formats.
//!
//! | provider | file | a tag's name |
//! | --- | --- | --- |
//! | Azure | `ServiceTags_*.json` | `Storage`, `Storage.WestEurope` |
//! | AWS | `ip-ranges.json` | `S3`, `S3.eu-west-1` |
//! | Google | `cloud.json`, `goog.json` | a scope such as `europe-west1`, a service, or `all` |

use ipnet::IpNet;
use policy::model::{ListContent, Provider, ServiceTag};
use serde::Deserialize;

use crate::{ENTRY_LIMIT, FILE_LIMIT};

/// Why a provider's file does not give a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTagError {
    /// It is too large.
    #[error("it has {0} bytes; at most {FILE_LIMIT} are read")]
    TooLarge(usize),
    /// It is not the provider's format.
    #[error("it is not the provider's format: {0}")]
    WrongFormat(String),
    /// A range in it can't be read.
    #[error("{0:?} is no range")]
    Range(String),
    /// It has no such tag.
    #[error("it has no tag {name:?}{}", near.as_ref().map(|near| format!("; there is {near:?}")).unwrap_or_default())]
    Unknown {
        /// The tag asked for.
        name: String,
        /// One that begins alike.
        near: Option<String>,
    },
    /// The tag has too many ranges.
    #[error("the tag has more than {ENTRY_LIMIT} ranges")]
    TooMany,
}

#[derive(Deserialize)]
struct Azure {
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
struct Aws {
    prefixes: Vec<AwsRange>,
    ipv6_prefixes: Vec<AwsRange>,
}

#[derive(Deserialize)]
struct AwsRange {
    #[serde(alias = "ipv6_prefix")]
    ip_prefix: String,
    region: String,
    service: String,
}

#[derive(Deserialize)]
struct Google {
    prefixes: Vec<GoogleRange>,
}

#[derive(Deserialize)]
struct GoogleRange {
    #[serde(rename = "ipv4Prefix", alias = "ipv6Prefix")]
    prefix: String,
    service: Option<String>,
    scope: Option<String>,
}

/// Reads one tag of a provider's file. Names compare without regard to case.
pub fn read_service_tag(tag: &ServiceTag, bytes: &[u8]) -> Result<ListContent, ServiceTagError> {
    if bytes.len() > FILE_LIMIT {
        return Err(ServiceTagError::TooLarge(bytes.len()));
    }
    let named = match tag.provider {
        Provider::Azure => azure(bytes)?,
        Provider::Aws => aws(bytes)?,
        Provider::Google => google(bytes)?,
    };
    let ranges: Vec<&String> =
        named.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&tag.name)).map(|(_, range)| range).collect();
    if ranges.is_empty() {
        let begins = tag.name.get(..3).unwrap_or(&tag.name).to_ascii_lowercase();
        let near =
            named.iter().map(|(name, _)| name).find(|name| name.to_ascii_lowercase().starts_with(&begins)).cloned();
        return Err(ServiceTagError::Unknown { name: tag.name.clone(), near });
    }
    if ranges.len() > ENTRY_LIMIT {
        return Err(ServiceTagError::TooMany);
    }
    let parse = |range: &&String| {
        range.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| ServiceTagError::Range((*range).clone()))
    };
    let mut cidrs: Vec<IpNet> = ranges.iter().map(parse).collect::<Result<_, _>>()?;
    cidrs.sort();
    cidrs.dedup();
    Ok(ListContent { hosts: Vec::new(), cidrs })
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ServiceTagError> {
    serde_json::from_slice(bytes).map_err(|error| ServiceTagError::WrongFormat(error.to_string()))
}

fn azure(bytes: &[u8]) -> Result<Vec<(String, String)>, ServiceTagError> {
    let file: Azure = json(bytes)?;
    let named = |tag: AzureTag| tag.properties.address_prefixes.into_iter().map(move |range| (tag.name.clone(), range));
    Ok(file.values.into_iter().flat_map(named).collect())
}

fn aws(bytes: &[u8]) -> Result<Vec<(String, String)>, ServiceTagError> {
    let file: Aws = json(bytes)?;
    let named = |range: AwsRange| {
        let regional = format!("{}.{}", range.service, range.region);
        [(range.service, range.ip_prefix.clone()), (regional, range.ip_prefix)]
    };
    Ok(file.prefixes.into_iter().chain(file.ipv6_prefixes).flat_map(named).collect())
}

fn google(bytes: &[u8]) -> Result<Vec<(String, String)>, ServiceTagError> {
    let file: Google = json(bytes)?;
    let named = |range: GoogleRange| {
        let names = [Some("all".to_owned()), range.service, range.scope];
        names.into_iter().flatten().map(move |name| (name, range.prefix.clone()))
    };
    Ok(file.prefixes.into_iter().flat_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AZURE: &str = r#"{"changeNumber":1,"cloud":"Public","values":[
        {"name":"Storage.WestEurope","id":"Storage.WestEurope","properties":{"region":"westeurope","addressPrefixes":["192.0.2.0/25","2001:db8::/48"]}},
        {"name":"AzureActiveDirectory","properties":{"addressPrefixes":["198.51.100.0/24"]}}]}"#;
    const AWS: &str = r#"{"syncToken":"1","createDate":"x","prefixes":[
        {"ip_prefix":"192.0.2.0/24","region":"eu-west-1","service":"S3","network_border_group":"eu-west-1"},
        {"ip_prefix":"192.0.2.0/24","region":"eu-west-1","service":"AMAZON","network_border_group":"eu-west-1"}],
        "ipv6_prefixes":[{"ipv6_prefix":"2001:db8::/32","region":"us-east-1","service":"S3","network_border_group":"us-east-1"}]}"#;
    const GOOGLE: &str = r#"{"syncToken":"1","creationTime":"x","prefixes":[
        {"ipv4Prefix":"192.0.2.0/24","service":"Google Cloud","scope":"europe-west1"},{"ipv6Prefix":"2001:db8::/32"}]}"#;

    fn read(provider: Provider, name: &str, text: &str) -> Result<Vec<String>, ServiceTagError> {
        let tag = ServiceTag { provider, name: name.to_owned(), path: String::new() };
        read_service_tag(&tag, text.as_bytes()).map(|content| content.cidrs.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_provider_is_read() {
        for (provider, text, name, expected) in [
            (Provider::Azure, AZURE, "storage.westeurope", vec!["192.0.2.0/25", "2001:db8::/48"]),
            (Provider::Aws, AWS, "S3", vec!["192.0.2.0/24", "2001:db8::/32"]),
            (Provider::Aws, AWS, "s3.eu-west-1", vec!["192.0.2.0/24"]),
            (Provider::Google, GOOGLE, "europe-west1", vec!["192.0.2.0/24"]),
            (Provider::Google, GOOGLE, "all", vec!["192.0.2.0/24", "2001:db8::/32"]),
        ] {
            assert_eq!(read(provider, name, text).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let unknown = read(Provider::Azure, "Storage", AZURE).unwrap_err();
        assert_eq!(unknown.to_string(), r#"it has no tag "Storage"; there is "Storage.WestEurope""#);
        for wrong in ["", "{}", r#"{"values":[{"name":"x"}]}"#, &AZURE[..200]] {
            assert!(matches!(read(Provider::Azure, "x", wrong), Err(ServiceTagError::WrongFormat(_))), "{wrong}");
        }
        let broken = AZURE.replace("198.51.100.0/24", "198.51.100.0/99");
        assert!(matches!(read(Provider::Azure, "AzureActiveDirectory", &broken), Err(ServiceTagError::Range(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            for provider in [Provider::Azure, Provider::Aws, Provider::Google] {
                let _ = read(provider, "x", &text);
            }
        }
    }
}
