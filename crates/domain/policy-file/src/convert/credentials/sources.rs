//! Where secrets come from.

use std::path::PathBuf;

use policy::model::credential::{
    Aws, AwsKeys, AwsRole, Azure, AzureAuth, Gcp, GcpAuth, GithubApp, Kubernetes, Oauth, OauthGrant, Source, Stored,
    Vault, VaultAuth,
};

use super::endpoint::{Plain, endpoint};
use crate::{
    convert::{Converter, parts, problem::Problem},
    place::Place,
    wire::credential as written,
};

pub(in crate::convert) const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const SESSION: &str = "cofferdam";

impl<'f> Converter<'f> {
    /// `region` is that of the signature, for STS where none is written.
    pub(super) fn source(
        &mut self,
        from: &written::Source,
        region: Option<String>,
        place: &Place<'_>,
    ) -> Option<Source> {
        let there = [
            ("file", from.file.is_some()),
            ("command", !from.command.is_empty()),
            ("env", from.env.is_some()),
            ("keyring", from.keyring.is_some()),
            ("vault", from.vault.is_some()),
            ("aws", from.aws.is_some()),
            ("azure", from.azure.is_some()),
            ("gcp", from.gcp.is_some()),
            ("kubernetes", from.kubernetes.is_some()),
            ("oauth", from.oauth.is_some()),
            ("githubApp", from.github_app.is_some()),
            ("certificate", from.certificate.is_some()),
        ];
        let here = place.key(self.only_one("`from`", &there, place)?);
        if let Some(vault) = &from.vault {
            return self.vault(vault, &here).map(|vault| Source::Vault(Box::new(vault)));
        }
        if let Some(aws) = &from.aws {
            return self.aws(aws, region, &here).map(|aws| Source::Aws(Box::new(aws)));
        }
        if let Some(azure) = &from.azure {
            return self.azure(azure, &here).map(|azure| Source::Azure(Box::new(azure)));
        }
        if let Some(gcp) = &from.gcp {
            return self.gcp(gcp, &here).map(|gcp| Source::Gcp(Box::new(gcp)));
        }
        if let Some(kubernetes) = &from.kubernetes {
            return self.kubernetes(kubernetes, &here).map(|found| Source::Kubernetes(Box::new(found)));
        }
        if let Some(oauth) = &from.oauth {
            return self.oauth(oauth, &here).map(|oauth| Source::Oauth(Box::new(oauth)));
        }
        if let Some(app) = &from.github_app {
            return self.github_app(app, &here).map(|app| Source::GithubApp(Box::new(app)));
        }
        if let Some(certificate) = &from.certificate {
            let chain = self.named_file(&certificate.chain, &here.key("chain"));
            let key = self.stored(&certificate.key, &here.key("key"));
            return Some(Source::Certificate { chain: chain?, key: key? });
        }
        let (file, command, env, keyring) =
            (from.file.clone(), from.command.clone(), from.env.clone(), from.keyring.clone());
        self.stored(&written::Stored { file, command, env, keyring }, place).map(Source::Stored)
    }

    fn stored(&mut self, written: &written::Stored, place: &Place<'_>) -> Option<Stored> {
        let there = [
            ("file", written.file.is_some()),
            ("command", !written.command.is_empty()),
            ("env", written.env.is_some()),
            ("keyring", written.keyring.is_some()),
        ];
        let here = place.key(self.only_one("the place of this secret", &there, place)?);
        if let Some(path) = &written.file {
            return self.named_file(path, &here).map(Stored::File);
        }
        if let Some(name) = &written.env {
            let fine = parts::is_variable(name);
            return self.fitting(fine, name, "name of an environment variable", &here).map(Stored::Env);
        }
        if let Some(keyring) = &written.keyring {
            let service = self.filled(&keyring.service, &here.key("service"));
            let account = self.filled(&keyring.account, &here.key("account"));
            return Some(Stored::Keyring { service: service?, account: account? });
        }
        let words = written.command.iter().enumerate();
        let wrong = words.filter(|(index, word)| word.contains('\0') || (*index == 0 && word.is_empty()));
        for (index, word) in wrong {
            let (text, what) = (word.clone(), "word of a command");
            self.report(&here.index(index), Problem::NotA { text, what });
        }
        Some(Stored::Command(written.command.clone()))
    }

    fn vault(&mut self, written: &written::Vault, place: &Place<'_>) -> Option<Vault> {
        let address = self.endpoint(&written.address, &place.key("address"));
        let mount = self.filled(written.mount.as_deref().unwrap_or("secret"), &place.key("mount"));
        let path = self.filled(&written.path, &place.key("path"));
        let field = self.filled(&written.field, &place.key("field"));
        let ca = self.bundle(written.ca.as_ref(), &place.key("ca"));
        let auth = place.key("auth");
        let there = [("token", written.auth.token.is_some()), ("appRole", written.auth.app_role.is_some())];
        let here = auth.key(self.only_one("`auth`", &there, &auth)?);
        let auth = match (&written.auth.token, &written.auth.app_role) {
            (Some(token), _) => VaultAuth::Token(self.stored(token, &here)?),
            (None, role) => {
                let role = role.as_ref()?;
                let mount = self.filled(role.mount.as_deref().unwrap_or("approle"), &here.key("mount"));
                let role_id = self.filled(&role.role_id, &here.key("roleId"));
                let secret_id = self.stored(&role.secret_id, &here.key("secretId"));
                VaultAuth::AppRole { mount: mount?, role_id: role_id?, secret_id: secret_id? }
            }
        };
        let namespace = written.namespace.clone();
        Some(Vault { address: address?, namespace, mount: mount?, path: path?, field: field?, auth, ca: ca? })
    }

    fn aws(&mut self, written: &written::Aws, region: Option<String>, place: &Place<'_>) -> Option<Aws> {
        let there = [
            ("profile", written.profile.is_some()),
            ("accessKeyId", written.access_key_id.is_some() || written.secret_access_key.is_some()),
            ("webIdentity", written.web_identity.is_some()),
        ];
        let key = self.only_one("`aws`", &there, place)?;
        let here = place.key(key);
        let keys = if let Some(profile) = &written.profile {
            AwsKeys::Profile(self.filled(profile, &here)?)
        } else if let Some(identity) = &written.web_identity {
            let token = self.stored(&identity.token, &here.key("token"));
            let role = self.role(&identity.role, &here.key("role"));
            AwsKeys::WebIdentity { token: token?, role: role? }
        } else {
            let (Some(id), Some(secret)) = (&written.access_key_id, &written.secret_access_key) else {
                let what = "`accessKeyId` and `secretAccessKey` belong together".to_owned();
                self.report(place, Problem::Contradiction { what, hint: None });
                return None;
            };
            let fine = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
            let access_key_id = self.fitting(fine, id, "access key id", &here);
            let secret_access_key = self.stored(secret, &place.key("secretAccessKey"));
            AwsKeys::Static { access_key_id: access_key_id?, secret_access_key: secret_access_key? }
        };
        let assume_role = match &written.assume_role {
            Some(role) => Some(self.role(role, &place.key("assumeRole"))?),
            None => None,
        };
        let sts_endpoint = self.optional_endpoint(written.sts_endpoint.as_ref(), &place.key("stsEndpoint"))?;
        let region = match (&written.region, region) {
            (Some(region), _) => self.scope_word(region, "region of AWS", &place.key("region"))?,
            // Keys without a signature are refused elsewhere.
            (None, region) => region.unwrap_or_default(),
        };
        Some(Aws { keys, assume_role, sts_endpoint, region })
    }

    fn role(&mut self, written: &written::AssumeRole, place: &Place<'_>) -> Option<AwsRole> {
        let fine = written.arn.starts_with("arn:") && written.arn.split(':').count() >= 6;
        let arn = self.fitting(fine, &written.arn, "ARN of a role", &place.key("arn"));
        let session_name = written.session_name.as_deref().unwrap_or(SESSION);
        let word = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c);
        let fine = (2..=64).contains(&session_name.len()) && session_name.chars().all(word);
        let session_name = self.fitting(fine, session_name, "session name of AWS", &place.key("sessionName"));
        let duration = self.seconds(written.duration_seconds, (900, 43_200), &place.key("durationSeconds"));
        let external_id = written.external_id.clone();
        Some(AwsRole { arn: arn?, session_name: session_name?, external_id, duration_seconds: duration? })
    }

    fn azure(&mut self, written: &written::Azure, place: &Place<'_>) -> Option<Azure> {
        let there = [
            ("managedIdentity", written.managed_identity.is_some()),
            ("workloadIdentity", written.workload_identity.is_some()),
            ("clientCredentials", written.client_credentials.is_some()),
        ];
        let scope = self.filled(&written.scope, &place.key("scope"));
        let authority = self.optional_endpoint(written.authority.as_ref(), &place.key("authority"));
        let here = place.key(self.only_one("`azure`", &there, place)?);
        let auth = if let Some(identity) = &written.managed_identity {
            let at = here.key("endpoint");
            let endpoint = match &identity.endpoint {
                Some(text) => Some(self.take(&at, endpoint(text, Plain::Metadata))?),
                None => None,
            };
            AzureAuth::ManagedIdentity { client_id: identity.client_id.clone(), endpoint }
        } else if let Some(identity) = &written.workload_identity {
            let tenant = self.tenant(&identity.tenant_id, &here.key("tenantId"));
            let client_id = self.filled(&identity.client_id, &here.key("clientId"));
            let token = self.stored(&identity.token, &here.key("token"));
            AzureAuth::WorkloadIdentity { tenant: tenant?, client_id: client_id?, token: token? }
        } else {
            let client = written.client_credentials.as_ref()?;
            let tenant = self.tenant(&client.tenant_id, &here.key("tenantId"));
            let client_id = self.filled(&client.client_id, &here.key("clientId"));
            let client_secret = self.stored(&client.client_secret, &here.key("clientSecret"));
            AzureAuth::ClientCredentials { tenant: tenant?, client_id: client_id?, client_secret: client_secret? }
        };
        Some(Azure { auth, scope: scope?, authority: authority? })
    }

    fn gcp(&mut self, written: &written::Gcp, place: &Place<'_>) -> Option<Gcp> {
        let there = [
            ("serviceAccount", written.service_account.is_some()),
            ("workloadIdentity", written.workload_identity.is_some()),
            ("metadata", written.metadata.is_some()),
        ];
        let here = place.key(self.only_one("`gcp`", &there, place)?);
        let auth = if let Some(account) = &written.service_account {
            GcpAuth::ServiceAccount(self.stored(account, &here)?)
        } else if let Some(identity) = &written.workload_identity {
            let audience = self.filled(&identity.audience, &here.key("audience"));
            let token = self.stored(&identity.token, &here.key("token"));
            let sts_endpoint = self.optional_endpoint(identity.sts_endpoint.as_ref(), &here.key("stsEndpoint"));
            let iam_endpoint = self.optional_endpoint(identity.iam_endpoint.as_ref(), &here.key("iamEndpoint"));
            let service_account = match &identity.service_account {
                Some(email) => {
                    let fine = email.contains('@') && email.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
                    Some(self.fitting(fine, email, "e-mail address of an account", &here.key("serviceAccount"))?)
                }
                None => None,
            };
            GcpAuth::WorkloadIdentity {
                audience: audience?,
                token: token?,
                token_type: identity.token_type.clone().unwrap_or_else(|| JWT.to_owned()),
                sts_endpoint: sts_endpoint?,
                service_account,
                iam_endpoint: iam_endpoint?,
            }
        } else {
            let at = here.key("endpoint");
            let listens = written.metadata.as_ref().and_then(|metadata| metadata.endpoint.as_ref());
            let endpoint = match listens {
                Some(text) => Some(self.take(&at, endpoint(text, Plain::Metadata))?),
                None => None,
            };
            GcpAuth::Metadata { endpoint }
        };
        let scopes = if written.scopes.is_empty() { vec![GOOGLE_SCOPE.to_owned()] } else { written.scopes.clone() };
        Some(Gcp { auth, scopes })
    }

    fn kubernetes(&mut self, written: &written::Kubernetes, place: &Place<'_>) -> Option<Kubernetes> {
        let server = self.endpoint(&written.server, &place.key("server"));
        let ca = self.bundle(written.ca.as_ref(), &place.key("ca"));
        let token = self.stored(&written.token, &place.key("token"));
        // They stand in the path of the request.
        let dns =
            |text: &str| !text.is_empty() && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
        let (space, account) = (&written.namespace, &written.service_account);
        let namespace = self.fitting(dns(space), space, "name of a namespace", &place.key("namespace"));
        let account = self.fitting(dns(account), account, "name of a service account", &place.key("serviceAccount"));
        let expiration = self.seconds(written.expiration_seconds, (600, 86_400), &place.key("expirationSeconds"));
        Some(Kubernetes {
            server: server?,
            ca: ca?,
            token: token?,
            namespace: namespace?,
            service_account: account?,
            audiences: written.audiences.clone(),
            expiration_seconds: expiration?,
        })
    }

    fn oauth(&mut self, written: &written::Oauth, place: &Place<'_>) -> Option<Oauth> {
        let token_url = self.endpoint(&written.token_url, &place.key("tokenUrl"));
        let revocation_url = self.optional_endpoint(written.revocation_url.as_ref(), &place.key("revocationUrl"));
        let client_id = self.filled(&written.client_id, &place.key("clientId"));
        let ca = self.bundle(written.ca.as_ref(), &place.key("ca"));
        let client_secret = match &written.client_secret {
            Some(secret) => self.stored(secret, &place.key("clientSecret")).map(Some),
            None => Some(None),
        };
        let grant = self.grant(written.grant.as_ref(), &place.key("grant"))?;
        if grant == OauthGrant::ClientCredentials && written.client_secret.is_none() {
            let what = "the grant `clientCredentials` needs `clientSecret`".to_owned();
            self.report(place, Problem::Contradiction { what, hint: None });
        }
        Some(Oauth {
            token_url: token_url?,
            grant,
            client_id: client_id?,
            client_secret: client_secret?,
            revocation_url: revocation_url?,
            scopes: written.scopes.clone(),
            parameters: written.parameters.clone(),
            ca: ca?,
        })
    }

    fn grant(&mut self, written: Option<&written::OauthGrant>, place: &Place<'_>) -> Option<OauthGrant> {
        let form = match written {
            Some(written::OauthGrant::Word(written::GrantWord::ClientCredentials)) | None => {
                return Some(OauthGrant::ClientCredentials);
            }
            Some(written::OauthGrant::Form(form)) => form,
        };
        let there = [("refreshToken", form.refresh_token.is_some()), ("tokenExchange", form.token_exchange.is_some())];
        let here = place.key(self.only_one("`grant`", &there, place)?);
        if let Some(token) = &form.refresh_token {
            return self.stored(token, &here).map(OauthGrant::RefreshToken);
        }
        let exchange = form.token_exchange.as_ref()?;
        let subject = self.stored(&exchange.subject_token, &here.key("subjectToken"))?;
        let subject_type = exchange.subject_token_type.clone().unwrap_or_else(|| JWT.to_owned());
        Some(OauthGrant::TokenExchange { subject, subject_type })
    }

    fn github_app(&mut self, written: &written::GithubApp, place: &Place<'_>) -> Option<GithubApp> {
        let app_id = self.filled(&written.app_id, &place.key("appId"));
        let id = u64::try_from(written.installation_id).ok().filter(|id| *id > 0);
        let wrong = || Problem::NotA { text: written.installation_id.to_string(), what: "id of an installation" };
        let installation_id = self.take(&place.key("installationId"), id.ok_or_else(wrong));
        let private_key = self.stored(&written.private_key, &place.key("privateKey"));
        let api = self.optional_endpoint(written.api.as_ref(), &place.key("api"));
        let ca = self.bundle(written.ca.as_ref(), &place.key("ca"));
        Some(GithubApp {
            api: api?,
            app_id: app_id?,
            installation_id: installation_id?,
            private_key: private_key?,
            repositories: written.repositories.clone(),
            permissions: written.permissions.clone(),
            ca: ca?,
        })
    }

    fn endpoint(&mut self, text: &str, place: &Place<'_>) -> Option<String> {
        self.take(place, endpoint(text, Plain::Loopback))
    }

    fn optional_endpoint(&mut self, text: Option<&String>, place: &Place<'_>) -> Option<Option<String>> {
        self.optional(place, text, |text| endpoint(text, Plain::Loopback))
    }

    fn bundle(&mut self, text: Option<&String>, place: &Place<'_>) -> Option<Option<PathBuf>> {
        self.optional(place, text, |text| parts::own_file(text).map(PathBuf::from))
    }

    fn named_file(&mut self, text: &str, place: &Place<'_>) -> Option<PathBuf> {
        self.take(place, parts::own_file(text).map(PathBuf::from))
    }

    /// A tenant of Entra stands in the path of the request.
    fn tenant(&mut self, text: &str, place: &Place<'_>) -> Option<String> {
        let fine = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        self.fitting(fine, text, "tenant of Microsoft Entra", place)
    }

    /// A text that is there and steers nothing.
    pub(in crate::convert) fn filled(&mut self, text: &str, place: &Place<'_>) -> Option<String> {
        let fine = !text.trim().is_empty() && !text.chars().any(char::is_control);
        self.fitting(fine, text, "value here", place)
    }

    /// A number of seconds, the least of which is the default.
    fn seconds(&mut self, written: Option<i64>, (low, high): (u32, u32), place: &Place<'_>) -> Option<u32> {
        let Some(value) = written else { return Some(low) };
        let seconds = u32::try_from(value).ok().filter(|seconds| (low..=high).contains(seconds));
        let wrong = || Problem::Range { value: value.to_string(), low: low.to_string(), high: high.to_string() };
        self.take(place, seconds.ok_or_else(wrong))
    }
}
