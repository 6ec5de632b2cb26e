//! What a run waits for beside its workload: signals, ticks, moments.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};

/// A tick every so often, at least a second apart; `None` where there is none.
pub(super) fn ticks(every: Option<Duration>) -> Option<Interval> {
    let mut ticks = interval(every?.max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick of an interval is at once.
    ticks.reset();
    Some(ticks)
}

/// The next tick, or never.
pub(super) async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// That moment, or never.
pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Signals that are passed on to the workload.
pub(super) struct Signals {
    streams: Vec<(i32, Signal)>,
    /// How many Ctrl-C there were.
    pub(super) interrupted: usize,
    /// When the last of them came.
    counted: Option<Instant>,
}

/// Who signals a whole process group (`timeout`, a CI runner) reaches the gateway and the front, which passes it on: two
/// that come together are one.
const TOGETHER: Duration = Duration::from_millis(300);

impl Signals {
    pub(super) fn new() -> Result<Self> {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ];
        let streams = kinds.into_iter().map(|kind| Ok((kind.as_raw_value(), signal(kind)?))).collect::<Result<_>>()?;
        Ok(Self { streams, interrupted: 0, counted: None })
    }

    /// The next one's number.
    pub(super) async fn next(&mut self) -> i32 {
        let number = std::future::poll_fn(|context| {
            let ready = self
                .streams
                .iter_mut()
                .find_map(|(number, stream)| stream.poll_recv(context).is_ready().then_some(*number));
            ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await;
        if number == SignalKind::interrupt().as_raw_value() && is_another(self.counted, Instant::now()) {
            self.interrupted += 1;
            self.counted = Some(Instant::now());
        }
        number
    }
}

/// Whether an interrupt is one more than the last that was counted.
fn is_another(counted: Option<Instant>, now: Instant) -> bool {
    counted.is_none_or(|counted| now.duration_since(counted) > TOGETHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_that_comes_by_two_ways_is_one() {
        let first = Instant::now();
        assert!(is_another(None, first));
        assert!(!is_another(Some(first), first + Duration::from_millis(20)));
        assert!(is_another(Some(first), first + Duration::from_secs(1)));
    }
}
