//! Network interfaces, from one RTM_GETLINK dump; what only sysfs knows is read when an interface
//! appears or its link changes, and now and then.
//!
//! The counters of loopback are not taken, as Debian's node_exporter does not either.

use super::Bound;
use crate::{
    metrics as m,
    netlink::{Netlink, attributes, u16_at, u32_at, u64_at},
    text::{link_name, read_number, read_small},
};
use std::path::{Path, PathBuf};
use tongtu_agent_runtime::{
    collect::{CollectError, Collector, Context, Unavailable, Values},
    metric::Metric,
};

/// Interfaces at most; the rest is counted as left out.
const INTERFACES: usize = 64;
/// Runs after which sysfs is read again although nothing changed.
const REFRESH: u32 = 40;
const RTM_GETLINK: u16 = 18;

const IFF_UP: u32 = 0x1;
const IFF_PROMISC: u32 = 0x100;
const IFF_ALLMULTI: u32 = 0x200;
const IFF_DORMANT: u32 = 0x2_0000;
/// RUNNING, LOWER_UP and DORMANT: netlink adds them to what the interface's flags are.
const IFF_ADDED: u32 = 0x40 | 0x1_0000 | IFF_DORMANT;

/// Drivers whose speed is a label on something that has no wire.
const VIRTUAL_DRIVERS: &[&str] = &["virtio_net", "vmxnet3", "hv_netvsc", "vif", "xen_netfront", "ena", "gve", "netvsc"];

struct Network {
    netlink: Netlink,
    sys: PathBuf,
    interfaces: Vec<Interface>,
}

/// What is known of an interface beside a dump.
#[derive(Default)]
struct Interface {
    name: String,
    /// What makes it worth reading sysfs again: index, flags, operational state, link changes.
    seen: (u32, u32, u8, u32),
    runs: u32,
    address: (Vec<u8>, String),
    broadcast: (Vec<u8>, String),
    alias: String,
    duplex: String,
    speed: Option<i64>,
    /// The speed is that of a wire, so no counter can grow faster.
    is_wired: bool,
    address_assign: Option<i64>,
    name_assign: Option<i64>,
    device_id: Option<i64>,
}

/// Makes it.
///
/// # Errors
/// Where the kernel gives no routing netlink.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let netlink =
        Netlink::open(None).map_err(|error| Unavailable::new(format!("no netlink socket can be opened: {error}")))?;
    let sys = context.sys.join("class/net");
    Ok(Box::new(Network { netlink, sys, interfaces: Vec::new() }))
}

impl Collector for Network {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let mut bound = Bound::new("network", INTERFACES);
        let mut at = 0;
        let (sys, interfaces) = (&self.sys, &mut self.interfaces);
        self.netlink.dump(RTM_GETLINK, &[0; 16], |message| {
            let Some(link) = Link::read(message) else { return };
            if !bound.admit() {
                return;
            }
            place(interfaces, at, link.name);
            interfaces[at].refresh(&link, sys);
            interfaces[at].put(out, &link);
            at += 1;
        })?;
        interfaces.truncate(at);
        bound.put(out);
        Ok(())
    }
}

/// Puts the interface of this name at this place. Those before it that are known and not in the dump
/// have gone; one that is not known is new.
fn place(interfaces: &mut Vec<Interface>, at: usize, name: &str) {
    match interfaces[at..].iter().position(|known| known.name == name) {
        Some(gone) => drop(interfaces.drain(at..at + gone)),
        None => interfaces.insert(at, Interface::default()),
    }
}

/// What one message of the dump says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Link<'a> {
    name: &'a str,
    index: u32,
    kind: u16,
    flags: u32,
    address: &'a [u8],
    broadcast: &'a [u8],
    alias: &'a str,
    mtu: Option<u32>,
    below: Option<u32>,
    queue: Option<u32>,
    group: Option<u32>,
    state: Option<u8>,
    mode: Option<u8>,
    carrier: Option<u8>,
    changes: Option<u32>,
    ups: Option<u32>,
    downs: Option<u32>,
    /// Who wants every packet, and every multicast packet; the latter only since Linux 6.0.
    promiscuity: u32,
    all_multicast: u32,
    /// `struct rtnl_link_stats64`; later kernels append to it.
    stats: &'a [u8],
}

impl<'a> Link<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let mut link = Self {
            kind: u16_at(message, 2)?,
            index: u32_at(message, 4)?,
            flags: u32_at(message, 8)?,
            ..Self::default()
        };
        for (kind, value) in attributes(message.get(16..)?) {
            match kind {
                1 => link.address = value,
                2 => link.broadcast = value,
                3 => link.name = text(value),
                4 => link.mtu = u32_at(value, 0),
                5 => link.below = u32_at(value, 0),
                13 => link.queue = u32_at(value, 0),
                16 => link.state = value.first().copied(),
                17 => link.mode = value.first().copied(),
                20 => link.alias = text(value),
                23 => link.stats = value,
                27 => link.group = u32_at(value, 0),
                30 => link.promiscuity = u32_at(value, 0).unwrap_or_default(),
                61 => link.all_multicast = u32_at(value, 0).unwrap_or_default(),
                33 => link.carrier = value.first().copied(),
                35 => link.changes = u32_at(value, 0),
                47 => link.ups = u32_at(value, 0),
                48 => link.downs = u32_at(value, 0),
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }

    /// The number at this place of `struct rtnl_link_stats64`.
    fn stat(&self, index: usize) -> Option<u64> {
        u64_at(self.stats, index * 8)
    }

    /// The sum of several; what a kernel does not give counts nothing.
    fn stats(&self, indexes: &[usize]) -> Option<u64> {
        let first = self.stat(*indexes.first()?)?;
        let rest = indexes[1..].iter().filter_map(|&index| self.stat(index));
        Some(rest.fold(first, u64::wrapping_add))
    }

    fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// The flags as sysfs shows them.
    fn plain_flags(&self) -> u32 {
        let promiscuous = if self.promiscuity > 0 { IFF_PROMISC } else { 0 };
        let all_multicast = if self.all_multicast > 0 { IFF_ALLMULTI } else { 0 };
        self.flags & !IFF_ADDED | promiscuous | all_multicast
    }
}

/// A text of netlink, up to its NUL.
fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).unwrap_or_default()
}

impl Interface {
    fn refresh(&mut self, link: &Link<'_>, sys: &Path) {
        let seen = (link.index, link.flags, link.state.unwrap_or_default(), link.changes.unwrap_or_default());
        if self.name == link.name && self.seen == seen && !self.runs.is_multiple_of(REFRESH) {
            self.runs += 1;
        } else {
            self.read_sysfs(&sys.join(link.name));
            (self.seen, self.runs) = (seen, 1);
        }
        set_text(&mut self.name, link.name);
        set_text(&mut self.alias, link.alias);
        set_address(&mut self.address, link.address);
        set_address(&mut self.broadcast, link.broadcast);
    }

    fn read_sysfs(&mut self, directory: &Path) {
        let value = |name: &str| read_number(&directory.join(name));
        self.speed = value("speed").and_then(|megabits| megabits.checked_mul(125_000));
        self.duplex = read_small(&directory.join("duplex")).unwrap_or_default();
        self.address_assign = value("addr_assign_type");
        self.name_assign = value("name_assign_type");
        let device_id = read_small(&directory.join("dev_id")).ok();
        self.device_id = device_id.and_then(|text| i64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
        let driver = link_name(&directory.join("device/driver"));
        self.is_wired = driver.is_some_and(|driver| !VIRTUAL_DRIVERS.contains(&driver.as_str()));
    }

    fn put(&self, out: &mut Values<'_>, link: &Link<'_>) {
        let device = &[link.name][..];
        if link.name != "lo" {
            self.put_counters(out, link);
        }
        let state = link.state.unwrap_or_default();
        let mut put = |metric: &'static Metric, value: Option<i64>| {
            if let Some(value) = value {
                out.put(metric, device, value);
            }
        };
        // The kernel answers for these two only while the interface is up.
        let up = link.is_up().then_some(());
        put(&m::NETWORK_UP, Some((state == 6).into()));
        put(&m::NETWORK_CARRIER, up.and(link.carrier.map(i64::from)));
        put(&m::NETWORK_DORMANT, up.map(|()| (link.flags & IFF_DORMANT != 0).into()));
        put(&m::NETWORK_CARRIER_CHANGES, link.changes.map(i64::from));
        put(&m::NETWORK_CARRIER_UP_CHANGES, link.ups.map(i64::from));
        put(&m::NETWORK_CARRIER_DOWN_CHANGES, link.downs.map(i64::from));
        put(&m::NETWORK_FLAGS, Some(link.plain_flags().into()));
        put(&m::NETWORK_SPEED, self.speed);
        put(&m::NETWORK_MTU, link.mtu.map(i64::from));
        put(&m::NETWORK_QUEUE, link.queue.map(i64::from));
        put(&m::NETWORK_IFACE_ID, Some(link.index.into()));
        put(&m::NETWORK_IFACE_LINK, Some(link.below.unwrap_or(link.index).into()));
        put(&m::NETWORK_IFACE_LINK_MODE, link.mode.map(i64::from));
        put(&m::NETWORK_GROUP, link.group.map(i64::from));
        put(&m::NETWORK_PROTOCOL, Some(link.kind.into()));
        put(&m::NETWORK_ADDRESS_ASSIGN, self.address_assign);
        put(&m::NETWORK_NAME_ASSIGN, self.name_assign);
        put(&m::NETWORK_DEVICE_ID, self.device_id);
        let labels =
            [link.name, &self.address.1, &self.broadcast.1, &self.duplex, &self.alias, operational_state(state)];
        out.put(&m::NETWORK_INFO, &labels, 1);
    }

    fn put_counters(&self, out: &mut Values<'_>, link: &Link<'_>) {
        let device = &[link.name][..];
        let bytes = [(&m::NETWORK_RECEIVE_BYTES, link.stat(2)), (&m::NETWORK_TRANSMIT_BYTES, link.stat(3))];
        for (metric, value) in bytes {
            match signed(value) {
                Some(value) if self.is_wired => {
                    out.put_bounded(metric, device, value, (&m::NETWORK_SPEED, device));
                }
                Some(value) => out.put(metric, device, value),
                None => {}
            }
        }
        let values = [
            (&m::NETWORK_RECEIVE_PACKETS, link.stat(0)),
            (&m::NETWORK_RECEIVE_ERRS, link.stat(4)),
            (&m::NETWORK_RECEIVE_DROP, link.stats(&[6, 15])), // dropped, missed
            (&m::NETWORK_RECEIVE_FIFO, link.stat(14)),
            (&m::NETWORK_RECEIVE_FRAME, link.stats(&[13, 10, 11, 12])), // frame, length, over, crc
            (&m::NETWORK_RECEIVE_COMPRESSED, link.stat(21)),
            (&m::NETWORK_RECEIVE_MULTICAST, link.stat(8)),
            (&m::NETWORK_RECEIVE_NOHANDLER, link.stat(23)),
            (&m::NETWORK_TRANSMIT_PACKETS, link.stat(1)),
            (&m::NETWORK_TRANSMIT_ERRS, link.stat(5)),
            (&m::NETWORK_TRANSMIT_DROP, link.stat(7)),
            (&m::NETWORK_TRANSMIT_FIFO, link.stat(18)),
            (&m::NETWORK_TRANSMIT_COLLS, link.stat(9)),
            (&m::NETWORK_TRANSMIT_CARRIER, link.stats(&[17, 16, 19, 20])), // carrier, aborted, heartbeat, window
            (&m::NETWORK_TRANSMIT_COMPRESSED, link.stat(22)),
        ];
        for (metric, value) in values {
            if let Some(value) = signed(value) {
                out.put(metric, device, value);
            }
        }
    }
}

fn signed(value: Option<u64>) -> Option<i64> {
    value.and_then(|value| i64::try_from(value).ok())
}

fn set_text(kept: &mut String, new: &str) {
    if kept != new {
        new.clone_into(kept);
    }
}

fn set_address(kept: &mut (Vec<u8>, String), new: &[u8]) {
    if kept.0 != new {
        let parts: Vec<String> = new.iter().map(|byte| format!("{byte:02x}")).collect();
        *kept = (new.to_vec(), parts.join(":"));
    }
}

/// The name of an operational state, RFC 2863.
fn operational_state(state: u8) -> &'static str {
    match state {
        1 => "notpresent",
        2 => "down",
        3 => "lowerlayerdown",
        4 => "testing",
        5 => "dormant",
        6 => "up",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize((bytes.len() + 3) & !3, 0);
        bytes
    }

    fn message(flags: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 1, 0];
        bytes.extend(3_u32.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(attributes.concat());
        bytes
    }

    #[test]
    fn a_link_of_an_old_kernel_has_fewer_statistics() {
        let stats: Vec<u8> = (1..=23_u64).flat_map(u64::to_ne_bytes).collect();
        let bytes = message(0x1_1043, &[attribute(3, b"eth0\0"), attribute(23, &stats)]);
        let link = Link::read(&bytes).expect("it has a name");
        assert_eq!((link.name, link.index, link.plain_flags()), ("eth0", 3, 0x1003));
        assert_eq!(link.stat(2), Some(3));
        assert_eq!(link.stats(&[6, 15]), Some(7 + 16));
        assert_eq!(link.stat(23), None);
        assert_eq!((link.mtu, link.carrier), (None, None));
    }

    #[test]
    fn an_interface_that_comes_or_goes_moves_the_others_and_no_more() {
        let names =
            |interfaces: &[Interface]| -> Vec<String> { interfaces.iter().map(|known| known.name.clone()).collect() };
        let mut interfaces = Vec::new();
        let mut dump = |dumped: &[&str]| {
            for (at, name) in dumped.iter().enumerate() {
                place(&mut interfaces, at, name);
                let known = interfaces[at].name == *name;
                (*name).clone_into(&mut interfaces[at].name);
                interfaces[at].runs += u32::from(known);
            }
            interfaces.truncate(dumped.len());
            (names(&interfaces), interfaces.iter().map(|known| known.runs).collect::<Vec<_>>())
        };
        assert_eq!(dump(&["lo", "eth0", "eth1"]).1, [0, 0, 0]);
        assert_eq!(dump(&["lo", "veth7", "eth0", "eth1"]).1, [1, 0, 1, 1]);
        assert_eq!(dump(&["lo", "eth1"]).1, [2, 2]);
        assert_eq!(dump(&["eth1", "lo"]).0, ["eth1", "lo"]);
    }

    #[test]
    fn promiscuity_is_shown_as_sysfs_does() {
        let one = |kind| attribute(kind, &1_u32.to_ne_bytes());
        let bytes = message(0x1003, &[attribute(3, b"eth0\0"), one(30)]);
        assert_eq!(Link::read(&bytes).expect("it has a name").plain_flags(), 0x1103);
        let bytes = message(0x1003, &[attribute(3, b"eth0\0"), one(30), one(61)]);
        assert_eq!(Link::read(&bytes).expect("it has a name").plain_flags(), 0x1303);
    }

    #[test]
    fn damaged_messages_give_nothing() {
        let bytes = message(0, &[attribute(3, b"eth0\0")]);
        for length in 0..bytes.len() {
            let link = Link::read(&bytes[..length]);
            assert!(link.is_none_or(|link| link.name == "eth0"));
        }
    }
}
