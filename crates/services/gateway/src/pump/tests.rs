//! Real sockets on loopback, turned by hand.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec};

use wire::intent::Intent;

use super::{Asked, Bounds, By, Gate, Pump, Start, Turn};

const LIMIT: usize = 64 * 1024;

fn bounds() -> Bounds {
    Bounds {
        idle: Duration::from_secs(60),
        half_open: Duration::from_secs(60),
        total: None,
        first_bytes: Duration::from_secs(5),
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
    }
    (near, far)
}

struct World {
    pump: Pump<&'static str>,
    client: TcpStream,
    server: TcpStream,
}

fn world(gate: Gate, to_upstream: &[u8], to_client: &[u8]) -> World {
    let (client, inner) = pair();
    let (outer, server) = pair();
    inner.set_nonblocking(true).unwrap();
    outer.set_nonblocking(true).unwrap();
    let mut pump = Pump::new(bounds()).unwrap();
    let start = Start { to_upstream: to_upstream.to_vec(), to_client: to_client.to_vec(), unread: Vec::new(), gate };
    pump.insert(OwnedFd::from(inner), OwnedFd::from(outer), start, "flow").map_err(|(error, _)| error).unwrap();
    World { pump, client, server }
}

/// Turns the pump until `done`.
fn run(pump: &mut Pump<&'static str>, mut done: impl FnMut(&mut Pump<&'static str>) -> bool) {
    for _ in 0..1_000_000 {
        while pump.turn() == Turn::More {}
        if done(pump) {
            return;
        }
        let timeout = Timespec { tv_sec: 10, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut [PollFd::new(&pump.epoll(), PollFlags::IN)], Some(&timeout)).unwrap();
        assert!(ready > 0, "nothing happened for 10 s");
    }
    panic!("no end");
}

#[test]
fn each_direction_ends_on_its_own() {
    let World { mut pump, mut client, mut server } = world(Gate::Open, b"first ", b"hello ");
    let far = thread::spawn(move || {
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        // The client has closed its side; the answer still arrives.
        server.write_all(b"answer").unwrap();
        text
    });
    client.write_all(b"request").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut ended = Vec::new();
    run(&mut pump, |pump| {
        ended.extend(pump.take_ended());
        !ended.is_empty()
    });
    let mut text = String::new();
    let last = ended.pop().unwrap();
    assert_eq!((last.by, last.left.sent, last.left.received), (By::Finished, 13, 12));
    drop(last);
    client.read_to_string(&mut text).unwrap();
    assert_eq!((far.join().unwrap().as_str(), text.as_str()), ("first request", "hello answer"));
    assert!(pump.slice(0, 100).0.is_empty());
}

#[test]
fn a_long_stream_arrives_whole_while_its_reader_is_slow() {
    const SIZE: usize = 300 << 20;
    let World { mut pump, client, mut server } = world(Gate::Open, b"", b"");
    let writer = thread::spawn(move || {
        let block: Vec<u8> = (0..=250).collect();
        let block = block.repeat(1024);
        let mut left = SIZE;
        while left > 0 {
            let count = left.min(block.len());
            server.write_all(&block[..count]).unwrap();
            left -= count;
        }
    });
    let reader = thread::spawn(move || {
        let mut client = client;
        client.shutdown(Shutdown::Write).unwrap();
        let mut buffer = vec![0; 100_000];
        let mut at = 0usize;
        loop {
            let count = client.read(&mut buffer).unwrap();
            if count == 0 {
                return at;
            }
            for byte in &buffer[..count] {
                assert_eq!(usize::from(*byte), at % 251);
                at += 1;
            }
        }
    });
    run(&mut pump, |pump| {
        pump.take_ended().pop().is_some_and(|ended| {
            assert_eq!((ended.by, ended.left.received), (By::Finished, SIZE as u64));
            true
        })
    });
    writer.join().unwrap();
    assert_eq!(reader.join().unwrap(), SIZE);
}

#[test]
fn nothing_passes_before_the_first_bytes_are_judged() {
    let World { mut pump, mut client, mut server } = world(Gate::first(LIMIT), b"", b"");
    server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    for byte in b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n" {
        client.write_all(&[*byte]).unwrap();
    }
    let mut asked = Vec::new();
    run(&mut pump, |pump| {
        asked.extend(pump.take_asked());
        !asked.is_empty()
    });
    let mut nothing = [0; 1];
    assert!(server.read(&mut nothing).is_err());
    let (key, Asked::First(Intent::Http(head, used), bytes)) = asked.pop().unwrap() else { panic!("no request") };
    assert_eq!(used, bytes.len());
    pump.pass_first(key, Gate::Open, head.write(false), Vec::new());
    server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut text = vec![0; bytes.len()];
    server.read_exact(&mut text).unwrap();
    assert_eq!(text, bytes);
}

#[test]
fn a_server_that_speaks_first_is_asked_about() {
    let World { mut pump, mut client, mut server } = world(Gate::first(LIMIT), b"", b"");
    server.write_all(b"SSH-2.0-x\r\n").unwrap();
    let mut asked = Vec::new();
    run(&mut pump, |pump| {
        asked.extend(pump.take_asked());
        !asked.is_empty()
    });
    let (key, Asked::ServerFirst) = asked.pop().unwrap() else { panic!("not the server") };
    pump.pass_first(key, Gate::Open, Vec::new(), Vec::new());
    let mut text = [0; 11];
    client.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"SSH-2.0-x\r\n");
}

#[test]
fn a_reset_reaches_the_other_side_and_a_late_event_finds_nothing() {
    let World { mut pump, client, mut server } = world(Gate::Open, b"", b"");
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    run(&mut pump, |pump| {
        pump.take_ended().pop().is_some_and(|ended| {
            assert_eq!(ended.by, By::Client);
            true
        })
    });
    assert!(server.read(&mut [0; 1]).is_err());
    assert!(pump.slice(0, 100).0.is_empty());
    assert_ne!(pump.turn(), Turn::More);
}

#[test]
fn what_is_taken_out_moves_no_more() {
    let World { mut pump, mut client, mut server } = world(Gate::Open, b"", b"");
    let (keys, next) = pump.slice(0, 100);
    assert_eq!((keys.len(), next), (1, None));
    let left = pump.take(keys[0]).unwrap();
    assert!(pump.take(keys[0]).is_none());
    super::reset(&left.client);
    super::reset(&left.upstream);
    drop(left);
    assert!(client.read(&mut [0; 1]).is_err());
    assert!(server.read(&mut [0; 1]).is_err());
}
