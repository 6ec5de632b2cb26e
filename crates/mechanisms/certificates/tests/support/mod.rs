//! A TLS server on loopback that answers each connection with one line, and ends with the test.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, Stream, pki_types::ServerName};

/// Bounds every wait of a test.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server, and how each of its connections ended.
pub struct Served {
    pub at: SocketAddr,
    pub ended: Receiver<Result<()>>,
}

/// Serves `config` for as long as the test program runs.
pub fn serve(config: Arc<ServerConfig>) -> Result<Served> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    let (end, ended) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, end) = (config.clone(), end.clone());
            thread::spawn(move || end.send(answer(stream, config)));
        }
    });
    Ok(Served { at, ended })
}

fn answer(mut stream: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut connection = ServerConnection::new(config)?;
    let mut tls = Stream::new(&mut connection, &mut stream);
    let mut asked = [0; 1024];
    let _ = tls.read(&mut asked)?;
    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\ninside.\n")?;
    connection.send_close_notify();
    while connection.wants_write() {
        connection.write_tls(&mut stream)?;
    }
    Ok(())
}

/// What a client of ours sees.
pub struct Seen {
    pub protocol: Option<Vec<u8>>,
    pub version: Option<rustls::ProtocolVersion>,
    pub resumed: bool,
    pub certificates: usize,
}

/// One connection of a client with `config`, with an answer read to its end.
pub fn ask(at: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Result<Seen> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut connection = ClientConnection::new(config, ServerName::try_from(name.to_owned())?)?;
    let mut tls = Stream::new(&mut connection, &mut stream);
    tls.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.ends_with("inside.\n"), "{answer:?}");
    Ok(Seen {
        protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
        version: connection.protocol_version(),
        resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        certificates: connection.peer_certificates().map_or(0, <[_]>::len),
    })
}
