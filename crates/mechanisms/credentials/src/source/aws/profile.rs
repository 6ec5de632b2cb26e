//! What the caller's own AWS files say of a profile (`~/.aws/config`, `~/.aws/credentials`): keys, `credential_process`,
//! `source_profile` with `role_arn`, `web_identity_token_file`. What else AWS's tools can do there is refused by name.

use std::{collections::BTreeMap, path::PathBuf};

use policy::model::credential::AwsRole;
use serde::Deserialize;
use values::Secret;

use super::{Aws, Keys, life_of};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::{Asked, SecretText},
    issued::AwsKeys,
    schedule::Life,
    source::{
        Attempt, Opening,
        program::Program,
        stored::{Kept, read_file},
    },
};

const PROFILE: Asked = Asked {
    provider: "the AWS profile",
    step: "reading it",
    hint: "it needs keys, `credential_process`, `role_arn` with `source_profile`, or `web_identity_token_file`; for another way, \
           `credential_process = aws configure export-credentials --profile NAME --format process`",
};

/// How many profiles may stand on one another.
const MOST_STEPS: usize = 5;
/// The shortest session of a role, which a profile without `duration_seconds` gets here.
const SHORTEST: u32 = 900;

/// The caller's files and a profile in them.
pub(crate) struct Files {
    name: String,
    config: PathBuf,
    credentials: PathBuf,
}

/// Profiles by name, each with its settings.
type Profiles = BTreeMap<String, BTreeMap<String, Secret>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessAnswer {
    version: u32,
    access_key_id: String,
    secret_access_key: SecretText,
    #[serde(default)]
    session_token: Option<SecretText>,
    #[serde(default)]
    expiration: Option<String>,
}

impl Files {
    pub(crate) fn open(name: &str, opening: &Opening<'_>) -> Result<Self, OpenError> {
        let path = |variable: &str, file: &str| {
            let named = opening.surroundings.variable(variable).map(|named| opening.surroundings.callers_path(named));
            opening.path(&named.unwrap_or_else(|| opening.surroundings.home.join(".aws").join(file)))
        };
        Ok(Self {
            name: name.to_owned(),
            config: path("AWS_CONFIG_FILE", "config")?,
            credentials: path("AWS_SHARED_CREDENTIALS_FILE", "credentials")?,
        })
    }

    pub(super) fn keys(&self, aws: &Aws, attempt: &Attempt<'_>) -> Result<Keys, Fault> {
        let mut profiles = Profiles::new();
        for (path, is_config) in [(&self.config, true), (&self.credentials, false)] {
            if !path.exists() {
                continue;
            }
            let (text, _) = read_file(path, attempt.surroundings)?;
            let text = text.expose_str().ok_or_else(|| self.fault(path.display().to_string(), "it is no text"))?;
            // What the credentials file says goes before what the other says.
            for (name, settings) in read_profiles(text, is_config) {
                profiles.entry(name).or_default().extend(settings);
            }
        }
        self.resolve(&self.name, &mut Vec::new(), &profiles, aws, attempt)
    }

    fn resolve<'a>(
        &self,
        name: &'a str,
        above: &mut Vec<&'a str>,
        profiles: &'a Profiles,
        aws: &Aws,
        attempt: &Attempt<'_>,
    ) -> Result<Keys, Fault> {
        let unfit = |what: String| self.fault(format!("profile {name}"), &what);
        let profile = profiles.get(name).ok_or_else(|| unfit("there is no such profile".to_owned()))?;
        let is_own_source = above.last() == Some(&name);
        if above.len() >= MOST_STEPS || (above.contains(&name) && !is_own_source) {
            return Err(unfit("its source profiles go round in a circle".to_owned()));
        }
        let setting = |key: &str| profile.get(key).and_then(Secret::expose_str).filter(|value| !value.is_empty());
        if let Some(key) =
            ["mfa_serial", "sso_session", "sso_start_url", "login_session"].iter().find(|key| setting(key).is_some())
        {
            return Err(unfit(format!("`{key}` needs a person, which a gateway has not")));
        }
        let Some(arn) = setting("role_arn").filter(|_| !is_own_source) else {
            return self.plain_keys(name, &setting, attempt);
        };
        let seconds = setting("duration_seconds").map_or(Ok(SHORTEST), str::parse);
        let role = AwsRole {
            arn: arn.to_owned(),
            session_name: setting("role_session_name").unwrap_or("cofferdam").to_owned(),
            external_id: setting("external_id").map(str::to_owned),
            duration_seconds: seconds.map_err(|_| unfit("its duration_seconds is no number".to_owned()))?,
        };
        if let Some(file) = setting("web_identity_token_file") {
            let token = Kept::File(attempt.surroundings.callers_path(file)).read(attempt)?;
            return aws.with_web_identity(&token, &role, attempt);
        }
        let start = match (setting("source_profile"), setting("credential_source")) {
            (Some(source), None) => {
                above.push(name);
                self.resolve(source, above, profiles, aws, attempt)?
            }
            (None, Some("Environment")) => self.of_environment(attempt)?,
            (None, Some(other)) => return Err(unfit(format!("`credential_source = {other}` is not supported"))),
            (_, _) => return Err(unfit("its role needs one of source_profile and credential_source".to_owned())),
        };
        aws.assume(&start.keys, &role, attempt)
    }

    fn plain_keys<'a>(
        &self,
        name: &str,
        setting: &impl Fn(&str) -> Option<&'a str>,
        attempt: &Attempt<'_>,
    ) -> Result<Keys, Fault> {
        let unfit = |what: &str| self.fault(format!("profile {name}"), what);
        if let (Some(id), Some(secret)) = (setting("aws_access_key_id"), setting("aws_secret_access_key")) {
            return Ok(keys(id, secret, setting("aws_session_token")));
        }
        let line = setting("credential_process").ok_or_else(|| unfit("it holds no keys and no way to get some"))?;
        let words = words(line).ok_or_else(|| unfit("its credential_process has a quote that is not closed"))?;
        let output = Program::of(words).output(attempt)?;
        let answer: ProcessAnswer = serde_json::from_slice(&output)
            .map_err(|_| unfit("its credential_process printed no JSON of the expected form"))?;
        if answer.version != 1 {
            return Err(unfit("its credential_process printed a version other than 1"));
        }
        let life = life_of(answer.expiration.as_deref());
        Ok(Keys {
            keys: AwsKeys {
                access_key_id: answer.access_key_id,
                secret_access_key: answer.secret_access_key.0,
                session_token: answer.session_token.map(|token| token.0),
            },
            life: life.ok_or_else(|| unfit("its credential_process printed an Expiration that is no date"))?,
        })
    }

    fn of_environment(&self, attempt: &Attempt<'_>) -> Result<Keys, Fault> {
        let variable = |name: &str| attempt.surroundings.variable(name);
        let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) else {
            return Err(self.fault("AWS_ACCESS_KEY_ID".to_owned(), "the caller's environment holds no keys"));
        };
        Ok(keys(id, secret, variable("AWS_SESSION_TOKEN")))
    }

    fn fault(&self, place: String, what: &str) -> Fault {
        PROFILE.fault(place, Problem::Unfit(what.to_owned()))
    }
}

fn keys(id: &str, secret: &str, token: Option<&str>) -> Keys {
    Keys {
        keys: AwsKeys {
            access_key_id: id.to_owned(),
            secret_access_key: Secret::from(secret.to_owned()),
            session_token: token.map(|token| Secret::from(token.to_owned())),
        },
        life: Life::Unknown,
    }
}

/// The profiles of a file: `[default]` and `[NAME]`, in `config` `[profile NAME]`. Nested settings and other sections are left out.
fn read_profiles(text: &str, is_config: bool) -> Profiles {
    let mut profiles = Profiles::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            let section = section.split_once(']').map(|(name, _)| name.trim());
            current = section.and_then(|section| match section.strip_prefix("profile") {
                Some(name) if is_config && name.starts_with([' ', '\t']) => {
                    Some(name.trim().trim_matches('"').to_owned())
                }
                Some(_) | None => (!is_config || section == "default").then(|| section.to_owned()),
            });
            continue;
        }
        let (Some(name), Some((key, value)), false) = (&current, line.split_once('='), is_nested) else { continue };
        let value = without_comment(value).trim();
        let settings = profiles.entry(name.clone()).or_default();
        settings.insert(key.trim().to_ascii_lowercase(), Secret::from(value.to_owned()));
    }
    profiles
}

/// A comment behind a value begins with white space and `#` or `;`.
fn without_comment(value: &str) -> &str {
    let starts = value.char_indices().zip(value.chars().skip(1));
    let found = starts.into_iter().find(|((_, space), mark)| space.is_whitespace() && matches!(mark, '#' | ';'));
    found.and_then(|((at, _), _)| value.get(..at)).unwrap_or(value)
}

/// Words as a shell would split them, without anything else that a shell does; none where a quote is not closed.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (Some(_), character) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (None, character) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, is_config: bool) -> Vec<(String, String, String)> {
        let mut all = Vec::new();
        for (name, settings) in read_profiles(text, is_config) {
            for (key, value) in settings {
                all.push((name.clone(), key, value.expose_str().unwrap_or_default().to_owned()));
            }
        }
        all
    }

    #[test]
    fn profiles_of_both_files() {
        let config = "[default]\nregion = eu-central-1 # here\n[profile a b]\nRole_Arn=arn:x\ns3 =\n  max = 1\n[sso-session x]\nk=v\n[plain]\nk=v\n";
        let expected = [("a b", "role_arn", "arn:x"), ("a b", "s3", ""), ("default", "region", "eu-central-1")];
        let found = settings(config, true);
        let found: Vec<_> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        assert_eq!(found, expected);
        let credentials = "; comment\n[one]\naws_secret_access_key = a/b+c=#d\nnothing\n[broken\nk=v\n";
        let expected = [("one".to_owned(), "aws_secret_access_key".to_owned(), "a/b+c=#d".to_owned())];
        assert_eq!(settings(credentials, false), expected);
    }

    #[test]
    fn words_are_split_as_a_shell_would_and_nothing_more() {
        let cases = [
            ("a b  c", Some(vec!["a", "b", "c"])),
            ("'a b' \"c \\\" d\"", Some(vec!["a b", "c \" d"])),
            ("a\\ b $HOME `id` ; x", Some(vec!["a b", "$HOME", "`id`", ";", "x"])),
            ("'' x", Some(vec!["", "x"])),
            ("'open", None),
            ("back\\", None),
            ("", Some(vec![])),
        ];
        for (line, expected) in cases {
            let found = words(line);
            let expected = expected.map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(found, expected, "{line}");
        }
    }
}
