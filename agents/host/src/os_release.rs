//! `/etc/os-release`: what the operating system calls itself.

use crate::text::read_small;
use std::path::Path;

/// Its keys and values, unquoted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct OsRelease(Vec<(String, String)>);

impl OsRelease {
    /// Of the machine whose root directory this is.
    #[must_use]
    pub(crate) fn read(root: &Path) -> Option<Self> {
        let text = read_small(&root.join("etc/os-release"));
        Some(Self::parse(&text.or_else(|_| read_small(&root.join("usr/lib/os-release"))).ok()?))
    }

    fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (key, value) = line.trim().split_once('=')?;
            (!key.starts_with('#')).then(|| (key.to_owned(), unquote(value)))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    /// The value of a key, or an empty text.
    #[must_use]
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }
}

/// Removes quotes and what escapes inside them, as a shell would.
fn unquote(value: &str) -> String {
    let single = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    if let Some(plain) = single {
        return plain.to_owned();
    }
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_comments() {
        let text = "# comment=1\nID=openEuler\nNAME=\"a \\\"b\\\" \\$c\"\nVERSION='1.0 \"x\"'\nbroken\nEMPTY=\n";
        let release = OsRelease::parse(text);
        assert_eq!(release.get("ID"), "openEuler");
        assert_eq!(release.get("NAME"), "a \"b\" $c");
        assert_eq!(release.get("VERSION"), "1.0 \"x\"");
        assert_eq!(release.get("EMPTY"), "");
        assert_eq!(release.get("comment"), "");
    }
}
