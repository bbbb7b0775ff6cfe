//! `/proc/loadavg`, kept as exact hundredths.

use crate::{
    metrics as m,
    text::{TextFile, decimal},
};
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

struct Load(TextFile);

/// Makes it.
///
/// # Errors
/// Where `/proc/loadavg` cannot be read.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Load(TextFile::open(context.proc.join("loadavg"))?)))
}

impl Collector for Load {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let averages = self.0.read()?.split(' ');
        for (average, metric) in averages.zip([&m::LOAD1, &m::LOAD5, &m::LOAD15]) {
            if let Some(value) = decimal(average, 2) {
                out.put(metric, &[], value);
            }
        }
        Ok(())
    }
}
