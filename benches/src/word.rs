//! The word that stands for a choice on the command line.

use std::fmt;

use clap::ValueEnum;

/// Writes it, so that a choice can be a default and be shown.
pub fn write(choice: &impl ValueEnum, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = choice.to_possible_value();
    f.write_str(value.as_ref().map_or("", |value| value.get_name()))
}
