//! A secret that must be nowhere: not in what the probe printed (what it got), not in the files of the sandbox, not in
//! the record, the state and the logs of ours.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use network_lab::Output;

use crate::{instance::Places, mark::Words};

/// How much older a file of this run may seem: file systems count in ticks.
const TICK: Duration = Duration::from_millis(50);

/// Where it was found, of all that a run that began then has left.
pub(crate) fn found(words: &Words, output: &Output, places: &Places, begun: SystemTime) -> Option<String> {
    let forms = &words.forms;
    for (what, text) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
        if holds(text.as_bytes(), forms) {
            return Some(format!("the secret is in the probe's {what}"));
        }
    }
    let since = begun.checked_sub(TICK).unwrap_or(begun);
    let folders = [&places.work, &places.state];
    folders.into_iter().find_map(|folder| search(folder, forms, since))
}

/// The secret as it is, and as it stands in Basic authentication, in a dump, in lower-case hexadecimal digits.
pub(crate) fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    forms.push(hex);
    // Wherever it begins within three bytes: only the digits that nothing beside it changes.
    for (before, drop) in [(0, 0), (1, 2), (2, 3)] {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(secret.as_bytes());
        let digits = base64(&bytes);
        let whole = digits.len().saturating_sub(4);
        forms.push(digits.get(drop..whole).unwrap_or_default().to_owned());
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut coded = String::new();
    for three in bytes.chunks(3) {
        let value =
            three.iter().enumerate().fold(0_u32, |value, (at, byte)| value | (u32::from(*byte) << (16 - 8 * at)));
        for shift in [18, 12, 6, 0] {
            coded.extend(
                DIGITS.get(usize::try_from((value >> shift) & 63).unwrap_or_default()).copied().map(char::from),
            );
        }
    }
    coded
}

fn holds(bytes: &[u8], forms: &[String]) -> bool {
    forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
}

/// The first file that holds one of them and was written since then.
fn search(folder: &Path, forms: &[String], since: SystemTime) -> Option<String> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        // What the run itself takes away meanwhile holds nothing any more.
        if let Ok(found @ Some(_)) = look(&path, forms, since) {
            return found;
        }
    }
    None
}

fn look(path: &Path, forms: &[String], since: SystemTime) -> io::Result<Option<String>> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        return Ok(search(path, forms, since));
    }
    let fresh = metadata.is_file() && metadata.modified()? >= since;
    let found = fresh && holds(&fs::read(path)?, forms);
    Ok(found.then(|| format!("the secret is in {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::{base64, forms, holds};

    #[test]
    fn a_secret_is_found_in_every_form() {
        assert_eq!(base64(b"Man"), "TWFu");
        let forms = forms("s3cr3t-00001-abc");
        for front in ["", "a", "ab", "abc:", "user:"] {
            let coded = base64(format!("{front}s3cr3t-00001-abc and more").as_bytes());
            assert!(holds(coded.as_bytes(), &forms), "{front}");
        }
        assert!(holds(b"x s3cr3t-00001-abc y", &forms) && holds(b"7333637233742d30303030312d616263", &forms));
        assert!(!holds(b"s3cr3t-00002-abc", &forms));
    }
}
