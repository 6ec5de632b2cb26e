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
}

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
        Ok(Self { streams, interrupted: 0 })
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
        self.interrupted += usize::from(number == SignalKind::interrupt().as_raw_value());
        number
    }
}
