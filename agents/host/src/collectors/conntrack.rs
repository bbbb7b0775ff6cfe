//! Connection tracking: how full its table is, and what went wrong.

use crate::{
    metrics as m,
    text::{TextFile, number},
};
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

struct Conntrack {
    entries: TextFile,
    limit: TextFile,
    stat: Option<TextFile>,
    sums: Vec<Option<i64>>,
}

/// Makes it.
///
/// # Errors
/// Where connections are not tracked.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let settings = context.proc.join("sys/net/netfilter");
    let no = |error: Unavailable| Unavailable::new(format!("connections are not tracked here ({})", error.reason));
    Ok(Box::new(Conntrack {
        entries: TextFile::open(settings.join("nf_conntrack_count")).map_err(no)?,
        limit: TextFile::open(settings.join("nf_conntrack_max")).map_err(no)?,
        stat: TextFile::open(context.proc.join("net/stat/nf_conntrack")).ok(),
        sums: Vec::new(),
    }))
}

impl Collector for Conntrack {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        for (file, metric) in [(&mut self.entries, &m::CONNTRACK_ENTRIES), (&mut self.limit, &m::CONNTRACK_LIMIT)] {
            if let Some(value) = number(file.read()?.trim()) {
                out.put(metric, &[], value);
            }
        }
        let Some(stat) = &mut self.stat else { return Ok(()) };
        add_up(stat.read()?, &mut self.sums);
        for ((_, metric), sum) in m::CONNTRACK_STAT.iter().zip(&self.sums) {
            if let Some(sum) = sum {
                out.put(metric, &[], *sum);
            }
        }
        Ok(())
    }
}

/// Sums the wanted columns over the lines, one line a core, hexadecimal.
fn add_up(text: &str, sums: &mut Vec<Option<i64>>) {
    sums.clear();
    sums.resize(m::CONNTRACK_STAT.len(), None);
    let mut lines = text.lines();
    let Some(names) = lines.next() else { return };
    for line in lines {
        let fields = names.split_ascii_whitespace().zip(line.split_ascii_whitespace());
        for (name, field) in fields {
            let Some(at) = m::CONNTRACK_STAT.iter().position(|(key, _)| *key == name) else {
                continue;
            };
            let Ok(value) = i64::from_str_radix(field, 16) else { continue };
            sums[at] = sums[at].unwrap_or_default().checked_add(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_summed_and_missing_columns_are_no_value() {
        let mut sums = Vec::new();
        add_up("entries found  drop\n0000000a 00000001 000000ff\n0000000a 00000002 00000001\n", &mut sums);
        let of = |name| {
            let at = m::CONNTRACK_STAT.iter().position(|(key, _)| *key == name);
            sums[at.expect("listed")]
        };
        assert_eq!((of("found"), of("drop"), of("insert")), (Some(3), Some(256), None));
    }
}
