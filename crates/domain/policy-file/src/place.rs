//! Where in a policy something stands: `spec.rules[3].to`.
//!
//! Conversion knows places, not lines; the tree of the file turns a place into lines.

use std::fmt;

use crate::document::{Extent, Node};

/// One step down, written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn as_ref(&self) -> StepRef<'_> {
        match self {
            Step::Key(key) => StepRef::Key(key),
            Step::Index(index) => StepRef::Index(*index),
        }
    }
}

/// A place on the stack, cheap to extend: most are never written down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    above: Option<&'a Place<'a>>,
    step: StepRef<'a>,
}

#[derive(Debug, Clone, Copy)]
enum StepRef<'a> {
    Top,
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    /// The whole file.
    pub(crate) const TOP: Place<'static> = Place { above: None, step: StepRef::Top };

    /// The field or entry of this name.
    pub(crate) fn key(&'a self, key: &'a str) -> Place<'a> {
        Place { above: Some(self), step: StepRef::Key(key) }
    }

    /// The item at this index.
    pub(crate) fn index(&'a self, index: usize) -> Place<'a> {
        Place { above: Some(self), step: StepRef::Index(index) }
    }

    /// Written down, to be kept.
    pub(crate) fn path(&self) -> Path {
        let mut steps = Vec::new();
        let mut here = Some(self);
        while let Some(place) = here {
            match place.step {
                StepRef::Top => {}
                StepRef::Key(key) => steps.push(Step::Key(key.to_owned())),
                StepRef::Index(index) => steps.push(Step::Index(index)),
            }
            here = place.above;
        }
        steps.reverse();
        Path(steps)
    }

    /// The text of this place; see [`Path::find`].
    pub(crate) fn find(&self, root: &Node) -> Extent {
        match self.nearest(root) {
            Ok(node) | Err(node) => node.head(),
        }
    }

    /// The node of this place, or as an error the nearest one above it.
    fn nearest<'n>(&self, root: &'n Node) -> Result<&'n Node, &'n Node> {
        let Some(above) = self.above else { return Ok(root) };
        let node = above.nearest(root)?;
        below(node, self.step).ok_or(node)
    }
}

/// A place, written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

impl Path {
    /// The text of this place, or of the nearest one above it that the file holds: of a mapping or
    /// list its head, so that a caret never runs over many lines.
    pub(crate) fn find(&self, root: &Node) -> Extent {
        let mut node = root;
        for step in &self.0 {
            match below(node, step.as_ref()) {
                Some(next) => node = next,
                None => break,
            }
        }
        node.head()
    }

    /// The text of the key that names this place.
    pub(crate) fn find_key(&self, root: &Node) -> Extent {
        let Some((Step::Key(key), above)) = self.0.split_last() else { return self.find(root) };
        let mut node = root;
        for step in above {
            let Some(next) = below(node, step.as_ref()) else { return self.find(root) };
            node = next;
        }
        node.entry(key).map_or_else(|| self.find(root), |entry| entry.key_extent)
    }
}

fn below<'n>(node: &'n Node, step: StepRef<'_>) -> Option<&'n Node> {
    match step {
        StepRef::Top => Some(node),
        StepRef::Key(key) => node.entry(key).map(|entry| &entry.value),
        // `OneOrMany` reads a single value as a list of one.
        StepRef::Index(index) => node.item(index).or((index == 0).then_some(node)),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if number == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
