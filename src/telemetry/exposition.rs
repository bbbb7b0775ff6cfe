//! Prometheus' text format (0.0.4) of one source's last frame. Pure.
//!
//! Names, types, units and labels are those of the schema, which are those of the exporters that
//! people know; that is why the `prometheus` crate does not serve here: it has no UNTYPED. A value
//! is printed as the exact decimal that the integer and its exponent are. A metric has its HELP and
//! TYPE once; what is absent has no line.

use super::LiveFrame;
use std::collections::HashMap;
use std::fmt::Write;
use tongtu_protocol::v1;

/// Its media type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends the frame's values.
pub fn encode(frame: &LiveFrame, out: &mut String) {
    let columns = &frame.schema.columns;
    // Present columns by metric, in the order in which the metrics first come.
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut metrics: Vec<Vec<usize>> = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        if frame.values.get(index).copied().flatten().is_none() {
            continue;
        }
        let place = *places.entry(&column.metric).or_insert(metrics.len());
        if place == metrics.len() {
            metrics.push(Vec::new());
        }
        metrics[place].push(index);
    }
    out.reserve(columns.len() * 80);
    for metric in metrics {
        let first = &columns[metric[0]];
        if !first.help.is_empty() {
            out.push_str("# HELP ");
            out.push_str(&first.metric);
            out.push(' ');
            escape(&first.help, false, out);
            out.push('\n');
        }
        let kind = match first.kind() {
            v1::Kind::Counter => "counter",
            v1::Kind::Gauge => "gauge",
            v1::Kind::Untyped | v1::Kind::Unspecified => "untyped",
        };
        out.push_str("# TYPE ");
        out.push_str(&first.metric);
        out.push(' ');
        out.push_str(kind);
        out.push('\n');
        for index in metric {
            let (column, value) = (&columns[index], frame.values[index]);
            let Some(value) = value else { continue };
            out.push_str(&column.metric);
            labels(&column.labels, out);
            out.push(' ');
            number(column, value, out);
            out.push('\n');
        }
    }
}

fn labels(labels: &[v1::Label], out: &mut String) {
    for (index, label) in labels.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        out.push_str(&label.name);
        out.push_str("=\"");
        escape(&label.value, true, out);
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
}

fn escape(text: &str, quote: bool, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quote => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

fn number(column: &v1::Column, value: i64, out: &mut String) {
    if column.float {
        float(f64::from_bits(value as u64), out);
    } else {
        decimal(value, column.exponent, out);
    }
}

fn float(value: f64, out: &mut String) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let _ = write!(out, "{value}");
    }
}

/// `value × 10^exponent`, without rounding and without trailing zeros.
fn decimal(value: i64, exponent: i32, out: &mut String) {
    let mut digits = [0u8; 20];
    let mut rest = value.unsigned_abs();
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = &digits[at..];
    if value < 0 {
        out.push('-');
    }
    let push = |digits: &[u8], out: &mut String| out.extend(digits.iter().map(|digit| char::from(*digit)));
    if exponent >= 0 || value == 0 {
        push(digits, out);
        if value != 0 {
            out.extend(std::iter::repeat_n('0', exponent.unsigned_abs() as usize));
        }
        return;
    }
    let behind = exponent.unsigned_abs() as usize;
    let split = digits.len().saturating_sub(behind);
    let whole = &digits[..split];
    push(if whole.is_empty() { b"0" } else { whole }, out);
    let fraction = &digits[split..];
    let kept = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    if kept > 0 {
        out.push('.');
        out.extend(std::iter::repeat_n('0', behind - fraction.len()));
        push(&fraction[..kept], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::StoredSchema;
    use proptest::prelude::*;
    use tongtu_protocol::schema::SchemaId;

    fn column(metric: &str, kind: v1::Kind, exponent: i32, labels: &[(&str, &str)]) -> v1::Column {
        let label = |(name, value): &(&str, &str)| v1::Label { name: (*name).into(), value: (*value).into() };
        v1::Column {
            metric: metric.into(),
            kind: kind.into(),
            exponent,
            labels: labels.iter().map(label).collect(),
            help: format!("Help of {metric}."),
            ..Default::default()
        }
    }

    fn render(columns: Vec<v1::Column>, values: &[Option<i64>]) -> String {
        let schema = StoredSchema::new(1, SchemaId([0; 16]), columns);
        let frame = LiveFrame {
            schema: schema.into(),
            values: values.into(),
            instant_ms: 0,
            arrival_ms: 0,
            clock_uncertain: false,
            interval_ms: 15_000,
            boot: 1,
        };
        let mut out = String::new();
        encode(&frame, &mut out);
        out
    }

    #[test]
    fn a_metric_has_its_help_once_wherever_its_columns_stand() {
        let cpu = |cpu| column("node_cpu_seconds_total", v1::Kind::Counter, -2, &[("cpu", cpu), ("mode", "idle")]);
        let columns = vec![
            cpu("0"),
            column("node_load1", v1::Kind::Gauge, -2, &[]),
            cpu("1"),
            column("node_netstat_Ip_Forwarding", v1::Kind::Untyped, 0, &[]),
            column("node_absent", v1::Kind::Gauge, 0, &[]),
        ];
        let expected = "\
# HELP node_cpu_seconds_total Help of node_cpu_seconds_total.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 123.4
node_cpu_seconds_total{cpu=\"1\",mode=\"idle\"} 0.05
# HELP node_load1 Help of node_load1.
# TYPE node_load1 gauge
node_load1 -0.5
# HELP node_netstat_Ip_Forwarding Help of node_netstat_Ip_Forwarding.
# TYPE node_netstat_Ip_Forwarding untyped
node_netstat_Ip_Forwarding 2
";
        assert_eq!(render(columns, &[Some(12_340), Some(-50), Some(5), Some(2), None]), expected);
    }

    #[test]
    fn texts_are_escaped() {
        let mut odd = column("m", v1::Kind::Gauge, 0, &[("path", "a\\b\"c\nd")]);
        odd.help = "a \\ \"quoted\"\nhelp".into();
        let expected = "# HELP m a \\\\ \"quoted\"\\nhelp\n# TYPE m gauge\nm{path=\"a\\\\b\\\"c\\nd\"} 1\n";
        assert_eq!(render(vec![odd], &[Some(1)]), expected);
    }

    #[test]
    fn floats_are_printed_as_prometheus_reads_them() {
        for (value, text) in [
            (0.1, "0.1"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (-f64::INFINITY, "-Inf"),
            (1e21, "1000000000000000000000"),
        ] {
            let mut column = column("m", v1::Kind::Gauge, 0, &[]);
            column.float = true;
            assert!(render(vec![column], &[Some(value.to_bits() as i64)]).ends_with(&format!("m {text}\n")));
        }
    }

    #[test]
    fn decimals() {
        for (value, exponent, text) in [
            (0, -3, "0"),
            (0, 3, "0"),
            (5, 0, "5"),
            (5, 3, "5000"),
            (-5, -3, "-0.005"),
            (1_500, -3, "1.5"),
            (1_000, -3, "1"),
            (i64::MIN, 0, "-9223372036854775808"),
            (i64::MAX, -18, "9.223372036854775807"),
            (1, -18, "0.000000000000000001"),
            (120, -1, "12"),
        ] {
            let mut out = String::new();
            decimal(value, exponent, &mut out);
            assert_eq!(out, text, "{value} × 10^{exponent}");
        }
    }

    proptest! {
        #[test]
        fn a_decimal_is_exact(value in any::<i64>(), exponent in -18i32..=18) {
            let mut out = String::new();
            decimal(value, exponent, &mut out);
            let (whole, fraction) = out.split_once('.').unwrap_or((&out, ""));
            // Shifted back by 18 places it is the integer with 18 + exponent zeros.
            let shifted = format!("{whole}{fraction:0<18}");
            let zeros = "0".repeat((18 + exponent) as usize);
            let expected = if value == 0 { String::new() } else { format!("{value}{zeros}") };
            let digits = |text: String| text.trim_start_matches(['-', '0']).to_owned();
            prop_assert_eq!(digits(shifted), digits(expected));
            prop_assert_eq!(out.starts_with('-'), value < 0);
        }
    }
}
