//! Reads the Prometheus text format: names with type and help, and their samples.

use std::collections::{BTreeMap, BTreeSet};

/// An exposition, by metric name.
#[derive(Debug, Default)]
pub struct Exposition {
    /// The families.
    pub families: BTreeMap<String, Family>,
}

/// One name.
#[derive(Debug, Default)]
pub struct Family {
    /// counter, gauge, untyped, …
    pub kind: String,
    /// What HELP says.
    pub help: String,
    /// Values by their labels.
    pub samples: BTreeMap<BTreeMap<String, String>, f64>,
}

impl Exposition {
    /// Reads one. `Err` names the first line that is not of the format.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        for line in text.lines() {
            let bad = || format!("not of the text format: {line}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                help.clone_into(&mut all.families.entry(name.to_owned()).or_default().help);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(bad)?;
                kind.clone_into(&mut all.families.entry(name.to_owned()).or_default().kind);
            } else if !line.is_empty() && !line.starts_with('#') {
                let end = line.find(['{', ' ']).ok_or_else(bad)?;
                let (name, rest) = line.split_at(end);
                let (labels, rest) = labels(rest).ok_or_else(bad)?;
                let value = rest.split_whitespace().next().ok_or_else(bad)?;
                let value = value.parse().map_err(|_| bad())?;
                let samples = &mut all.families.entry(name.to_owned()).or_default().samples;
                if samples.insert(labels, value).is_some() {
                    return Err(format!("twice: {line}"));
                }
            }
        }
        Ok(all)
    }

    /// The names that have a sample.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.families.iter().filter(|(_, family)| !family.samples.is_empty()).map(|(name, _)| name.as_str()).collect()
    }

    /// The value of a name whose sample has all these labels; `None` if there is none, or several.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let family = self.families.get(name)?;
        let mut found = family
            .samples
            .iter()
            .filter(|(have, _)| labels.iter().all(|(key, value)| have.get(*key).is_some_and(|v| v == value)))
            .map(|(_, value)| *value);
        let value = found.next();
        if found.next().is_some() { None } else { value }
    }
}

/// The labels at the beginning of a text, and what follows them.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else {
        return Some((labels, text));
    };
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, value) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut chars = value.char_indices();
        loop {
            match chars.next()? {
                (_, '\\') => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    c => text.push(c),
                },
                (end, '"') => {
                    rest = &value[end + 1..];
                    break;
                }
                (_, c) => text.push(c),
            }
        }
        labels.insert(name.to_owned(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# HELP a Of a.\n# TYPE a counter\na{x=\"1\",y=\"a\\\"b}\"} 3\na 4e1\nb NaN\n";
        let all = Exposition::read(text).expect("of the format");
        assert_eq!(all.families["a"].kind, "counter");
        assert_eq!(all.families["a"].help, "Of a.");
        assert_eq!(all.value("a", &[("y", "a\"b}")]), Some(3.0));
        assert!(all.value("b", &[]).expect("one sample").is_nan());
        assert!(Exposition::read("a{x=\"1} 3\n").is_err());
        assert!(Exposition::read("a 1\na 2\n").is_err());
    }
}
