//! `/proc/net/softnet_stat`: what each core did with the packets in its queue. The columns are
//! hexadecimal and have no names; kernels append to them.

use crate::{metrics as m, text::TextFile};
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

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
            let mut fields = line.split(' ').map(|field| u32::from_str_radix(field, 16).ok());
            let first = [fields.next(), fields.next(), fields.next()];
            // Since Linux 5.10 the thirteenth column is the core; before, cores were only in order.
            let cpu = fields.nth(9).flatten().map_or(line_number, |cpu| cpu as usize);
            while self.cpus.len() <= cpu.min(65_535) {
                self.cpus.push(self.cpus.len().to_string());
            }
            let Some(cpu) = self.cpus.get(cpu) else { continue };
            let metrics = [&m::SOFTNET_PROCESSED, &m::SOFTNET_DROPPED, &m::SOFTNET_SQUEEZED];
            for (metric, value) in metrics.into_iter().zip(first) {
                if let Some(value) = value.flatten() {
                    out.put(metric, &[cpu], value.into());
                }
            }
        }
        Ok(())
    }
}
