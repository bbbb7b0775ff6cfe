//! Columns of numbers as JSON: a month of slots is forty thousand numbers, which are most of an answer's
//! work. Pure. A number is written with the fewest digits that give it back exactly.

use super::Points;

/// What serde makes of points without any.
const EMPTY: &[u8] = br#""instants_ms":[],"value":[],"min":[],"max":[],"coverage":[]}"#;
/// Bytes of a number, roughly.
const NUMBER: usize = 14;

/// Appends an object of which everything but its columns, the last fields, is `head`.
///
/// # Panics
/// If the columns of `head` are not the last fields, and empty.
pub(super) fn object(head: &impl serde::Serialize, points: &Points, out: &mut Vec<u8>) {
    let numbers = points.instants_ms.len() * 3 + points.min.len() * 2;
    out.reserve(numbers * NUMBER + 1_024);
    serde_json::to_writer(&mut *out, head).expect("texts and numbers are JSON");
    assert!(out.ends_with(EMPTY), "the columns are the last fields, and empty");
    out.truncate(out.len() - EMPTY.len());
    let mut integer = itoa::Buffer::new();
    let mut real = zmij::Buffer::new();
    column(out, "instants_ms", &points.instants_ms, |out, value| {
        out.extend_from_slice(integer.format(*value).as_bytes());
    });
    for (name, values) in [("value", &points.value), ("min", &points.min), ("max", &points.max)] {
        out.push(b',');
        column(out, name, values, |out, value| match value {
            Some(value) if value.is_finite() => out.extend_from_slice(real.format_finite(*value).as_bytes()),
            _ => out.extend_from_slice(b"null"),
        });
    }
    out.push(b',');
    column(out, "coverage", &points.coverage, |out, value| match *value {
        // Nearly all of them.
        1.0 => out.extend_from_slice(b"1.0"),
        value => out.extend_from_slice(real.format_finite(value).as_bytes()),
    });
    out.push(b'}');
}

fn column<T>(out: &mut Vec<u8>, name: &str, values: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":[");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        put(out, value);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(serde::Serialize)]
    struct Whole {
        name: &'static str,
        instants_ms: Vec<i64>,
        value: Vec<Option<f64>>,
        min: Vec<Option<f64>>,
        max: Vec<Option<f64>>,
        coverage: Vec<f32>,
    }

    proptest! {
        #[test]
        fn it_is_what_serde_writes(
            instants_ms in proptest::collection::vec(any::<i64>(), 0..5),
            value in proptest::collection::vec(proptest::option::of(any::<f64>()), 0..9),
            min in proptest::collection::vec(proptest::option::of(-1e3..1e9), 0..9),
            coverage in proptest::collection::vec(prop_oneof![Just(1.0f32), 0.0f32..1.0], 0..9),
        ) {
            let (name, max) = ("n", vec![Some(f64::NAN), Some(f64::INFINITY), None, Some(5.0)]);
            let points = Points { instants_ms, value, min, max, coverage };
            let head = Whole { name, instants_ms: vec![], value: vec![], min: vec![], max: vec![], coverage: vec![] };
            let mut out = b"before".to_vec();
            object(&head, &points, &mut out);
            let Points { instants_ms, value, min, max, coverage } = points;
            let whole = Whole { name, instants_ms, value, min, max, coverage };
            prop_assert_eq!(&out[6..], serde_json::to_vec(&whole).expect("JSON"));
        }
    }
}
