//! Scripted DNS over UDP and TCP, with an encoder of its own: it must be able to lie.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UdpSocket,
    time::sleep,
};

use super::{
    recorder::{Recorder, Visit},
    serve::Connection,
};
use crate::{
    reached::What,
    spec::{DnsAnswer, DnsName, DnsRecord, encode_name},
};

const NAME_ERROR: u8 = 3;
const FORMAT_ERROR: u8 = 1;
const ALIAS: u16 = 5;
const ANY: u16 = 255;

/// The names of one server, and how often each was asked for.
#[derive(Clone)]
pub(super) struct Names {
    state: Arc<Mutex<State>>,
}

struct State {
    names: BTreeMap<String, DnsName>,
    asked: BTreeMap<(String, u16), usize>,
}

impl Names {
    pub(super) fn new(names: &BTreeMap<String, DnsName>) -> Self {
        Self { state: Arc::new(Mutex::new(State { names: names.clone(), asked: BTreeMap::new() })) }
    }

    /// From now on `name` answers by this script, from its start.
    pub(super) fn change(&self, name: &str, script: &DnsName) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.names.insert(name.to_owned(), script.clone());
        state.asked.retain(|(known, _), _| known != name);
    }

    pub(super) fn serve_udp(&self, socket: UdpSocket, server: Arc<str>, recorder: Recorder) {
        let names = self.clone();
        let socket = Arc::new(socket);
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_535];
            loop {
                let Ok((count, peer)) = socket.recv_from(&mut buffer).await else { continue };
                let message = buffer.get(..count).unwrap_or_default().to_vec();
                let visit = recorder.visit(&server, socket.local_addr().ok(), Some(peer));
                let (names, socket) = (names.clone(), socket.clone());
                tokio::spawn(async move {
                    if let Some(answer) = names.answer(&message, "udp", &visit).await {
                        let _lost = socket.send_to(&answer, peer).await;
                    }
                });
            }
        });
    }

    pub(super) async fn serve_tcp(&self, (mut stream, visit): Connection) -> Result<()> {
        loop {
            let Ok(length) = stream.read_u16().await else { return Ok(()) };
            let mut message = vec![0; usize::from(length)];
            stream.read_exact(&mut message).await?;
            if let Some(answer) = self.answer(&message, "tcp", &visit).await {
                let length = u16::try_from(answer.len()).context("an answer too long")?;
                stream.write_all(&[length.to_be_bytes().as_slice(), &answer].concat()).await?;
                stream.flush().await?;
            }
        }
    }

    async fn answer(&self, message: &[u8], transport: &str, visit: &Visit) -> Option<Vec<u8>> {
        let Some(question) = Question::read(message) else {
            visit.tell(What::Query {
                transport: transport.to_owned(),
                name: String::new(),
                record_type: 0,
                message: message.to_vec(),
            });
            let id = message.get(..2)?;
            return Some([id, &[0x80, FORMAT_ERROR], &[0; 8]].concat());
        };
        visit.tell(What::Query {
            transport: transport.to_owned(),
            name: question.name.clone(),
            record_type: question.kind,
            message: message.to_vec(),
        });
        let Some((scripted, delay)) = self.next(&question) else {
            return Some(question.response(NAME_ERROR, false, &[]));
        };
        sleep(delay).await;
        scripted_answer(&question, &scripted, transport)
    }

    /// The next answer to this question, and how long to wait before it.
    fn next(&self, question: &Question) -> Option<(DnsAnswer, Duration)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = state.key(&question.name)?;
        let count = state.asked.entry((key.clone(), question.kind)).or_default();
        let turn = *count;
        *count += 1;
        let script = state.names.get(&key)?;
        let answer = script.answers.get(turn).or(script.answers.last())?;
        Some((answer.clone(), Duration::from_millis(script.delay_ms)))
    }
}

impl State {
    /// The listed name that stands for `name`: itself, or the nearest `*.parent`.
    fn key(&self, name: &str) -> Option<String> {
        if self.names.contains_key(name) {
            return Some(name.to_owned());
        }
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            let wildcard = format!("*.{parent}");
            if self.names.contains_key(&wildcard) {
                return Some(wildcard);
            }
            rest = parent;
        }
        None
    }
}

fn scripted_answer(question: &Question, scripted: &DnsAnswer, transport: &str) -> Option<Vec<u8>> {
    match scripted {
        DnsAnswer::Records(records) => Some(question.response(0, false, records)),
        DnsAnswer::Truncated(records) if transport == "tcp" => Some(question.response(0, false, records)),
        DnsAnswer::Truncated(_) => Some(question.response(0, true, &[])),
        DnsAnswer::Code(code) => Some(question.response(*code, false, &[])),
        DnsAnswer::Silence => None,
        DnsAnswer::WrongId(records) => {
            let mut response = question.response(0, false, records);
            response.iter_mut().take(1).for_each(|byte| *byte ^= 0xff);
            Some(response)
        }
        DnsAnswer::WrongQuestion(records) => {
            let other = Question { wire: encode_name("other.test"), name: "other.test".to_owned(), ..question.clone() };
            Some(other.response(0, false, records))
        }
        DnsAnswer::Garbage(bytes) => Some([question.id.to_be_bytes().as_slice(), bytes].concat()),
    }
}

/// The one question of a message.
#[derive(Clone)]
struct Question {
    id: u16,
    flags: u8,
    /// The name, as it came: its case is part of the answer.
    wire: Vec<u8>,
    name: String,
    kind: u16,
}

impl Question {
    fn read(message: &[u8]) -> Option<Self> {
        let id = u16::from_be_bytes([*message.first()?, *message.get(1)?]);
        let flags = *message.get(2)?;
        let mut at = 12;
        let mut labels = Vec::new();
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            if length > 63 {
                return None;
            }
            labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_ascii_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
        Some(Self { id, flags, wire: message.get(12..at)?.to_vec(), name: labels.join("."), kind })
    }

    /// A response with those records that the question asks for; a CNAME and what stands under another name always.
    fn response(&self, code: u8, truncated: bool, records: &[DnsRecord]) -> Vec<u8> {
        let wanted: Vec<_> = records
            .iter()
            .filter(|record| record.kind == self.kind || record.kind == ALIAS || self.kind == ANY)
            .collect();
        let mut wire = self.id.to_be_bytes().to_vec();
        // Response, authoritative, recursion desired as asked; recursion available.
        wire.push(0x84 | (self.flags & 0x01) | if truncated { 0x02 } else { 0 });
        wire.push(0x80 | (code & 0x0f));
        wire.extend_from_slice(&1u16.to_be_bytes());
        wire.extend_from_slice(&u16::try_from(wanted.len()).unwrap_or(u16::MAX).to_be_bytes());
        wire.extend_from_slice(&[0; 4]);
        wire.extend_from_slice(&self.wire);
        wire.extend_from_slice(&self.kind.to_be_bytes());
        wire.extend_from_slice(&1u16.to_be_bytes());
        for record in wanted {
            match &record.owner {
                Some(owner) => wire.extend_from_slice(&encode_name(owner)),
                None => wire.extend_from_slice(&self.wire),
            }
            wire.extend_from_slice(&record.kind.to_be_bytes());
            wire.extend_from_slice(&1u16.to_be_bytes());
            wire.extend_from_slice(&record.ttl.to_be_bytes());
            wire.extend_from_slice(&u16::try_from(record.data.len()).unwrap_or(u16::MAX).to_be_bytes());
            wire.extend_from_slice(&record.data);
        }
        wire
    }
}
