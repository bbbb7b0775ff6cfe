//! Series added up, before they are thinned. Pure.
//!
//! What must hold: a sum stands only where every part has a value, and covers what all of them
//! cover; a part that goes back ends the rate of the whole. Of slots the least and greatest sample of
//! a sum are not known, for no two parts need have had theirs at one time: it has none. Of parts with
//! several cadences the sum has the widest: between the instants of its slowest part it does not stand.

use super::sums::{Point, Sums};
use super::{Frame, Growing};
use std::collections::HashMap;
use tongtu_protocol::v1;

/// The series added up that agree in everything but the labels other than `by`.
pub(super) fn summed(series: Vec<Growing>, by: &[String]) -> Vec<Growing> {
    let mut groups: Vec<Vec<Growing>> = Vec::new();
    let mut places = HashMap::new();
    for one in series {
        let column = &one.column;
        let kept = by.iter().map(|name| label(column, name).map(str::to_owned)).collect::<Vec<_>>();
        let key = (column.metric.clone(), column.unit.clone(), column.kind, column.exponent, column.float, kept);
        let place = *places.entry(key).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(one);
    }
    groups.into_iter().map(|parts| sum(parts, by)).collect()
}

fn label<'a>(column: &'a v1::Column, name: &str) -> Option<&'a str> {
    column.labels.iter().find(|label| label.name == name).map(|label| label.value.as_str())
}

fn sum(mut parts: Vec<Growing>, by: &[String]) -> Growing {
    let mut column = parts[0].column.clone();
    column.labels.retain(|label| by.contains(&label.name));
    // One alone is what it was, with the extremes that it has.
    if parts.len() == 1 {
        return Growing { column, ..parts.swap_remove(0) };
    }
    if parts.iter().any(|part| part.column.resource != column.resource) {
        column.resource.clear();
    }
    Growing {
        cadence_ms: parts.iter().map(|part| part.cadence_ms).max().unwrap_or(0),
        frames: frames(&parts, &column),
        points: points(&parts, column.kind() == v1::Kind::Counter),
        parts: parts.len(),
        column,
    }
}

fn frames(parts: &[Growing], column: &v1::Column) -> Vec<Frame> {
    let mut instants: Vec<_> = parts.iter().flat_map(|part| part.frames.iter().map(|frame| frame.at_ms)).collect();
    instants.sort_unstable();
    instants.dedup();
    let none = |at_ms| Frame { at_ms, boot: 0, interval_ms: 0, cadence_ms: 0, value: Some(0) };
    let mut sums: Vec<_> = instants.into_iter().map(none).collect();
    // Where a rate does not go on from the value before.
    let mut breaks = vec![false; sums.len()];
    let falls = column.kind() == v1::Kind::Counter && !column.float;
    for part in parts {
        let mut own: Vec<_> = part.frames.iter().collect();
        own.sort_by_key(|frame| frame.at_ms);
        let (mut own, mut last) = (own.into_iter().peekable(), None::<&Frame>);
        for (sum, breaks) in sums.iter_mut().zip(&mut breaks) {
            let mut here = None;
            while let Some(frame) = own.next_if(|frame| frame.at_ms <= sum.at_ms) {
                here = Some(frame);
            }
            // A value follows the one before it, over frames without one.
            let measured = here.filter(|frame| frame.value.is_some());
            if let (Some(last), Some(here)) = (last, measured) {
                *breaks |= last.boot != here.boot || (falls && here.value < last.value);
            }
            sum.interval_ms = sum.interval_ms.max(here.map_or(0, |frame| frame.interval_ms));
            sum.cadence_ms = sum.cadence_ms.max(here.map_or(0, |frame| frame.cadence_ms));
            let value = measured.and_then(|frame| frame.value);
            sum.value = sum.value.zip(value).and_then(|(sum, value)| add(sum, value, column.float));
            last = measured.or(last);
        }
    }
    let mut boot = 0;
    for (sum, breaks) in sums.iter_mut().zip(breaks) {
        boot += u32::from(breaks);
        sum.boot = boot;
    }
    sums
}

fn add(a: i64, b: i64, float: bool) -> Option<i64> {
    if !float {
        return a.checked_add(b);
    }
    // The bits of 0.0 are those of 0.
    Some((f64::from_bits(a as u64) + f64::from_bits(b as u64)).to_bits() as i64)
}

fn points(parts: &[Growing], counter: bool) -> Sums {
    let weight = |point: &Point| if counter { i128::from(point.covered_ms) } else { i128::from(point.count) };
    let mut sums = Sums::new(parts.iter().map(|part| part.points.len()).max().unwrap_or(0), counter);
    for index in 0..sums.len() {
        let each = || parts.iter().map(|part| part.points.get(index));
        // What is measured now and then may cover a point in which it has no value.
        let covered_ms = each().map(|point| point.covered_ms).min().unwrap_or(0);
        let mut sum = Point { covered_ms, ..Point::default() };
        let least = each().map(|point| weight(&point)).min().unwrap_or(0);
        if least > 0 {
            sum.count = each().map(|point| point.count).min().unwrap_or(0);
            // Each over the same time or number of samples, to the nearest unit.
            sum.sum = each().map(|point| rounded(point.sum * least, weight(&point))).sum();
        }
        sums.put(index, sum);
    }
    for (point, breaks) in parts.iter().flat_map(|part| part.points.breaks()) {
        sums.add_breaks(*point, *breaks);
    }
    sums
}

fn rounded(value: i128, by: i128) -> i128 {
    (2 * value + by).div_euclid(2 * by)
}
