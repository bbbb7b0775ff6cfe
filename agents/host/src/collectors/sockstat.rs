//! `/proc/net/sockstat` and `sockstat6`: sockets in use and the memory they take.

use crate::{
    metrics as m,
    text::{TextFile, number},
};
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

struct Sockstat {
    files: Vec<TextFile>,
    page: i64,
}

/// Makes it.
///
/// # Errors
/// Where `/proc/net/sockstat` cannot be read.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let first = TextFile::open(context.proc.join("net/sockstat"))?;
    let second = TextFile::open(context.proc.join("net/sockstat6"));
    let files = std::iter::once(first).chain(second).collect();
    Ok(Box::new(Sockstat { files, page: rustix::param::page_size() as i64 }))
}

impl Collector for Sockstat {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        for file in &mut self.files {
            for line in file.read()?.lines() {
                let Some((protocol, rest)) = line.split_once(':') else { continue };
                let mut words = rest.split_ascii_whitespace();
                while let (Some(field), Some(value)) = (words.next(), words.next()) {
                    let Some(value) = number::<i64>(value) else { continue };
                    put(out, protocol, field, value);
                    if let ("mem", Some(bytes)) = (field, value.checked_mul(self.page)) {
                        put(out, protocol, "mem_bytes", bytes);
                    }
                }
            }
        }
        Ok(())
    }
}

fn put(out: &mut Values<'_>, protocol: &str, field: &str, value: i64) {
    let is = |key: &str| key.split_once('.') == Some((protocol, field));
    if let Some((_, metric)) = m::SOCKSTAT.iter().find(|(key, _)| is(key)) {
        out.put(metric, &[], value);
    }
}
