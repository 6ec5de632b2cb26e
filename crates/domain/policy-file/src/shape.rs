//! The shape of the file, read off its JSON Schema, and a tree read against it.
//!
//! One walk finds every unknown field, missing field, wrong kind and unknown word of a file, where serde
//! would stop at the first. What passes is a JSON value that the wire types read without an error: a scalar
//! is a string or a number because the schema says so, never because of how it looks.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value};

use crate::{
    diagnostics::{Diagnostic, FINDING_LIMIT, Severity, nearest},
    document::{Content, Entry, Extent, Node, is_null},
    schema::schema,
};

/// What may stand at one place.
#[derive(Debug, Clone)]
enum Shape {
    /// Text; where `words` is not empty, one of them.
    Text { words: Vec<String> },
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list.
    List(Box<Shape>),
    /// Names of the writer's choice, each with a value.
    Map(Box<Shape>),
    /// These fields.
    Struct { fields: BTreeMap<String, Shape>, required: Vec<String> },
    /// One of these: at most one for a list, one for a mapping.
    Choice(Vec<Shape>),
    /// Anything: a part that this build refuses by name.
    Anything,
}

/// Why there is no source for a secret that stands in the policy.
const NO_LITERALS: &str =
    "a policy is copied, shown and recorded, so no secret stands in it: write `file`, `command`, `env` or `keyring`";

/// What people call a secret that they would write into the policy.
fn is_literal(key: &str) -> bool {
    matches!(key, "value" | "literal" | "secret" | "token" | "password" | "plain" | "text" | "string" | "data")
}

/// A way to carry a credential that has settings, for who wrote its name alone.
fn attach_form(word: &str) -> Option<&'static str> {
    Some(match word {
        "basic" => "`attach: { basic: { username: USER } }`",
        "header" => "`attach: { header: NAME }`",
        "query" => "`attach: { query: NAME }`",
        "cookie" => "`attach: { cookie: NAME }`",
        "sigv4" => "`attach: { sigv4: { service: SERVICE, region: REGION } }`",
        "placeholder" => "`attach: { placeholder: { headers: [NAME] } }`",
        _ => return None,
    })
}

static FILE: LazyLock<Shape> = LazyLock::new(|| Shape::of(schema(), schema()));

/// What is wrong with a file's shape.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) found: Vec<Diagnostic>,
    /// Findings beyond the bound.
    pub(crate) omitted: usize,
}

/// Reads a tree as a policy file: a value that fits the wire types, or what is wrong with it.
pub(crate) fn read(root: &Node) -> Result<Value, Wrong> {
    let mut reader = Reader::default();
    let value = reader.read(root, &FILE, None);
    match value {
        Some(value) if reader.found.is_empty() => Ok(value),
        Some(_) | None => Err(Wrong { found: reader.found, omitted: reader.omitted }),
    }
}

/// Takes away what does not fit, so that the rest of a wrong file can be looked at too.
/// What was taken away is gone from the tree and the value alike: places in one are places in the other.
pub(crate) fn prune(root: &mut Node) -> Option<Value> {
    let fits = prune_to(root, &FILE);
    fits.then(|| Reader::default().read(root, &FILE, None)).flatten()
}

/// Whether anything is left.
fn prune_to(node: &mut Node, shape: &Shape) -> bool {
    let Some(shape) = pick(shape, &node.content) else { return false };
    match (&mut node.content, shape) {
        (Content::List { items, .. }, Shape::List(inner)) => items.retain_mut(|item| prune_to(item, inner)),
        (Content::Map { entries, .. }, Shape::Map(inner)) => {
            entries.retain_mut(|entry| prune_to(&mut entry.value, inner))
        }
        (Content::Map { entries, .. }, Shape::Struct { fields, required }) => {
            entries.retain_mut(|entry| fields.get(&entry.key).is_some_and(|shape| prune_to(&mut entry.value, shape)));
            return required.iter().all(|name| entries.iter().any(|entry| entry.key == *name));
        }
        (Content::Scalar { .. } | Content::List { .. } | Content::Map { .. }, _) => {
            return Reader::default().read(node, shape, None).is_some();
        }
    }
    true
}

impl Shape {
    fn of(schema: &Value, root: &Value) -> Self {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return root
                .pointer(reference.trim_start_matches('#'))
                .map_or(Self::Anything, |target| Self::of(target, root));
        }
        if let Some(Value::Array(branches)) = schema.get("anyOf").or_else(|| schema.get("oneOf")) {
            let words: Vec<String> = branches.iter().flat_map(words_of).collect();
            if !words.is_empty() {
                return Self::Text { words };
            }
            return Self::Choice(branches.iter().map(|branch| Self::of(branch, root)).collect());
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => Self::Text { words: words_of(schema) },
            Some("integer") => Self::Integer,
            Some("number") => Self::Number,
            Some("boolean") => Self::Boolean,
            Some("array") => {
                Self::List(Box::new(schema.get("items").map_or(Self::Anything, |items| Self::of(items, root))))
            }
            Some("object") => Self::of_object(schema, root),
            Some(_) | None => Self::Anything,
        }
    }

    fn of_object(schema: &Value, root: &Value) -> Self {
        if let Some(values @ Value::Object(_)) = schema.get("additionalProperties") {
            return Self::Map(Box::new(Self::of(values, root)));
        }
        let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        Self::Struct {
            fields: fields.map(|(name, field)| (name.clone(), Self::of(field, root))).collect(),
            required: required.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }

    /// What people call it.
    fn called(&self) -> String {
        match self {
            Self::Text { words } if words.is_empty() => "text".to_owned(),
            Self::Text { .. } => "a word".to_owned(),
            Self::Integer => "a whole number".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) | Self::Struct { .. } => "a mapping".to_owned(),
            Self::Choice(branches) => branches.iter().map(Self::called).collect::<Vec<_>>().join(" or "),
            Self::Anything => "a value".to_owned(),
        }
    }

    /// Whether a value written like this can have this shape.
    fn fits(&self, content: &Content) -> bool {
        match (self, content) {
            (Self::Anything, _)
            | (Self::Text { .. } | Self::Boolean, Content::Scalar { .. })
            | (Self::List(_), Content::List { .. })
            | (Self::Map(_) | Self::Struct { .. }, Content::Map { .. }) => true,
            (Self::Integer, Content::Scalar { text, plain }) => *plain && integer(text).is_some(),
            (Self::Number, Content::Scalar { text, plain }) => *plain && number(text).is_some(),
            (Self::Choice(branches), content) => branches.iter().any(|branch| branch.fits(content)),
            (Self::Text { .. } | Self::Boolean | Self::Integer | Self::Number, _)
            | (Self::List(_) | Self::Map(_) | Self::Struct { .. }, _) => false,
        }
    }
}

/// The words of an enumeration, one of its branches, or nothing.
fn words_of(schema: &Value) -> Vec<String> {
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return vec![word.to_owned()];
    }
    let words = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    words.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn integer(text: &str) -> Option<i64> {
    text.strip_prefix('+').unwrap_or(text).parse().ok()
}

fn number(text: &str) -> Option<f64> {
    let looks = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    text.parse().ok().filter(|number: &f64| looks && number.is_finite())
}

/// The walk.
#[derive(Debug, Default)]
struct Reader {
    found: Vec<Diagnostic>,
    omitted: usize,
}

impl Reader {
    /// `field` is the field's name, for messages.
    fn read(&mut self, node: &Node, shape: &Shape, field: Option<&str>) -> Option<Value> {
        if let Shape::Anything = shape {
            return Some(Value::Bool(true));
        }
        match &node.content {
            Content::Scalar { text, plain: true } if is_null(text) => {
                let name = field.map(|name| format!(" for {name:?}")).unwrap_or_default();
                let hint = format!("write {}, or leave the field out", shape.called());
                self.report(node.extent, format!("there is no value{name}"), None, Some(hint))
            }
            Content::Scalar { text, plain } => self.scalar(node, text, *plain, shape, field),
            Content::List { items, .. } => {
                let Some(Shape::List(inner)) = pick(shape, &node.content) else {
                    return self.wrong_kind(node, shape, field);
                };
                let values: Vec<Option<Value>> = items.iter().map(|item| self.read(item, inner, field)).collect();
                values.into_iter().collect::<Option<Vec<Value>>>().map(Value::Array)
            }
            Content::Map { entries, .. } => match pick(shape, &node.content) {
                Some(Shape::Map(inner)) => {
                    let values: Vec<Option<(String, Value)>> =
                        entries.iter().map(|entry| self.entry(entry, inner)).collect();
                    values.into_iter().collect::<Option<Map<String, Value>>>().map(Value::Object)
                }
                Some(Shape::Struct { fields, required }) => self.fields(node, entries, fields, required),
                Some(Shape::Anything) => Some(Value::Bool(true)),
                Some(Shape::Text { .. } | Shape::Integer | Shape::Number | Shape::Boolean)
                | Some(Shape::List(_) | Shape::Choice(_))
                | None => self.wrong_kind(node, shape, field),
            },
        }
    }

    fn entry(&mut self, entry: &Entry, shape: &Shape) -> Option<(String, Value)> {
        self.read(&entry.value, shape, Some(&entry.key)).map(|value| (entry.key.clone(), value))
    }

    fn scalar(&mut self, node: &Node, text: &str, plain: bool, shape: &Shape, field: Option<&str>) -> Option<Value> {
        match pick(shape, &node.content) {
            Some(Shape::Text { words }) if words.is_empty() || words.iter().any(|word| word == text) => {
                Some(text.into())
            }
            Some(Shape::Text { words }) => {
                let name = field.map(|name| format!(" for {name:?}")).unwrap_or_default();
                let form = if field == Some("attach") { attach_form(text) } else { None };
                let near = if form.is_some() { None } else { nearest(text, words.iter().map(String::as_str)) };
                let hint =
                    Some(form.map_or_else(|| format!("known: {}", words.join(", ")), |form| format!("write {form}")));
                self.report(node.extent, format!("{text:?} is no known value{name}"), near, hint)
            }
            Some(Shape::Integer) => integer(text).map(Value::from),
            Some(Shape::Number) => number(text).map(Value::from),
            Some(Shape::Boolean) => match text {
                "true" | "True" | "TRUE" if plain => Some(true.into()),
                "false" | "False" | "FALSE" if plain => Some(false.into()),
                _ => self.wrong_kind(node, shape, field),
            },
            Some(Shape::Anything) => Some(Value::Bool(true)),
            Some(Shape::List(_) | Shape::Map(_) | Shape::Struct { .. } | Shape::Choice(_)) | None => {
                self.wrong_kind(node, shape, field)
            }
        }
    }

    fn fields(
        &mut self,
        node: &Node,
        entries: &[Entry],
        fields: &BTreeMap<String, Shape>,
        required: &[String],
    ) -> Option<Value> {
        let mut values = Some(Map::new());
        for entry in entries {
            let value = match fields.get(&entry.key) {
                Some(shape) => self.entry(entry, shape),
                None if self.is_full() => {
                    self.omitted += 1;
                    None
                }
                None => {
                    let near = nearest(&entry.key, fields.keys().map(String::as_str));
                    let hint = match entry.key.as_str() {
                        "<<" => "merge keys are not read; repeat the fields, or use a group".to_owned(),
                        _ if fields.contains_key("keyring") && is_literal(&entry.key) => NO_LITERALS.to_owned(),
                        _ => {
                            format!("known here: {}", fields.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
                        }
                    };
                    self.report(entry.key_extent, format!("unknown field {:?}", entry.key), near, Some(hint))
                }
            };
            match (&mut values, value) {
                (Some(values), Some((key, value))) => {
                    values.insert(key, value);
                }
                (_, None) => values = None,
                (None, Some(_)) => {}
            }
        }
        for name in required.iter().filter(|name| !entries.iter().any(|entry| entry.key == **name)) {
            let start = entries.first().map_or(node.extent, |entry| entry.key_extent);
            self.report::<()>(start, format!("the field {name:?} is missing"), None, None);
            values = None;
        }
        values.map(Value::Object)
    }

    fn wrong_kind<T>(&mut self, node: &Node, shape: &Shape, field: Option<&str>) -> Option<T> {
        let name = field.map(|name| format!(" for {name:?}")).unwrap_or_default();
        let found = match &node.content {
            Content::Scalar { text, .. } => format!("{text:?}"),
            Content::List { .. } => "a list".to_owned(),
            Content::Map { .. } => "a mapping".to_owned(),
        };
        let hint = match (shape, &node.content) {
            (Shape::List(_), Content::Scalar { text, .. }) => Some(format!("write a list: [{text}]")),
            (Shape::List(_), Content::Map { .. }) => Some("begin each entry with \"- \"".to_owned()),
            (Shape::Integer | Shape::Number | Shape::Boolean, Content::Scalar { plain: false, .. }) => {
                Some("leave out the quotes".to_owned())
            }
            _ => None,
        };
        self.report(node.extent, format!("expected {}{name}, found {found}", shape.called()), None, hint)
    }

    fn is_full(&self) -> bool {
        self.found.len() >= FINDING_LIMIT
    }

    fn report<T>(&mut self, at: Extent, message: String, near: Option<String>, hint: Option<String>) -> Option<T> {
        if self.is_full() {
            self.omitted += 1;
            return None;
        }
        self.found.push(Diagnostic::at(at, Severity::Error, message).nearest(near).hint(hint));
        None
    }
}

/// The shape of a choice that a value written like this has; a plain number is a number where that is a choice.
fn pick<'s>(shape: &'s Shape, content: &Content) -> Option<&'s Shape> {
    match shape {
        Shape::Choice(branches) => {
            let mut fitting = branches.iter().filter(|branch| branch.fits(content));
            let first = fitting.next()?;
            let better = fitting.find(|branch| matches!(branch, Shape::Integer | Shape::Number));
            pick(better.unwrap_or(first), content)
        }
        shape => shape.fits(content).then_some(shape),
    }
}
