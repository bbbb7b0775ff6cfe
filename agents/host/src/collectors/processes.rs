//! Processes by state. The dearest collector, so it runs every five minutes, and beyond a bound only
//! counts: states of a part would be no states of the machine.

use crate::{
    metrics as m,
    text::{TextFile, number, read_number},
};
use std::{fs, io::Read, path::PathBuf};
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

/// Processes whose state is read, at most.
const PROCESSES: usize = 5_000;

/// What `/proc/PID/stat` calls the states that every kernel has.
const STATES: [&str; 7] = ["R", "S", "D", "T", "t", "Z", "I"];

struct Processes {
    proc: PathBuf,
    pids: Vec<u32>,
    buffer: Vec<u8>,
}

/// Makes it.
///
/// # Errors
/// Where `/proc` shows no processes.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    // A /proc that hides other users' processes (hidepid) hides the first one too.
    TextFile::open(context.proc.join("1/stat"))
        .map_err(|error| Unavailable::new(format!("the processes of other users are hidden ({})", error.reason)))?;
    Ok(Box::new(Processes { proc: context.proc.clone(), pids: Vec::new(), buffer: Vec::new() }))
}

impl Collector for Processes {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        self.pids.clear();
        for entry in fs::read_dir(&self.proc)? {
            self.pids.extend(entry?.file_name().to_str().and_then(number::<u32>));
        }
        if self.pids.len() > PROCESSES {
            out.put(&m::PROCESSES_PIDS, &[], self.pids.len() as i64);
        } else {
            self.put_states(out);
        }
        let limits = [(&m::PROCESSES_MAX, "sys/kernel/pid_max"), (&m::PROCESSES_MAX_THREADS, "sys/kernel/threads-max")];
        for (metric, file) in limits {
            if let Some(limit) = read_number(&self.proc.join(file)) {
                out.put(metric, &[], limit);
            }
        }
        Ok(())
    }
}

impl Processes {
    fn put_states(&mut self, out: &mut Values<'_>) {
        let (mut processes, mut threads, mut states) = (0, 0, [0; STATES.len()]);
        let mut path = self.proc.clone();
        for pid in &self.pids {
            path.push(pid.to_string());
            path.push("stat");
            self.buffer.clear();
            let stat = fs::File::open(&path);
            let read = stat.and_then(|mut stat| stat.read_to_end(&mut self.buffer));
            path.pop();
            path.pop();
            // One that has ended meanwhile is no process.
            let stat = read.ok().and_then(|_| state_and_threads(&self.buffer));
            let Some((state, count)) = stat else { continue };
            processes += 1;
            threads += count;
            if let Some(at) = STATES.iter().position(|name| name.as_bytes() == [state]) {
                states[at] += 1;
            }
        }
        out.put(&m::PROCESSES_PIDS, &[], processes);
        out.put(&m::PROCESSES_THREADS, &[], threads);
        for (state, count) in STATES.iter().zip(states) {
            out.put(&m::PROCESSES_STATE, &[state], count);
        }
    }
}

/// The state and the number of threads. A program's name may hold anything, brackets too.
fn state_and_threads(stat: &[u8]) -> Option<(u8, i64)> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = stat.get(name_end + 2..)?.split(|&byte| byte == b' ');
    let state = *fields.next()?.first()?;
    let threads = std::str::from_utf8(fields.nth(16)?).ok()?;
    Some((state, number(threads)?))
}

#[cfg(test)]
mod tests {
    use super::state_and_threads;

    #[test]
    fn names_may_hold_anything() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 42 0 99";
        for name in ["bash", "a b", ") S (", "\u{fffd}"] {
            let stat = format!("77 ({name}) D {rest}");
            assert_eq!(state_and_threads(stat.as_bytes()), Some((b'D', 42)), "{name}");
        }
        assert_eq!(state_and_threads(b""), None);
        assert_eq!(state_and_threads(b"1 (x)"), None);
        assert_eq!(state_and_threads(b"1 (x) S 1 2"), None);
    }
}
