//! What either side accepts at most, checked before memory is allocated.

use std::ops::RangeInclusive;

/// Bytes of one gRPC message, in either direction.
pub const MESSAGE_BYTES: usize = 4 << 20;
/// Columns of a schema.
pub const COLUMNS: usize = 8_192;
/// Bytes of a frame's body: a keyframe of [`COLUMNS`] at ten bytes a column stays below.
pub const FRAME_BYTES: usize = 96 << 10;
/// Bytes of one text in a schema, source, fact or event.
pub const TEXT_BYTES: usize = 4_096;
/// Labels of a column.
pub const LABELS: usize = 32;
/// Facts of a source, attributes of an event.
pub const FACTS: usize = 1_024;
/// Bytes of all facts of a source together.
pub const FACTS_BYTES: usize = 256 << 10;
/// Bytes of a source's kind. With its key it is a key of indexes, which on PostgreSQL take 2,700 bytes.
pub const SOURCE_KIND_BYTES: usize = 64;
/// Bytes of a source's key.
pub const SOURCE_KEY_BYTES: usize = 1_024;
/// Sources an agent may have.
pub const SOURCES: usize = 4_096;
/// Boots an agent may define in one stream.
pub const BOOTS: usize = 256;
/// Anchors of a boot.
pub const ANCHORS: usize = 1_024;
/// Schemas an agent may define in one stream.
pub const SCHEMAS: usize = 4_096;
/// Boots of one agent that control knows, until nothing stored is of them.
pub const AGENT_BOOTS: usize = 4_096;
/// New schemas that control takes from one agent at once.
pub const AGENT_SCHEMAS: usize = 16_384;
/// Bytes of what these have beyond the columns of others.
pub const AGENT_SCHEMA_BYTES: usize = 128 << 20;
/// Days after which an agent that brought so much may bring as much again; a share of it each day before.
pub const AGENT_SCHEMA_DAYS: u64 = 16;
/// Seconds between two measurements of a column.
pub const CADENCE_S: u32 = 3_600;
/// Records in one message.
pub const RECORDS: usize = 1_024;
/// Ranges in one message.
pub const RANGES: usize = 4_096;
/// Bytes of a certificate request.
pub const CSR_BYTES: usize = 8_192;
/// Bytes of an agent's identity texts (machine id, boot id, version, host name).
pub const IDENTITY_BYTES: usize = 255;
/// Elements of all repeated fields of one message together.
pub const ELEMENTS: usize = 64 << 10;
/// Milliseconds between two frames that an agent may be told.
pub const INTERVAL_MS: RangeInclusive<u32> = 1_000..=3_600_000;
/// Collectors that an agent may be told of.
pub const COLLECTORS: usize = 256;
/// Bytes of a collector's name.
pub const COLLECTOR_NAME_BYTES: usize = 64;
/// Milliseconds between two runs of a collector that an agent may be told.
pub const COLLECTOR_INTERVAL_MS: RangeInclusive<u32> = 1_000..=CADENCE_S * 1_000;
/// Bytes of an enrolment or renewal message.
pub const ENROLMENT_BYTES: usize = 64 << 10;
