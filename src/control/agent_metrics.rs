//! A few figures of every agent, on control's own `/metrics`: read when Prometheus asks, of the agents that
//! its token shows.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, Opts};

use crate::access::Permit;
use crate::access::capability::AgentsRead;
use crate::fleet::state::AgentState;
use crate::fleet::{AgentCounts, AgentReport, Fleet};
use crate::metrics;
use crate::platform::metrics::{Registry, Spec};

/// Names the metrics to the registry.
pub(super) fn register(registry: &Registry) {
    registry.made_for_the_asker(&SPECS);
}

/// The figures of the agents that a permit shows.
pub(crate) fn of(fleet: &Fleet, permit: &Permit<AgentsRead>) -> Vec<MetricFamily> {
    let figures = Figures::new();
    figures.count(&fleet.agent_counts(permit));
    fleet.agent_reports(permit, None).for_each(|agent| figures.put(&agent));
    figures.families()
}

const SPECS: [&Spec; 8] = [
    &metrics::AGENTS,
    &metrics::AGENT_UP,
    &metrics::AGENT_LAST_REPORT,
    &metrics::AGENT_COMPLETENESS,
    &metrics::AGENT_CLOCK_OFFSET,
    &metrics::AGENT_RECORDS_ACCEPTED,
    &metrics::AGENT_RECORDS_REFUSED,
    &metrics::AGENT_RECORDS_LOST,
];

/// Made for each scrape, so that an agent that is gone leaves nothing behind.
struct Figures {
    agents: GaugeVec,
    up: GaugeVec,
    last_report: GaugeVec,
    completeness: GaugeVec,
    clock_offset: GaugeVec,
    accepted: CounterVec,
    refused: CounterVec,
    lost: CounterVec,
}

impl Figures {
    fn new() -> Self {
        let opts = |spec: &Spec| Opts::new(spec.name, spec.help);
        let gauge =
            |spec: &Spec| GaugeVec::new(opts(spec), spec.labels).expect("names and labels of the list are valid");
        let counter =
            |spec: &Spec| CounterVec::new(opts(spec), spec.labels).expect("names and labels of the list are valid");
        Self {
            agents: gauge(&metrics::AGENTS),
            up: gauge(&metrics::AGENT_UP),
            last_report: gauge(&metrics::AGENT_LAST_REPORT),
            completeness: gauge(&metrics::AGENT_COMPLETENESS),
            clock_offset: gauge(&metrics::AGENT_CLOCK_OFFSET),
            accepted: counter(&metrics::AGENT_RECORDS_ACCEPTED),
            refused: counter(&metrics::AGENT_RECORDS_REFUSED),
            lost: counter(&metrics::AGENT_RECORDS_LOST),
        }
    }

    fn count(&self, counts: &AgentCounts) {
        let AgentCounts { up, late, lost, never_seen, cloned, revoked, .. } = *counts;
        for (state, count) in [
            ("up", up),
            ("late", late),
            ("lost", lost),
            ("never_seen", never_seen),
            ("cloned", cloned),
            ("revoked", revoked),
        ] {
            self.agents.with_label_values(&[state]).set(count as f64);
        }
    }

    fn put(&self, agent: &AgentReport) {
        // One that was revoked is no agent any more.
        if agent.state == AgentState::Revoked {
            return;
        }
        let id = agent.id.to_string();
        let labels = [id.as_str(), agent.hostname.as_str()];
        let gauge = |gauge: &GaugeVec, value: f64| gauge.with_label_values(&labels).set(value);
        let counter = |counter: &CounterVec, value: u64| counter.with_label_values(&labels).inc_by(value as f64);
        gauge(&self.up, f64::from(u8::from(agent.state == AgentState::Up)));
        if let Some(last_report_ms) = agent.last_report_ms {
            gauge(&self.last_report, last_report_ms as f64 / 1_000.0);
        }
        if let Some(completeness) = agent.completeness {
            gauge(&self.completeness, completeness);
        }
        if let Some(offset_ms) = agent.clock_offset_ms {
            gauge(&self.clock_offset, offset_ms as f64 / 1_000.0);
        }
        counter(&self.accepted, agent.records_accepted);
        counter(&self.refused, agent.records_refused);
        counter(&self.lost, agent.records_lost);
    }

    fn all(&self) -> [&dyn Collector; 8] {
        [
            &self.agents,
            &self.up,
            &self.last_report,
            &self.completeness,
            &self.clock_offset,
            &self.accepted,
            &self.refused,
            &self.lost,
        ]
    }

    fn families(&self) -> Vec<MetricFamily> {
        self.all().iter().flat_map(|vec| vec.collect()).collect()
    }
}
