//! Pressure stall information: how long tasks waited for processor, memory and disks.
//!
//! Parsed here and not by `procfs`, which makes a map of each line and panics on a short one.

use crate::{
    metrics as m,
    text::{TextFile, number},
};
use tongtu_agent_runtime::{
    collect::{CollectError, Collector, Context, Unavailable, Values},
    metric::Metric,
};

/// A file with the metrics of its lines `some` and `full`. Of the processor only `some` is shown: for
/// a whole machine the kernel leaves its `full` at zero. Of interrupts there is only `full`.
struct Resource {
    file: TextFile,
    some: Option<&'static Metric>,
    full: Option<&'static Metric>,
}

struct Pressure(Vec<Resource>);

/// Makes it.
///
/// # Errors
/// On a kernel without pressure stall information, or where it is switched off.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let open = |name: &str| TextFile::open(context.proc.join("pressure").join(name));
    let no = |error: Unavailable| {
        Unavailable::new(format!(
            "this kernel gives no pressure stall information ({}); it needs 4.20 or later, and psi=1 where it is off",
            error.reason
        ))
    };
    let mut resources = Vec::new();
    for (name, some, full) in [
        ("cpu", Some(&m::PRESSURE_CPU_WAITING), None),
        ("memory", Some(&m::PRESSURE_MEMORY_WAITING), Some(&m::PRESSURE_MEMORY_STALLED)),
        ("io", Some(&m::PRESSURE_IO_WAITING), Some(&m::PRESSURE_IO_STALLED)),
    ] {
        resources.push(Resource { file: open(name).map_err(no)?, some, full });
    }
    // Only since Linux 6.1, and only if interrupts are accounted for.
    if let Ok(file) = open("irq") {
        resources.push(Resource { file, some: None, full: Some(&m::PRESSURE_IRQ_STALLED) });
    }
    Ok(Box::new(Pressure(resources)))
}

impl Collector for Pressure {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        for resource in &mut self.0 {
            for line in resource.file.read()?.lines() {
                let metric = match line.split(' ').next() {
                    Some("some") => resource.some,
                    Some("full") => resource.full,
                    _ => None,
                };
                let Some(metric) = metric else { continue };
                let total = line.split(' ').find_map(|word| word.strip_prefix("total="));
                if let Some(value) = total.and_then(number) {
                    out.put(metric, &[], value);
                }
            }
        }
        Ok(())
    }
}
