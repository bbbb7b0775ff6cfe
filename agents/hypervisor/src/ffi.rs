//! The only unsafe code of the agent: what the bindings lack or do wrongly. They leak bulk statistics, know no
//! events, and panic on a text that is not UTF-8.
//!
//! What must hold:
//! - a pointer that libvirt gives is freed once, by the function that libvirt names for it, also on a panic;
//! - a [`Domain`] lives no longer than the list that it stands in;
//! - a callback catches its panics and touches nothing but the list or bell it was given, which is freed by
//!   libvirt's own call when the registration ends;
//! - the event loop is registered before the first connection is opened.

#![expect(unsafe_code, reason = "libvirt is a C library, and its bindings lack these calls")]

use crate::events::{Bell, Told, ToldList, What};
use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tongtu_agent_runtime::clock;
use virt::connect::Connect;
use virt_sys as sys;

/// Seconds without a word after which a connection is asked for a sign of life, and how many may be missing. libvirtd
/// asks after five, so that as long as it lives this never has to.
const KEEP_ALIVE: (i32, u32) = (8, 2);

/// What libvirt complains of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    code: u32,
    message: String,
}

impl Failure {
    /// The last error of this thread.
    fn last() -> Self {
        // SAFETY: the error belongs to this thread and stays until its next call.
        let error = unsafe { sys::virGetLastError().as_ref() };
        match error {
            // SAFETY: a message is null or ends with a zero, and is libvirt's until the next call.
            Some(error) => Self { code: error.code as u32, message: unsafe { text(error.message) } },
            None => Self { code: 0, message: "libvirt gives no reason".to_owned() },
        }
    }

    /// The driver has no such function.
    pub(crate) fn is_unsupported(&self) -> bool {
        [sys::VIR_ERR_NO_SUPPORT, sys::VIR_ERR_OPERATION_UNSUPPORTED].contains(&self.code)
    }

    /// One with libvirt's number.
    #[cfg(test)]
    pub(crate) fn of(code: u32) -> Self {
        Self { code, message: String::new() }
    }

    /// The domain is not there any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.code == sys::VIR_ERR_NO_DOMAIN
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<virt::error::Error> for Failure {
    fn from(error: virt::error::Error) -> Self {
        // The bindings took it from the same place, in the same thread.
        let last = Self::last();
        if last.code == 0 { Self { code: 0, message: error.to_string() } } else { last }
    }
}

/// A C text, whatever its bytes are; empty for null.
///
/// # Safety
/// `pointer` is null or points to a text that ends with a zero.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// A C text that is ours to free.
///
/// # Safety
/// As of [`text`], and it was allocated by libvirt for us.
unsafe fn owned_text(pointer: *mut c_char) -> Result<String, Failure> {
    if pointer.is_null() {
        return Err(Failure::last());
    }
    // SAFETY: as the caller says.
    let owned = unsafe { text(pointer) };
    // SAFETY: libvirt allocates with malloc what it gives away.
    unsafe { libc::free(pointer.cast()) };
    Ok(owned)
}

/// A read-only connection; closed when dropped.
pub(crate) struct Connection {
    libvirt: Connect,
    version: OnceLock<u32>,
}

impl Connection {
    /// Opens one.
    pub(crate) fn open(uri: &str) -> Result<Self, Failure> {
        start_event_loop()?;
        let connection = Self { libvirt: Connect::open_read_only(Some(uri))?, version: OnceLock::new() };
        // A driver inside this process has nobody to keep alive.
        let _ = connection.libvirt.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1);
        Ok(connection)
    }

    /// With the bindings' own calls.
    pub(crate) fn bindings(&self) -> &Connect {
        &self.libvirt
    }

    /// Whether it is worth asking. Asks nobody.
    pub(crate) fn is_alive(&self) -> bool {
        self.libvirt.is_alive().unwrap_or(false)
    }

    /// The version of the libvirt that answers, 7.2.0 as 7002000; 0 if it does not say. Asked once.
    pub(crate) fn version(&self) -> u32 {
        *self.version.get_or_init(|| self.libvirt.get_lib_version().unwrap_or(0))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.libvirt.close();
    }
}

/// Registers libvirt's own event loop and runs it in a thread, once in a process. Keep-alive and events need it.
fn start_event_loop() -> Result<(), Failure> {
    static STARTED: OnceLock<Result<(), Failure>> = OnceLock::new();
    let start = || {
        // SAFETY: the handler is a function that never goes away, and is given no data.
        unsafe { sys::virSetErrorFunc(ptr::null_mut(), Some(keep_quiet)) };
        // SAFETY: no connection was opened yet: every one is opened behind this.
        if unsafe { sys::virEventRegisterDefaultImpl() } < 0 {
            return Err(Failure::last());
        }
        let run = || {
            loop {
                // SAFETY: the loop is registered, and this is the only thread that runs it.
                if unsafe { sys::virEventRunDefaultImpl() } < 0 {
                    tracing::warn!(reason = %Failure::last(), "libvirt's event loop stumbles");
                    std::thread::park_timeout(Duration::from_secs(1));
                }
            }
        };
        let thread = std::thread::Builder::new().name("libvirt-loop".into()).spawn(run);
        thread.map(drop).map_err(|error| Failure { code: 0, message: format!("no thread for events: {error}") })
    };
    STARTED.get_or_init(start).clone()
}

/// libvirt would print every error.
extern "C" fn keep_quiet(_: *mut c_void, _: sys::virErrorPtr) {}

/// One of libvirt's numbers or texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(i64),
    Text(Cow<'a, str>),
}

/// What bulk statistics say of a domain: names such as `block.0.rd.bytes`, with their values.
#[derive(Clone, Copy)]
pub(crate) struct Parameters<'a>(&'a [sys::virTypedParameter]);

impl<'a> Parameters<'a> {
    /// Each that is a whole number or a text.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.0.iter().filter_map(|parameter| {
            // SAFETY: characters and bytes have the same size and alignment.
            let field: &[u8] =
                unsafe { std::slice::from_raw_parts(parameter.field.as_ptr().cast(), parameter.field.len()) };
            let field = CStr::from_bytes_until_nul(field).ok()?.to_str().ok()?;
            Some((field, value(parameter)?))
        })
    }
}

fn value(parameter: &sys::virTypedParameter) -> Option<Value<'_>> {
    let held = &parameter.value;
    // SAFETY: the type says which member of the union is set; a text ends with a zero and lives as long as its list.
    let number = unsafe {
        match parameter.type_ as c_uint {
            sys::VIR_TYPED_PARAM_INT => held.i.into(),
            sys::VIR_TYPED_PARAM_UINT => held.ui.into(),
            sys::VIR_TYPED_PARAM_LLONG => held.l,
            sys::VIR_TYPED_PARAM_ULLONG => i64::try_from(held.ul).ok()?,
            sys::VIR_TYPED_PARAM_BOOLEAN => i64::from(held.b != 0),
            sys::VIR_TYPED_PARAM_STRING if !held.s.is_null() => {
                return Some(Value::Text(CStr::from_ptr(held.s).to_string_lossy()));
            }
            _ => return None,
        }
    };
    Some(Value::Number(number))
}

/// The groups of statistics that are asked for.
const STATISTICS: c_uint = (sys::VIR_DOMAIN_STATS_STATE
    | sys::VIR_DOMAIN_STATS_CPU_TOTAL
    | sys::VIR_DOMAIN_STATS_BALLOON
    | sys::VIR_DOMAIN_STATS_VCPU
    | sys::VIR_DOMAIN_STATS_INTERFACE
    | sys::VIR_DOMAIN_STATS_BLOCK) as c_uint;

/// Records of bulk statistics; freed when dropped.
struct Records {
    list: *mut sys::virDomainStatsRecordPtr,
    count: usize,
}

impl Drop for Records {
    fn drop(&mut self) {
        // SAFETY: libvirt made the list, and it is freed nowhere else.
        unsafe { sys::virDomainStatsRecordListFree(self.list) };
    }
}

/// Gives the statistics of every domain to `take`. With `no_wait`, which libvirt knows since 4.5, a domain that is busy
/// has only those for which nobody has to be asked.
pub(crate) fn all_statistics(
    connection: &Connection,
    no_wait: bool,
    mut take: impl FnMut(&Domain<'_>, Parameters<'_>),
) -> Result<(), Failure> {
    let flags = if no_wait { sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT as c_uint } else { 0 };
    let mut list = ptr::null_mut();
    // SAFETY: the connection is open; libvirt writes a list of as many records as it returns.
    let count = unsafe { sys::virConnectGetAllDomainStats(connection.libvirt.as_ptr(), STATISTICS, &mut list, flags) };
    let count = usize::try_from(count).map_err(|_| Failure::last())?;
    let records = Records { list, count };
    for index in 0..records.count {
        // SAFETY: below the count a record and what it points to are there until the list is freed, which is
        // after the loop; no parameters may be a null pointer.
        let (pointer, parameters) = unsafe {
            let record = &**records.list.add(index);
            let parameters = match usize::try_from(record.nparams) {
                Ok(count) if count > 0 => std::slice::from_raw_parts(record.params, count),
                _ => &[],
            };
            (record.dom, parameters)
        };
        take(&Domain { pointer, list: PhantomData }, Parameters(parameters));
    }
    Ok(())
}

/// Domains of a list; freed when dropped.
struct Domains {
    list: *mut sys::virDomainPtr,
    count: usize,
}

impl Drop for Domains {
    fn drop(&mut self) {
        // SAFETY: libvirt made the list and its domains, and they are freed nowhere else.
        unsafe {
            for index in 0..self.count {
                sys::virDomainFree(*self.list.add(index));
            }
            libc::free(self.list.cast());
        }
    }
}

/// Gives every domain to `take`.
pub(crate) fn all_domains(connection: &Connection, mut take: impl FnMut(&Domain<'_>)) -> Result<(), Failure> {
    let mut list = ptr::null_mut();
    // SAFETY: the connection is open; libvirt writes a list of as many domains as it returns.
    let count = unsafe { sys::virConnectListAllDomains(connection.libvirt.as_ptr(), &mut list, 0) };
    let domains = Domains { list, count: usize::try_from(count).map_err(|_| Failure::last())? };
    for index in 0..domains.count {
        // SAFETY: below the count there is a domain until the list is freed, which is after the loop.
        let pointer = unsafe { *domains.list.add(index) };
        take(&Domain { pointer, list: PhantomData });
    }
    Ok(())
}

/// A domain of a list.
pub(crate) struct Domain<'a> {
    pointer: sys::virDomainPtr,
    list: PhantomData<&'a ()>,
}

/// An address that a domain has by somebody's word.
pub(crate) type Address = String;

impl Domain<'_> {
    /// Lower case, with dashes. Asks nobody.
    pub(crate) fn uuid(&self) -> Option<String> {
        // SAFETY: the domain is there.
        unsafe { uuid_of(self.pointer) }
    }

    /// Asks nobody.
    pub(crate) fn name(&self) -> String {
        // SAFETY: the domain is there, and its name lives as long.
        unsafe { text(sys::virDomainGetName(self.pointer)) }
    }

    /// Its description as it is now.
    pub(crate) fn xml(&self) -> Result<String, Failure> {
        // SAFETY: the domain is there; the text is ours to free.
        unsafe { owned_text(sys::virDomainGetXMLDesc(self.pointer, 0)) }
    }

    /// Whether it starts with the host.
    pub(crate) fn autostart(&self) -> Option<bool> {
        let mut autostart: c_int = 0;
        // SAFETY: the domain is there, and the number outlives the call.
        let answer = unsafe { sys::virDomainGetAutostart(self.pointer, &mut autostart) };
        (answer == 0).then_some(autostart != 0)
    }

    /// Whether it stays defined when it stops.
    pub(crate) fn is_persistent(&self) -> Option<bool> {
        // SAFETY: the domain is there.
        match unsafe { sys::virDomainIsPersistent(self.pointer) } {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Addresses by the leases of libvirt's networks and by the host's neighbours.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let sources = [sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP];
        let mut addresses: Vec<Address> =
            sources.into_iter().flat_map(|source| self.addresses_by(source as c_uint)).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    fn addresses_by(&self, source: c_uint) -> Vec<Address> {
        let mut list: *mut sys::virDomainInterfacePtr = ptr::null_mut();
        // SAFETY: the domain is there; libvirt writes a list of as many interfaces as it returns.
        let count = unsafe { sys::virDomainInterfaceAddresses(self.pointer, &mut list, source, 0) };
        let mut addresses = Vec::new();
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: below the count there is an interface with as many addresses as it says; each is freed
            // once, behind its last use.
            unsafe {
                let interface = *list.add(index);
                for at in 0..(*interface).naddrs as usize {
                    addresses.push(text((*(*interface).addrs.add(at)).addr));
                }
                sys::virDomainInterfaceFree(interface);
            }
        }
        // SAFETY: the list is ours; null is fine.
        unsafe { libc::free(list.cast()) };
        addresses
    }

    /// State and reason.
    pub(crate) fn state(&self) -> Result<(i64, i64), Failure> {
        let (mut state, mut reason): (c_int, c_int) = (0, 0);
        // SAFETY: the domain is there, and the numbers outlive the call.
        let answer = unsafe { sys::virDomainGetState(self.pointer, &mut state, &mut reason, 0) };
        if answer < 0 { Err(Failure::last()) } else { Ok((state.into(), reason.into())) }
    }

    /// Whether its process is asked something just now, so that the next question would wait. Does not wait itself.
    pub(crate) fn is_busy(&self) -> bool {
        // SAFETY: plain numbers, for which zero is a value.
        let mut control: sys::virDomainControlInfo = unsafe { std::mem::zeroed() };
        // SAFETY: the domain is there, and the structure outlives the call.
        let answer = unsafe { sys::virDomainGetControlInfo(self.pointer, &mut control, 0) };
        answer == 0 && control.state != sys::VIR_DOMAIN_CONTROL_OK
    }

    /// Memory at most and now (KiB), processors, CPU time (ns).
    pub(crate) fn info(&self) -> Result<[u64; 4], Failure> {
        // SAFETY: plain numbers, for which zero is a value.
        let mut info: sys::virDomainInfo = unsafe { std::mem::zeroed() };
        // SAFETY: the domain is there, and the structure outlives the call.
        if unsafe { sys::virDomainGetInfo(self.pointer, &mut info) } < 0 {
            return Err(Failure::last());
        }
        Ok([info.maxMem, info.memory, info.nrVirtCpu.into(), info.cpuTime])
    }

    /// State and CPU time (ns) of each virtual processor.
    pub(crate) fn vcpus(&self, most: usize) -> Vec<(i64, u64)> {
        // SAFETY: plain numbers, for which zero is a value.
        let zero: sys::virVcpuInfo = unsafe { std::mem::zeroed() };
        let mut vcpus = vec![zero; most.min(4_096)];
        // SAFETY: the domain is there, libvirt writes at most as many as it is told, and no map is asked for.
        let count = unsafe {
            sys::virDomainGetVcpus(self.pointer, vcpus.as_mut_ptr(), vcpus.len() as c_int, ptr::null_mut(), 0)
        };
        let known = vcpus.iter().take(usize::try_from(count).unwrap_or(0));
        known.map(|vcpu| (vcpu.state.into(), vcpu.cpuTime)).collect()
    }

    /// Figures of the guest's memory by their tags (KiB, but for faults).
    pub(crate) fn memory(&self) -> Vec<(c_int, u64)> {
        // SAFETY: plain numbers, for which zero is a value.
        let zero: sys::virDomainMemoryStatStruct = unsafe { std::mem::zeroed() };
        let mut figures = [zero; 32];
        // SAFETY: the domain is there, and libvirt writes at most as many as it is told.
        let count =
            unsafe { sys::virDomainMemoryStats(self.pointer, figures.as_mut_ptr(), figures.len() as c_uint, 0) };
        figures.iter().take(usize::try_from(count).unwrap_or(0)).map(|figure| (figure.tag, figure.val)).collect()
    }

    /// Of a disk: reads, bytes read, writes, bytes written, errors; what is not known is below zero.
    pub(crate) fn disk(&self, target: &CStr) -> Option<[i64; 5]> {
        // SAFETY: plain numbers, for which zero is a value.
        let mut figures: sys::virDomainBlockStatsStruct = unsafe { std::mem::zeroed() };
        let size = std::mem::size_of_val(&figures);
        // SAFETY: the domain is there; text and structure outlive the call, and the size is the structure's.
        let answer = unsafe { sys::virDomainBlockStats(self.pointer, target.as_ptr(), &mut figures, size) };
        let figures = [figures.rd_req, figures.rd_bytes, figures.wr_req, figures.wr_bytes, figures.errs];
        (answer == 0).then_some(figures)
    }

    /// Of a disk: capacity, allocation and physical size.
    pub(crate) fn disk_size(&self, target: &CStr) -> Option<[u64; 3]> {
        // SAFETY: plain numbers, for which zero is a value.
        let mut sizes: sys::virDomainBlockInfo = unsafe { std::mem::zeroed() };
        // SAFETY: the domain is there; text and structure outlive the call.
        let answer = unsafe { sys::virDomainGetBlockInfo(self.pointer, target.as_ptr(), &mut sizes, 0) };
        (answer == 0).then_some([sizes.capacity, sizes.allocation, sizes.physical])
    }

    /// Of an interface: bytes, packets, errors and drops, received and then sent; unknown is below zero.
    pub(crate) fn interface(&self, target: &CStr) -> Option<[i64; 8]> {
        // SAFETY: plain numbers, for which zero is a value.
        let mut figures: sys::virDomainInterfaceStatsStruct = unsafe { std::mem::zeroed() };
        let size = std::mem::size_of_val(&figures);
        // SAFETY: the domain is there; text and structure outlive the call, and the size is the structure's.
        let answer = unsafe { sys::virDomainInterfaceStats(self.pointer, target.as_ptr(), &mut figures, size) };
        let received = [figures.rx_bytes, figures.rx_packets, figures.rx_errs, figures.rx_drop];
        let sent = [figures.tx_bytes, figures.tx_packets, figures.tx_errs, figures.tx_drop];
        let mut all = [0; 8];
        all[..4].copy_from_slice(&received);
        all[4..].copy_from_slice(&sent);
        (answer == 0).then_some(all)
    }
}

/// # Safety
/// The domain is there.
unsafe fn uuid_of(pointer: sys::virDomainPtr) -> Option<String> {
    let mut uuid = [0 as c_char; sys::VIR_UUID_STRING_BUFLEN as usize];
    // SAFETY: the buffer has the size that libvirt asks for.
    let answer = unsafe { sys::virDomainGetUUIDString(pointer, uuid.as_mut_ptr()) };
    // SAFETY: it wrote a text that ends with a zero.
    (answer == 0).then(|| unsafe { text(uuid.as_ptr()) }.to_ascii_lowercase())
}

/// The events of a connection's domains go to a list, and its end to a bell; until it is dropped.
pub(crate) struct Watch {
    connection: Arc<Connection>,
    callbacks: Vec<c_int>,
    /// The bell is known to libvirt.
    rings: bool,
}

impl Watch {
    /// Begins; `told` is filled by libvirt's event loop, and `bell` rung by whoever finds the connection broken.
    pub(crate) fn start(connection: Arc<Connection>, told: &ToldList, bell: &Bell) -> Result<Self, Failure> {
        type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
        let mut watch = Self { connection, callbacks: Vec::new(), rings: false };
        let opaque: *mut Bell = Box::into_raw(Box::new(bell.clone()));
        // SAFETY: the connection is open; the bell is freed by `forget`, once, when the registration ends. A driver
        // that lives in this process never breaks, takes no registration and keeps the bell.
        let answer = unsafe {
            let (call, opaque, free) = (Some(on_close as OnClose), opaque.cast(), Some(forget::<Bell> as Forget));
            sys::virConnectRegisterCloseCallback(watch.connection.libvirt.as_ptr(), call, opaque, free)
        };
        watch.rings = answer >= 0;
        if !watch.rings {
            // SAFETY: libvirt does not free what it did not register.
            unsafe { forget::<Bell>(opaque.cast()) };
        }
        // SAFETY: libvirt calls each of these with the arguments of the kind of event that it is registered for,
        // which are those of its declaration below.
        let kinds = unsafe {
            [
                (
                    sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
                    std::mem::transmute::<OnLifecycle, Generic>(on_lifecycle),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED as c_int,
                    std::mem::transmute::<OnDevice, Generic>(on_device_added),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED as c_int,
                    std::mem::transmute::<OnDevice, Generic>(on_device_removed),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_METADATA_CHANGE as c_int,
                    std::mem::transmute::<OnMetadata, Generic>(on_metadata),
                ),
                (sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE as c_int, std::mem::transmute::<OnAgent, Generic>(on_agent)),
            ]
        };
        for (kind, callback) in kinds {
            let opaque: *mut ToldList = Box::into_raw(Box::new(told.clone()));
            // SAFETY: the connection is open; the list is freed by `forget`, once, when the registration ends.
            let id = unsafe {
                sys::virConnectDomainEventRegisterAny(
                    watch.connection.libvirt.as_ptr(),
                    ptr::null_mut(),
                    kind,
                    Some(callback),
                    opaque.cast(),
                    Some(forget::<ToldList>),
                )
            };
            if id >= 0 {
                watch.callbacks.push(id);
                continue;
            }
            let failure = Failure::last();
            // SAFETY: libvirt does not free what it did not register.
            unsafe { forget::<ToldList>(opaque.cast()) };
            // Of a driver that knows fewer kinds the others are enough.
            if kind == sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int {
                return Err(failure);
            }
        }
        Ok(watch)
    }

    /// Whether libvirt rings when its connection ends.
    pub(crate) fn rings(&self) -> bool {
        self.rings
    }

    /// Whether its connection still is one.
    pub(crate) fn is_alive(&self) -> bool {
        self.connection.is_alive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.rings {
            // SAFETY: the connection is open until behind this.
            unsafe { sys::virConnectUnregisterCloseCallback(self.connection.libvirt.as_ptr(), Some(on_close)) };
        }
        for id in self.callbacks.drain(..) {
            // SAFETY: the connection is open until behind this.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connection.libvirt.as_ptr(), id) };
        }
    }
}

type OnClose = unsafe extern "C" fn(sys::virConnectPtr, c_int, *mut c_void);
type Forget = unsafe extern "C" fn(*mut c_void);
type OnLifecycle = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type OnDevice = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);
type OnAgent = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);
type OnMetadata = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *const c_char, *mut c_void);

unsafe extern "C" fn on_close(_: sys::virConnectPtr, _: c_int, opaque: *mut c_void) {
    // SAFETY: it is a bell that `Watch::start` gave away and `forget` has not freed.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe { &*opaque.cast::<Bell>() }.closed()));
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: as libvirt calls it.
    unsafe { tell(domain, opaque, || What::Lifecycle { event, detail }) };
    0
}

unsafe extern "C" fn on_device_added(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: as libvirt calls it; the alias is a text.
    unsafe { tell(domain, opaque, || What::DeviceAdded(text(alias))) };
}

unsafe extern "C" fn on_device_removed(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: as libvirt calls it; the alias is a text.
    unsafe { tell(domain, opaque, || What::DeviceRemoved(text(alias))) };
}

unsafe extern "C" fn on_metadata(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: c_int,
    _: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: as libvirt calls it.
    unsafe { tell(domain, opaque, || What::Described) };
}

unsafe extern "C" fn on_agent(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: c_int,
    _: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: as libvirt calls it.
    unsafe { tell(domain, opaque, || What::Described) };
}

/// # Safety
/// The domain is there, and `opaque` is a list that [`Watch::start`] gave away and `forget` has not freed.
unsafe fn tell(domain: sys::virDomainPtr, opaque: *mut c_void, what: impl FnOnce() -> What) {
    let told = || {
        // SAFETY: as the caller says; the list is shared behind a lock.
        let list = unsafe { &*opaque.cast::<ToldList>() };
        // SAFETY: as the caller says.
        let (uuid, name) = unsafe { (uuid_of(domain), text(sys::virDomainGetName(domain))) };
        let Some(uuid) = uuid else { return };
        list.push(Told { uuid, name, boottime_ms: clock::boottime_ms(), what: what() });
    };
    // Nothing may unwind into C.
    let _ = catch_unwind(AssertUnwindSafe(told));
}

/// Frees a list or a bell that was given away.
unsafe extern "C" fn forget<T>(opaque: *mut c_void) {
    // SAFETY: it was made by `Box::into_raw` of this type, and libvirt calls this once.
    drop(unsafe { Box::from_raw(opaque.cast::<T>()) });
}
