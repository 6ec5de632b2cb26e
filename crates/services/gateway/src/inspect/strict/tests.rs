//! The reader held to its word: strict, and the same wherever its bytes are cut.

use std::{sync::Arc, time::Duration};

use proptest::prelude::{prop, prop_assert_eq, proptest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Heads, REFUSED, Read, Strict};

/// Feeds bytes in pieces: what the library gets to read, and the heads.
fn run(bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<Read>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let heads = Arc::new(Heads::default());
        let mut strict = Strict::new(server, Arc::clone(&heads), 4096, Duration::from_secs(5));
        let mut read = Vec::new();
        for part in bytes.chunks(piece) {
            client.write_all(part).await.unwrap();
            // Paused time passes only when nothing else is left to do.
            let reading = async { while let Ok(1..) = strict.read_buf(&mut read).await {} };
            let _ = tokio::time::timeout(Duration::from_millis(1), reading).await;
        }
        drop(client);
        let reading = async { while let Ok(1..) = strict.read_buf(&mut read).await {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
        let heads = std::mem::take(&mut heads.told().heads);
        (read, heads.into_iter().collect())
    })
}

#[test]
fn the_library_reads_only_what_was_read_strictly() {
    let two = b"PUT /a?b HTTP/1.1\r\nHost: a.test\r\nX: y\r\nContent-Length: 3\r\n\r\nabcGET /c HTTP/1.1\r\nHost: b.test\r\n\r\n";
    let (read, heads) = run(two, 1000);
    let expected = "PUT / HTTP/1.1\r\nHost: judged.invalid\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: judged.invalid\r\n\r\n";
    assert_eq!(String::from_utf8(read).unwrap(), expected);
    let targets: Vec<String> = heads.into_iter().map(|head| head.unwrap().origin_target()).collect();
    assert_eq!(targets, ["/a?b", "/c"]);
}

#[test]
fn nothing_is_read_behind_what_is_refused() {
    for bytes in [
        &b"GET / HTTP/1.1\nHost: a.test\n\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\nHost: a",
    ] {
        let (read, heads) = run(bytes, 1000);
        assert_eq!((read.as_slice(), heads.len()), (REFUSED, 1), "{}", bytes.escape_ascii());
        assert!(heads[0].is_err());
    }
}

#[test]
fn behind_a_websocket_handshake_nothing_is_read_until_it_is_answered() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00";
    let (read, heads) = run(bytes, 1000);
    assert!(read.ends_with(b"\r\n\r\n") && heads[0].as_ref().unwrap().websocket);
}

proptest! {
    #[test]
    fn cutting_changes_nothing(parts in prop::collection::vec(prop::sample::select(vec![
        "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n", "PUT /b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nwxyz",
        "PUT /c HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n",
        "\n", "x", "\r\n", "GET", " ",
    ]), 0..5), piece in 1usize..40) {
        let bytes = parts.concat();
        prop_assert_eq!(run(bytes.as_bytes(), piece), run(bytes.as_bytes(), 10_000));
    }
}
