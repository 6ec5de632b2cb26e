//! Messages go through whole, with their descriptors, or not at all.

use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;

use proptest::prelude::{any, prop_assert_eq, proptest};
use rustix::net::{SendFlags, send};

use crate::{Channel, ChannelError, FromInit, ToInit};

#[test]
fn a_message_and_its_descriptors_arrive() {
    let (host, init) = Channel::pair().unwrap();
    let path = std::env::temp_dir().join(format!("init-protocol-{}", std::process::id()));
    let mut file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(b"plan").unwrap();
    host.send(&ToInit::Build { trees: vec![0, 7] }, &[file.as_fd(), file.as_fd()]).unwrap();
    let (message, mut beside) = init.receive::<ToInit>().unwrap();
    assert_eq!(message, ToInit::Build { trees: vec![0, 7] });
    assert_eq!(beside.len(), 2);
    let mut received = std::fs::File::from(beside.remove(0));
    received.rewind().unwrap();
    let mut text = String::new();
    received.read_to_string(&mut text).unwrap();
    assert_eq!(text, "plan");
}

#[test]
fn a_gone_side_is_closed() {
    let (host, init) = Channel::pair().unwrap();
    drop(init);
    assert!(matches!(host.receive::<FromInit>(), Err(ChannelError::Closed)));
    assert!(matches!(host.send(&ToInit::Start, &[]), Err(ChannelError::Closed)));
}

#[test]
fn too_many_descriptors_are_refused() {
    let (host, _init) = Channel::pair().unwrap();
    let many = vec![host.as_fd(); crate::MOST_DESCRIPTORS + 1];
    assert!(matches!(host.send(&ToInit::Start, &many), Err(ChannelError::TooLong)));
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 1..4096)) {
        let (host, init) = Channel::pair().unwrap();
        send(host.as_fd(), &bytes, SendFlags::empty()).unwrap();
        let read = init.receive::<ToInit>().ok().map(|(message, _)| message);
        prop_assert_eq!(read, serde_json::from_slice(&bytes).ok());
    }
}
