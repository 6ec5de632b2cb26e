//! What the comparison found: a row for each side, and the goals.

use std::collections::BTreeMap;

use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;
use serde_json::json;

use crate::{
    contenders::{ORIGIN, Side},
    figure::{self, Figure, Part, median},
    machine::Machine,
};

/// What one side did in one round, or its medians.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub bulk_mb_s: f64,
    pub bulk_cpu_s_per_gb: f64,
    pub new_p50_us: f64,
    pub new_p99_us: f64,
    pub new_per_s_16: f64,
    pub new_cpu_us: f64,
    pub kept_p50_us: f64,
    pub idle_mib_per_1000: f64,
}

/// Of each side, what it did in each round.
type Rounds = BTreeMap<Side, Vec<Figures>>;

/// Prints the sides and the goals.
pub fn print(json: bool, machine: Machine, rounds: &Rounds, left_out: &[String]) -> Result<()> {
    let medians: Vec<(Side, Figures)> = rounds.iter().map(|(side, all)| (*side, medians(all))).collect();
    if !json {
        let count = rounds.values().map(Vec::len).max().unwrap_or(0);
        println!("medians of {count} rounds, origin {ORIGIN}\n{}", sides(&medians));
    }
    let named: BTreeMap<&str, &Figures> = medians.iter().map(|(side, figures)| (side.name(), figures)).collect();
    let details = json!({ "sides": named, "left_out": left_out });
    figure::print(json, &Part { machine, figures: goals(rounds), details })
}

fn medians(rounds: &[Figures]) -> Figures {
    let of = |pick: fn(&Figures) -> f64| median(rounds.iter().map(pick).collect());
    Figures {
        bulk_mb_s: of(|f| f.bulk_mb_s),
        bulk_cpu_s_per_gb: of(|f| f.bulk_cpu_s_per_gb),
        new_p50_us: of(|f| f.new_p50_us),
        new_p99_us: of(|f| f.new_p99_us),
        new_per_s_16: of(|f| f.new_per_s_16),
        new_cpu_us: of(|f| f.new_cpu_us),
        kept_p50_us: of(|f| f.kept_p50_us),
        idle_mib_per_1000: of(|f| f.idle_mib_per_1000),
    }
}

fn sides(medians: &[(Side, Figures)]) -> Table {
    let mut table = Table::new();
    table.set_header([
        "side",
        "MB/s, 1 stream",
        "× direct",
        "CPU s/GB",
        "new p50 µs",
        "new p99 µs",
        "new/s, 16",
        "CPU µs/new",
        "kept p50 µs",
        "MiB / 1,000 idle",
    ]);
    let direct = |pick: fn(&Figures) -> f64| {
        medians.iter().find(|(side, _)| *side == Side::Direct).map_or(f64::NAN, |(_, figures)| pick(figures))
    };
    for (side, f) in medians {
        table.add_row([
            side.name().to_owned(),
            format!("{:.0}", f.bulk_mb_s),
            format!("{:.2}", f.bulk_mb_s / direct(|f| f.bulk_mb_s)),
            format!("{:.2}", f.bulk_cpu_s_per_gb),
            format!("{:.1} ({:+.1})", f.new_p50_us, f.new_p50_us - direct(|f| f.new_p50_us)),
            format!("{:.0}", f.new_p99_us),
            format!("{:.0}", f.new_per_s_16),
            format!("{:.1}", f.new_cpu_us),
            format!("{:.1} ({:+.1})", f.kept_p50_us, f.kept_p50_us - direct(|f| f.kept_p50_us)),
            format!("{:.2}", f.idle_mib_per_1000),
        ]);
    }
    table
}

/// The goals of issue 2 for what passes through the gateway. A ratio is one of the same round; of our two doors, where
/// the goal names none, the worse one counts.
fn goals(rounds: &Rounds) -> Vec<Figure> {
    let each = |side: Side, pick: fn(&Figures) -> f64| -> Vec<f64> {
        rounds.get(&side).map(|all| all.iter().map(pick).collect()).unwrap_or_default()
    };
    let ours = |pick: fn(&Figures) -> f64, worse: fn(f64, f64) -> f64| -> Vec<f64> {
        let (transparent, connect) = (each(Side::Transparent, pick), each(Side::Connect, pick));
        if transparent.is_empty() || connect.is_empty() {
            return [transparent, connect].concat();
        }
        transparent.into_iter().zip(connect).map(|(one, other)| worse(one, other)).collect()
    };
    let over = |ours: Vec<f64>, theirs: Vec<f64>| -> Vec<f64> {
        ours.into_iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
    };
    let added = |side: Side, pick: fn(&Figures) -> f64| -> Vec<f64> {
        each(side, pick).into_iter().zip(each(Side::Direct, pick)).map(|(through, direct)| through - direct).collect()
    };
    let mut figures = Vec::new();
    for (side, goal) in [(Side::Squid, 1.5), (Side::HaproxyCopy, 1.5), (Side::HaproxySplice, 1.3), (Side::Direct, 0.62)]
    {
        let ratios = over(ours(|f| f.bulk_mb_s, f64::min), each(side, |f| f.bulk_mb_s));
        figures.push(Figure::at_least(format!("one large stream, over {}", side.name()), goal, "×", &ratios));
    }
    for side in [Side::Squid, Side::HaproxyCopy] {
        let ratios = over(ours(|f| f.bulk_cpu_s_per_gb, f64::max), each(side, |f| f.bulk_cpu_s_per_gb));
        figures.push(Figure::at_most(format!("processor time a GB, over {}", side.name()), 0.333, "×", &ratios));
    }
    for (side, goal) in [(Side::Squid, 1.5), (Side::HaproxyCopy, 0.8), (Side::HaproxySplice, 0.8)] {
        let ratios = over(each(Side::Connect, |f| f.new_per_s_16), each(side, |f| f.new_per_s_16));
        let what = format!("new CONNECT a second, 16 clients, over {}", side.name());
        figures.push(Figure::at_least(what, goal, "×", &ratios));
    }
    for (what, side, goal, pick) in [
        ("added p50, new CONNECT", Side::Connect, 50.0, (|f| f.new_p50_us) as fn(&Figures) -> f64),
        ("added p50, new transparent", Side::Transparent, 50.0, |f| f.new_p50_us),
        ("added p50, kept, CONNECT", Side::Connect, 8.0, |f| f.kept_p50_us),
        ("added p50, kept, transparent", Side::Transparent, 8.0, |f| f.kept_p50_us),
    ] {
        let (haproxy, squid) = (median(added(Side::HaproxyCopy, pick)), median(added(Side::Squid, pick)));
        let note = format!("here HAProxy (copy) adds {haproxy:.0}, Squid {squid:.0}");
        figures.push(Figure::at_most(what, goal, "µs", &added(side, pick)).noted(note));
    }
    let idle = ours(|f| f.idle_mib_per_1000, f64::max);
    figures.push(Figure::at_most("user memory, 1,000 idle tunnels", 2.0, "MiB", &idle));
    figures
}
