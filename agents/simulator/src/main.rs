//! The simulator's command line.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use tongtu_protocol::token::Token;
use tongtu_simulator::duration::Span;
use tongtu_simulator::fleet::{self, Options};
use tongtu_simulator::scenario::Scenario;

const AFTER: &str = "\
A token for N agents comes from control: tongtu agent token --uses N

SCENARIO (TOML; every key may be left out, durations like \"250ms\", \"15s\", \"10m\", \"4h\", \"7d\")
  seed = 1                  the same seed makes the same machines, with the same machine ids
  pacing = \"paced\"          paced: a frame an interval, as real agents
                            saturated: the next frame as soon as the last is acknowledged; instants
                              are an interval apart and begin `history` ago (default 1d), and an agent
                              that has reached the present is done
                            backlog: the frames of `history` are there before connecting and are sent
                              as quickly as control takes them; then an agent is done
                            an agent with a history knows outages only, and --duration is the longest
  history = \"2h\"
  [[group]]                 as many as you like; without one: medium machines of an office
  name = \"web\"              begins their host names
  share = 3                 of the fleet, against the other groups' shares
  host = \"medium\"           small (358 columns), medium (544), large (about 1,200)
  pattern = \"office\"        office, night, steady, idle
  recording = \"FILE\"        play frames recorded by `tongtu-bench record` instead
  vms = 20                  they are hypervisors with so many virtual machines each
  virtual = true            they are virtual machines of another platform, by their own word
  [[group.event]]           to the group above
  at = \"20s\"                after the start
  kind = \"outage\"           outage: no network for `lasts`; frames are made and sent afterwards
                            reboot: off for `lasts`, then a new boot, counters at 0
                            counter_reset: the interfaces count from 0
                            clock_step: the wall clock moves `by` (\"-1h\", \"90s\")
                            restored_snapshot: the queue's numbers repeat
  lasts = \"30s\"
  share = 0.1               of the group's agents

RESULT (stdout): frames_made, frames_acknowledged and samples_acknowledged count each frame once, however
often it was sent; frames_open are neither acknowledged nor refused; acknowledgement_ms is from the
stream to the acknowledgement.

LOG: a line for each acknowledged frame, `agent epoch sequence unix_ms`; in control the gauge
tongtu_simulator_sequence of that agent's source holds `sequence` at that instant.

EXIT CODE: 0 when everything made was acknowledged, 1 when not, 2 for a wrong command line or scenario.";

/// Plays a fleet of agents against a control service, over the real protocol.
#[derive(Debug, Parser)]
#[command(name = "tongtu-simulator", version, after_help = AFTER)]
struct Arguments {
    /// Enrolment token with at least as many uses as there are agents.
    #[arg(long, env = "TONGTU_TOKEN", hide_env_values = true)]
    token: Token,
    /// How many agents.
    #[arg(long, default_value_t = 10)]
    agents: u32,
    /// Between two frames of an agent.
    #[arg(long, default_value = "15s")]
    interval: Span,
    /// How long frames are made, at most; then up to 60 s for the last acknowledgements.
    #[arg(long, default_value = "60s")]
    duration: Span,
    /// What the fleet is and what happens to it (see below).
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Write a line for each acknowledged frame (see below).
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The result as one JSON document.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_writer(std::io::stderr).init();
    // Installed once, at the start of the process: it cannot be there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let scenario = match arguments.scenario.as_deref().map(read).transpose() {
        Ok(scenario) => scenario.unwrap_or_default(),
        Err(message) => return fail(&message, 2),
    };
    let options = Options {
        token: arguments.token,
        agents: arguments.agents,
        interval: arguments.interval.0,
        duration: arguments.duration.0,
        scenario,
        log: arguments.log,
    };
    match fleet::play(options) {
        Ok(summary) => {
            if arguments.json {
                match serde_json::to_string_pretty(&summary) {
                    Ok(text) => println!("{text}"),
                    Err(error) => return fail(&error.to_string(), 1),
                }
            } else {
                println!("{summary}");
            }
            if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => fail(&error.to_string(), 1),
    }
}

fn read(path: &std::path::Path) -> Result<Scenario, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    Scenario::parse(&text).map_err(|error| format!("{name}: {error}"))
}

fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("tongtu-simulator: {message}");
    ExitCode::from(code)
}
