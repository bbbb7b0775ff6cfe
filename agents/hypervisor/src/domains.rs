//! Reading all domains of a hypervisor: one call for the statistics of all, or several for each where the driver
//! has no such call; and what their XML says, of those that are new, were changed, or not looked at for long.

use crate::details::Details;
use crate::ffi::{self, Connection, Domain, Failure, Value};
use crate::hypervisor::Hypervisor;
use crate::reading::Reading;
use crate::text::clean;
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::sync::Arc;
use tongtu_agent_runtime::clock;

/// Domains of one agent; more are counted and left out.
const MOST: usize = 2_000;
/// What nothing told of is looked at again after this time.
const LOOK_AGAIN_MS: u64 = 300_000;
/// In one reading at most this share of the domains.
const LOOK_AGAIN_SHARE: usize = 20;
/// The first libvirt whose bulk statistics can leave out what would wait (4.5.0); an older one refuses to be asked so.
const NO_WAIT_SINCE: u32 = 4_005_000;

/// What a hypervisor told, in a thread that may hang.
pub(crate) struct Session {
    hypervisor: Hypervisor,
    /// Held between two readings, so that it stays open.
    connection: Option<Arc<Connection>>,
    bulk: Bulk,
    known: HashMap<String, Known>,
}

/// Statistics of all domains in one answer.
#[derive(Debug, Default)]
struct Bulk {
    /// The driver has none.
    is_missing: bool,
}

impl Bulk {
    /// Whether all are asked at once, by a libvirt of this version.
    fn is_asked(&self, no_wait: bool, version: impl FnOnce() -> u32) -> bool {
        !self.is_missing && (!no_wait || version() >= NO_WAIT_SINCE)
    }

    /// Whether an answer says that there are none; remembered.
    fn turns_out_missing(&mut self, answer: &Result<(), Failure>) -> bool {
        if answer.as_ref().is_err_and(Failure::is_unsupported) {
            tracing::info!("this hypervisor has no bulk statistics: each domain is asked");
            self.is_missing = true;
        }
        self.is_missing
    }
}

/// What is known of a domain.
struct Known {
    details: Arc<Details>,
    looked_ms: u64,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// Domains that something was told of.
    pub(crate) changed: HashSet<String>,
    /// Another call hangs: what would wait for it is left out.
    pub(crate) no_wait: bool,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) readings: Vec<Reading>,
    pub(crate) left_out: usize,
}

impl Session {
    pub(crate) fn new(hypervisor: &Hypervisor) -> Self {
        Self { hypervisor: hypervisor.clone(), connection: None, bulk: Bulk::default(), known: HashMap::new() }
    }

    /// Reads all domains; again with a new connection if the old one broke meanwhile.
    pub(crate) fn read(&mut self, request: &Request) -> Result<Found, Failure> {
        match self.read_once(request) {
            Err(_) if self.connection.take_if(|connection| !connection.is_alive()).is_some() => self.read_once(request),
            read => read,
        }
    }

    fn read_once(&mut self, request: &Request) -> Result<Found, Failure> {
        let connection = &**self.connection.insert(self.hypervisor.connection()?);
        let mut look = Look {
            request,
            again: self.known.len().div_ceil(LOOK_AGAIN_SHARE).max(1),
            now_ms: clock::boottime_ms(),
            known: &mut self.known,
            found: Found::default(),
        };
        let no_wait = request.no_wait;
        if self.bulk.is_asked(no_wait, || connection.version()) {
            let read = ffi::all_statistics(connection, no_wait, |domain, parameters| {
                look.take(domain, |reading, details| {
                    parameters.iter().for_each(|(field, value)| reading.take(field, &value));
                    // Some drivers say here no more than the state.
                    if !reading.knows_memory() {
                        return ask(domain, reading, details, no_wait);
                    }
                    // Where there are no control groups, some versions leave this out.
                    if reading.is_active()
                        && !reading.knows_cpu_time()
                        && let Ok([.., cpu_ns]) = domain.info()
                    {
                        reading.take("cpu.time", &Value::Number(i64::try_from(cpu_ns).unwrap_or(-1)));
                    }
                    Ok(())
                });
            });
            if !self.bulk.turns_out_missing(&read) {
                return read.map(|()| look.end());
            }
        }
        ffi::all_domains(connection, |domain| {
            look.take(domain, |reading, details| ask(domain, reading, details, no_wait));
        })?;
        Ok(look.end())
    }
}

/// One look at all domains.
struct Look<'a> {
    request: &'a Request,
    /// So many may be looked at again only because it was long ago.
    again: usize,
    now_ms: u64,
    known: &'a mut HashMap<String, Known>,
    found: Found,
}

impl Look<'_> {
    /// A domain of the list. One that is gone meanwhile is not found.
    fn take(&mut self, domain: &Domain<'_>, read: impl FnOnce(&mut Reading, &Details) -> Result<(), Failure>) {
        let Some(uuid) = domain.uuid() else { return };
        if self.found.readings.len() >= MOST {
            self.found.left_out += 1;
            return;
        }
        let mut reading = Reading::new(uuid, clean(&domain.name(), 255));
        let mut is_gone = false;
        match self.details(domain, &reading.uuid, false) {
            Ok(details) => reading.details = details,
            Err(failure) => is_gone = failure.is_gone(),
        }
        let details = Arc::clone(&reading.details);
        if is_gone || read(&mut reading, &details).is_err() {
            return;
        }
        if !details.knows_nics(reading.nics.iter().map(|nic| nic.name.as_str()))
            && let Ok(details) = self.details(domain, &reading.uuid, true)
        {
            reading.details = details;
        }
        reading.finish(clock::wall_ms() / 1_000);
        self.found.readings.push(reading);
    }

    fn details(&mut self, domain: &Domain<'_>, uuid: &str, anew: bool) -> Result<Arc<Details>, Failure> {
        let mut known = None;
        if let Some(of) = self.known.get(uuid).filter(|_| !anew && !self.request.changed.contains(uuid)) {
            if self.now_ms.saturating_sub(of.looked_ms) < LOOK_AGAIN_MS || self.again == 0 {
                return Ok(Arc::clone(&of.details));
            }
            self.again -= 1;
            known = Some(Arc::clone(&of.details));
        }
        let looked = look(domain, uuid)?;
        // The same one, if nothing changed: it is told from another by its address.
        let details = known.filter(|known| **known == looked).unwrap_or_else(|| Arc::new(looked));
        self.known.insert(uuid.to_owned(), Known { details: Arc::clone(&details), looked_ms: self.now_ms });
        Ok(details)
    }

    fn end(&mut self) -> Found {
        let found = std::mem::take(&mut self.found);
        let there: HashSet<&str> = found.readings.iter().map(|reading| reading.uuid.as_str()).collect();
        self.known.retain(|uuid, _| there.contains(uuid.as_str()));
        found
    }
}

/// What a domain's XML and a few questions say.
fn look(domain: &Domain<'_>, uuid: &str) -> Result<Details, Failure> {
    let mut details = Details::parse(&domain.xml()?).unwrap_or_else(|fault| {
        tracing::debug!(uuid, fault, "the XML of a domain cannot be read");
        Details::default()
    });
    details.put("uuid", Some(uuid));
    details.put("name", Some(&domain.name()));
    let as_text = |is: bool| if is { "true" } else { "false" };
    details.put("autostart", domain.autostart().map(as_text));
    details.put("persistent", domain.is_persistent().map(as_text));
    details.put("guest_addresses", Some(&domain.addresses().join(" ")));
    Ok(details)
}

/// Asks a domain itself, and names the figures as bulk statistics do. With `no_wait`, one that is busy is not asked for
/// what its process alone knows.
fn ask(domain: &Domain<'_>, reading: &mut Reading, details: &Details, no_wait: bool) -> Result<(), Failure> {
    let mut number = |field: &str, value: i64| reading.take(field, &Value::Number(value));
    let unsigned = |value: u64| i64::try_from(value).unwrap_or(-1);
    let (state, reason) = domain.state()?;
    number("state.state", state);
    number("state.reason", reason);
    let [maximum, memory, vcpus, cpu_ns] = domain.info()?.map(unsigned);
    number("balloon.maximum", maximum);
    number("balloon.current", memory);
    number("vcpu.current", vcpus);
    let is_active = ![0, 5, 6].contains(&state);
    if !is_active {
        return Ok(());
    }
    number("cpu.time", cpu_ns);
    for (index, (state, cpu_ns)) in domain.vcpus(usize::try_from(vcpus).unwrap_or(0)).into_iter().enumerate() {
        number(&format!("vcpu.{index}.state"), state);
        number(&format!("vcpu.{index}.time"), unsigned(cpu_ns));
    }
    let name = |reading: &mut Reading, field: String, name: &str| {
        reading.take(&field, &Value::Text(name.into()));
    };
    for (index, (target, _)) in details.nics.iter().enumerate() {
        let Ok(c_target) = CString::new(target.as_str()) else { continue };
        name(reading, format!("net.{index}.name"), target);
        let fields = ["rx.bytes", "rx.pkts", "rx.errs", "rx.drop", "tx.bytes", "tx.pkts", "tx.errs", "tx.drop"];
        for (field, value) in fields.into_iter().zip(domain.interface(&c_target).into_iter().flatten()) {
            reading.take(&format!("net.{index}.{field}"), &Value::Number(value));
        }
    }
    if no_wait && domain.is_busy() {
        return Ok(());
    }
    // virDomainMemoryStatTags
    let tags = [
        "balloon.swap_in",
        "balloon.swap_out",
        "balloon.major_fault",
        "balloon.minor_fault",
        "balloon.unused",
        "balloon.available",
        "balloon.current_again",
        "balloon.rss",
        "balloon.usable",
        "balloon.last-update",
        "balloon.disk_caches",
    ];
    for (tag, value) in domain.memory() {
        if let Some(field) = usize::try_from(tag).ok().and_then(|tag| tags.get(tag)) {
            reading.take(field, &Value::Number(unsigned(value)));
        }
    }
    for (index, (target, _)) in details.disks.iter().enumerate() {
        let Ok(c_target) = CString::new(target.as_str()) else { continue };
        name(reading, format!("block.{index}.name"), target);
        let mut number =
            |field: &str, value: i64| reading.take(&format!("block.{index}.{field}"), &Value::Number(value));
        if let Some(figures) = domain.disk(&c_target) {
            for (field, value) in ["rd.reqs", "rd.bytes", "wr.reqs", "wr.bytes", "errors"].into_iter().zip(figures) {
                number(field, value);
            }
        }
        if let Some(sizes) = domain.disk_size(&c_target) {
            for (field, value) in ["capacity", "allocation", "physical"].into_iter().zip(sizes) {
                number(field, unsigned(value));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics as m;
    use virt_sys as sys;

    /// Whoever opens it within a process shares its domains: other tests see the one that is made here.
    const URI: &str = "test:///default";

    #[test]
    fn what_goes_between_list_and_figures_is_left_out_alone() {
        let connection = Connection::open(URI).expect("libvirt's own driver");
        let writer = virt::connect::Connect::open(Some(URI)).expect("libvirt's own driver");
        // One that is only started: when it ends, libvirt knows it no more.
        let xml = "<domain type='test'><name>fleeting</name><memory>4096</memory><os><type>hvm</type></os></domain>";
        let fleeting = virt::domain::Domain::create_xml(&writer, xml, 0).expect("a domain");
        let (request, mut known) = (Request::default(), HashMap::new());
        let mut look = Look { request: &request, again: 1, now_ms: 0, known: &mut known, found: Found::default() };
        let mut listed = Vec::new();
        ffi::all_domains(&connection, |domain| {
            if listed.is_empty() {
                fleeting.destroy().expect("it runs");
            }
            listed.push(domain.name());
            look.take(domain, |reading, details| ask(domain, reading, details, false));
        })
        .expect("a list");
        listed.sort_unstable();
        assert_eq!(listed, ["fleeting", "test"]);
        let names: Vec<_> = look.end().readings.iter().map(|reading| reading.name.clone()).collect();
        assert_eq!(names, ["test"]);
    }

    #[test]
    fn all_are_asked_at_once_where_that_is_known_and_does_not_wait() {
        let mut bulk = Bulk::default();
        assert!(bulk.is_asked(false, || panic!("the version is not asked for without need")));
        assert!(bulk.is_asked(true, || NO_WAIT_SINCE) && !bulk.is_asked(true, || 4_004_000));
        assert!(!bulk.is_asked(true, || 0), "it does not say its version");
        let mut turns_out = |answer| bulk.turns_out_missing(&answer);
        assert!(!turns_out(Ok(())) && !turns_out(Err(Failure::of(sys::VIR_ERR_INTERNAL_ERROR))));
        assert!(turns_out(Err(Failure::of(sys::VIR_ERR_NO_SUPPORT))));
        assert!(!bulk.is_asked(false, || u32::MAX), "that is remembered");
    }

    #[test]
    fn who_is_asked_alone_has_the_same_figures() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("host.xml");
        let xml = "<node><domain type='test'><name>db-1</name><memory>1048576</memory><vcpu>2</vcpu>
            <os><type>hvm</type></os><devices>
            <disk type='file' device='disk'><source file='/guest/a.img'/><target dev='vda' bus='virtio'/></disk>
            <interface type='bridge'><source bridge='br9'/></interface></devices></domain></node>";
        std::fs::write(&file, xml).expect("a file");
        let hypervisor = Hypervisor::at(&format!("test://{}", file.display()));
        let mut session = Session { bulk: Bulk { is_missing: true }, ..Session::new(&hypervisor) };
        for no_wait in [false, true] {
            let found = session.read(&Request { no_wait, ..Request::default() }).expect("libvirt's own driver");
            let [reading] = found.readings.as_slice() else { panic!("one domain: {found:?}") };
            let figures = reading.figures();
            for figure in [
                ("", m::STATE.name),
                ("", m::MAXIMUM_MEMORY.name),
                ("", m::CPU_TIME.name),
                ("0", m::VCPU_TIME.name),
                ("vda", m::READ_BYTES.name),
                ("vda", m::PHYSICAL.name),
                ("testnet0", m::RECEIVE_BYTES.name),
            ] {
                assert!(figures.contains(&figure), "{figure:?}: {figures:?}");
            }
        }
    }
}
