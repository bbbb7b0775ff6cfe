//! What a frame costs. Not a test: `cargo test --release -p tongtu-agent --test host cost -- --ignored
//! --nocapture` prints figures.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;
use tongtu_agent_host::collectors::COLLECTORS;
use tongtu_agent_runtime::{collect::Context, table::Table};

fn cpu() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(tv_sec as u64, tv_nsec as u32)
}

#[test]
#[ignore = "prints figures, and holds nothing"]
fn a_frame() {
    const FRAMES: u32 = 200;
    let mut table = Table::new(COLLECTORS, Context::default());
    let columns = table.frame(0, |_| {}).0.columns();
    let start = cpu();
    for frame in 1..=FRAMES {
        table.frame(u64::from(frame) * 15_000, |_| {});
    }
    let each = (cpu() - start) / FRAMES;
    println!("{columns} columns, {each:?} CPU a frame, every collector at its cadence");
    for spec in COLLECTORS {
        let mut table = Table::new(vec![*spec].leak(), Context::default());
        table.frame(0, |_| {});
        let start = cpu();
        let long = spec.interval.as_millis().max(15_000) as u64;
        for frame in 1..=FRAMES / 4 {
            table.frame(u64::from(frame) * long, |_| {});
        }
        println!("{:<14} {:?} a run", spec.name, (cpu() - start) / (FRAMES / 4));
    }
}
