//! The chain of the audit log: each entry's MAC is made over its number, its content and the MAC before,
//! with a key outside of the database. Finding out what was done to a log is a pure rule.

use std::collections::HashMap;

use ring::hmac;

/// A MAC, or the digest of an entry's content.
pub(crate) type Bytes32 = [u8; 32];

/// What stands before the first entry.
pub(super) const GENESIS: Bytes32 = [0; 32];
/// Faults after which the rest is no longer told apart.
const FAULTS: usize = 100;

/// The key of the chain. It does not show itself.
#[derive(Clone)]
pub(super) struct Key(hmac::Key);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn sign(&self, parts: &[&[u8]]) -> Bytes32 {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }

    /// The MAC of an entry.
    pub(super) fn mac(&self, number: i64, content: &Bytes32, before: &Bytes32) -> Bytes32 {
        self.sign(&[b"entry", &number.to_be_bytes(), content, before])
    }

    /// The seal of an anchor.
    pub(super) fn seal(&self, number: i64, mac: &Bytes32) -> Bytes32 {
        self.sign(&[b"anchor", &number.to_be_bytes(), mac])
    }
}

/// The digest of an entry's parts; absent ones differ from empty ones.
pub(super) fn digest(parts: &[Option<&str>]) -> Bytes32 {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        match part {
            Some(text) => {
                context.update(&[1]);
                context.update(&(text.len() as u64).to_be_bytes());
                context.update(text.as_bytes());
            }
            None => context.update(&[0]),
        }
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// An entry as the chain sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) number: i64,
    pub(super) content: Bytes32,
    pub(super) mac: Bytes32,
    /// What it says was missing.
    pub(super) loss: Option<Loss>,
}

/// A file without which the log before an entry is not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Checkpoints,
    Key,
}

/// The last entry that retention removed, as it is sealed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    pub(super) number: i64,
    pub(super) mac: Bytes32,
    pub(super) seal: Bytes32,
}

/// What was done to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// An entry says something else than when it was written.
    Changed,
    /// Entries are gone.
    Removed,
    /// An entry was never written by control.
    Inserted,
    /// An entry stands in another one's place.
    Reordered,
    /// Entries at the end are gone.
    Truncated,
    /// Entries are chained, but not as control chained them.
    Recomputed,
    /// The file of checkpoints is missing, or was, or lacks its beginning: nothing tells whether entries were cut
    /// off before. Or the key was: nothing tells what entries before said.
    Unproven,
}

impl FaultKind {
    /// As the API names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Inserted => "inserted",
            Self::Reordered => "reordered",
            Self::Truncated => "truncated",
            Self::Recomputed => "recomputed",
            Self::Unproven => "unproven",
        }
    }
}

/// One thing that was done to a log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct AuditFault {
    /// What.
    pub kind: FaultKind,
    /// To which entry; of several the first.
    pub number: i64,
    /// In a sentence.
    pub detail: String,
}

impl AuditFault {
    fn new(kind: FaultKind, number: i64, detail: impl Into<String>) -> Self {
        Self { kind, number, detail: detail.into() }
    }
}

/// Finds what was done to a log: `links` in order of number, the anchor before them, and the heads that
/// were noted outside of the database.
pub(super) fn verify(
    key: &Key,
    anchor: Option<Anchor>,
    links: &[Link],
    noted: Option<&[(i64, Bytes32)]>,
) -> Vec<AuditFault> {
    let mut faults = Vec::new();
    let lost = key_lost(key, anchor, links);
    let (mut number, mut before) = match anchor {
        None => (1, GENESIS),
        Some(anchor) => {
            if lost.is_none() && key.seal(anchor.number, &anchor.mac) != anchor.seal {
                let said = "the seal over the entries that retention removed is not control's";
                faults.push(AuditFault::new(FaultKind::Removed, anchor.number, said));
            }
            (anchor.number + 1, anchor.mac)
        }
    };
    let first = number;
    // Two notes of one number that differ: the log was continued after it had been cut off.
    let mut heads: HashMap<i64, Bytes32> = HashMap::new();
    for (number, mac) in noted.unwrap_or_default() {
        let known = *heads.entry(*number).or_insert(*mac);
        if known != *mac && *number >= first {
            let said =
                "it was noted twice, with different MACs: entries were cut off and others written in their place";
            faults.push(AuditFault::new(FaultKind::Truncated, *number, said));
        }
    }
    let genuine = |link: &Link, number: i64, before: &Bytes32| key.mac(number, &link.content, before) == link.mac;
    let mut at = 0;
    let mut unlike = None;
    if let Some(from) = lost {
        // Of those before, their numbers and what was noted of them.
        for link in &links[..from] {
            if link.number != number && faults.len() < FAULTS {
                faults.push(AuditFault::new(FaultKind::Removed, number, format!("before {} it is gone", link.number)));
            }
            if heads.get(&link.number).is_some_and(|noted| *noted != link.mac) {
                unlike = unlike.or(Some(link.number));
            }
            number = link.number + 1;
            before = link.mac;
        }
        at = from;
        number = links[from].number;
        let said = "audit.key was missing then and was made anew, so nothing tells whether entries before this one say what control wrote";
        faults.push(AuditFault::new(FaultKind::Unproven, number, said));
    }
    while let Some(link) = links.get(at) {
        if faults.len() >= FAULTS {
            break;
        }
        let next = links.get(at + 1);
        if link.number == number && genuine(link, number, &before) {
            if heads.get(&number).is_some_and(|noted| *noted != link.mac) {
                unlike = unlike.or(Some(number));
            }
            if link.loss == Some(Loss::Checkpoints) {
                let said = "the file of checkpoints was missing then, so nothing tells whether entries before this one were cut off";
                faults.push(AuditFault::new(FaultKind::Unproven, number, said));
            }
            before = link.mac;
            at += 1;
            number += 1;
        } else if link.number > number {
            let last = link.number - 1;
            let said = if last == number { "it is gone".to_owned() } else { format!("up to {last} they are gone") };
            faults.push(AuditFault::new(FaultKind::Removed, number, said));
            // Where the rest begins is known from the notes, or taken on trust.
            number = link.number;
            before = heads.get(&last).copied().unwrap_or(GENESIS);
            if !genuine(link, number, &before) {
                before = link.mac;
                at += 1;
                number += 1;
            }
        } else if let Some(other) =
            links.iter().find(|other| other.number != link.number && genuine(other, number, &before))
        {
            // What belongs here stands elsewhere: exchanged, or pushed behind what was put in.
            let is_put_in = next == Some(other)
                && !genuine(link, number + 1, &other.mac)
                && links.get(at + 2).is_none_or(|after| genuine(after, number + 1, &other.mac));
            if is_put_in {
                faults.push(AuditFault::new(FaultKind::Inserted, link.number, "control never wrote it"));
                return shifted(key, links, at + 1, number, before, faults);
            }
            let said = format!("what control wrote there stands at {}", other.number);
            faults.push(AuditFault::new(FaultKind::Reordered, link.number, said));
            before = other.mac;
            at += 1;
            number += 1;
        } else if at + 1 == links.len() && noted.is_some() && heads.keys().max().is_none_or(|last| *last < number) {
            faults.push(AuditFault::new(FaultKind::Inserted, link.number, "control never wrote it"));
            at += 1;
            number += 1;
        } else {
            let said = "it does not say what control wrote";
            faults.push(AuditFault::new(FaultKind::Changed, link.number, said));
            before = heads.get(&number).copied().unwrap_or(link.mac);
            at += 1;
            number += 1;
        }
    }
    let changed = faults.iter().filter(|fault| fault.kind == FaultKind::Changed).count();
    if links.len() > 1 && (changed == links.len() || changed >= FAULTS) {
        let said = "no entry carries control's MAC: the log was recomputed with another key, or the key was replaced";
        faults = vec![AuditFault::new(FaultKind::Recomputed, first, said)];
    }
    // Notes begin before the first entry, or with what says that they were lost.
    if let Some(least) = heads.keys().min().copied()
        && least >= first
        && !links.iter().any(|link| link.loss == Some(Loss::Checkpoints) && link.number >= least)
    {
        let said = "the checkpoints before this one are gone, so nothing tells whether entries before it were cut off";
        faults.push(AuditFault::new(FaultKind::Unproven, least, said));
    }
    if let Some(number) = unlike {
        let said = "from here on the entries are chained, but not as they were noted when they were written";
        faults.push(AuditFault::new(FaultKind::Recomputed, number, said));
    }
    match (noted, heads.keys().max()) {
        (None, _) if !links.is_empty() => {
            let said = "the file of checkpoints is missing, so nothing tells whether entries from here on were cut off";
            faults.push(AuditFault::new(FaultKind::Unproven, number, said));
        }
        (Some(_), Some(last)) if *last >= number && faults.len() < FAULTS => {
            let said = format!("{last} entries were noted; those from here on are gone");
            faults.push(AuditFault::new(FaultKind::Truncated, number, said));
        }
        _ => {}
    }
    faults
}

/// Where the last entry stands that says, with this key, that the one before it was lost.
fn key_lost(key: &Key, anchor: Option<Anchor>, links: &[Link]) -> Option<usize> {
    let at = links.iter().rposition(|link| link.loss == Some(Loss::Key))?;
    let before = match at.checked_sub(1) {
        Some(before) => links[before].mac,
        // Retention took what stood there.
        None => anchor?.mac,
    };
    (key.mac(links[at].number, &links[at].content, &before) == links[at].mac).then_some(at)
}

/// The rest behind an entry that was put in: every one of it carries a number too high.
fn shifted(
    key: &Key,
    links: &[Link],
    from: usize,
    mut number: i64,
    mut before: Bytes32,
    mut faults: Vec<AuditFault>,
) -> Vec<AuditFault> {
    for link in &links[from..] {
        if key.mac(number, &link.content, &before) != link.mac && faults.len() < FAULTS {
            faults.push(AuditFault::new(FaultKind::Changed, link.number, "it does not say what control wrote"));
        }
        before = link.mac;
        number += 1;
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(b"a key of tests")
    }

    fn log(key: &Key, texts: impl IntoIterator<Item = u32>) -> Vec<Link> {
        let mut before = GENESIS;
        let links = texts.into_iter().zip(1..).map(|(text, number)| {
            let content = digest(&[Some(&text.to_string())]);
            before = key.mac(number, &content, &before);
            Link { number, content, mac: before, loss: None }
        });
        links.collect()
    }

    /// As they are noted, from before the first one on.
    fn heads(links: &[Link]) -> Vec<(i64, Bytes32)> {
        let heads = links.iter().map(|link| (link.number, link.mac));
        [(0, GENESIS)].into_iter().chain(heads).collect()
    }

    fn found(links: &[Link], noted: &[(i64, Bytes32)]) -> Vec<(FaultKind, i64)> {
        verify(&key(), None, links, Some(noted)).into_iter().map(|fault| (fault.kind, fault.number)).collect()
    }

    #[test]
    fn what_was_done_to_a_log_is_named() {
        use FaultKind::{Changed, Inserted, Recomputed, Removed, Reordered, Truncated, Unproven};
        let whole = log(&key(), 0..10);
        let noted = heads(&whole);
        assert_eq!(found(&whole, &noted), []);
        assert_eq!(found(&whole, &noted[..7]), [], "notes may lag behind");
        assert_eq!(found(&whole, &noted[7..]), [(Unproven, 7)], "but not begin late");
        assert_eq!(found(&whole[..6], &noted[9..]), [(Unproven, 9), (Truncated, 7)]);
        let mut said = whole.clone();
        said[8].loss = Some(Loss::Checkpoints);
        assert_eq!(found(&said, &noted[7..]), [(Unproven, 9)], "it is said once");

        let mut changed = whole.clone();
        changed[3].content = digest(&[Some("something else")]);
        assert_eq!(found(&changed, &noted), [(Changed, 4)]);
        changed[3].mac = [7; 32];
        assert_eq!(found(&changed, &noted), [(Changed, 4)], "its MAC as well");

        let mut removed = whole.clone();
        removed.remove(3);
        assert_eq!(found(&removed, &noted), [(Removed, 4)]);
        removed.drain(4..6);
        assert_eq!(found(&removed, &noted), [(Removed, 4), (Removed, 6)]);

        let forged = Link { number: 5, content: digest(&[Some("forged")]), mac: [9; 32], loss: None };
        let mut inserted = whole.clone();
        inserted.insert(4, forged);
        for (link, number) in inserted.iter_mut().zip(1..) {
            link.number = number;
        }
        assert_eq!(found(&inserted, &noted), [(Inserted, 5)]);
        let mut appended = whole.clone();
        appended.push(Link { number: 11, ..forged });
        assert_eq!(found(&appended, &noted), [(Inserted, 11)]);

        for (a, b) in [(2, 3), (1, 7)] {
            let mut reordered = whole.clone();
            reordered.swap(a, b);
            (reordered[a].number, reordered[b].number) = (a as i64 + 1, b as i64 + 1);
            assert_eq!(found(&reordered, &noted), [(Reordered, a as i64 + 1), (Reordered, b as i64 + 1)]);
        }

        assert_eq!(found(&whole[..6], &noted), [(Truncated, 7)]);
        assert_eq!(found(&log(&Key::new(b"another"), 0..10), &noted), [(Recomputed, 1)]);
        // By somebody who has the key, from the fifth entry on.
        let recomputed = log(&key(), (0..10).map(|text| if text == 4 { 99 } else { text }));
        assert_eq!(found(&recomputed, &noted), [(Recomputed, 5)]);
        // Cut off and continued.
        let continued = log(&key(), (0..8).map(|text| if text > 5 { text + 50 } else { text }));
        let notes: Vec<_> = noted.iter().copied().chain(heads(&continued[6..])).collect();
        let found = found(&continued, &notes);
        assert!(found.contains(&(Truncated, 7)) && found.contains(&(Recomputed, 7)), "{found:?}");
    }

    #[test]
    fn retention_leaves_a_sealed_beginning() {
        let key = key();
        let whole = log(&key, 0..10);
        let noted = heads(&whole);
        let anchor = Anchor { number: 4, mac: whole[3].mac, seal: key.seal(4, &whole[3].mac) };
        assert_eq!(verify(&key, Some(anchor), &whole[4..], Some(&noted)), []);
        assert_eq!(verify(&key, Some(anchor), &whole[4..], Some(&noted[4..])), [], "from the anchor on");
        let faults = verify(&key, Some(anchor), &whole[4..], Some(&noted[5..]));
        assert_eq!(
            faults.iter().map(|fault| (fault.kind, fault.number)).collect::<Vec<_>>(),
            [(FaultKind::Unproven, 5)]
        );
        // Who cuts off more, and moves the anchor without the key, is found.
        let moved = Anchor { number: 6, mac: whole[5].mac, ..anchor };
        let faults = verify(&key, Some(moved), &whole[6..], Some(&noted));
        assert_eq!(faults.iter().map(|fault| fault.kind).collect::<Vec<_>>(), [FaultKind::Removed]);
        let faults = verify(&key, None, &whole[4..], Some(&noted));
        assert_eq!((faults[0].kind, faults[0].number), (FaultKind::Removed, 1));
    }

    #[test]
    fn a_lost_key_is_named_where_retention_took_all_that_was_before() {
        let (old, new) = (Key::new(b"the lost one"), key());
        let before = log(&old, 0..3);
        let last = before[2].mac;
        let link = |number, before: &Bytes32, loss| {
            let content = digest(&[Some("with the new key")]);
            Link { number, content, mac: new.mac(number, &content, before), loss }
        };
        let lost = link(4, &last, Some(Loss::Key));
        let links = [lost, link(5, &lost.mac, None)];
        let noted = heads(&[&before[..], &links].concat());
        for sealed in [&old, &new] {
            let anchor = Anchor { number: 3, mac: last, seal: sealed.seal(3, &last) };
            let faults = verify(&new, Some(anchor), &links, Some(&noted));
            let [fault] = &faults[..] else { panic!("{faults:?}") };
            assert_eq!((fault.kind, fault.number), (FaultKind::Unproven, 4));
            assert!(fault.detail.contains("audit.key was missing"), "{}", fault.detail);
            let moved = Anchor { mac: before[1].mac, ..anchor };
            let faults = verify(&new, Some(moved), &links, Some(&noted));
            assert!(faults.iter().any(|fault| fault.kind == FaultKind::Removed), "{faults:?}");
        }
    }
}
