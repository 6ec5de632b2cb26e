//! Benchmarks: all sides in the same minute, printed as ratios.
fn main() {}
