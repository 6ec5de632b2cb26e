//! Secrets in files, and policies that attach them.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use credentials::{Clock, Credentials, Patience, Surroundings};
use gateway::Secrets;
use policy::{
    CompiledPolicy, HostPattern, OwnAddresses,
    model::{
        Action, Lists, PolicySpec, Rule,
        credential::{Attach, Bind, Credential, Expose, Format, Source, Stored},
    },
};
use secret_swap::Placeholder;
use values::{CredentialName, Revision};

use super::{World, loopback, methods, tls::Tls};

/// What no test may find in the sandbox's bytes or in a record.
pub const SECRET: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

pub fn name(text: &str) -> CredentialName {
    CredentialName::new(text).unwrap()
}

/// One from a file, bound to GET and POST under `/api` of `web.test`.
pub fn credential(source: Source, attach: Attach) -> Credential {
    let bind = Bind {
        hosts: vec![HostPattern::parse("web.test").unwrap()],
        methods: vec!["GET".to_owned(), "POST".to_owned()],
        paths: vec!["/api/**".to_owned()],
        // The servers of tests listen where they can.
        ports: vec![(1, u16::MAX)],
        sandboxes: None,
    };
    let expose = matches!(attach, Attach::Placeholder { .. })
        .then(|| Expose { env: Some("TOKEN".to_owned()), format: Format::Github });
    Credential { source, attach, bind, expose }
}

/// A run that holds one credential, `token`, and what the sandbox holds for it.
pub struct Keeping {
    pub world: World,
    pub placeholder: Placeholder,
    pub file: PathBuf,
    pub spec: PolicySpec,
    revision: std::cell::Cell<u64>,
}

impl Keeping {
    /// Attached in this way to what the rule `uses` allows; `bare` allows GET under `/open` without.
    pub fn new(tls: &Tls, attach: Attach) -> Self {
        let file = tls.folder().join("token");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        let source = Source::Stored(Stored::File(file.clone()));
        Self::of(tls, credential(source, attach), file)
    }

    pub fn of(tls: &Tls, credential: Credential, file: PathBuf) -> Self {
        let surroundings = Surroundings {
            policy_dir: tls.folder().to_owned(),
            environment: BTreeMap::new(),
            home: tls.folder().to_owned(),
            roots: None,
            writable_by_workload: Vec::new(),
            clock: Clock::system(),
            patience: Patience::default(),
        };
        let format = credential.expose.as_ref().map_or(Format::Plain, |expose| expose.format);
        let specs = BTreeMap::from([(name("token"), credential)]);
        let credentials = Arc::new(Credentials::open(&specs, surroundings).unwrap());
        let placeholder = Placeholder::make(format, |bytes| bytes.fill(7));
        let exposed = specs.values().any(|credential| credential.expose.is_some());
        let held = exposed.then(|| (name("token"), placeholder.clone()));
        let placeholders = Arc::new(BTreeMap::from_iter(held));
        let secrets = Secrets { credentials: Some(credentials), placeholders };
        let world = World::with(Vec::new(), None, |settings| gateway::Settings { secrets, ..tls.settings(settings) });
        let uses = Rule { credential: Some(name("token")), ..loopback("uses", 10, Action::Allow, &["web.test"]) };
        let open = methods(&["GET"], &["/open/**"]);
        let bare = Rule { http: open, ..loopback("bare", 11, Action::Allow, &["web.test", "other.test"]) };
        let spec = PolicySpec { rules: vec![uses, bare], credentials: specs, ..PolicySpec::default() };
        let keeping = Self { world, placeholder, file, spec, revision: 2.into() };
        keeping.apply(keeping.spec.clone());
        keeping
    }

    pub fn apply(&self, spec: PolicySpec) -> gateway::Applied {
        let revision = Revision(self.revision.replace(self.revision.get() + 1));
        let policy = CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), revision).unwrap();
        self.world.gateway.apply(Arc::new(policy)).unwrap()
    }

    /// Whether the secret stands in the record.
    pub fn record_tells(&self, secret: &str) -> bool {
        std::fs::read_to_string(self.world.events_file()).unwrap().contains(secret)
    }
}
