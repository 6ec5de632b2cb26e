//! Text to a tree that knows where everything stands.
//!
//! YAML 1.2, of which JSON is a part. Nothing is typed here: a scalar is its text and whether it was quoted.
//! What makes YAML dangerous ends here: aliases are expanded within a budget, an alias inside its own anchor,
//! a tag, a second document and a repeated key are refused.
//!
//! ```text
//! bytes --UTF-8, size--> text --events--> Tree { Node { extent, content } }
//! ```

use std::{collections::HashMap, slice};

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, ScanError, Span, StructureStyle};

use crate::diagnostics::FINDING_LIMIT;

/// The largest policy file that is read.
pub(crate) const FILE_LIMIT: usize = 16 * 1024 * 1024;
/// The deepest nesting, aliases expanded.
const DEPTH_LIMIT: usize = 48;
/// How many values a file may hold: what 16 MiB of the shortest ones would need more memory for.
const NODE_LIMIT: usize = 3_000_000;
/// How many nodes all aliases of a file may add.
const ALIAS_BUDGET: usize = 100_000;
/// The entries of a mapping up to which a search finds a key sooner than a table.
const SEARCHED: usize = 16;

/// A point in the text.
///
/// Every node of the tree has two, so they are small: `FILE_LIMIT` fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Point {
    line: u32,
    column: u32,
    byte: u32,
}

impl Point {
    /// Counted from 1.
    pub(crate) fn line(self) -> usize {
        self.line as usize
    }

    /// In characters, counted from 1.
    pub(crate) fn column(self) -> usize {
        self.column as usize
    }

    /// In bytes, from 0.
    pub(crate) fn byte(self) -> usize {
        self.byte as usize
    }
}

/// A stretch of the text; the end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    pub(crate) start: Point,
    pub(crate) end: Point,
}

/// One node and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) extent: Extent,
    pub(crate) content: Content,
    /// The levels below this one: at most `DEPTH_LIMIT`.
    height: u32,
    /// The nodes in it, itself included: at most `NODE_LIMIT`.
    size: u32,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// A single value; `plain` where it stands without quotes.
    Scalar { text: String, plain: bool },
    /// A list; `flow` where it is written in brackets.
    List { items: Vec<Node>, flow: bool },
    /// A mapping, in the order of the file; `flow` where it is written in braces.
    Map { entries: Vec<Entry>, flow: bool },
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_extent: Extent,
    pub(crate) value: Node,
}

/// Why a text is no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("the file has {0} bytes; at most {FILE_LIMIT} are read")]
    TooLarge(usize),
    #[error("byte {0} is not UTF-8 text")]
    NotUtf8(usize),
    #[error("the file is empty")]
    Empty,
    #[error("{message}")]
    Syntax { message: String, at: Extent },
    #[error("an alias inside its own anchor has no end")]
    Cycle { at: Extent },
    #[error("the aliases of this file expand to more than {ALIAS_BUDGET} values")]
    AliasBudget { at: Extent },
    #[error("the file holds more than {NODE_LIMIT} values")]
    TooMany { at: Extent },
    #[error("nested more than {DEPTH_LIMIT} levels deep")]
    TooDeep { at: Extent },
    #[error("the tag {tag:?} has no meaning in a policy")]
    Tag { tag: String, at: Extent },
    #[error("a second document starts here; a policy file holds one")]
    SecondDocument { at: Extent },
    #[error("a key must be a single word, not a list or mapping")]
    ComplexKey { at: Extent },
    #[error("the key {key:?} stands here twice")]
    RepeatedKey { key: String, at: Extent, first: Extent },
}

impl DocumentError {
    /// Where, but for errors about the file as a whole.
    pub(crate) fn extent(&self) -> Option<Extent> {
        match self {
            Self::TooLarge(_) | Self::NotUtf8(_) | Self::Empty => None,
            Self::Syntax { at, .. }
            | Self::Cycle { at }
            | Self::AliasBudget { at }
            | Self::TooMany { at }
            | Self::TooDeep { at }
            | Self::Tag { at, .. }
            | Self::SecondDocument { at }
            | Self::ComplexKey { at }
            | Self::RepeatedKey { at, .. } => Some(*at),
        }
    }
}

/// The text of a policy file: bounded, UTF-8, without a byte order mark.
pub(crate) fn text_of(bytes: &[u8]) -> Result<&str, DocumentError> {
    if bytes.len() > FILE_LIMIT {
        return Err(DocumentError::TooLarge(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| DocumentError::NotUtf8(error.valid_up_to()))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Reads one document. A repeated key is noted in `repeated` and its first value kept; every other error ends the reading.
pub(crate) fn read(text: &str, repeated: &mut Vec<DocumentError>) -> Result<Node, DocumentError> {
    let options = granit_parser::options! { emit_comments: false, simple_key_max_lookahead: 4096 };
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(syntax)?;
        builder.take(event, extent(&span))?;
    }
    repeated.append(&mut builder.repeated);
    match builder.root {
        Some(Node { content: Content::Scalar { text, plain: true }, .. }) if is_null(&text) => {
            Err(DocumentError::Empty)
        }
        Some(root) => Ok(root),
        None => Err(DocumentError::Empty),
    }
}

/// Whether an unquoted scalar is YAML's null.
pub(crate) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn syntax(error: ScanError) -> DocumentError {
    let at = point(error.marker());
    DocumentError::Syntax { message: error.info(), at: Extent { start: at, end: at } }
}

fn point(marker: &Marker) -> Point {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Point {
        line: small(marker.line()),
        column: small(marker.col() + 1),
        byte: small(marker.byte_offset().unwrap_or(0)),
    }
}

fn extent(span: &Span) -> Extent {
    Extent { start: point(&span.start), end: point(&span.end) }
}

impl Node {
    fn scalar(text: String, plain: bool, extent: Extent) -> Self {
        Self { extent, content: Content::Scalar { text, plain }, height: 0, size: 1 }
    }

    /// Where a reader's eye goes: a value itself, of a mapping its first key, of a list its first item.
    pub(crate) fn head(&self) -> Extent {
        let head = match &self.content {
            Content::Scalar { .. } => None,
            Content::List { items, .. } => items.first().map(Node::head),
            Content::Map { entries, .. } => entries.first().map(|entry| entry.key_extent),
        };
        // Of an alias the content stands elsewhere.
        head.filter(|head| head.start.byte() >= self.extent.start.byte()).unwrap_or(self.extent)
    }

    /// The entry of a mapping with this key.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map { entries, .. } => entries.iter().find(|entry| entry.key == key),
            Content::Scalar { .. } | Content::List { .. } => None,
        }
    }

    /// Whether this is a list with an item whose `name` is this.
    pub(crate) fn holds_item_named(&self, name: &str) -> bool {
        let Content::List { items, .. } = &self.content else { return false };
        items.iter().any(|item| match item.entry("name").map(|entry| &entry.value.content) {
            Some(Content::Scalar { text, .. }) => text == name,
            Some(Content::List { .. } | Content::Map { .. }) | None => false,
        })
    }

    /// The item of a list at this index.
    pub(crate) fn item(&self, index: usize) -> Option<&Node> {
        match &self.content {
            Content::List { items, .. } => items.get(index),
            Content::Scalar { .. } | Content::Map { .. } => None,
        }
    }
}

/// A collection that is not closed yet.
#[derive(Debug)]
struct Open {
    at: Extent,
    anchor: usize,
    flow: bool,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    List(Vec<Node>),
    /// `many` tells where a key stands once there are more than [`SEARCHED`].
    Map {
        entries: Vec<Entry>,
        many: HashMap<String, Extent>,
        key: Option<(String, Extent)>,
    },
}

/// Puts events together.
#[derive(Debug, Default)]
struct Builder {
    open: Vec<Open>,
    /// `None` while the anchored node is still open.
    anchors: HashMap<usize, Option<Node>>,
    spent: usize,
    placed: usize,
    documents: usize,
    root: Option<Node>,
    repeated: Vec<DocumentError>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Extent) -> Result<(), DocumentError> {
        if let Some(tag) = event.tag() {
            return Err(DocumentError::Tag { tag: tag.to_string(), at });
        }
        match event {
            Event::DocumentStart(..) if self.documents == 1 => Err(DocumentError::SecondDocument { at }),
            Event::DocumentStart(..) => {
                self.documents += 1;
                Ok(())
            }
            Event::Scalar(text, style, anchor, _) => {
                let plain = matches!(style, ScalarStyle::Plain);
                self.place(Node::scalar(text.into_owned(), plain, at), anchor)
            }
            Event::SequenceStart(style, anchor, _) => self.start(at, anchor, style, Parts::List(Vec::new())),
            Event::MappingStart(style, anchor, _) => {
                self.start(at, anchor, style, Parts::Map { entries: Vec::new(), many: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at),
            Event::Alias(id) => self.alias(id, at),
            // The stream's frame. Comments, anchors' names and dangling aliases are not asked for.
            _ => Ok(()),
        }
    }

    fn start(&mut self, at: Extent, anchor: usize, style: StructureStyle, parts: Parts) -> Result<(), DocumentError> {
        if self.open.len() >= DEPTH_LIMIT {
            return Err(DocumentError::TooDeep { at });
        }
        if let Parts::Map { .. } | Parts::List(_) = parts
            && self.expects_key()
        {
            return Err(DocumentError::ComplexKey { at });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        self.open.push(Open { at, anchor, flow: matches!(style, StructureStyle::Flow), parts });
        Ok(())
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { parts: Parts::Map { key: None, .. }, .. }))
    }

    fn close(&mut self, end: Extent) -> Result<(), DocumentError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let content = match open.parts {
            Parts::List(items) => Content::List { items, flow: open.flow },
            Parts::Map { entries, .. } => Content::Map { entries, flow: open.flow },
        };
        let (height, size) = measure(&content);
        let extent = Extent { start: open.at.start, end: end.end };
        self.place(Node { extent, content, height, size }, open.anchor)
    }

    fn alias(&mut self, id: usize, at: Extent) -> Result<(), DocumentError> {
        let Some(Some(target)) = self.anchors.get(&id) else {
            return Err(DocumentError::Cycle { at });
        };
        self.spent = self.spent.saturating_add(target.size as usize);
        if self.spent > ALIAS_BUDGET {
            return Err(DocumentError::AliasBudget { at });
        }
        let copy = Node { extent: at, ..target.clone() };
        self.place(copy, 0)
    }

    fn place(&mut self, node: Node, anchor: usize) -> Result<(), DocumentError> {
        if self.open.len() + node.height as usize > DEPTH_LIMIT {
            return Err(DocumentError::TooDeep { at: node.extent });
        }
        self.placed += 1;
        if self.placed > NODE_LIMIT {
            return Err(DocumentError::TooMany { at: node.extent });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Some(node.clone()));
        }
        match self.open.last_mut().map(|open| &mut open.parts) {
            None => self.root = Some(node),
            Some(Parts::List(items)) => items.push(node),
            Some(Parts::Map { entries, many, key }) => match key.take() {
                None => *key = Some(key_of(node)?),
                Some((name, key_extent)) => match first_of(&name, entries, many) {
                    // Beyond the bound the first thousand say enough.
                    Some(_) if self.repeated.len() >= FINDING_LIMIT => {}
                    Some(first) => {
                        self.repeated.push(DocumentError::RepeatedKey { key: name, at: key_extent, first });
                    }
                    None => entries.push(Entry { key: name, key_extent, value: node }),
                },
            },
        }
        Ok(())
    }
}

/// Where this key stands already; where there are many, notes it for the next.
fn first_of(name: &str, entries: &[Entry], many: &mut HashMap<String, Extent>) -> Option<Extent> {
    if entries.len() < SEARCHED {
        return entries.iter().find(|entry| entry.key == name).map(|entry| entry.key_extent);
    }
    // The last entry was added after the search for it.
    let unknown = if many.is_empty() { entries } else { entries.last().map(slice::from_ref).unwrap_or_default() };
    many.extend(unknown.iter().map(|entry| (entry.key.clone(), entry.key_extent)));
    many.get(name).copied()
}

fn key_of(node: Node) -> Result<(String, Extent), DocumentError> {
    match node.content {
        Content::Scalar { text, .. } => Ok((text, node.extent)),
        Content::List { .. } | Content::Map { .. } => Err(DocumentError::ComplexKey { at: node.extent }),
    }
}

/// Height and size of a node with this content.
fn measure(content: &Content) -> (u32, u32) {
    let add = |(height, size): (u32, u32), node: &Node| (height.max(node.height + 1), size + node.size);
    match content {
        Content::Scalar { .. } => (0, 1),
        Content::List { items, .. } => items.iter().fold((1, 1), add),
        Content::Map { entries, .. } => entries.iter().map(|entry| &entry.value).fold((1, 1), add),
    }
}
