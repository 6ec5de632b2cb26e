//! Wire types to YAML.

use crate::wire;

/// Why a file can't be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("the policy can't be written as YAML: {0}")]
pub struct PrintError(#[from] serde_saphyr::SerializeError);

/// The file as YAML. Reading it again gives the same file.
pub fn print(file: &wire::File) -> Result<String, PrintError> {
    Ok(serde_saphyr::to_string(file)?)
}

/// One rule as YAML, without indentation.
pub(crate) fn print_rule(rule: &wire::Rule) -> Result<String, PrintError> {
    Ok(serde_saphyr::to_string(rule)?)
}
