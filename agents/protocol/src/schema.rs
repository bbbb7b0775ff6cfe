//! Schemas: what the columns of a source's frames mean, and the identity of that meaning.

use crate::{limits, v1};
use prost::Message;
use thiserror::Error;

/// The identity of a schema: the first 16 bytes of SHA-256 over the canonical encoding of its
/// columns (the protobuf encoding of `Schema` without its `id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub [u8; 16]);

impl SchemaId {
    /// The identity of these columns.
    #[must_use]
    pub fn of(columns: &[v1::Column]) -> Self {
        let canonical = v1::Schema { id: Default::default(), columns: columns.to_vec() };
        let digest = ring::digest::digest(&ring::digest::SHA256, &canonical.encode_to_vec());
        let mut id = [0; 16];
        id.copy_from_slice(&digest.as_ref()[..16]);
        Self(id)
    }

    /// From the wire.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Why control does not take a schema.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// The id is not that of the columns.
    #[error("the schema's id does not match its columns")]
    Id,
    /// More columns than [`limits::COLUMNS`].
    #[error("the schema has {0} columns, more than {max}", max = limits::COLUMNS)]
    TooManyColumns(usize),
    /// A column that breaks a limit or a rule.
    #[error("column {index} ({metric}): {fault}")]
    Column {
        /// Its place.
        index: usize,
        /// Its metric's name.
        metric: String,
        /// What is wrong.
        fault: &'static str,
    },
}

/// Checks a schema that came over the wire.
///
/// # Errors
/// The first fault found.
pub fn check(schema: &v1::Schema) -> Result<SchemaId, SchemaError> {
    if schema.columns.len() > limits::COLUMNS {
        return Err(SchemaError::TooManyColumns(schema.columns.len()));
    }
    for (index, column) in schema.columns.iter().enumerate() {
        if let Some(fault) = column_fault(column, &schema.columns) {
            let metric = column.metric.chars().take(80).collect();
            return Err(SchemaError::Column { index, metric, fault });
        }
    }
    let id = SchemaId::of(&schema.columns);
    if schema.id.as_ref() != id.0 {
        return Err(SchemaError::Id);
    }
    Ok(id)
}

fn column_fault(column: &v1::Column, all: &[v1::Column]) -> Option<&'static str> {
    let long = |text: &String| text.len() > limits::TEXT_BYTES;
    if !is_metric_name(&column.metric) {
        return Some("not a Prometheus metric name");
    }
    if long(&column.unit) || long(&column.resource) || long(&column.help) {
        return Some("a text is too long");
    }
    if column.labels.len() > limits::LABELS {
        return Some("too many labels");
    }
    if column.labels.iter().any(|label| !is_label_name(&label.name) || long(&label.value)) {
        return Some("not a Prometheus label");
    }
    if column.kind() == v1::Kind::Unspecified {
        return Some("no kind");
    }
    if !(-18..=18).contains(&column.exponent) {
        return Some("exponent outside -18..=18");
    }
    if !matches!(column.width_bits, 0 | 32 | 64) {
        return Some("a counter is 32 or 64 bits wide");
    }
    if column.cadence_s > limits::CADENCE_S {
        return Some("measured less often than once an hour");
    }
    match (column.speed_column as usize).checked_sub(1).map(|index| all.get(index)) {
        None => None,
        Some(Some(speed)) if speed.kind() == v1::Kind::Gauge => None,
        Some(_) => Some("its speed column is not a gauge of this schema"),
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, at most 255 bytes.
#[must_use]
pub fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, not beginning with `__`, at most 255 bytes.
#[must_use]
pub fn is_label_name(name: &str) -> bool {
    is_name(name, |_| false) && !name.starts_with("__")
}

fn is_name(name: &str, extra: impl Fn(u8) -> bool) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 255
        && !bytes[0].is_ascii_digit()
        && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_' || extra(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counter() -> v1::Column {
        v1::Column {
            metric: "node_network_receive_bytes_total".to_owned(),
            kind: v1::Kind::Counter.into(),
            unit: "By".to_owned(),
            resource: "eth0".to_owned(),
            labels: vec![v1::Label { name: "device".to_owned(), value: "eth0".to_owned() }],
            width_bits: 32,
            speed_column: 2,
            ..Default::default()
        }
    }

    fn gauge() -> v1::Column {
        v1::Column { metric: "node_network_speed_bytes".to_owned(), kind: v1::Kind::Gauge.into(), ..Default::default() }
    }

    fn with_id(columns: Vec<v1::Column>) -> v1::Schema {
        v1::Schema { id: SchemaId::of(&columns).0.to_vec().into(), columns }
    }

    #[test]
    fn a_good_schema_passes_and_its_id_follows_from_its_columns() {
        let schema = with_id(vec![counter(), gauge()]);
        let id = check(&schema).expect("good");
        assert_eq!(SchemaId::from_bytes(&schema.id), Some(id));
        assert_ne!(SchemaId::of(&[gauge(), counter()]), id, "order counts");
        assert_eq!(check(&with_id(Vec::new())), Ok(SchemaId::of(&[])));
        let slow = with_id(vec![counter(), v1::Column { cadence_s: limits::CADENCE_S, ..gauge() }]);
        assert_ne!(check(&slow).expect("good"), id, "another cadence is another column");
        let forged = v1::Schema { id: vec![0; 16].into(), ..schema };
        assert_eq!(check(&forged), Err(SchemaError::Id));
    }

    #[test]
    fn faults_of_columns() {
        let long = "x".repeat(limits::TEXT_BYTES + 1);
        let label = |name: &str, value: &str| v1::Label { name: name.to_owned(), value: value.to_owned() };
        for (name, column) in [
            ("no name", v1::Column { metric: String::new(), ..counter() }),
            ("a digit first", v1::Column { metric: "1st".to_owned(), ..counter() }),
            ("a space", v1::Column { metric: "a b".to_owned(), ..counter() }),
            ("a long name", v1::Column { metric: "m".repeat(256), ..counter() }),
            ("a long unit", v1::Column { unit: long.clone(), ..counter() }),
            ("a long resource", v1::Column { resource: long.clone(), ..counter() }),
            ("a long help", v1::Column { help: long.clone(), ..counter() }),
            ("a long label", v1::Column { labels: vec![label("a", &long)], ..counter() }),
            ("a reserved label", v1::Column { labels: vec![label("__name__", "x")], ..counter() }),
            ("many labels", v1::Column { labels: vec![label("a", "b"); limits::LABELS + 1], ..counter() }),
            ("no kind", v1::Column { kind: 0, ..counter() }),
            ("a kind to come", v1::Column { kind: 99, ..counter() }),
            ("an exponent", v1::Column { exponent: 19, ..counter() }),
            ("a width", v1::Column { width_bits: 16, ..counter() }),
            ("a cadence", v1::Column { cadence_s: limits::CADENCE_S + 1, ..counter() }),
            ("a speed that is itself", v1::Column { speed_column: 1, ..counter() }),
            ("a speed that is not there", v1::Column { speed_column: 3, ..counter() }),
            ("a speed far out", v1::Column { speed_column: u32::MAX, ..counter() }),
        ] {
            let fault = check(&with_id(vec![column, gauge()]));
            assert!(matches!(fault, Err(SchemaError::Column { index: 0, .. })), "{name}: {fault:?}");
        }
        let many = with_id(vec![gauge(); limits::COLUMNS + 1]);
        assert_eq!(check(&many), Err(SchemaError::TooManyColumns(limits::COLUMNS + 1)));
    }

    proptest! {
        #[test]
        fn names_are_prometheus_names(name: String) {
            let head = |c: char| c.is_ascii_alphabetic() || c == '_';
            let is = |colon: bool| {
                let other = |c: char| head(c) || c.is_ascii_digit() || colon && c == ':';
                name.len() <= 255
                    && name.starts_with(|c| head(c) || colon && c == ':')
                    && name.chars().all(other)
            };
            prop_assert_eq!(is_metric_name(&name), is(true));
            prop_assert_eq!(is_label_name(&name), is(false) && !name.starts_with("__"));
        }

        #[test]
        fn one_bit_makes_another_schema(at in 0usize..6) {
            let mut other = counter();
            match at {
                0 => other.metric.push('x'),
                1 => other.kind = v1::Kind::Gauge.into(),
                2 => other.exponent = -1,
                3 => other.labels[0].value.push('x'),
                4 => other.float = true,
                _ => other.width_bits = 64,
            }
            prop_assert_ne!(SchemaId::of(&[counter()]), SchemaId::of(&[other]));
        }
    }
}
