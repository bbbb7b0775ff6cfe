//! What an agent's messages must be before anything of them is kept. Pure.
//!
//! How many elements a message holds is counted before it is decoded ([`tongtu_protocol::wire`]).
//! Here stands what concerns a whole stream. What concerns one record is the sink's to refuse,
//! because every refused sequence must be settled.

use tongtu_protocol::{VERSION, limits, reason::Reason, v1};

/// A refusal and what a person should know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl Fault {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::new(reason, reason.sentence())
    }
}

/// The texts of an agent's identity: `must` may not be empty.
pub(super) fn identity(must: &[&str], may: &[&str]) -> Result<(), Fault> {
    let fits = |text: &&str| text.len() <= limits::IDENTITY_BYTES && !text.chars().any(char::is_control);
    if must.iter().all(|text| !text.is_empty() && fits(text)) && may.iter().all(fits) {
        Ok(())
    } else {
        Err(Reason::BadIdentity.into())
    }
}

/// The first message of a stream.
pub(super) fn hello(hello: &v1::Hello) -> Result<(), Fault> {
    if hello.protocol != VERSION {
        let older = if hello.protocol > VERSION { "control" } else { "the agent" };
        return Err(Fault::new(
            Reason::Protocol,
            format!(
                "control speaks protocol version {VERSION} and the agent version {}; update {older}",
                hello.protocol
            ),
        ));
    }
    identity(&[&hello.kind, &hello.machine_id, &hello.boot_id], &[&hello.hostname, &hello.agent_version])
}

/// Numbers that a stream is to use.
pub(super) fn define(define: &v1::Define) -> Result<(), Fault> {
    let limit = |what: &str| Err(Fault::new(Reason::Limit, format!("{what} exceeds the protocol's limits")));
    if define.boots.iter().any(|boot| boot.boot_id.is_empty() || boot.boot_id.len() > limits::IDENTITY_BYTES) {
        return limit("a boot's id");
    }
    for source in &define.sources {
        if source.kind.is_empty() || source.kind.len() > limits::SOURCE_KIND_BYTES {
            return limit("a source's kind");
        }
        if source.key.len() > limits::SOURCE_KEY_BYTES {
            return limit("a source's key");
        }
        if source.schema_id.len() != 16 {
            return limit("a schema's id");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> v1::Hello {
        v1::Hello {
            protocol: VERSION,
            kind: "host".to_owned(),
            machine_id: "m".to_owned(),
            boot_id: "b".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn hellos() {
        let long = "x".repeat(limits::IDENTITY_BYTES + 1);
        for (name, made, expected) in [
            ("good", good(), None),
            ("newer", v1::Hello { protocol: VERSION + 1, ..good() }, Some(Reason::Protocol)),
            ("none", v1::Hello { protocol: 0, ..good() }, Some(Reason::Protocol)),
            ("no machine", v1::Hello { machine_id: String::new(), ..good() }, Some(Reason::BadIdentity)),
            ("no boot", v1::Hello { boot_id: String::new(), ..good() }, Some(Reason::BadIdentity)),
            ("long", v1::Hello { hostname: long, ..good() }, Some(Reason::BadIdentity)),
            ("two lines", v1::Hello { hostname: "a\nb".to_owned(), ..good() }, Some(Reason::BadIdentity)),
        ] {
            assert_eq!(hello(&made).err().map(|fault| fault.reason), expected, "{name}");
        }
        let newer = hello(&v1::Hello { protocol: VERSION + 1, ..good() }).expect_err("refused");
        assert!(newer.detail.ends_with("update control"), "{}", newer.detail);
    }

    #[test]
    fn definitions() {
        let source = v1::Source { kind: "host".to_owned(), schema_id: vec![0; 16].into(), ..Default::default() };
        let long = v1::Source { key: "k".repeat(limits::SOURCE_KEY_BYTES + 1), ..source.clone() };
        let long_kind = v1::Source { kind: "k".repeat(limits::SOURCE_KIND_BYTES + 1), ..source.clone() };
        let no_kind = v1::Source { kind: String::new(), ..source.clone() };
        let no_schema = v1::Source { schema_id: vec![0; 15].into(), ..source.clone() };
        let of = |source| v1::Define { sources: vec![source], ..Default::default() };
        assert_eq!(define(&of(source)), Ok(()));
        for source in [long, long_kind, no_kind, no_schema] {
            assert_eq!(define(&of(source)).err().map(|fault| fault.reason), Some(Reason::Limit));
        }
        let boot = v1::Define { boots: vec![v1::Boot::default()], ..Default::default() };
        assert_eq!(define(&boot).err().map(|fault| fault.reason), Some(Reason::Limit));
    }
}
