//! One question out of a message, read strictly.
//!
//! A resolver of the sandbox's libc, of Go, Java or Node asks one question of class IN with at most an OPT record
//! behind it. That is all that is read; whatever else is in a message is refused by name, so no byte of it can
//! be carried further. Nothing here allocates.

use policy::QueryType;

/// The OPT pseudo-record's type (RFC 6891).
const OPT: u16 = 41;
/// Class IN.
const IN: u16 = 1;
/// The longest name on the wire (RFC 1035, 2.3.4).
const WIRE_NAME_LIMIT: usize = 255;

/// Response codes that this server gives (RFC 1035, RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseCode {
    /// Answered.
    NoError,
    /// The message is malformed.
    FormErr,
    /// No server could be asked, or none answered.
    ServFail,
    /// There is no such name, or it is not to be known.
    NxDomain,
    /// Another operation than a query.
    NotImp,
    /// By policy.
    Refused,
    /// Another version of EDNS than 0.
    BadVers,
}

impl ResponseCode {
    /// Its number; the upper bits go into the OPT record.
    #[inline]
    pub fn number(self) -> u16 {
        match self {
            ResponseCode::NoError => 0,
            ResponseCode::FormErr => 1,
            ResponseCode::ServFail => 2,
            ResponseCode::NxDomain => 3,
            ResponseCode::NotImp => 4,
            ResponseCode::Refused => 5,
            ResponseCode::BadVers => 16,
        }
    }

    /// As records write it.
    pub fn text(self) -> &'static str {
        match self {
            ResponseCode::NoError => "NOERROR",
            ResponseCode::FormErr => "FORMERR",
            ResponseCode::ServFail => "SERVFAIL",
            ResponseCode::NxDomain => "NXDOMAIN",
            ResponseCode::NotImp => "NOTIMP",
            ResponseCode::Refused => "REFUSED",
            ResponseCode::BadVers => "BADVERS",
        }
    }
}

/// What of a message's head is mirrored in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The message's id.
    pub id: u16,
    /// The operation code, 4 bits.
    pub opcode: u8,
    /// Recursion desired.
    pub recursion_desired: bool,
    /// Checking disabled.
    pub checking_disabled: bool,
}

/// What the OPT record says. Its options (client subnet, cookie, padding …) are read past and go nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP answer the client takes.
    pub payload: u16,
}

/// A well-formed question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'m> {
    /// What of the head the answer mirrors.
    pub head: Head,
    /// Name, type and class as they came: the answer echoes them, letter case included (0x20).
    pub wire: &'m [u8],
    /// The record type's number.
    pub number: u16,
    /// The OPT record, where there is one.
    pub edns: Option<Edns>,
}

/// What a message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'m> {
    /// A question to be judged.
    Question(Question<'m>),
    /// A message that gets an error and is judged by nobody.
    Reject {
        /// What of the head the answer mirrors.
        head: Head,
        /// The question, where it could be read: the answer echoes it.
        question: Option<Question<'m>>,
        /// What the answer says.
        code: ResponseCode,
        /// Why, for the record.
        reason: &'static str,
    },
    /// Not even a head, or no query at all: no answer, so that two servers can't be set upon each other.
    Ignore,
}

/// A name in text: lower case, dots between labels. Escaped where it is no host name.
#[derive(Debug, Clone, Copy)]
pub struct NameText {
    bytes: [u8; WIRE_NAME_LIMIT],
    length: usize,
}

impl NameText {
    /// The text: visible ASCII.
    #[inline]
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
    }
}

impl<'m> Question<'m> {
    /// The record type asked for.
    #[inline]
    pub fn record(&self) -> QueryType {
        QueryType::from(self.number)
    }

    /// The name as text, or nothing where a label holds what no host name can: a control character, a dot,
    /// a blank, or bytes beyond ASCII.
    pub fn name(&self) -> Option<NameText> {
        let mut text = NameText { bytes: [0; WIRE_NAME_LIMIT], length: 0 };
        for label in self.labels() {
            if text.length > 0 {
                text.push(b'.');
            }
            for byte in label {
                if !byte.is_ascii_graphic() || *byte == b'.' {
                    return None;
                }
                text.push(byte.to_ascii_lowercase());
            }
        }
        Some(text)
    }

    /// The name for people and records, whatever its bytes are.
    pub fn escaped_name(&self) -> String {
        let labels = self.labels().map(|label| label.escape_ascii().to_string());
        let text = labels.collect::<Vec<_>>().join(".");
        if text.is_empty() { ".".to_owned() } else { text }
    }

    fn labels(&self) -> impl Iterator<Item = &'m [u8]> + use<'m> {
        let mut rest = self.wire;
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first()?;
            let label = tail.get(..usize::from(*length)).filter(|label| !label.is_empty())?;
            rest = tail.get(label.len()..)?;
            Some(label)
        })
    }
}

/// The name of a record type for records.
pub fn type_text(number: u16) -> String {
    let known = match number {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        10 => "NULL",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        43 => "DS",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        251 => "IXFR",
        252 => "AXFR",
        255 => "ANY",
        257 => "CAA",
        other => return format!("TYPE{other}"),
    };
    known.to_owned()
}

/// A cursor that can't run past the end.
struct Cursor<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Cursor<'m> {
    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let part = self.message.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(part)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// Passes over a name without compression. A pointer has no place in a question, so none is followed and
    /// none can loop.
    fn skip_name(&mut self) -> Option<()> {
        let start = self.at;
        loop {
            let length = usize::from(self.u8()?);
            if length > 63 || self.at - start + length > WIRE_NAME_LIMIT {
                return None;
            }
            if length == 0 {
                return Some(());
            }
            self.take(length)?;
        }
    }
}

/// Reads a message (RFC 1035, 4.1; EDNS by RFC 6891).
///
/// Taken is a standard query with one question of class IN, a name without compression (labels to 63 bytes, 255 in
/// all), and at most an OPT record of version 0, with no byte behind it. All else is [`Parsed::Reject`] with what to
/// answer, or [`Parsed::Ignore`] where an answer could set two servers upon each other.
pub fn parse(message: &[u8]) -> Parsed<'_> {
    let mut cursor = Cursor { message, at: 0 };
    let Some((head, counts)) = parse_head(&mut cursor) else { return Parsed::Ignore };
    let reject = |question, code, reason| Parsed::Reject { head, question, code, reason };
    if head.opcode != 0 {
        return reject(None, ResponseCode::NotImp, "only standard queries are answered");
    }
    let [questions, answers, authorities, additionals] = counts;
    if questions != 1 {
        return reject(None, ResponseCode::FormErr, "a message holds exactly one question");
    }
    let Some((mut question, class)) = parse_question(&mut cursor, head) else {
        return reject(None, ResponseCode::FormErr, "the question is cut short, too long or compressed");
    };
    if answers != 0 || authorities != 0 || additionals > 1 {
        return reject(Some(question), ResponseCode::FormErr, "a query carries no records but one OPT");
    }
    if additionals == 1 {
        match parse_opt(&mut cursor) {
            Some((edns, 0)) => question.edns = Some(edns),
            Some((edns, _)) => {
                question.edns = Some(edns);
                return reject(Some(question), ResponseCode::BadVers, "EDNS has version 0 only");
            }
            None => return reject(Some(question), ResponseCode::FormErr, "the OPT record is malformed"),
        }
    }
    if cursor.at != message.len() {
        return reject(Some(question), ResponseCode::FormErr, "bytes follow the message");
    }
    if class != IN {
        return reject(Some(question), ResponseCode::Refused, "only class IN is answered");
    }
    match question.number {
        0 | OPT => reject(Some(question), ResponseCode::FormErr, "this type can't be asked for"),
        _ => Parsed::Question(question),
    }
}

fn parse_head(cursor: &mut Cursor<'_>) -> Option<(Head, [u16; 4])> {
    let id = cursor.u16()?;
    let flags = cursor.u16()?;
    let counts = [cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?];
    let is_response = flags & 0x8000 != 0;
    let head = Head {
        id,
        opcode: u8::try_from((flags >> 11) & 0xF).ok()?,
        recursion_desired: flags & 0x0100 != 0,
        checking_disabled: flags & 0x0010 != 0,
    };
    (!is_response).then_some((head, counts))
}

fn parse_question<'m>(cursor: &mut Cursor<'m>, head: Head) -> Option<(Question<'m>, u16)> {
    let start = cursor.at;
    cursor.skip_name()?;
    let number = cursor.u16()?;
    let class = cursor.u16()?;
    let wire = cursor.message.get(start..cursor.at)?;
    Some((Question { head, wire, number, edns: None }, class))
}

/// The OPT record and its version.
fn parse_opt(cursor: &mut Cursor<'_>) -> Option<(Edns, u8)> {
    if cursor.u8()? != 0 || cursor.u16()? != OPT {
        return None;
    }
    let payload = cursor.u16()?;
    let _extended_code = cursor.u8()?;
    let version = cursor.u8()?;
    let _flags = cursor.u16()?;
    let length = usize::from(cursor.u16()?);
    let mut options = Cursor { message: cursor.take(length)?, at: 0 };
    while options.at < options.message.len() {
        let _code = options.u16()?;
        let length = usize::from(options.u16()?);
        options.take(length)?;
    }
    Some((Edns { payload }, version))
}

#[cfg(test)]
mod tests;
