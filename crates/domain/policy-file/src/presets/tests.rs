//! Every preset parses, compiles and holds its own tests.

use policy::{
    CompiledPolicy, OwnAddresses,
    model::{ListContent, Lists},
};
use values::Revision;

use super::{all, find};
use crate::{NeededLists, parse, run_tests};

#[test]
fn each_parses_without_a_warning_and_holds_its_tests() {
    for ready in all() {
        let file = parse(ready.name, ready.text.as_bytes())
            .unwrap_or_else(|found| panic!("{}:\n{}", ready.name, found.render(ready.text, false)));
        assert!(file.warnings.items.is_empty(), "{}:\n{}", ready.name, file.warnings.render(ready.text, false));
        assert_eq!(file.spec.name, ready.name);
        assert_eq!(find(ready.name).map(|found| found.text), Some(ready.text));
        // What the lists would hold does not matter here, only that each is there.
        let needed = NeededLists::of(&file.spec);
        let lists = Lists {
            feeds: needed.feeds.into_iter().map(|needed| (needed.list.path, ListContent::default())).collect(),
            service_tags: needed.service_tags.into_iter().map(|needed| (needed.list, ListContent::default())).collect(),
        };
        let policy = CompiledPolicy::compile(file.spec, lists, OwnAddresses::default(), Revision(1))
            .unwrap_or_else(|errors| panic!("{}: {errors:?}", ready.name));
        let now = "2026-11-21T09:00:00Z".parse().expect("a time");
        assert!(!file.tests.is_empty(), "{} has tests", ready.name);
        for outcome in run_tests(&policy, &file.tests, now) {
            assert!(outcome.passed, "{}: {}: {:?}", ready.name, outcome.to, outcome.failures);
        }
    }
}

#[test]
fn every_host_of_the_code_repositories_is_a_name() {
    use crate::wire::CodeRepository;
    for (repository, count) in [
        (CodeRepository::Github, 8),
        (CodeRepository::GithubEnterprise, 1),
        (CodeRepository::AzureDevops, 4),
        (CodeRepository::Gitlab, 2),
    ] {
        assert_eq!(super::code_repository(repository).hosts.len(), count);
    }
}
