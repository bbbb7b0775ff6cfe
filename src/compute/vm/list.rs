//! The list of virtual machines: by what it is sorted and filtered. Pure.

use super::Purpose;
use super::report::{VmState, VmSummary};
use crate::compute::list::{AnyOf, Cursor, Cut, Field, Listed, OtherOrder, page, sought};
use crate::platform::ids::{HostId, OrganizationId, ProviderId};

fn real(value: Option<i64>) -> Option<f64> {
    value.map(|value| value as f64)
}

impl Listed for VmSummary {
    const FIELDS: &'static [Field<Self>] = &[
        Field::Number("id", |vm| Some(vm.id.0 as f64)),
        Field::Text("name", |vm| Some(vm.name.as_str())),
        Field::Number("state", |vm| Some(f64::from(vm.state as u8))),
        Field::Number("organization", |vm| Some(vm.organization.0 as f64)),
        Field::Text("host", |vm| vm.host_name.as_deref()),
        Field::Text("application", |vm| vm.application.as_deref()),
        Field::Text("purpose", |vm| vm.purpose.map(Purpose::name)),
        Field::Number("expires_ms", |vm| real(vm.expires_ms)),
        Field::Number("last_report_ms", |vm| real(vm.last_report_ms)),
        Field::Number("vcpus", |vm| real(vm.vcpus)),
        Field::Number("cpu_usage_percent", |vm| vm.cpu_usage_percent),
        Field::Number("memory_bytes", |vm| real(vm.memory_bytes)),
        Field::Number("memory_used_percent", |vm| vm.memory_used_percent),
        Field::Number("disk_capacity_bytes", |vm| real(vm.disk_capacity_bytes)),
        Field::Number("disk_read_bytes_per_second", |vm| vm.disk_read_bytes_per_second),
        Field::Number("disk_write_bytes_per_second", |vm| vm.disk_write_bytes_per_second),
        Field::Number("network_receive_bytes_per_second", |vm| vm.network_receive_bytes_per_second),
        Field::Number("network_transmit_bytes_per_second", |vm| vm.network_transmit_bytes_per_second),
    ];
    const PREFIX: &'static str = "vm";

    fn number(&self) -> i64 {
        self.id.0
    }
}

/// What is asked of the list. What is absent filters nothing.
#[derive(Debug, Default)]
pub(super) struct VmWanted {
    pub search: Option<String>,
    pub organization: Option<OrganizationId>,
    pub host: Option<HostId>,
    pub provider: Option<ProviderId>,
    pub states: Option<AnyOf<VmState>>,
    pub purposes: Option<AnyOf<Purpose>>,
    /// Whether nobody was given it.
    pub unowned: Option<bool>,
    pub expired: Option<bool>,
    pub conflict: Option<bool>,
    pub cut: Cut<VmSummary>,
}

/// The places of the machines of a page, and where the next one begins. They come in order of ids.
pub(super) fn chosen<'a>(
    vms: impl Iterator<Item = &'a VmSummary>,
    wanted: &VmWanted,
) -> Result<(Vec<usize>, Option<Cursor<VmSummary>>), OtherOrder> {
    let search = sought(wanted.search.as_deref());
    let chosen = vms.enumerate().filter(|(_, vm)| {
        wanted.organization.is_none_or(|organization| vm.organization == organization)
            && wanted.host.is_none_or(|host| vm.host == Some(host))
            && wanted.provider.is_none_or(|provider| vm.provider == Some(provider))
            && wanted.states.as_ref().is_none_or(|states| states.has(vm.state))
            && wanted.purposes.as_ref().is_none_or(|purposes| vm.purpose.is_some_and(|purpose| purposes.has(purpose)))
            && wanted.unowned.is_none_or(|unowned| vm.assigned != unowned)
            && wanted.expired.is_none_or(|expired| vm.expired == expired)
            && wanted.conflict.is_none_or(|conflict| vm.conflict.is_some() == conflict)
            && search.as_ref().is_none_or(|search| is_found(vm, search))
    });
    page(chosen, &wanted.cut)
}

fn is_found(vm: &VmSummary, search: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(search);
    has(&vm.name)
        || vm.uuid.as_deref().is_some_and(has)
        || vm.id.to_string() == search
        || vm.application.as_deref().is_some_and(has)
        || vm.host_name.as_deref().is_some_and(has)
}
