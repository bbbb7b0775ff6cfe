//! `/proc/net/softnet_stat`: what each core did with the packets in its queue. The columns are
//! hexadecimal and have no names; kernels append to them.

use crate::{metrics as m, text::TextFile};
use tongtu_agent_runtime::{
    collect::{CollectError, Collector, Context, Unavailable, Values},
    metric::Metric,
};

/// The columns that have a meaning, as far as kernels have them.
const FIELDS: usize = 13;
/// Since Linux 5.10 this column is the core; before, cores were only in order.
const CPU: usize = 12;
const MOST_CPUS: usize = 65_535;

static TAKEN: [(usize, &Metric); 7] = [
    (0, &m::SOFTNET_PROCESSED),
    (1, &m::SOFTNET_DROPPED),
    (2, &m::SOFTNET_SQUEEZED),
    (8, &m::SOFTNET_COLLISIONS),
    (9, &m::SOFTNET_RPS),
    (10, &m::SOFTNET_FLOW_LIMIT),
    (11, &m::SOFTNET_BACKLOG),
];

struct Softnet {
    file: TextFile,
    /// The names of the cores, as labels.
    cpus: Vec<String>,
}

/// Makes it.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let file = TextFile::open(context.proc.join("net/softnet_stat"))?;
    Ok(Box::new(Softnet { file, cpus: Vec::new() }))
}

impl Collector for Softnet {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        for (line_number, line) in self.file.read()?.lines().enumerate() {
            let mut fields = [None; FIELDS];
            for (slot, field) in fields.iter_mut().zip(line.split(' ')) {
                *slot = u32::from_str_radix(field, 16).ok();
            }
            let cpu = fields[CPU].map_or(line_number, |cpu| cpu as usize);
            while self.cpus.len() <= cpu.min(MOST_CPUS) {
                self.cpus.push(self.cpus.len().to_string());
            }
            let Some(cpu) = self.cpus.get(cpu) else { continue };
            for &(place, metric) in &TAKEN {
                if let Some(value) = fields[place] {
                    out.put(metric, &[cpu], value.into());
                }
            }
        }
        Ok(())
    }
}
