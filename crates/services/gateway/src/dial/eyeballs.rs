//! In which order, and when, the addresses are tried (RFC 8305, sections 4 and 5).

use std::{
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use policy::model::Hop;
use smallvec::SmallVec;
use tokio::time::{Sleep, sleep};

use super::{DialError, Dialled, RouteError, attempt};

/// How long one attempt is alone before the next one starts beside it.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The most addresses of one name that are tried.
const ATTEMPT_LIMIT: usize = 16;

/// The targets in the order in which they are tried.
pub(super) type Targets = SmallVec<[SocketAddr; 4]>;

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Dialled, DialError>> + Send + 'a>>;

/// The families take turns, IPv6 first; within a family the given order stays; doubles are dropped.
pub(super) fn order(addresses: &[IpAddr], port: u16) -> Targets {
    let mut six = addresses.iter().filter(|address| address.is_ipv6());
    let mut four = addresses.iter().filter(|address| address.is_ipv4());
    let mut targets = Targets::new();
    loop {
        let (next_six, next_four) = (six.next(), four.next());
        if next_six.is_none() && next_four.is_none() {
            return targets;
        }
        for address in [next_six, next_four].into_iter().flatten() {
            let target = SocketAddr::new(*address, port);
            if targets.len() < ATTEMPT_LIMIT && !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
}

/// Tries the targets; the first connection wins. Where all fail, the most telling error is returned.
pub(super) async fn race(hop: &Hop, targets: &[SocketAddr]) -> Result<Dialled, DialError> {
    if let [only] = targets {
        return attempt(hop, *only).await;
    }
    let mut running: Vec<Attempt<'_>> = Vec::new();
    let mut worst: Option<DialError> = None;
    for target in targets.iter().copied() {
        running.push(Box::pin(attempt(hop, target)));
        let mut pause = Box::pin(sleep(ATTEMPT_DELAY));
        match first_event(&mut running, Some(pause.as_mut())).await {
            Event::Connected(dialled) => return Ok(dialled),
            Event::Failed(error) => worst = Some(more_telling(worst, error)),
            Event::Paused => {}
        }
    }
    while !running.is_empty() {
        match first_event(&mut running, None).await {
            Event::Connected(dialled) => return Ok(dialled),
            Event::Failed(error) => worst = Some(more_telling(worst, error)),
            Event::Paused => {}
        }
    }
    Err(worst.unwrap_or(DialError::NoAddress))
}

enum Event {
    Connected(Dialled),
    Failed(DialError),
    Paused,
}

/// Waits until an attempt ended or the pause is over.
async fn first_event(running: &mut Vec<Attempt<'_>>, mut pause: Option<Pin<&mut Sleep>>) -> Event {
    poll_fn(|context| {
        for index in 0..running.len() {
            let Some(one) = running.get_mut(index) else { continue };
            if let Poll::Ready(outcome) = one.as_mut().poll(context) {
                drop(running.swap_remove(index));
                return Poll::Ready(match outcome {
                    Ok(dialled) => Event::Connected(dialled),
                    Err(error) => Event::Failed(error),
                });
            }
        }
        match pause.as_mut() {
            Some(pause) => pause.as_mut().poll(context).map(|()| Event::Paused),
            None => Poll::Pending,
        }
    })
    .await
}

/// What to report of several failures: our own and the operator's first, since nobody else can mend them;
/// then what the far end said over what the network could not do.
fn more_telling(so_far: Option<DialError>, next: DialError) -> DialError {
    let rank = |error: &DialError| match error {
        DialError::Exhausted { .. } => 6,
        DialError::Route(RouteError::OtherFamily { .. }) => 0,
        DialError::Route(_) => 5,
        DialError::Proxy { .. } => 4,
        DialError::Refused(_) => 3,
        DialError::TimedOut(_) => 2,
        DialError::Unreachable { .. } => 1,
        DialError::NoAddress => 0,
    };
    match so_far {
        Some(error) if rank(&error) >= rank(&next) => error,
        Some(_) | None => next,
    }
}
