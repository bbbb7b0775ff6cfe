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
