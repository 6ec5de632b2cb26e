//! Policy files: what is read can be printed, and reads the same again.

use policy::{CompiledPolicy, OwnAddresses, model::Lists};
use policy_file::{NeededLists, parse, print};
use values::Revision;

/// Any bytes as a policy file.
pub(crate) fn policy_file(bytes: &[u8]) {
    let file = match parse("policy.yaml", bytes) {
        Ok(file) => file,
        Err(found) => {
            assert!(found.has_errors(), "refused without an error");
            assert!(!found.to_string().is_empty());
            return;
        }
    };
    assert!(!file.warnings.has_errors());
    let text = print(&file.written).expect("what was read can be printed");
    let again = match parse("again.yaml", text.as_bytes()) {
        Ok(again) => again,
        Err(found) => panic!("the printed file is refused:\n{found}\n{text}"),
    };
    assert_eq!(again.written, file.written, "{text}");
    assert_eq!(again.spec, file.spec, "{text}");
    if NeededLists::of(&file.spec) == NeededLists::default() {
        // Refused or not: no panic, and twice the same.
        let compile =
            || CompiledPolicy::compile(file.spec.clone(), Lists::default(), OwnAddresses::default(), Revision(1));
        assert_eq!(compile().err(), compile().err());
    }
}
