//! `/proc/net/arp`: how many neighbours each interface knows.

use crate::{metrics as m, text::TextFile};
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

struct Arp {
    file: TextFile,
    counts: Vec<(String, i64)>,
}

/// Makes it.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let file = TextFile::open(context.proc.join("net/arp"))?;
    Ok(Box::new(Arp { file, counts: Vec::new() }))
}

impl Collector for Arp {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        self.counts.iter_mut().for_each(|(_, count)| *count = 0);
        for line in self.file.read()?.lines().skip(1) {
            let Some(device) = line.split_ascii_whitespace().nth(5) else { continue };
            match self.counts.iter_mut().find(|(name, _)| name == device) {
                Some((_, count)) => *count += 1,
                None => self.counts.push((device.to_owned(), 1)),
            }
        }
        // An interface without neighbours is not listed by the kernel, and not here.
        self.counts.retain(|(_, count)| *count > 0);
        for (device, count) in &self.counts {
            out.put(&m::ARP_ENTRIES, &[device], *count);
        }
        Ok(())
    }
}
