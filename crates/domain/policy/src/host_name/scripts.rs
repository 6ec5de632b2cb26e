//! Labels of more than one script.
//!
//! The measure is *highly restrictive* of UTS 39 (5.2): one script, or Latin with the scripts that
//! are written together in Japanese, Korean or Chinese. Look-alikes of Latin letters (Cyrillic,
//! Greek, Armenian …) beside Latin ones are mixed. A label wholly in another script is not: it
//! is a different name and equals no Latin one.

use icu_properties::{
    props::Script,
    script::{ScriptWithExtensions, ScriptWithExtensionsBorrowed},
};
use smallvec::SmallVec;

/// What is written together: Japanese, Korean, Chinese with Bopomofo, each with Latin.
const TOGETHER: [&[Script]; 3] = [
    &[Script::Latin, Script::Han, Script::Hiragana, Script::Katakana],
    &[Script::Latin, Script::Han, Script::Hangul],
    &[Script::Latin, Script::Han, Script::Bopomofo],
];

type Scripts = SmallVec<[Script; 8]>;

/// Whether a label (as U-label) mixes scripts.
pub(super) fn is_mixed(label: &str) -> bool {
    if label.is_ascii() {
        return false;
    }
    let table = ScriptWithExtensions::new();
    let mut shared: Option<Scripts> = None;
    let mut together = [true; TOGETHER.len()];
    for scripts in label.chars().filter_map(|c| scripts_of(table, c)) {
        for (fits, group) in together.iter_mut().zip(TOGETHER) {
            *fits &= scripts.iter().any(|script| group.contains(script));
        }
        match &mut shared {
            Some(shared) => shared.retain(|script| scripts.contains(script)),
            None => shared = Some(scripts),
        }
    }
    shared.is_some_and(|shared| shared.is_empty()) && !together.contains(&true)
}

/// The scripts that use a character; none where all do.
fn scripts_of(table: ScriptWithExtensionsBorrowed<'static>, c: char) -> Option<Scripts> {
    let scripts: Scripts = table.get_script_extensions_val(c).iter().collect();
    let neutral = scripts.iter().any(|script| matches!(*script, Script::Common | Script::Inherited));
    (!neutral).then_some(scripts)
}
