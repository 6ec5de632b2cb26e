//! A measured figure beside its goal, and the table of them.
//!
//! Every part (`compare`, `cut`, `start`, …) ends by [`print`]ing its figures: a table for people, or with `--json` one
//! line, which is how `benches all` takes them from the parts, each a process of its own.

use anyhow::Result;
use comfy_table::Table;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The goal is the most that it may be.
    Less,
    /// The goal is the least that it may be.
    More,
}

/// One figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What is measured, in the words of the goal.
    pub what: String,
    /// The bound.
    pub goal: f64,
    /// Its unit; `×` for a ratio.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// The median of the rounds; `None` where it could not be measured.
    pub measured: Option<f64>,
    /// The least and the most of the rounds.
    pub spread: Option<(f64, f64)>,
    /// Whether the median holds the goal.
    pub reached: Option<bool>,
    /// What a reader must know: which side was left out, what the figure stands beside.
    pub note: String,
}

impl Figure {
    /// A figure that may be at most so much: the median of these rounds.
    pub fn at_most(what: impl Into<String>, goal: f64, unit: &str, rounds: &[f64]) -> Figure {
        Figure::new(what.into(), goal, unit, Better::Less, rounds)
    }

    /// A figure that must be at least so much: the median of these rounds.
    pub fn at_least(what: impl Into<String>, goal: f64, unit: &str, rounds: &[f64]) -> Figure {
        Figure::new(what.into(), goal, unit, Better::More, rounds)
    }

    fn new(what: String, goal: f64, unit: &str, better: Better, rounds: &[f64]) -> Figure {
        let measured = Some(median(rounds.to_vec())).filter(|value| value.is_finite());
        let finite = || rounds.iter().copied().filter(|value| value.is_finite());
        let spread = measured.map(|median| (finite().fold(median, f64::min), finite().fold(median, f64::max)));
        let reached = measured.map(|value| match better {
            Better::Less => value <= goal,
            Better::More => value >= goal,
        });
        Figure { what, goal, unit: unit.to_owned(), better, measured, spread, reached, note: String::new() }
    }

    /// Adds what a reader must know.
    #[must_use]
    pub fn noted(mut self, note: impl Into<String>) -> Figure {
        self.note = note.into();
        self
    }

    fn row(&self) -> [String; 5] {
        let sign = match self.better {
            Better::Less => "≤",
            Better::More => "≥",
        };
        let value = |value: f64| match value.abs() {
            size if size >= 100.0 => format!("{value:.0}"),
            size if size >= 10.0 => format!("{value:.1}"),
            _ => format!("{value:.2}"),
        };
        let measured = match (self.measured, self.spread) {
            (Some(median), Some((least, most))) if most > least => {
                format!("{} ({}–{})", value(median), value(least), value(most))
            }
            (Some(median), _) => value(median),
            (None, _) => "not measured".to_owned(),
        };
        let reached = match self.reached {
            Some(true) => "reached",
            Some(false) => "SHORT",
            None => "–",
        };
        [
            self.what.clone(),
            format!("{sign} {} {}", self.goal, self.unit),
            measured,
            reached.to_owned(),
            self.note.clone(),
        ]
    }
}

/// The middle of what was measured; not a number where nothing was.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which so many of a hundred lie (the nearest rank).
pub fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// What one part measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// The machine meanwhile.
    pub machine: Machine,
    /// What has a goal.
    pub figures: Vec<Figure>,
    /// What has none: the sides' own values, by name.
    pub details: serde_json::Value,
}

/// Prints what a part measured: the last line on standard output.
pub fn print(json: bool, part: &Part) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(part)?);
    } else {
        println!("{}\n{}", part.machine.line(), table(&part.figures));
    }
    Ok(())
}

/// The table of goals.
pub fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.set_header(["what", "goal", "median (least–most)", "", "note"]);
    for figure in figures {
        table.add_row(figure.row());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_reached_by_its_median() {
        assert_eq!(Figure::at_most("a", 5.0, "ms", &[9.0, 4.0, 5.0]).reached, Some(true));
        assert_eq!(Figure::at_most("a", 5.0, "ms", &[9.0, 6.0, 5.0]).reached, Some(false));
        assert_eq!(Figure::at_least("a", 1.5, "×", &[1.4]).reached, Some(false));
        assert_eq!(Figure::at_least("a", 1.5, "×", &[]).reached, None);
        assert_eq!(Figure::at_least("a", 1.5, "×", &[f64::NAN]).measured, None);
    }

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(hundred.clone(), 99).to_bits(), 99_f64.to_bits());
        assert_eq!(percentile(hundred, 50).to_bits(), 50_f64.to_bits());
        assert_eq!(percentile(vec![3.0], 99).to_bits(), 3_f64.to_bits());
        assert!(percentile(vec![], 99).is_nan());
    }
}
