//! What the agent of a hypervisor measures: every domain of one libvirt, and the node that they run on.
//! Collection, spooling and sending are `tongtu-agent-runtime`'s; the binary is `tongtu-agent-libvirt`.
//!
//! Sources: `libvirt_node` with the key `node`, the agent's own, and a `libvirt_domain` for each domain, its
//! key the UUID in lower case. [`metrics`] lists the columns of both. A domain that libvirt does not list has
//! no frame; while libvirt does not answer none has, and `libvirt_up` is 0.
//!
//! **Facts of a domain.** `uuid`, `name`, `title`, `description`, `metadata` (XML text; if that is too long
//! `metadata_omitted_bytes`), `hypervisor` (kvm, qemu…), `os_type`, `architecture`, `machine`, `os_id`
//! (libosinfo's), `vcpus`, `vcpus_maximum`, `memory_bytes`, `memory_maximum_bytes`, `autostart`, `persistent`
//! (true, false), `guest_agent` (connected, disconnected: whether it holds its channel), `guest_addresses` (by
//! spaces); `disk.TARGET` is a JSON object of `device`, `bus`, `type`, `source`, `format`, `read_only`, `serial`;
//! `nic.MAC` one of `type`, `bridge`, `network`, `target`, `model`. What is not known is absent, and control
//! characters are taken out.
//!
//! **Facts of the node.** `agent_version`, `hostname`, `machine_id`, `host_uuid`, `uri`, `hypervisor`,
//! `hypervisor_version`, `libvirt_version`, `architecture`, `cpu_model`, `cpus`, `cpu_mhz`, `numa_nodes`,
//! `cpu_sockets`, `cpu_cores`, `cpu_threads`, `memory_bytes`; `pool.NAME` is a JSON object of `type`, `state`,
//! `autostart`, `path`; `network.NAME` one of `active`, `autostart`, `bridge`, `forward`.
//!
//! **Events** are those of a domain, as libvirt tells them (`events`): `domain.started`, `domain.stopped`…
//! with the attributes `name` and `detail`.
//!
//! What must hold: the connection is read-only, so that the agent can change nothing; a call that hangs costs
//! its frame and a thread, never the agent (`caller`); nothing of a domain is kept that libvirt does not say
//! now. Deliberately absent: what the guest agent knows, for libvirt does not let a read-only client ask it; so
//! addresses are those of DHCP leases and of the host's neighbours.

mod caller;
pub mod collectors;
mod details;
mod domains;
mod events;
mod ffi;
mod hypervisor;
mod lifecycle;
pub mod metrics;
mod node;
mod reading;
mod text;
