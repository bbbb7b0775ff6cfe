//! The table of collectors: the domains at every frame, the node once a minute.

use crate::caller::{CallError, Caller};
use crate::details::Details;
use crate::domains::{self, Found, Request};
use crate::events::{Events, Told, What};
use crate::ffi::Failure;
use crate::hypervisor::Hypervisor;
use crate::lifecycle::{Lifecycle, Meaning, stopped};
use crate::metrics as m;
use crate::node;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use tongtu_agent_runtime::collect::{CollectError, Collector, CollectorSpec, Context, Happening, Unavailable, Values};

/// The kind of a domain's source.
pub const DOMAIN: &str = "libvirt_domain";
/// The kind of the agent's own source.
pub const NODE: &str = "libvirt_node";
/// The key of that.
pub const NODE_KEY: &str = "node";

/// How long libvirt may take for one reading of all domains.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long for the node, with pools on slow storage.
const NODE_PATIENCE: Duration = Duration::from_secs(10);

/// What this agent collects.
pub static COLLECTORS: &[CollectorSpec] = &[
    CollectorSpec {
        name: "libvirt_domains",
        interval: Duration::ZERO,
        timeout: Duration::from_secs(8),
        make: make_domains,
    },
    CollectorSpec {
        name: "libvirt_node",
        interval: Duration::from_secs(60),
        timeout: Duration::from_secs(15),
        make: make_node,
    },
];

fn no_thread(error: std::io::Error) -> Unavailable {
    Unavailable::new(format!("this system gives the agent no thread: {error}"))
}

fn make_domains(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let hypervisor = Hypervisor::at(&context.target);
    let events = Events::start(&hypervisor).map_err(no_thread)?;
    let of = hypervisor.clone();
    let caller = Caller::new("libvirt-domains", move || domains::Session::new(&of));
    Ok(Box::new(Domains { hypervisor, caller, events, lifecycle: Lifecycle::default(), told: HashMap::new() }))
}

fn make_node(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let hypervisor = Hypervisor::at(&context.target);
    let machine_id = fs::read_to_string(context.root.join("etc/machine-id")).unwrap_or_default().trim().to_owned();
    let of = hypervisor.clone();
    let caller = Caller::new("libvirt-node", move || node::Session::new(&of));
    Ok(Box::new(Node { hypervisor, caller, machine_id, told: BTreeMap::new() }))
}

/// What libvirt answered, or why it did not. A connection on which a call hangs is left to that call.
fn answer<T>(hypervisor: &Hypervisor, called: Result<Result<T, Failure>, CallError>) -> Result<T, CollectError> {
    match called {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(failure)) => Err(CollectError::new(failure.to_string())),
        Err(error) => {
            if matches!(error, CallError::Timeout(_)) {
                hypervisor.leave();
            }
            Err(CollectError::new(error.to_string()))
        }
    }
}

struct Domains {
    hypervisor: Hypervisor,
    caller: Caller<domains::Session>,
    events: Events,
    lifecycle: Lifecycle,
    /// The facts that were told, of each domain that is there.
    told: HashMap<String, Arc<Details>>,
}

impl Collector for Domains {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let events = self.events.told.take();
        let request = Request {
            changed: events.iter().map(|told| told.uuid.clone()).collect(),
            no_wait: self.caller.hanging() > 0,
        };
        let called = self.caller.call(PATIENCE, move |session| session.read(&request));
        let found = answer(&self.hypervisor, called);
        out.put(&m::UP, &[], i64::from(found.is_ok()));
        out.put(&m::CALLS_HANGING, &[], self.caller.hanging() as i64);
        match found {
            Ok(found) => {
                self.put(&found, out);
                self.tell(events, &found, out);
                Ok(())
            }
            Err(error) => {
                // What they mean may depend on how the domains are now.
                self.events.told.put_back(events);
                Err(error)
            }
        }
    }
}

impl Domains {
    fn put(&mut self, found: &Found, out: &mut Values<'_>) {
        let active = found.readings.iter().filter(|reading| reading.is_active()).count();
        out.put(&m::DOMAINS, &[], (found.readings.len() + found.left_out) as i64);
        out.put(&m::DOMAINS_ACTIVE, &[], active as i64);
        out.put(&m::DOMAINS_LEFT_OUT, &[], found.left_out as i64);
        let mut told = HashMap::with_capacity(found.readings.len());
        for reading in &found.readings {
            let mut source = out.source(DOMAIN, &reading.uuid);
            reading.put(&mut source);
            let details = &reading.details;
            let known = self.told.remove(&reading.uuid);
            let same = known.is_some_and(|known| Arc::ptr_eq(&known, details) || known.facts == details.facts);
            if !same && !details.facts.is_empty() {
                source.facts(details.facts.clone());
            }
            told.insert(reading.uuid.clone(), Arc::clone(details));
        }
        self.told = told;
    }

    fn tell(&mut self, events: Vec<Told>, found: &Found, out: &mut Values<'_>) {
        let state_of = |uuid: &str| {
            let reading = found.readings.iter().find(|reading| reading.uuid == uuid);
            reading.and_then(|reading| reading.state())
        };
        let mut happened = |uuid: &str, domain: &str, boottime_ms: u64, name: &'static str, detail: &str| {
            let attributes = [("name", domain), ("detail", detail)];
            let attributes = attributes.map(|(name, value)| (name.to_owned(), crate::text::clean(value, 1_000)));
            out.source(DOMAIN, uuid).event(Happening { name, boottime_ms, attributes: attributes.into() });
        };
        for Told { uuid, name, boottime_ms, what } in events {
            match what {
                What::Lifecycle { event, detail } => match self.lifecycle.take(&uuid, event, detail) {
                    Some(Meaning::Is(event, detail)) => happened(&uuid, &name, boottime_ms, event, detail),
                    Some(Meaning::Failed) => {
                        happened(&uuid, &name, boottime_ms, "domain.stopped", stopped(state_of(&uuid)));
                    }
                    None => {}
                },
                What::DeviceAdded(alias) => happened(&uuid, &name, boottime_ms, "domain.device_added", &alias),
                What::DeviceRemoved(alias) => happened(&uuid, &name, boottime_ms, "domain.device_removed", &alias),
                What::Described => {}
            }
        }
        let now_ms = tongtu_agent_runtime::clock::boottime_ms();
        for reading in &found.readings {
            if let Some(Meaning::Is(event, detail)) = self.lifecycle.find(&reading.uuid, reading.state()) {
                happened(&reading.uuid, &reading.name, now_ms, event, detail);
            }
        }
    }
}

struct Node {
    hypervisor: Hypervisor,
    caller: Caller<node::Session>,
    machine_id: String,
    told: BTreeMap<String, String>,
}

impl Collector for Node {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let node = answer(&self.hypervisor, self.caller.call(NODE_PATIENCE, node::Session::read))?;
        let mut put = |metric, labels: &[&str], value: Option<u64>| {
            if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
                out.put(metric, labels, value);
            }
        };
        put(&m::NODE_CPUS, &[], node.cpus);
        put(&m::NODE_MEMORY, &[], node.memory_bytes);
        put(&m::NODE_MEMORY_FREE, &[], node.memory_free_bytes);
        for pool in &node.pools {
            put(&m::POOL_CAPACITY, &[&pool.name], Some(pool.capacity));
            put(&m::POOL_ALLOCATION, &[&pool.name], Some(pool.allocation));
            put(&m::POOL_AVAILABLE, &[&pool.name], Some(pool.available));
        }
        let mut facts = node.facts;
        facts.insert("agent_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        if !self.machine_id.is_empty() {
            facts.insert("machine_id".to_owned(), self.machine_id.clone());
        }
        if facts != self.told {
            out.facts(facts.clone());
            self.told = facts;
        }
        Ok(())
    }
}
