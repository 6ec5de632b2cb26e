//! Many connections at once: the clients, in the sandbox, and the server that they are open to.
//!
//! Both wait on one epoll set, so that ten thousand connections cost them next to nothing and the end of each is seen
//! when it comes. Standard input says what to do, one line each; standard output answers, one line each:
//! `open A B` → `opened N`; `watch N` → `watching`, then `ended N NANOSECONDS`; `check` → `bytes N`.

use std::{
    io::{self, BufRead, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, Event, EventData, EventFlags},
    },
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

/// How many connections are opened at the same time.
const OPENERS: usize = 8;
/// How long the ends of all watched connections are waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of one round trip of a stream.
const BLOCK: usize = 16 * 1024;
/// The pattern's period: no power of two, so that a lost, doubled or moved block shows.
const PERIOD: u64 = 251;

/// The clients.
#[derive(Args)]
pub struct Crowd {
    /// Where the connections go that stay.
    #[arg(long)]
    stay: SocketAddr,
    /// Where those go that are cut.
    #[arg(long)]
    cut: SocketAddr,
    /// How many of those that stay send and receive all the time.
    #[arg(long, default_value_t = 8)]
    streams: usize,
}

/// The server.
#[derive(Args)]
pub struct Echo {
    /// Where it listens.
    #[arg(long)]
    listen: Vec<SocketAddr>,
}

/// Nanoseconds of the machine's clock: the same inside the sandbox and outside.
pub fn nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// As many open files as the system allows.
pub fn raise_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

/// How many connections a gateway has descriptors for: two each, and some for itself.
pub fn room() -> usize {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    usize::try_from(hard.saturating_sub(1200) / 2).unwrap_or(usize::MAX)
}

/// Sends every byte back until killed.
pub fn echo(echo: &Echo) -> Result<()> {
    raise_limit()?;
    let waiting = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut listeners = Vec::new();
    for address in &echo.listen {
        let listener = TcpListener::bind(address).with_context(|| format!("binding {address}"))?;
        listener.set_nonblocking(true)?;
        epoll::add(&waiting, &listener, EventData::new_u64(listeners.len() as u64), EventFlags::IN)?;
        listeners.push(listener);
    }
    println!("ready");
    let mut open: Vec<Option<TcpStream>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        wait(&waiting, &mut events, None)?;
        for event in &events {
            let number = usize::try_from(event.data.u64())?;
            if let Some(listener) = listeners.get(number) {
                while let Ok((stream, _)) = listener.accept() {
                    let slot = free.pop().unwrap_or_else(|| {
                        open.push(None);
                        open.len() - 1
                    });
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    epoll::add(&waiting, &stream, EventData::new_u64((listeners.len() + slot) as u64), EventFlags::IN)?;
                    if let Some(place) = open.get_mut(slot) {
                        *place = Some(stream);
                    }
                }
                continue;
            }
            let slot = number - listeners.len();
            let Some(place) = open.get_mut(slot) else { continue };
            let goes_on = place.as_mut().is_some_and(|stream| send_back(stream, &mut buffer));
            if !goes_on && place.take().is_some() {
                free.push(slot);
            }
        }
    }
}

/// One read and its answer. A stream has one block under way, which the socket's buffer holds.
fn send_back(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    match stream.read(buffer) {
        Ok(0) => false,
        Ok(count) => buffer.get(..count).is_some_and(|bytes| stream.write_all(bytes).is_ok()),
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

fn wait(waiting: &OwnedFd, events: &mut Vec<Event>, bound: Option<Duration>) -> Result<()> {
    events.clear();
    let bound = bound.map(Timespec::try_from).transpose()?;
    match epoll::wait(waiting, spare_capacity(events), bound.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The clients until standard input closes.
pub fn run(crowd: &Crowd) -> Result<()> {
    raise_limit()?;
    let mut clients = Clients::new(crowd)?;
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["open", stay, cut] => println!("opened {}", clients.open(stay.parse()?, cut.parse()?)?),
            ["watch", count] => {
                println!("watching");
                let (ended, last) = clients.watch(count.parse()?)?;
                println!("ended {ended} {last}");
            }
            ["check"] => println!("bytes {}", clients.check()?),
            _ => bail!("unknown: {line:?}"),
        }
    }
    Ok(())
}

/// What is open.
struct Clients<'a> {
    crowd: &'a Crowd,
    waiting: OwnedFd,
    /// The idle ones to each of the two servers.
    idle: [Vec<TcpStream>; 2],
    streams: Vec<thread::JoinHandle<Result<()>>>,
    moved: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl<'a> Clients<'a> {
    fn new(crowd: &'a Crowd) -> Result<Self> {
        Ok(Self {
            crowd,
            waiting: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            idle: Default::default(),
            streams: Vec::new(),
            moved: Arc::default(),
            stop: Arc::default(),
        })
    }

    /// Fills both groups up, those that ended included, and starts the streams where none runs.
    fn open(&mut self, stay: usize, cut: usize) -> Result<usize> {
        self.stop.store(false, Ordering::Relaxed);
        while self.streams.len() < self.crowd.streams.min(stay) {
            let (stream, moved, stop) = (open(self.crowd.stay)?, Arc::clone(&self.moved), Arc::clone(&self.stop));
            self.streams.push(thread::spawn(move || flow(stream, &moved, &stop)));
        }
        let wanted = [stay.saturating_sub(self.streams.len()), cut];
        for (number, (idle, wanted)) in self.idle.iter_mut().zip(wanted).enumerate() {
            idle.retain(is_open);
            idle.truncate(wanted);
            let address = if number == 0 { self.crowd.stay } else { self.crowd.cut };
            let missing = wanted.saturating_sub(idle.len());
            let openers: Vec<_> = (0..OPENERS)
                .map(|opener| {
                    let share = missing / OPENERS + usize::from(opener < missing % OPENERS);
                    thread::spawn(move || (0..share).map(|_| open(address)).collect::<Result<Vec<_>>>())
                })
                .collect();
            for opener in openers {
                for stream in opener.join().map_err(|_| anyhow::anyhow!("an opener panicked"))?? {
                    epoll::add(&self.waiting, &stream, EventData::new_u64(0), EventFlags::RDHUP | EventFlags::ONESHOT)?;
                    idle.push(stream);
                }
            }
        }
        Ok(self.streams.len() + self.idle.iter().map(Vec::len).sum::<usize>())
    }

    /// Waits until so many idle connections have ended; how many did, and when the last one was seen to.
    fn watch(&mut self, count: usize) -> Result<(usize, u64)> {
        let (mut ended, mut last) = (0, nanoseconds());
        let mut events = Vec::with_capacity(1024);
        let start = std::time::Instant::now();
        while ended < count && start.elapsed() < PATIENCE {
            wait(&self.waiting, &mut events, Some(Duration::from_secs(1)))?;
            if !events.is_empty() {
                ended += events.len();
                last = nanoseconds();
            }
        }
        Ok((ended, last))
    }

    /// Stops the streams and gives how many bytes came back as they were sent. One that was cut or lost a byte fails.
    fn check(&mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for stream in self.streams.drain(..) {
            stream.join().map_err(|_| anyhow::anyhow!("a stream panicked"))??;
        }
        for stream in self.idle.first_mut().into_iter().flatten() {
            round_trip(stream, 0).context("an idle connection that was to stay")?;
        }
        Ok(self.moved.load(Ordering::Relaxed))
    }
}

/// Whether nothing ended it: there is nothing to read, not even its end.
fn is_open(stream: &TcpStream) -> bool {
    let nothing = |stream: &TcpStream| {
        stream.set_nonblocking(true)?;
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        peeked
    };
    matches!(nothing(stream), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// A connection over which one block has come back: decided, recorded and forwarded.
fn open(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    round_trip(&mut stream, 0)?;
    Ok(stream)
}

fn round_trip(stream: &mut TcpStream, first: u8) -> Result<()> {
    // The first byte looks like neither TLS nor HTTP.
    let sent = [first, 1, 2, 3];
    stream.write_all(&sent)?;
    let mut got = [0; 4];
    stream.read_exact(&mut got)?;
    ensure!(sent == got, "sent {sent:?}, got {got:?}");
    Ok(())
}

/// Sends blocks of a pattern and compares what comes back, until told to stop.
fn flow(mut stream: TcpStream, moved: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let (mut sent, mut got) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        for (byte, position) in sent.iter_mut().zip(at..) {
            *byte = u8::try_from(position % PERIOD)?;
        }
        stream.write_all(&sent).context("an allowed stream could not send")?;
        stream.read_exact(&mut got).context("an allowed stream ended")?;
        ensure!(sent == got, "an allowed stream lost or changed a byte near {at}");
        at += BLOCK as u64;
        moved.fetch_add(BLOCK as u64, Ordering::Relaxed);
        thread::park_timeout(Duration::from_millis(2));
    }
    Ok(())
}
