//! The machine's time zone, from `/etc/localtime` (TZif, RFC 8536): offset and name at an instant.
//!
//! Deliberately absent: the rule at the file's end for instants after its last transition. A zone
//! whose rule has daylight saving has no answer then, which is better than a wrong one.

use crate::text::link_name;
use std::{fs, path::Path};

/// A zone's periods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone {
    /// The kind of time before the first transition.
    first: (i32, String),
    /// From this instant on, this offset and name. Ascending.
    transitions: Vec<(i64, i32, String)>,
    /// After the last transition the clock changes by a rule.
    has_rule: bool,
}

impl Zone {
    /// The offset from UTC in seconds and the zone's name at this instant.
    #[must_use]
    pub(crate) fn at(&self, unix_seconds: i64) -> Option<(i32, &str)> {
        let count = self.transitions.partition_point(|(from, ..)| *from <= unix_seconds);
        if count == self.transitions.len() && self.has_rule {
            return None;
        }
        Some(match count.checked_sub(1) {
            None => (self.first.0, &self.first.1),
            Some(last) => (self.transitions[last].1, &self.transitions[last].2),
        })
    }
}

/// The zone of this file. Without the file the machine's time is UTC.
#[must_use]
pub(crate) fn read(localtime: &Path) -> Option<Zone> {
    match fs::read(localtime) {
        Ok(bytes) => parse(&bytes),
        Err(_) => Some(Zone { first: (0, "UTC".into()), transitions: Vec::new(), has_rule: false }),
    }
}

/// The zone's name as people write it, `Asia/Shanghai`, where the file is a link into the database.
#[must_use]
pub(crate) fn name(root: &Path) -> Option<String> {
    let localtime = root.join("etc/localtime");
    let target = fs::read_link(&localtime).ok()?;
    let target = target.to_str()?;
    let name = target.split_once("zoneinfo/").map(|(_, name)| name.to_owned());
    name.or_else(|| link_name(&localtime))
}

const HEADER: usize = 44;

/// The six counts of a header: of UT and standard indicators, leap seconds, transitions, types,
/// and bytes of names.
fn counts(bytes: &[u8]) -> Option<[usize; 6]> {
    if bytes.get(..4)? != b"TZif" {
        return None;
    }
    let mut counts = [0; 6];
    for (index, count) in counts.iter_mut().enumerate() {
        *count = u32::from_be_bytes(bytes.get(20 + index * 4..)?.get(..4)?.try_into().ok()?) as usize;
    }
    Some(counts)
}

fn parse(bytes: &[u8]) -> Option<Zone> {
    // A file of version 2 or later repeats itself with 64-bit instants and ends with a rule.
    if *bytes.get(4)? == 0 {
        return parse_block(bytes, 4, false);
    }
    let [ut, standard, leap, transitions, types, names] = counts(bytes)?;
    let length = transitions * 5 + types * 6 + names + leap * 8 + standard + ut;
    parse_block(bytes.get(HEADER + length..)?, 8, true)
}

fn parse_block(bytes: &[u8], instant_bytes: usize, has_footer: bool) -> Option<Zone> {
    let [ut, standard, leap, transitions, types, names] = counts(bytes)?;
    let (instants, rest) = bytes.get(HEADER..)?.split_at_checked(transitions * instant_bytes)?;
    let (kinds, rest) = rest.split_at_checked(transitions)?;
    let (type_bytes, rest) = rest.split_at_checked(types * 6)?;
    let (name_bytes, rest) = rest.split_at_checked(names)?;
    let kind = |index: usize| {
        let entry = type_bytes.get(index * 6..index * 6 + 6)?;
        let offset = i32::from_be_bytes(entry[..4].try_into().ok()?);
        let name = name_bytes.get(usize::from(entry[5])..)?.split(|&byte| byte == 0).next()?;
        Some((offset, String::from_utf8_lossy(name).into_owned()))
    };
    let instant = |chunk: &[u8]| match instant_bytes {
        8 => Some(i64::from_be_bytes(chunk.try_into().ok()?)),
        _ => Some(i64::from(i32::from_be_bytes(chunk.try_into().ok()?))),
    };
    let mut periods = Vec::with_capacity(transitions);
    for (chunk, index) in instants.chunks_exact(instant_bytes).zip(kinds) {
        let (offset, name) = kind(usize::from(*index))?;
        periods.push((instant(chunk)?, offset, name));
    }
    let footer = rest.get(leap * (instant_bytes + 4) + standard + ut..).unwrap_or_default();
    let has_rule = has_footer && footer.contains(&b',');
    Some(Zone { first: kind(0)?, transitions: periods, has_rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One block: an offset and a name for each kind, then the transitions.
    fn block(kinds: &[(i32, &str)], transitions: &[(i64, u8)]) -> Vec<u8> {
        let names: String = kinds.iter().map(|(_, name)| format!("{name}\0")).collect();
        let mut bytes = b"TZif2".to_vec();
        bytes.resize(20, 0);
        for count in [0, 0, 0, transitions.len(), kinds.len(), names.len()] {
            bytes.extend((count as u32).to_be_bytes());
        }
        bytes.extend(transitions.iter().flat_map(|(instant, _)| instant.to_be_bytes()));
        bytes.extend(transitions.iter().map(|(_, kind)| kind));
        let mut at = 0;
        for (offset, name) in kinds {
            bytes.extend(offset.to_be_bytes());
            bytes.extend([0, at]);
            at += name.len() as u8 + 1;
        }
        bytes.extend(names.as_bytes());
        bytes
    }

    fn file(kinds: &[(i32, &str)], transitions: &[(i64, u8)], rule: &str) -> Vec<u8> {
        let mut bytes = block(&[], &[]);
        bytes.extend(block(kinds, transitions));
        bytes.extend(format!("\n{rule}\n").into_bytes());
        bytes
    }

    #[test]
    fn the_offset_is_that_of_the_instant() {
        let kinds = [(29_143, "LMT"), (28_800, "CST"), (32_400, "CDT")];
        let bytes = file(&kinds, &[(-2_177_481_943, 1), (515_527_200, 2), (527_014_800, 1)], "CST-8");
        let zone = parse(&bytes).expect("sound");
        assert_eq!(zone.at(-3_000_000_000), Some((29_143, "LMT")));
        assert_eq!(zone.at(515_527_199), Some((28_800, "CST")));
        assert_eq!(zone.at(515_527_200), Some((32_400, "CDT")));
        assert_eq!(zone.at(1_800_000_000), Some((28_800, "CST")));
    }

    #[test]
    fn after_the_last_transition_a_rule_is_not_guessed() {
        let kinds = [(3_600, "CET"), (7_200, "CEST")];
        let bytes = file(&kinds, &[(100, 1), (200, 0)], "CET-1CEST,M3.5.0,M10.5.0/3");
        let zone = parse(&bytes).expect("sound");
        assert_eq!((zone.at(150), zone.at(250)), (Some((7_200, "CEST")), None));
    }

    #[test]
    fn damage_is_no_zone() {
        let bytes = file(&[(0, "UTC")], &[], "UTC0");
        assert!(parse(&bytes).is_some());
        for length in 0..bytes.len() - 6 {
            assert_eq!(parse(&bytes[..length]), None, "cut at {length}");
        }
        let missing = read(Path::new("/nonexistent")).expect("UTC");
        assert_eq!(missing.at(0), Some((0, "UTC")));
    }
}
