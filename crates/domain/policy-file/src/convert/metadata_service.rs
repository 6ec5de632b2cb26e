//! What is answered in place of clouds' metadata services.

use policy::model::metadata_service::{AwsIdentity, AzureIdentity, Cloud, GcpIdentity, MetadataService};
use values::CredentialName;

use super::{Converter, credentials::GOOGLE_SCOPE, problem::Problem};
use crate::{place::Place, wire};

impl<'f> Converter<'f> {
    /// After the credentials, which it names.
    pub(super) fn metadata_service(&mut self, spec: &Place<'_>) {
        let Some(written) = &self.written.metadata_service else { return };
        let place = spec.key("metadataService");
        let aws = written.aws.as_ref().and_then(|identity| self.aws_identity(identity, &place.key("aws")));
        let azure = written.azure.as_ref().and_then(|identity| self.azure_identity(identity, &place.key("azure")));
        let gcp = written.gcp.as_ref().and_then(|identity| self.gcp_identity(identity, &place.key("gcp")));
        self.spec.metadata_service = MetadataService { aws, azure, gcp };
    }

    fn aws_identity(&mut self, written: &wire::AwsIdentity, place: &Place<'_>) -> Option<AwsIdentity> {
        let credential = self.behind(Cloud::Aws, &written.credential, &place.key("credential"));
        let word = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
        let role = (1..=64).contains(&written.role.len()) && written.role.chars().all(word);
        let role = self.fitting(role, &written.role, "name of a role of AWS", &place.key("role"));
        let account_id = match &written.account_id {
            Some(id) => {
                let fine = id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit());
                Some(self.fitting(fine, id, "account of AWS: twelve digits", &place.key("accountId"))?)
            }
            None => None,
        };
        let region = match &written.region {
            Some(region) => Some(self.scope_word(region, "region of AWS", &place.key("region"))?),
            None => None,
        };
        Some(AwsIdentity { credential: credential?, role: role?, account_id, region })
    }

    fn azure_identity(&mut self, written: &wire::AzureIdentity, place: &Place<'_>) -> Option<AzureIdentity> {
        let credential = self.behind(Cloud::Azure, &written.credential, &place.key("credential"));
        let resources = place.key("resources");
        if written.resources.is_empty() {
            let what = "a token is asked for a resource, and none is named".to_owned();
            let hint = Some("write `resources: [\"https://management.azure.com\"]`");
            self.report(&resources, Problem::Contradiction { what, hint });
        }
        for (index, resource) in written.resources.iter().enumerate() {
            self.filled(resource, &resources.index(index));
        }
        let mut id = |text: Option<&String>, key: &'static str| match text {
            Some(text) => self.filled(text, &place.key(key)).map(Some),
            None => Some(None),
        };
        let client_id = id(written.client_id.as_ref(), "clientId");
        let tenant = id(written.tenant_id.as_ref(), "tenantId");
        let resources = written.resources.clone();
        Some(AzureIdentity { credential: credential?, resources, client_id: client_id?, tenant: tenant? })
    }

    fn gcp_identity(&mut self, written: &wire::GcpIdentity, place: &Place<'_>) -> Option<GcpIdentity> {
        let credential = self.behind(Cloud::Gcp, &written.credential, &place.key("credential"));
        let word = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b':');
        let project = !written.project.is_empty() && written.project.bytes().all(word);
        let project = self.fitting(project, &written.project, "id of a project", &place.key("project"));
        let email = written.email.contains('@') && written.email.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        let email = self.fitting(email, &written.email, "e-mail address of an account", &place.key("email"));
        let project_number = match written.project_number {
            Some(number) => {
                let found = u64::try_from(number).ok().filter(|number| *number > 0);
                let wrong = || Problem::NotA { text: number.to_string(), what: "number of a project" };
                Some(self.take(&place.key("projectNumber"), found.ok_or_else(wrong))?)
            }
            None => None,
        };
        let place = place.key("scopes");
        for (index, scope) in written.scopes.iter().enumerate() {
            self.filled(scope, &place.index(index));
        }
        let scopes = if written.scopes.is_empty() { vec![GOOGLE_SCOPE.to_owned()] } else { written.scopes.clone() };
        Some(GcpIdentity { credential: credential?, project: project?, project_number, email: email?, scopes })
    }

    /// The credential behind a placeholder.
    fn behind(&mut self, cloud: Cloud, name: &str, place: &Place<'_>) -> Option<CredentialName> {
        let name = self.rule_credential(name, place)?;
        // One that is wrong in itself was said to be.
        if self.spec.credentials.get(&name).is_some_and(|credential| !credential.stands_behind(cloud)) {
            let what = match cloud {
                Cloud::Aws => "behind AWS's keys stands a credential `from: aws`",
                Cloud::Azure | Cloud::Gcp => {
                    "behind a token stands a credential that is one, no keys and no certificate"
                }
            };
            self.report(place, Problem::Contradiction { what: what.to_owned(), hint: None });
        }
        Some(name)
    }
}
