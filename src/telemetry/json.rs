//! Columns of numbers as JSON: a month of slots is forty thousand numbers, which are most of an answer's
//! work. Pure. A number is written with the fewest digits that give it back exactly; readers take one without a point
//! several times as fast.

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
    let numbers = points.instants_ms.len() + (points.value.len() + points.min.len()) * 2;
    out.reserve(numbers * NUMBER + 1_024);
    serde_json::to_writer(&mut *out, head).expect("texts and numbers are JSON");
    assert!(out.ends_with(EMPTY), "the columns are the last fields, and empty");
    out.truncate(out.len() - EMPTY.len());
    let (mut integer, mut real) = (itoa::Buffer::new(), Real::default());
    column(out, "instants_ms", &points.instants_ms, |out, value| {
        out.extend_from_slice(integer.format(*value).as_bytes());
    });
    for (name, values) in [("value", &points.value), ("min", &points.min), ("max", &points.max)] {
        out.push(b',');
        column(out, name, values, |out, value| match value {
            Some(value) => real.put(*value, out),
            None => out.extend_from_slice(b"null"),
        });
    }
    out.push(b',');
    let mut real = zmij::Buffer::new();
    column(out, "coverage", &points.coverage, |out, value| match *value {
        // Nearly all of them.
        1.0 => out.push(b'1'),
        value => out.extend_from_slice(without_point(real.format_finite(value))),
    });
    out.push(b'}');
}

fn column<T>(out: &mut Vec<u8>, name: &str, values: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":[");
    for value in values {
        put(out, value);
        out.push(b',');
    }
    if !values.is_empty() {
        out.pop();
    }
    out.push(b']');
}

fn without_point(number: &str) -> &[u8] {
    number.strip_suffix(".0").unwrap_or(number).as_bytes()
}

/// Fifteen digits: a number of so few is told from every other.
const MOST: f64 = 1e15;

/// Writes numbers.
#[derive(Default)]
struct Real {
    whole: itoa::Buffer,
    any: zmij::Buffer,
}

impl Real {
    fn put(&mut self, value: f64, out: &mut Vec<u8>) {
        // Most are an integer, or one over a small power of ten. Of so few digits no two give the same number, so they
        // are the fewest but for zeros at the end; and they are told in half the time.
        let parts = (value * 1e4 + 0.5) as i64;
        if value as i64 as f64 == value && value.abs() < MOST && (value != 0.0 || value.is_sign_positive()) {
            self.integer(value as i64, out);
        } else if (0..MOST as i64).contains(&parts) && parts as f64 / 1e4 == value && value.is_sign_positive() {
            self.integer(parts / 10_000, out);
            let rest = (parts % 10_000) as u32;
            let digit = |power: u32| b'0' + (rest / power % 10) as u8;
            let zeros = [1_000, 100, 10].iter().filter(|power| rest.is_multiple_of(**power)).count();
            let end = out.len() + 5 - zeros;
            out.extend_from_slice(&[b'.', digit(1_000), digit(100), digit(10), digit(1)]);
            out.truncate(end);
        } else if value.is_finite() {
            out.extend_from_slice(without_point(self.any.format_finite(value)));
        } else {
            out.extend_from_slice(b"null");
        }
    }

    fn integer(&mut self, value: i64, out: &mut Vec<u8>) {
        match value {
            // Of most a single digit stands before the point.
            0..10 => out.push(b'0' + value as u8),
            _ => out.extend_from_slice(self.whole.format(value).as_bytes()),
        }
    }
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

    /// Integers over powers of ten, as most values are.
    fn few_digits() -> impl Strategy<Value = f64> {
        let digits = prop_oneof![-20_000i64..20_000, any::<i64>(), 999_999_999_999_990i64..1_000_000_000_000_010];
        (digits, 0i32..7).prop_map(|(digits, power)| digits as f64 / 10f64.powi(power))
    }

    proptest! {
        #[test]
        fn it_is_what_serde_writes_without_points(
            instants_ms in proptest::collection::vec(any::<i64>(), 0..5),
            value in proptest::collection::vec(proptest::option::of(any::<f64>()), 0..9),
            min in proptest::collection::vec(proptest::option::of(few_digits()), 0..9),
            coverage in proptest::collection::vec(prop_oneof![Just(1.0f32), 0.0f32..1.0], 0..9),
        ) {
            let (name, max) = ("n", vec![Some(f64::NAN), Some(f64::INFINITY), None, Some(5.0)]);
            let points = Points { first_ms: None, instants_ms, value, min, max, coverage };
            let head = Whole { name, instants_ms: vec![], value: vec![], min: vec![], max: vec![], coverage: vec![] };
            let mut out = b"before".to_vec();
            object(&head, &points, &mut out);
            let Points { instants_ms, value, min, max, coverage, .. } = points;
            let whole = Whole { name, instants_ms, value, min, max, coverage };
            let whole = serde_json::to_string(&whole).expect("JSON").replace(".0,", ",").replace(".0]", "]");
            prop_assert_eq!(std::str::from_utf8(&out[6..]), Ok(&whole[..]));
        }
    }
}
