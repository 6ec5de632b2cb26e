//! A DNS server for tests: on loopback, over UDP and TCP on one port, answering as its script says.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Udp,
    Tcp,
}

/// A question that reached the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) record: RecordType,
    pub(crate) over: Over,
    pub(crate) id: u16,
    pub(crate) peer: SocketAddr,
}

/// What is sent back: any number of messages, whatever they are.
pub(crate) type Script = dyn Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let script: Arc<Script> = Arc::new(script);
        let mut tasks = JoinSet::new();
        tasks.spawn(over_udp(udp, Arc::clone(&script), Arc::clone(&seen)));
        tasks.spawn(over_tcp(tcp, script, Arc::clone(&seen)));
        Self { address, seen, _tasks: tasks }
    }

    /// Every question so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

fn note(seen: &Mutex<Vec<Seen>>, query: &Message, over: Over, peer: SocketAddr) {
    let question = &query.queries[0];
    let name = question.name.to_ascii();
    let (record, id) = (question.query_type, query.metadata.id);
    seen.lock().unwrap().push(Seen { name, record, over, id, peer });
}

async fn over_udp(socket: UdpSocket, script: Arc<Script>, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut buffer = vec![0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let query = Message::from_vec(&buffer[..length]).unwrap();
        note(&seen, &query, Over::Udp, peer);
        for answer in script(&query, Over::Udp) {
            socket.send_to(&answer, peer).await.unwrap();
        }
    }
}

async fn over_tcp(listener: TcpListener, script: Arc<Script>, seen: Arc<Mutex<Vec<Seen>>>) {
    while let Ok((mut stream, peer)) = listener.accept().await {
        while let Ok(length) = stream.read_u16().await {
            let mut buffer = vec![0; usize::from(length)];
            stream.read_exact(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer).unwrap();
            note(&seen, &query, Over::Tcp, peer);
            for answer in script(&query, Over::Tcp) {
                let length = u16::try_from(answer.len()).unwrap();
                stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await.unwrap();
            }
        }
    }
}

/// A response with these records.
pub(crate) fn response(query: &Message, records: impl IntoIterator<Item = Record>) -> Message {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.add_queries(query.queries.iter().cloned());
    message.add_answers(records);
    message
}

/// A response with this code.
pub(crate) fn code(query: &Message, code: ResponseCode) -> Vec<Vec<u8>> {
    let mut message = response(query, []);
    message.metadata.response_code = code;
    vec![message.to_vec().unwrap()]
}

pub(crate) fn bytes(message: &Message) -> Vec<Vec<u8>> {
    vec![message.to_vec().unwrap()]
}

pub(crate) fn name(text: &str) -> Name {
    Name::from_labels(text.trim_end_matches('.').split('.').filter(|label| !label.is_empty()).map(str::as_bytes))
        .unwrap()
}

pub(crate) fn a(owner: &str, ttl: u32, address: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(rdata::A(address.parse().unwrap())))
}

pub(crate) fn aaaa(owner: &str, ttl: u32, address: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::AAAA(rdata::AAAA(address.parse().unwrap())))
}

pub(crate) fn cname(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(rdata::CNAME(name(target))))
}
