//! The node itself: its processors and memory, storage pools, networks. Asked once a minute, by a thread of its
//! own, because pools on a network may hang. What cannot change while libvirtd runs is asked once a connection.

use crate::details::{child, text};
use crate::ffi::{Connection, Failure};
use crate::hypervisor::Hypervisor;
use crate::text::clean;
use roxmltree::Document;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use virt::connect::Connect;

/// Pools and networks among the facts, each.
const MOST: usize = 256;
/// virStoragePoolState.
const POOL_STATES: [&str; 5] = ["inactive", "building", "running", "degraded", "inaccessible"];
const POOL_RUNNING: u32 = 2;
const KIB: u64 = 1_024;

/// What a hypervisor told, in a thread that may hang.
pub(crate) struct Session {
    hypervisor: Hypervisor,
    /// The last connection, and the facts that stay as long as it does, if all were told.
    connection: Option<Arc<Connection>>,
    lasting: Option<BTreeMap<String, String>>,
}

/// A storage pool that runs, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) capacity: u64,
    pub(crate) allocation: u64,
    pub(crate) available: u64,
}

/// The node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) cpus: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) memory_free_bytes: Option<u64>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) facts: BTreeMap<String, String>,
}

impl Session {
    pub(crate) fn new(hypervisor: &Hypervisor) -> Self {
        Self { hypervisor: hypervisor.clone(), connection: None, lasting: None }
    }

    pub(crate) fn read(&mut self) -> Result<Node, Failure> {
        let open = self.hypervisor.connection()?;
        if !self.connection.as_ref().is_some_and(|known| Arc::ptr_eq(known, &open)) {
            self.lasting = None;
        }
        let connection = self.connection.insert(open).bindings();
        let mut node = Node::default();
        // What a driver lacks (storage, networks) is absent; a connection that broke is a failure.
        let info = connection.get_node_info()?;
        node.cpus = Some(info.cpus.into());
        node.memory(connection, info.memory * KIB);
        let mut facts = Facts(&mut node.facts);
        facts.put("cpus", &info.cpus.to_string());
        facts.put("numa_nodes", &info.nodes.to_string());
        facts.put("cpu_sockets", &info.sockets.to_string());
        facts.put("cpu_cores", &info.cores.to_string());
        facts.put("cpu_threads", &info.threads.to_string());
        if info.mhz > 0 {
            facts.put("cpu_mhz", &info.mhz.to_string());
        }
        facts.put("architecture", &info.model);
        facts.put("uri", self.hypervisor.uri());
        facts.put_if("hostname", connection.get_hostname());
        facts.put_if("hypervisor_version", connection.get_hyp_version().map(version));
        match &self.lasting {
            Some(lasting) => node.facts.extend(lasting.clone()),
            None => {
                let (lasting, is_whole) = lasting(connection);
                node.facts.extend(lasting.clone());
                self.lasting = is_whole.then_some(lasting);
            }
        }
        if let Some(memory) = node.memory_bytes {
            node.facts.insert("memory_bytes".to_owned(), memory.to_string());
        }
        node.pools(connection);
        node.networks(connection);
        Ok(node)
    }
}

impl Node {
    /// What the kernel counts, as the host's agent does; what the node's information says is in places wrong.
    fn memory(&mut self, connection: &Connect, by_information: u64) {
        let kernel = std::fs::read_to_string("/proc/meminfo").ok().filter(|_| is_local(connection));
        let field = |name: &str| {
            let line = kernel.as_deref()?.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(KIB)
        };
        self.memory_bytes = field("MemTotal:").or(Some(by_information)).filter(|bytes| *bytes > 0);
        self.memory_free_bytes = field("MemFree:").or_else(|| connection.get_free_memory().ok());
    }

    fn pools(&mut self, connection: &Connect) {
        for pool in connection.list_all_storage_pools(0).unwrap_or_default().iter().take(MOST) {
            let (Ok(name), Ok(info)) = (pool.get_name(), pool.get_info()) else { continue };
            let name = clean(&name, 255);
            let xml = pool.get_xml_desc(0).unwrap_or_default();
            let document = Document::parse(&xml).ok();
            let root = document.as_ref().map(Document::root_element);
            let path = root.and_then(|pool| child(pool, "target")).and_then(|target| text(target, "path"));
            let fact = json!({
                "type": root.and_then(|pool| pool.attribute("type")),
                "state": POOL_STATES.get(info.state as usize),
                "autostart": pool.get_autostart().ok(),
                "path": path.map(|path| clean(path, 1_000)),
            });
            self.facts.insert(format!("pool.{name}"), without_nulls(fact));
            if info.state == POOL_RUNNING {
                let (capacity, allocation, available) = (info.capacity, info.allocation, info.available);
                self.pools.push(Pool { name, capacity, allocation, available });
            }
        }
    }

    fn networks(&mut self, connection: &Connect) {
        for network in connection.list_all_networks(0).unwrap_or_default().iter().take(MOST) {
            let Ok(name) = network.get_name() else { continue };
            let xml = network.get_xml_desc(0).unwrap_or_default();
            let document = Document::parse(&xml).ok();
            let root = document.as_ref().map(Document::root_element);
            let of = |element, attribute| {
                root.and_then(|network| child(network, element)).and_then(|node| node.attribute(attribute))
            };
            let forward = of("forward", "mode").map(|mode| clean(mode, 100));
            let fact = json!({
                "active": network.is_active().ok(),
                "autostart": network.get_autostart().ok(),
                "bridge": of("bridge", "name").map(|bridge| clean(bridge, 100)),
                "forward": forward,
            });
            self.facts.insert(format!("network.{}", clean(&name, 255)), without_nulls(fact));
        }
    }
}

/// The facts that stay as long as a connection: another libvirtd, or another boot, ends it. And whether all were told.
fn lasting(connection: &Connect) -> (BTreeMap<String, String>, bool) {
    let mut lasting = BTreeMap::new();
    let mut facts = Facts(&mut lasting);
    let (hypervisor, libvirt) = (connection.get_type(), connection.get_lib_version());
    let capabilities = connection.get_capabilities();
    let is_whole = hypervisor.is_ok() && libvirt.is_ok() && capabilities.is_ok();
    facts.put_if("hypervisor", hypervisor);
    facts.put_if("libvirt_version", libvirt.map(version));
    if let Ok(capabilities) = capabilities {
        facts.capabilities(&capabilities);
    }
    (lasting, is_whole)
}

/// Whether the hypervisor is that of this machine: its address names no host.
fn is_local(connection: &Connect) -> bool {
    let uri = connection.get_uri().unwrap_or_default();
    uri.split_once("://").is_some_and(|(driver, rest)| rest.starts_with('/') && !driver.starts_with("test"))
}

/// libvirt writes 7.2.0 as 7002000.
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

fn without_nulls(mut object: serde_json::Value) -> String {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    object.to_string()
}

struct Facts<'a>(&'a mut BTreeMap<String, String>);

impl Facts<'_> {
    /// A fact; an empty one is none.
    fn put(&mut self, name: &str, value: &str) {
        let value = clean(value, 1_000);
        if !value.is_empty() {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn put_if<E>(&mut self, name: &str, value: Result<String, E>) {
        if let Ok(value) = value {
            self.put(name, &value);
        }
    }

    fn capabilities(&mut self, xml: &str) {
        let Ok(document) = Document::parse(xml) else { return };
        let Some(host) = child(document.root_element(), "host") else { return };
        self.put("host_uuid", text(host, "uuid").unwrap_or_default());
        if let Some(cpu) = child(host, "cpu") {
            self.put("architecture", text(cpu, "arch").unwrap_or_default());
            self.put("cpu_model", text(cpu, "model").unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_asked_once_a_connection_and_told_each_time() {
        // Of nobody else in this process.
        let hypervisor = Hypervisor::at("test:///default?node");
        let mut session = Session::new(&hypervisor);
        let first = session.read().expect("libvirt's own driver").facts;
        assert_eq!(first["hypervisor"], "TEST");
        let mark =
            |session: &mut Session| session.lasting.as_mut().map(|lasting| lasting.insert("mark".into(), "".into()));
        assert!(mark(&mut session).is_some(), "all was told: {first:?}");
        let second = session.read().expect("the same").facts;
        assert!(second.contains_key("mark") && first.iter().all(|(name, value)| second[name] == *value), "{second:?}");
        hypervisor.leave();
        assert_eq!(session.read().expect("another").facts, first, "asked anew");
    }

    #[test]
    fn versions_and_empty_members() {
        assert_eq!((version(9_000_000), version(7_002_011)), ("9.0.0".to_owned(), "7.2.11".to_owned()));
        assert_eq!(without_nulls(json!({ "a": null, "b": 1 })), "{\"b\":1}");
        let mut facts = BTreeMap::new();
        Facts(&mut facts).capabilities(
            "<capabilities><host><uuid>u</uuid><cpu><arch>x86_64</arch><model>EPYC</model></cpu></host></capabilities>",
        );
        assert_eq!((facts["host_uuid"].as_str(), facts["cpu_model"].as_str()), ("u", "EPYC"));
    }
}
