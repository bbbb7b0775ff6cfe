//! Protocol statistics: `/proc/net/snmp` and `/proc/net/netstat`, whose lines come in pairs of names
//! and values. Which values are wanted is found once for each line of names.

use crate::{
    metrics as m,
    text::{TextFile, number},
};
use tongtu_agent_runtime::{
    collect::{CollectError, Collector, Context, Unavailable, Values},
    metric::Metric,
};

struct Netstat {
    files: Vec<TextFile>,
    plans: Vec<Plan>,
}

/// What is taken of the values below this line of names.
struct Plan {
    names: String,
    /// The place of each value that is taken, ascending.
    taken: Vec<(usize, &'static Metric)>,
}

/// Makes it.
///
/// # Errors
/// Where neither file can be read.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let snmp = TextFile::open(context.proc.join("net/snmp"))?;
    let netstat = TextFile::open(context.proc.join("net/netstat"));
    let files = std::iter::once(snmp).chain(netstat).collect();
    Ok(Box::new(Netstat { files, plans: Vec::new() }))
}

impl Collector for Netstat {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let mut pair = 0;
        for file in &mut self.files {
            let mut lines = file.read()?.lines();
            while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
                if self.plans.get(pair).is_none_or(|plan| plan.names != names) {
                    self.plans.truncate(pair);
                    self.plans.push(Plan::of(names));
                }
                self.plans[pair].put(out, values);
                pair += 1;
            }
        }
        Ok(())
    }
}

impl Plan {
    fn of(names: &str) -> Self {
        let mut words = names.split(' ');
        let protocol = words.next().unwrap_or_default().trim_end_matches(':');
        let metric = |field: &str| {
            let wanted = |key: &str| key.split_once('.') == Some((protocol, field));
            m::NETSTAT.iter().find(|(key, _)| wanted(key)).map(|(_, metric)| metric)
        };
        let taken = words.enumerate().filter_map(|(place, field)| Some((place, metric(field)?)));
        Self { names: names.to_owned(), taken: taken.collect() }
    }

    fn put(&self, out: &mut Values<'_>, values: &str) {
        let mut words = values.split(' ').skip(1);
        let mut next = 0;
        for &(place, metric) in &self.taken {
            let value = words.nth(place - next);
            next = place + 1;
            if let Some(value) = value.and_then(number) {
                out.put(metric, &[], value);
            }
        }
    }
}
