//! The list of hosts: by what it is sorted and filtered. Pure.

use super::list::{AnyOf, Cursor, Cut, Field, Listed, Named, OtherOrder, page, sought};
use super::report::{HostState, HostSummary};

impl Listed for HostSummary {
    const FIELDS: &'static [Field<Self>] = &[
        Field::Number("id", |host| Some(host.id.0 as f64)),
        Field::Text("name", |host| Some(host.name.as_str())),
        Field::Number("state", |host| Some(f64::from(host.state as u8))),
        Field::Number("last_report_ms", |host| host.last_report_ms.map(|ms| ms as f64)),
        Field::Number("uptime_seconds", |host| host.uptime_seconds),
        Field::Number("cpu_count", |host| host.cpu_count.map(|count| count as f64)),
        Field::Number("cpu_usage_percent", |host| host.cpu_usage_percent),
        Field::Number("load_1m", |host| host.load_1m),
        Field::Number("memory_total_bytes", |host| host.memory_total_bytes.map(|bytes| bytes as f64)),
        Field::Number("memory_used_percent", memory_used_percent),
        Field::Number("network_receive_bytes_per_second", |host| host.network_receive_bytes_per_second),
        Field::Number("network_transmit_bytes_per_second", |host| host.network_transmit_bytes_per_second),
        Field::Number("filesystem_size_bytes", |host| host.filesystem_size_bytes.map(|bytes| bytes as f64)),
        Field::Number("filesystem_fullest_percent", |host| host.filesystem_fullest_percent),
    ];
    const PREFIX: &'static str = "host";

    fn number(&self) -> i64 {
        self.id.0
    }
}

impl Named for HostState {
    const EXPECTED: &'static str = "`state` must be one or more of never_seen, up, stale";
}

/// Memory that is not available ÷ all of it.
pub(super) fn memory_used_percent(host: &HostSummary) -> Option<f64> {
    let (total, available) = (host.memory_total_bytes?, host.memory_available_bytes?);
    (total > 0).then(|| (total - available) as f64 / total as f64 * 100.0)
}

/// What is asked of the list.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub search: Option<String>,
    pub states: Option<AnyOf<HostState>>,
    pub cut: Cut<HostSummary>,
}

/// The places of the hosts of a page, and where the next one begins. `hosts` are in order of ids, each with its
/// machine id.
pub(super) fn chosen<'a>(
    hosts: impl Iterator<Item = (&'a HostSummary, &'a str)>,
    wanted: &Wanted,
) -> Result<(Vec<usize>, Option<Cursor<HostSummary>>), OtherOrder> {
    let search = sought(wanted.search.as_deref());
    let chosen = hosts.enumerate().filter(|(_, (host, machine_id))| {
        wanted.states.as_ref().is_none_or(|states| states.has(host.state))
            && search.as_ref().is_none_or(|search| is_found(host, machine_id, search))
    });
    page(chosen.map(|(place, (host, _))| (place, host)), &wanted.cut)
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
    use serde::{Deserialize, de};

    use super::super::list::Sort;
    use super::*;
    use crate::platform::ids::{HostId, OrganizationId};

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
        let cut = Cut { sort: parse(sort).expect("a field"), after: None, limit: 2 };
        let states = states.map(|states| parse(states).expect("states"));
        let mut wanted = Wanted { search: search.map(str::to_owned), states, cut };
        let mut seen = Vec::new();
        loop {
            let rows = hosts.iter().map(|host| (host, "6d616368"));
            let (places, next) = chosen(rows, &wanted).expect("a page");
            assert!(places.len() <= 2);
            seen.extend(places.into_iter().map(|place| hosts[place].id.0));
            let Some(next) = next else { return seen };
            // As it goes over the wire.
            wanted.cut.after = Some(parse(&next.to_string()).expect("a cursor"));
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
        assert!(parse::<Sort<HostSummary>>("size").expect_err("no field").to_string().contains("-` before it"));
        assert!(
            parse::<AnyOf<HostState>>("up,down").expect_err("no state").to_string().contains("never_seen, up, stale")
        );
        assert!(parse::<Cursor<HostSummary>>("7").expect_err("no cursor").to_string().contains("`next`"));
        let cut = Cut { sort: parse("name").expect("a field"), after: parse("host_7").ok(), limit: 10 };
        let wanted = Wanted { search: None, states: None, cut };
        assert!(matches!(chosen(std::iter::empty(), &wanted), Err(OtherOrder)));
    }
}
