//! The rule that an "always" writes: found before the question is shown, so that it stands in it.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use gateway::Question;
use jiff::Timestamp;
use policy::Target;
use policy_file::{Asked, NewRule, append_rule};
use values::RuleName;

use crate::run::Guard;

/// The rule of the file that asks, narrowed to what is asked; or why there is none.
pub(super) fn rule(file: &Path, question: &Question, guard: &Guard) -> Result<NewRule> {
    let (_, text) = open(file, guard, false)?;
    let Ok(policy) = policy_file::parse("policy", text.as_bytes()) else { bail!("the file is no policy as it is") };
    let (to, asked_by) = (Target::parse(&question.host)?, RuleName::new(&question.rule)?);
    let asked = Asked {
        rule: &asked_by,
        to: &to,
        address: question.address,
        port: question.port,
        protocol: question.protocol,
        request: question.request.as_ref(),
        inside_tls: question.inside_tls,
    };
    let note = format!("allowed at the terminal on {}", Timestamp::now().strftime("%Y-%m-%d"));
    let rule = NewRule::always(&policy, &asked, Some(note))?;
    append_rule(&text, &rule)?;
    Ok(rule)
}

/// Writes it. In place: the sandbox sees this very file read-only, and a new one under its name would be the workload's
/// to write.
pub(super) fn write(file: &Path, rule: &NewRule, guard: &Guard) -> Result<()> {
    let (mut opened, old) = open(file, guard, true)?;
    let text = append_rule(&old, rule)?;
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let written =
        opened.rewind().and_then(|()| opened.write_all(text.as_bytes())).and_then(|()| opened.set_len(length));
    written.with_context(|| format!("writing {}", file.display()))
}

fn open(file: &Path, guard: &Guard, write: bool) -> Result<(File, String)> {
    let mut opened =
        OpenOptions::new().read(true).write(write).open(file).with_context(|| format!("opening {}", file.display()))?;
    // What was put under its name since the start is not the person's.
    if let Err(reason) = guard.check_open(&opened, file) {
        bail!("{} is not written: {reason}", file.display());
    }
    let mut text = String::new();
    opened.read_to_string(&mut text).with_context(|| format!("reading {}", file.display()))?;
    Ok((opened, text))
}
