//! What the comparison found: a row for each side, and the goals of issue 3.

use std::collections::BTreeMap;

use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;
use serde_json::json;

use super::sides::Side;
use crate::{
    figure::{self, Figure, Part, median},
    machine::Machine,
};

/// What one side did in one round, or its medians.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub bulk_mb_s: f64,
    pub bulk_cpu_s_per_gb: f64,
    pub bulk_grows_mib: f64,
    pub new_p50_us: f64,
    pub new_p99_us: f64,
    pub new_per_s_8: f64,
    pub new_cpu_us: f64,
    pub kept_p50_us: f64,
    pub kept_p99_us: f64,
    pub post_p50_us: f64,
    pub post_p99_us: f64,
    pub requests_per_s_32: f64,
    pub requests_cpu_us: f64,
    pub idle_mib_per_1000: f64,
}

impl Figures {
    /// A side that could not be measured.
    pub const MISSING: Figures = Figures {
        bulk_mb_s: f64::NAN,
        bulk_cpu_s_per_gb: f64::NAN,
        bulk_grows_mib: f64::NAN,
        new_p50_us: f64::NAN,
        new_p99_us: f64::NAN,
        new_per_s_8: f64::NAN,
        new_cpu_us: f64::NAN,
        kept_p50_us: f64::NAN,
        kept_p99_us: f64::NAN,
        post_p50_us: f64::NAN,
        post_p99_us: f64::NAN,
        requests_per_s_32: f64::NAN,
        requests_cpu_us: f64::NAN,
        idle_mib_per_1000: f64::NAN,
    };
}

/// Of each side, what it did in each round.
type Rounds = BTreeMap<Side, Vec<Figures>>;

/// Prints the sides and the goals.
pub fn print(
    json: bool,
    machine: Machine,
    rounds: &Rounds,
    left_out: &[String],
    mitmproxy: Option<String>,
) -> Result<()> {
    let medians: Vec<(Side, Figures)> = rounds.iter().map(|(side, all)| (*side, medians(all))).collect();
    if !json {
        let count = rounds.values().map(Vec::len).max().unwrap_or(0);
        println!("medians of {count} rounds, {}\n{}", mitmproxy.as_deref().unwrap_or("no mitmproxy"), sides(&medians));
    }
    let named: BTreeMap<&str, &Figures> = medians.iter().map(|(side, figures)| (side.name(), figures)).collect();
    let details = json!({ "sides": named, "left_out": left_out, "mitmproxy": mitmproxy });
    figure::print(json, &Part { machine, figures: goals(rounds), details })
}

fn medians(rounds: &[Figures]) -> Figures {
    let of = |pick: fn(&Figures) -> f64| median(rounds.iter().map(pick).collect());
    Figures {
        bulk_mb_s: of(|f| f.bulk_mb_s),
        bulk_cpu_s_per_gb: of(|f| f.bulk_cpu_s_per_gb),
        bulk_grows_mib: of(|f| f.bulk_grows_mib),
        new_p50_us: of(|f| f.new_p50_us),
        new_p99_us: of(|f| f.new_p99_us),
        new_per_s_8: of(|f| f.new_per_s_8),
        new_cpu_us: of(|f| f.new_cpu_us),
        kept_p50_us: of(|f| f.kept_p50_us),
        kept_p99_us: of(|f| f.kept_p99_us),
        post_p50_us: of(|f| f.post_p50_us),
        post_p99_us: of(|f| f.post_p99_us),
        requests_per_s_32: of(|f| f.requests_per_s_32),
        requests_cpu_us: of(|f| f.requests_cpu_us),
        idle_mib_per_1000: of(|f| f.idle_mib_per_1000),
    }
}

fn sides(medians: &[(Side, Figures)]) -> Table {
    let mut table = Table::new();
    table.set_header([
        "side",
        "MB/s, 1 body",
        "CPU s/GB",
        "grows MiB",
        "new p50 µs",
        "new p99",
        "new/s, 8",
        "CPU µs/new",
        "kept p50 µs",
        "p99",
        "POST p50 µs",
        "p99",
        "requests/s, 32",
        "CPU µs each",
        "MiB / 1,000 idle",
    ]);
    let direct = |pick: fn(&Figures) -> f64| {
        medians.iter().find(|(side, _)| *side == Side::Direct).map_or(f64::NAN, |(_, figures)| pick(figures))
    };
    for (side, f) in medians {
        table.add_row([
            side.name().to_owned(),
            format!("{:.0}", f.bulk_mb_s),
            format!("{:.2}", f.bulk_cpu_s_per_gb),
            format!("{:.1}", f.bulk_grows_mib),
            format!("{:.0} ({:+.0})", f.new_p50_us, f.new_p50_us - direct(|f| f.new_p50_us)),
            format!("{:.0}", f.new_p99_us),
            format!("{:.0}", f.new_per_s_8),
            format!("{:.0}", f.new_cpu_us),
            format!("{:.1} ({:+.1})", f.kept_p50_us, f.kept_p50_us - direct(|f| f.kept_p50_us)),
            format!("{:.0}", f.kept_p99_us),
            format!("{:.1}", f.post_p50_us),
            format!("{:.0}", f.post_p99_us),
            format!("{:.0}", f.requests_per_s_32),
            format!("{:.1}", f.requests_cpu_us),
            format!("{:.1}", f.idle_mib_per_1000),
        ]);
    }
    table
}

/// The goals of issue 3 for inspected traffic. A ratio is one of the same round; of our two doors the worse one counts.
fn goals(rounds: &Rounds) -> Vec<Figure> {
    let each = |side: Side, pick: fn(&Figures) -> f64| -> Vec<f64> {
        rounds.get(&side).map(|all| all.iter().map(pick).collect()).unwrap_or_default()
    };
    let ours = |pick: fn(&Figures) -> f64, worse: fn(f64, f64) -> f64| -> Vec<f64> {
        let (transparent, connect) = (each(Side::Transparent, pick), each(Side::Connect, pick));
        if transparent.is_empty() || connect.is_empty() {
            return [transparent, connect, each(Side::Gateway, pick)].concat();
        }
        transparent.into_iter().zip(connect).map(|(one, other)| worse(one, other)).collect()
    };
    let over = |ours: Vec<f64>, theirs: Vec<f64>| -> Vec<f64> {
        ours.into_iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
    };
    let added = |of: Vec<f64>, pick: fn(&Figures) -> f64| -> Vec<f64> {
        of.into_iter().zip(each(Side::Direct, pick)).map(|(through, direct)| through - direct).collect()
    };
    let mut figures = Vec::new();
    for (what, squid, mitmproxy, pick) in [
        ("inspected new connections a second, 8 clients", 7.0, 10.0, (|f| f.new_per_s_8) as fn(&Figures) -> f64),
        ("inspected requests a second, 32 clients", 3.5, 60.0, |f| f.requests_per_s_32),
        ("inspected large body", 4.4, 9.0, |f| f.bulk_mb_s),
    ] {
        for (side, goal) in [(Side::Squid, squid), (Side::Mitmproxy, mitmproxy)] {
            let ratios = over(ours(pick, f64::min), each(side, pick));
            figures.push(Figure::at_least(format!("{what}, over {}", side.name()), goal, "×", &ratios));
        }
    }
    for (what, pick) in [
        ("a secret swapped and masked, large body, over without", (|f| f.bulk_mb_s) as fn(&Figures) -> f64),
        ("a secret swapped and masked, requests a second, over without", |f| f.requests_per_s_32),
    ] {
        let ratios = over(each(Side::Secret, pick), each(Side::Connect, pick));
        figures.push(Figure::at_least(what, 0.95, "×", &ratios));
    }
    for (what, goal, pick) in [
        ("inspected, added p50, new", 340.0, (|f| f.new_p50_us) as fn(&Figures) -> f64),
        ("inspected, added p50, kept alive", 20.0, |f| f.kept_p50_us),
    ] {
        let theirs = |side: Side| median(added(each(side, pick), pick));
        let note = format!("here Squid adds {:.0}, mitmproxy {:.0}", theirs(Side::Squid), theirs(Side::Mitmproxy));
        figures.push(Figure::at_most(what, goal, "µs", &added(ours(pick, f64::max), pick)).noted(note));
    }
    let idle = ours(|f| f.idle_mib_per_1000, f64::max);
    figures.push(Figure::at_most("user memory, 1,000 idle inspected connections", 25.0, "MiB", &idle));
    let grows = ours(|f| f.bulk_grows_mib, f64::max);
    figures.push(Figure::at_most("peak memory, a large body over one of 8 MB", 4.0, "MiB", &grows));
    let kept = ours(|f| f.kept_p99_us / f.kept_p50_us, f64::max);
    figures.push(Figure::at_most("p99 over p50, kept alive", 5.0, "×", &kept));
    let post = ours(|f| f.post_p99_us / f.post_p50_us, f64::max);
    figures.push(Figure::at_most("p99 over p50, kept alive, head and body of a POST apart", 5.0, "×", &post));
    figures
}
