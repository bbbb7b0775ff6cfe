//! How a list is filtered, sorted and cut into pages. Pure.

use std::cmp::Ordering;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, de};

/// A field that things are sorted by: its name, and how it is read. What is not known stands last.
#[derive(Debug)]
pub(super) enum Field<T: 'static> {
    Number(&'static str, fn(&T) -> Option<f64>),
    Text(&'static str, fn(&T) -> Option<&str>),
}

impl<T> Field<T> {
    fn name(&self) -> &'static str {
        match self {
            Self::Number(name, _) | Self::Text(name, _) => name,
        }
    }

    fn value<'a>(&self, thing: &'a T) -> Value<'a> {
        match self {
            Self::Number(_, read) => read(thing).map_or(Value::Unknown, Value::Number),
            Self::Text(_, read) => read(thing).map_or(Value::Unknown, Value::Text),
        }
    }
}

/// What lists are of.
pub(super) trait Listed: Sized + 'static {
    /// By the first, the id, they are sorted if nobody says.
    const FIELDS: &'static [Field<Self>];
    /// Begins the texts of ids.
    const PREFIX: &'static str;

    /// The number of its id.
    fn number(&self) -> i64;
}

/// What a thing is sorted by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    Number(f64),
    Text(&'a str),
    /// Stands last, whichever way it is sorted.
    Unknown,
}

/// By which field things are sorted; `-` before it: the largest first.
#[derive(Debug)]
pub(super) struct Sort<T> {
    field: usize,
    descending: bool,
    of: PhantomData<fn(&T)>,
}

impl<T> Clone for Sort<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Sort<T> {}

impl<T> Default for Sort<T> {
    fn default() -> Self {
        Self { field: 0, descending: false, of: PhantomData }
    }
}

impl<T: Listed> Sort<T> {
    fn is_by_id(self) -> bool {
        self.field == 0
    }

    fn value(self, thing: &T) -> Value<'_> {
        T::FIELDS[self.field].value(thing)
    }

    fn compare(self, (a, a_id): (Value<'_>, i64), (b, b_id): (Value<'_>, i64)) -> Ordering {
        let known = match (a, b) {
            (Value::Number(a), Value::Number(b)) => a.total_cmp(&b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Unknown, Value::Unknown) => Ordering::Equal,
            (Value::Unknown, _) => return Ordering::Greater,
            (_, Value::Unknown) => return Ordering::Less,
            // One field has values of one kind.
            (Value::Number(_), Value::Text(_)) => Ordering::Less,
            (Value::Text(_), Value::Number(_)) => Ordering::Greater,
        };
        let known = if self.descending { known.reverse() } else { known };
        known.then(a_id.cmp(&b_id))
    }
}

impl<'de, T: Listed> Deserialize<'de> for Sort<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (name, descending) = text.strip_prefix('-').map_or((text.as_str(), false), |name| (name, true));
        let field = T::FIELDS.iter().position(|field| field.name() == name).ok_or_else(|| {
            let names: Vec<_> = T::FIELDS.iter().map(Field::name).collect();
            de::Error::custom(format_args!("`sort` must be one of {}, or one with `-` before it", names.join(", ")))
        })?;
        Ok(Self { field, descending, of: PhantomData })
    }
}

/// What a parameter may name.
pub(super) trait Named: Sized + Copy + PartialEq + for<'de> Deserialize<'de> {
    /// What is said of others.
    const EXPECTED: &'static str;
}

/// Some of the names that a parameter takes, separated by commas.
#[derive(Debug, Clone)]
pub(super) struct AnyOf<E>(Vec<E>);

impl<E: Named> AnyOf<E> {
    pub(super) fn has(&self, one: E) -> bool {
        self.0.contains(&one)
    }
}

impl<'de, E: Named> Deserialize<'de> for AnyOf<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let one = |name: &str| E::deserialize(de::value::StrDeserializer::<de::value::Error>::new(name));
        let all = text.split(',').map(one).collect::<Result<_, _>>();
        all.map(Self).map_err(|_| de::Error::custom(E::EXPECTED))
    }
}

/// Where a page begins: behind a thing, at the value that it had then.
#[derive(Debug, PartialEq)]
pub(super) struct Cursor<T> {
    value: Option<String>,
    id: i64,
    of: PhantomData<fn(&T)>,
}

impl<T> Clone for Cursor<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), id: self.id, of: PhantomData }
    }
}

impl<T: Listed> Cursor<T> {
    fn of(thing: &T, sort: Sort<T>) -> Self {
        let value = match sort.value(thing) {
            _ if sort.is_by_id() => None,
            Value::Number(number) => Some(number.to_string()),
            Value::Text(text) => Some(text.to_owned()),
            Value::Unknown => Some(String::new()),
        };
        Self { value, id: thing.number(), of: PhantomData }
    }

    /// `None`: it is of another order.
    fn value(&self, sort: Sort<T>) -> Option<Value<'_>> {
        match (&self.value, &T::FIELDS[sort.field]) {
            (None, _) if sort.is_by_id() => Some(Value::Number(self.id as f64)),
            (None, _) => None,
            (Some(_), _) if sort.is_by_id() => None,
            (Some(text), _) if text.is_empty() => Some(Value::Unknown),
            (Some(text), Field::Text(..)) => Some(Value::Text(text)),
            (Some(text), Field::Number(..)) => text.parse().ok().map(Value::Number),
        }
    }
}

impl<T: Listed> std::fmt::Display for Cursor<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{value}@{}_{}", T::PREFIX, self.id),
            None => write!(f, "{}_{}", T::PREFIX, self.id),
        }
    }
}

impl<'de, T: Listed> Deserialize<'de> for Cursor<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (value, id) = text.rsplit_once('@').map_or((None, text.as_str()), |(value, id)| (Some(value), id));
        let id = id.strip_prefix(T::PREFIX).and_then(|rest| rest.strip_prefix('_')).and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| de::Error::custom("`after` must be the `next` of a page"))?;
        Ok(Self { value: value.map(str::to_owned), id, of: PhantomData })
    }
}

/// How a list is cut: in which order, behind what, how much.
#[derive(Debug)]
pub(super) struct Cut<T> {
    pub sort: Sort<T>,
    pub after: Option<Cursor<T>>,
    pub limit: usize,
}

impl<T> Default for Cut<T> {
    fn default() -> Self {
        Self { sort: Sort::default(), after: None, limit: 0 }
    }
}

/// The cursor is not of this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`after` is of a list that is sorted otherwise; begin without it")]
pub(super) struct OtherOrder;

/// What is looked for in lower case, if anything.
pub(super) fn sought(search: Option<&str>) -> Option<String> {
    search.map(|search| search.trim().to_lowercase()).filter(|search| !search.is_empty())
}

/// The places of the things of a page, and where the next one begins. `things` are in order of ids, each with its
/// place.
pub(super) fn page<'a, T: Listed>(
    things: impl Iterator<Item = (usize, &'a T)>,
    cut: &Cut<T>,
) -> Result<(Vec<usize>, Option<Cursor<T>>), OtherOrder> {
    let Cut { sort, limit, .. } = *cut;
    let after = match &cut.after {
        Some(after) => Some((after.value(sort).ok_or(OtherOrder)?, after.id)),
        None => None,
    };
    let keyed = things.map(|(place, thing)| (sort.value(thing), thing, place));
    let chosen = keyed
        .filter(|(value, thing, _)| after.is_none_or(|after| sort.compare((*value, thing.number()), after).is_gt()));
    let mut page: Vec<_> = if sort.is_by_id() && !sort.descending {
        chosen.take(limit + 1).collect()
    } else {
        let mut all: Vec<_> = chosen.collect();
        let order = |a: &(Value<'_>, &T, usize), b: &(Value<'_>, &T, usize)| {
            sort.compare((a.0, a.1.number()), (b.0, b.1.number()))
        };
        if all.len() > limit + 1 {
            all.select_nth_unstable_by(limit, order);
            all.truncate(limit + 1);
        }
        all.sort_unstable_by(order);
        all
    };
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|(_, last, _)| Cursor::<T>::of(last, sort));
    Ok((page.into_iter().map(|(.., place)| place).collect(), next))
}

/// A page of things that are rendered already, as JSON.
pub(super) fn rendered<'a>(items: impl Iterator<Item = &'a [u8]> + Clone, next: Option<String>) -> Vec<u8> {
    let bytes: usize = items.clone().map(|json| json.len() + 1).sum();
    let mut page = Vec::with_capacity(bytes + 256);
    page.extend_from_slice(b"{\"items\":[");
    for (index, json) in items.enumerate() {
        if index > 0 {
            page.push(b',');
        }
        page.extend_from_slice(json);
    }
    page.extend_from_slice(b"],\"next\":");
    serde_json::to_writer(&mut page, &next).expect("a text is JSON");
    page.push(b'}');
    page
}
