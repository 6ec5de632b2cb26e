//! A line back into what it says.
//!
//! Reading goes on where a newer writer said more: fields that aren't known are left out, an event that isn't known
//! is kept as it is. Reading does not verify; [`crate::verify`] does.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    canonical::parse_object,
    erasable::{DIGESTS, SALTS},
    event::Event,
    json_text::from_hex,
};

/// What stands in the place of a text that was erased.
pub const ERASED: &str = "[erased]";

/// Every kind of event this version knows, as the `event` field has it.
pub const EVENT_KINDS: [&str; 11] = [
    "approval.answered",
    "audit.checkpoint",
    "audit.recovered",
    "credential.used",
    "dns.decided",
    "flow.decided",
    "flow.ended",
    "policy.applied",
    "policy.refused",
    "sandbox.ended",
    "sandbox.started",
];

/// What every line has, whatever happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its number in the chain.
    pub seq: u64,
    /// When it was recorded.
    pub time: Timestamp,
    /// The kind of event: `flow.decided` …
    pub event: String,
    /// The sandbox.
    pub sandbox: String,
    /// The thread of an agent.
    pub thread: Option<String>,
    /// The tool call.
    pub tool_call: Option<String>,
    /// The hash of the line before.
    pub prev: [u8; 32],
    /// Its own hash.
    pub hash: [u8; 32],
    /// The fields that were erased, as paths; they read as [`ERASED`].
    pub erased: Vec<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// An event this version knows.
    Known(Event),
    /// One of a newer version: its own fields.
    Unknown(Map<String, Value>),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What every line has.
    pub envelope: Envelope,
    /// What happened.
    pub body: Body,
}

/// Why a text is no line of a record.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// No JSON object, or one that can be read two ways.
    #[error("not an event: {0}")]
    Json(#[source] serde_json::Error),
    /// A field that every line has is missing or has another type.
    #[error("the field {0:?} is missing or has another type")]
    Field(&'static str),
    /// The fields of this kind of event are others.
    #[error("event {seq} isn't a {event:?}: {source}")]
    Event {
        /// The line's number.
        seq: u64,
        /// The kind of event it says it is.
        event: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads one line.
pub fn parse(line: &str) -> Result<Entry, ParseError> {
    let mut object = parse_object(line.trim_end().as_bytes()).map_err(ParseError::Json)?;
    let envelope = take_envelope(&mut object)?;
    for path in &envelope.erased {
        mark_erased(&mut object, path);
    }
    if !EVENT_KINDS.contains(&envelope.event.as_str()) {
        return Ok(Entry { envelope, body: Body::Unknown(object) });
    }
    object.insert("event".into(), Value::String(envelope.event.clone()));
    match serde_json::from_value(Value::Object(object)) {
        Ok(event) => Ok(Entry { envelope, body: Body::Known(event) }),
        Err(source) => Err(ParseError::Event { seq: envelope.seq, event: envelope.event, source }),
    }
}

fn take_envelope(object: &mut Map<String, Value>) -> Result<Envelope, ParseError> {
    let seq = object.remove("seq").as_ref().and_then(Value::as_u64).ok_or(ParseError::Field("seq"))?;
    let time = take_text(object, "time")?.parse().map_err(|_| ParseError::Field("time"))?;
    object.remove(SALTS);
    let erased = match object.remove(DIGESTS) {
        None => Vec::new(),
        Some(Value::Object(digests)) => digests.into_iter().map(|(path, _)| path).collect(),
        Some(_) => return Err(ParseError::Field(DIGESTS)),
    };
    Ok(Envelope {
        seq,
        time,
        event: take_text(object, "event")?,
        sandbox: take_text(object, "sandbox")?,
        thread: take_optional(object, "thread")?,
        tool_call: take_optional(object, "tool_call")?,
        prev: from_hex(&take_text(object, "prev")?).ok_or(ParseError::Field("prev"))?,
        hash: from_hex(&take_text(object, "hash")?).ok_or(ParseError::Field("hash"))?,
        erased,
    })
}

fn take_text(object: &mut Map<String, Value>, name: &'static str) -> Result<String, ParseError> {
    take_optional(object, name)?.ok_or(ParseError::Field(name))
}

fn take_optional(object: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, ParseError> {
    match object.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ParseError::Field(name)),
    }
}

fn mark_erased(object: &mut Map<String, Value>, path: &str) {
    let place = match path.split_once('.') {
        None => object.get_mut(path),
        Some((name, rest)) => object.get_mut(name).and_then(Value::as_object_mut).and_then(|inner| inner.get_mut(rest)),
    };
    if let Some(place) = place.filter(|place| place.is_null()) {
        *place = Value::String(ERASED.into());
    }
}
