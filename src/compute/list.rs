//! How a list of hosts is filtered, sorted and cut into pages. Pure.

use std::cmp::Ordering;

use serde::{Deserialize, Deserializer, de};

use super::report::{HostState, HostSummary};
use crate::platform::ids::HostId;

/// What a host is sorted by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    Number(f64),
    Text(&'a str),
    /// Stands last, whichever way it is sorted.
    Unknown,
}

type Read = fn(&HostSummary) -> Value<'_>;

/// The fields that hosts are sorted by, and how they are read.
const FIELDS: [(&str, Read); 14] = [
    ("id", |host| Value::Number(host.id.0 as f64)),
    ("name", |host| Value::Text(&host.name)),
    ("state", |host| Value::Number(f64::from(host.state as u8))),
    ("last_report_ms", |host| number(host.last_report_ms.map(|ms| ms as f64))),
    ("uptime_seconds", |host| number(host.uptime_seconds)),
    ("cpu_count", |host| number(host.cpu_count.map(|count| count as f64))),
    ("cpu_usage_percent", |host| number(host.cpu_usage_percent)),
    ("load_1m", |host| number(host.load_1m)),
    ("memory_total_bytes", |host| number(host.memory_total_bytes.map(|bytes| bytes as f64))),
    ("memory_used_percent", |host| number(memory_used_percent(host))),
    ("network_receive_bytes_per_second", |host| number(host.network_receive_bytes_per_second)),
    ("network_transmit_bytes_per_second", |host| number(host.network_transmit_bytes_per_second)),
    ("filesystem_size_bytes", |host| number(host.filesystem_size_bytes.map(|bytes| bytes as f64))),
    ("filesystem_fullest_percent", |host| number(host.filesystem_fullest_percent)),
];

fn number(value: Option<f64>) -> Value<'static> {
    value.map_or(Value::Unknown, Value::Number)
}

/// Memory that is not available ÷ all of it.
pub(super) fn memory_used_percent(host: &HostSummary) -> Option<f64> {
    let (total, available) = (host.memory_total_bytes?, host.memory_available_bytes?);
    (total > 0).then(|| (total - available) as f64 / total as f64 * 100.0)
}

/// By which field hosts are sorted; `-` before it: the largest first.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sort {
    field: usize,
    descending: bool,
}

impl Sort {
    fn is_by_id(self) -> bool {
        self.field == 0
    }

    fn value(self, host: &HostSummary) -> Value<'_> {
        (FIELDS[self.field].1)(host)
    }

    fn compare(self, (a, a_id): (Value<'_>, HostId), (b, b_id): (Value<'_>, HostId)) -> Ordering {
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

impl<'de> Deserialize<'de> for Sort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (name, descending) = text.strip_prefix('-').map_or((text.as_str(), false), |name| (name, true));
        let field = FIELDS.iter().position(|(field, _)| *field == name).ok_or_else(|| {
            let names: Vec<_> = FIELDS.iter().map(|(field, _)| *field).collect();
            de::Error::custom(format_args!("`sort` must be one of {}, or one with `-` before it", names.join(", ")))
        })?;
        Ok(Self { field, descending })
    }
}

/// States that are wanted, separated by commas.
#[derive(Debug, Clone, Default)]
pub(super) struct States(Vec<HostState>);

impl<'de> Deserialize<'de> for States {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let state = |name: &str| HostState::deserialize(de::value::StrDeserializer::<de::value::Error>::new(name));
        let states = text.split(',').map(state).collect::<Result<_, _>>();
        states.map(Self).map_err(|_| de::Error::custom("`state` must be one or more of never_seen, up, stale"))
    }
}

/// Where a page begins: behind a host, at the value that it had then.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cursor {
    value: Option<String>,
    id: HostId,
}

impl Cursor {
    fn of(host: &HostSummary, sort: Sort) -> Self {
        let value = match sort.value(host) {
            _ if sort.is_by_id() => None,
            Value::Number(number) => Some(number.to_string()),
            Value::Text(text) => Some(text.to_owned()),
            Value::Unknown => Some(String::new()),
        };
        Self { value, id: host.id }
    }

    /// `None`: it is of another order.
    fn value(&self, sort: Sort) -> Option<Value<'_>> {
        match (&self.value, sort.is_by_id()) {
            (None, true) => Some(Value::Number(self.id.0 as f64)),
            (Some(text), false) if text.is_empty() => Some(Value::Unknown),
            (Some(text), false) if FIELDS[sort.field].0 == "name" => Some(Value::Text(text)),
            (Some(text), false) => text.parse().ok().map(Value::Number),
            _ => None,
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{value}@{}", self.id),
            None => self.id.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (value, id) = text.rsplit_once('@').map_or((None, text.as_str()), |(value, id)| (Some(value), id));
        let id = id.parse().map_err(|_| de::Error::custom("`after` must be the `next` of a page"))?;
        Ok(Self { value: value.map(str::to_owned), id })
    }
}

/// What is asked of a list.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub search: Option<String>,
    pub states: Option<States>,
    pub sort: Sort,
    pub after: Option<Cursor>,
    pub limit: usize,
}

/// The cursor is not of this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`after` is of a list that is sorted otherwise; begin without it")]
pub(super) struct OtherOrder;

/// The places of the hosts of a page, and where the next one begins. `hosts` are in order of ids.
pub(super) fn page<'a>(
    hosts: impl Iterator<Item = (&'a HostSummary, &'a str)>,
    wanted: &Wanted,
) -> Result<(Vec<usize>, Option<Cursor>), OtherOrder> {
    let Wanted { sort, limit, .. } = *wanted;
    let after = match &wanted.after {
        Some(after) => Some((after.value(sort).ok_or(OtherOrder)?, after.id)),
        None => None,
    };
    let search = wanted.search.as_ref().map(|search| search.trim().to_lowercase()).filter(|search| !search.is_empty());
    let chosen = hosts.enumerate().filter(|(_, (host, machine_id))| {
        wanted.states.as_ref().is_none_or(|states| states.0.contains(&host.state))
            && after.is_none_or(|after| sort.compare((sort.value(host), host.id), after).is_gt())
            && search.as_ref().is_none_or(|search| is_found(host, machine_id, search))
    });
    let keyed = chosen.map(|(place, (host, _))| (sort.value(host), host, place));
    let mut page: Vec<_> = if sort.is_by_id() && !sort.descending {
        keyed.take(limit + 1).collect()
    } else {
        let mut all: Vec<_> = keyed.collect();
        let order = |a: &(Value<'_>, &HostSummary, usize), b: &(Value<'_>, &HostSummary, usize)| {
            sort.compare((a.0, a.1.id), (b.0, b.1.id))
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
    let next = page.last().filter(|_| more).map(|(_, last, _)| Cursor::of(last, sort));
    Ok((page.into_iter().map(|(.., place)| place).collect(), next))
}

fn is_found(host: &HostSummary, machine_id: &str, search: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(search);
    has(&host.name)
        || machine_id.contains(search)
        || host.id.to_string() == search
        || host.agent.is_some_and(|agent| agent.to_string() == search)
        || host.operating_system.as_deref().is_some_and(has)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::platform::ids::OrganizationId;

    pub(in crate::compute) fn host(id: i64, name: &str, cpu: Option<f64>, state: HostState) -> HostSummary {
        HostSummary {
            state,
            operating_system: Some("Debian GNU/Linux 12".to_owned()),
            cpu_usage_percent: cpu,
            ..HostSummary::unmeasured(HostId(id), name.to_owned(), OrganizationId(1))
        }
    }

    fn hosts() -> Vec<HostSummary> {
        vec![
            host(1, "web-1", Some(5.0), HostState::Up),
            host(2, "db@1", Some(0.1 + 0.2), HostState::Up),
            host(3, "Web-2", None, HostState::Stale),
            host(4, "db@1", Some(5.0), HostState::Up),
            host(5, "mail", None, HostState::NeverSeen),
        ]
    }

    fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, de::value::Error> {
        T::deserialize(de::value::StrDeserializer::new(text))
    }

    /// All pages of two hosts, one after another.
    fn walk(sort: &str, search: Option<&str>, states: Option<&str>) -> Vec<i64> {
        let hosts = hosts();
        let mut wanted = Wanted {
            search: search.map(str::to_owned),
            states: states.map(|states| parse(states).expect("states")),
            sort: parse(sort).expect("a field"),
            after: None,
            limit: 2,
        };
        let mut seen = Vec::new();
        loop {
            let rows = hosts.iter().map(|host| (host, "6d616368"));
            let (places, next) = page(rows, &wanted).expect("a page");
            assert!(places.len() <= 2);
            seen.extend(places.into_iter().map(|place| hosts[place].id.0));
            let Some(next) = next else { return seen };
            // As it goes over the wire.
            wanted.after = Some(parse(&next.to_string()).expect("a cursor"));
        }
    }

    #[test]
    fn pages_follow_the_order() {
        assert_eq!(walk("id", None, None), [1, 2, 3, 4, 5]);
        assert_eq!(walk("-id", None, None), [5, 4, 3, 2, 1]);
        assert_eq!(walk("name", None, None), [3, 2, 4, 5, 1]);
        assert_eq!(walk("-name", None, None), [1, 5, 2, 4, 3]);
        assert_eq!(walk("cpu_usage_percent", None, None), [2, 1, 4, 3, 5], "what is not known is last");
        assert_eq!(walk("-cpu_usage_percent", None, None), [1, 4, 2, 3, 5]);
        assert_eq!(walk("state", None, None), [5, 1, 2, 4, 3]);
    }

    #[test]
    fn a_list_is_searched_and_filtered() {
        assert_eq!(walk("id", Some(" WEB "), None), [1, 3]);
        assert_eq!(walk("-cpu_usage_percent", Some("debian"), Some("up")), [1, 4, 2]);
        assert_eq!(walk("id", Some("host_4"), None), [4]);
        assert_eq!(walk("id", Some("6161636"), None), Vec::<i64>::new());
        assert_eq!(walk("id", Some("616368"), Some("stale,never_seen")), [3, 5]);
        assert_eq!(walk("id", Some(""), None), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn nonsense_is_refused_with_what_would_do() {
        assert!(parse::<Sort>("size").expect_err("no field").to_string().contains("-` before it"));
        assert!(parse::<States>("up,down").expect_err("no state").to_string().contains("never_seen, up, stale"));
        assert!(parse::<Cursor>("7").expect_err("no cursor").to_string().contains("`next`"));
        let wanted =
            Wanted { sort: parse("name").expect("a field"), after: parse("host_7").ok(), ..Default::default() };
        assert_eq!(page(std::iter::empty(), &wanted), Err(OtherOrder));
    }
}
