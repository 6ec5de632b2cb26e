//! Credentials and the rules that attach them.

use std::sync::Arc;

use crate::{
    compile::{CompileError, binding::Binding, builder::Builder},
    model::Rule,
};

impl<'a> Builder<'a> {
    /// Checks every credential, and keeps what each is bound to.
    pub(super) fn add_credentials(&mut self) {
        for (name, credential) in &self.spec.credentials {
            let problems = credential.problems().into_iter();
            self.errors.extend(problems.map(|problem| CompileError::Credential { credential: name.clone(), problem }));
            if let Some(binding) = Binding::new(name, &credential.bind) {
                self.bindings.insert(name, Arc::new(binding));
            }
        }
    }

    /// Checks the credentials behind the metadata service's placeholders.
    pub(super) fn check_metadata_service(&mut self) {
        for (cloud, name) in self.spec.metadata_service.named() {
            let found = self.spec.credentials.get(name);
            if !found.is_some_and(|credential| credential.stands_behind(cloud)) {
                let (cloud, credential) = (cloud.as_str(), name.clone());
                self.errors.push(CompileError::MetadataCredential { cloud, credential });
            }
        }
    }

    /// What the rule's credential is bound to. Where that is not known there is an error, and no policy.
    pub(super) fn binding(&mut self, rule: &'a Rule) -> Option<Arc<Binding>> {
        let name = rule.credential.as_ref()?;
        let (rule_name, credential) = (rule.name.clone(), name.clone());
        let Some(found) = self.spec.credentials.get(name) else {
            self.errors.push(CompileError::UnknownCredential { rule: rule_name, credential });
            return None;
        };
        if let Some(problem) = self.spec.credential_misuse(rule, found) {
            self.errors.push(CompileError::CredentialMisuse { rule: rule_name, credential, problem });
        }
        self.bindings.get(name).cloned()
    }
}
