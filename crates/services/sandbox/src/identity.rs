//! As whom the workload runs, seen from outside.
//!
//! An ordinary caller's uid maps to itself: the sandbox can do to files what the caller can, where they are mounted.
//! A caller who is root gets, for each sandbox, a uid and gid that nobody else has; nothing inside is the host's root.
//! The caller's own folders are then mounted through an id map (docs/decisions/sandbox-identity.md).

use std::fs;

use rustix::process::{getegid, geteuid};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::StartError;

/// Uids for sandboxes of root begin here: past what distributions, containers and directories hand out.
const RESERVED_FIRST: u32 = 0x7000_0000;
const RESERVED_COUNT: u32 = 0x0F00_0000;
/// A namespace with fewer ids than this has none to spare.
const SPARE: u32 = 10_000;

/// A uid and a gid of the namespace that the caller is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// As whom the workload runs where the caller is root.
const ORDINARY: u32 = 1000;

/// The ids that the workload has in its own namespace: the caller's, or those of an ordinary user.
pub(crate) fn inside() -> Ids {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    if uid == 0 { Ids { uid: ORDINARY, gid: ORDINARY } } else { Ids { uid, gid } }
}

/// Whose processes they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The caller's own ids.
    Caller(Ids),
    /// Ids of this sandbox alone.
    Reserved(Ids),
}

impl Identity {
    /// What suits this caller.
    pub(crate) fn choose() -> Result<Identity, StartError> {
        let caller = Ids { uid: geteuid().as_raw(), gid: getegid().as_raw() };
        if caller.uid != 0 {
            return Ok(Identity::Caller(caller));
        }
        let uids = read_map("/proc/self/uid_map")?;
        let gids = read_map("/proc/self/gid_map")?;
        if uids.iter().map(|range| range.count).sum::<u64>() <= 1 {
            // Root of a namespace with one id: outside it is somebody ordinary, or it would have more.
            return Ok(Identity::Caller(caller));
        }
        let chance = random()?;
        Ok(Identity::Reserved(Ids {
            uid: reserve(&uids, chance).ok_or(StartError::NoSpareId { file: "/proc/self/uid_map" })?,
            gid: reserve(&gids, chance).ok_or(StartError::NoSpareId { file: "/proc/self/gid_map" })?,
        }))
    }
}

/// A run of ids that exist in this user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u64,
}

fn read_map(file: &'static str) -> Result<Vec<Range>, StartError> {
    let text = fs::read_to_string(file).map_err(|source| StartError::Read { path: file.into(), source })?;
    Ok(parse_map(&text))
}

/// Lines of `inside outside count` (user_namespaces(7)).
fn parse_map(text: &str) -> Vec<Range> {
    let parse = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let first = fields.next()?.parse().ok()?;
        let count = fields.nth(1)?.parse().ok()?;
        Some(Range { first, count })
    };
    text.lines().filter_map(parse).collect()
}

/// One id that nobody else is likely to have: of the reserved range where it exists here,
/// else of the upper half of the longest range.
fn reserve(ranges: &[Range], chance: u32) -> Option<u32> {
    let wanted = RESERVED_FIRST + chance % RESERVED_COUNT;
    let holds = |range: &Range| {
        let first = u64::from(range.first);
        first <= u64::from(RESERVED_FIRST) && first + range.count >= u64::from(RESERVED_FIRST + RESERVED_COUNT)
    };
    if ranges.iter().any(holds) {
        return Some(wanted);
    }
    let longest = ranges.iter().max_by_key(|range| range.count)?;
    let half = u32::try_from(longest.count / 2).ok()?;
    // The last two of 65,536 are nobody's names everywhere: leave the end alone.
    (half >= SPARE / 2).then(|| longest.first + half + chance % (half - 8))
}

fn random() -> Result<u32, StartError> {
    let mut bytes = [0; 4];
    getrandom(bytes.as_mut_slice(), GetRandomFlags::empty())
        .map_err(|errno| StartError::Random { source: errno.into() })?;
    Ok(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::{Range, parse_map, reserve};

    #[test]
    fn maps_are_read() {
        let cases = [
            ("         0          0 4294967295\n", vec![Range { first: 0, count: 4_294_967_295 }]),
            ("0 1000 1\n1 100000 65535\n", vec![Range { first: 0, count: 1 }, Range { first: 1, count: 65_535 }]),
            ("", vec![]),
            ("nonsense\n", vec![]),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_map(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_reserved_id_is_never_low_and_always_in_a_range() {
        for chance in [0, 1, 77, u32::MAX / 2, u32::MAX] {
            let whole = [Range { first: 0, count: 4_294_967_295 }];
            assert!(reserve(&whole, chance).unwrap() >= 0x7000_0000);
            let container = [Range { first: 0, count: 65_536 }];
            assert!((32_768..65_534).contains(&reserve(&container, chance).unwrap()));
            let rootless = [Range { first: 0, count: 1 }, Range { first: 1, count: 65_535 }];
            assert!((32_768..65_534).contains(&reserve(&rootless, chance).unwrap()));
            assert_eq!(reserve(&[Range { first: 0, count: 1_000 }], chance), None);
            assert_eq!(reserve(&[], chance), None);
        }
    }
}
