//! What a domain's XML says of it: facts, and of its disks and interfaces what labels need.

use crate::text::clean;
use roxmltree::{Document, Node};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Bytes of a fact, with room to the limit of the wire.
const FACT_BYTES: usize = 4_000;
/// Bytes of a member of such a fact as is an object of several.
const MEMBER_BYTES: usize = 600;
/// Disks and interfaces of a domain among its facts, each.
const MOST: usize = 256;

/// The channel to QEMU's guest agent.
const GUEST_AGENT: &str = "org.qemu.guest_agent.0";

/// What is known of a domain that changes seldom.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) facts: BTreeMap<String, String>,
    /// Disks by their target, with the file that they are.
    pub(crate) disks: Vec<(String, String)>,
    /// Interfaces by their target, with the bridge that they are on.
    pub(crate) nics: Vec<(String, String)>,
}

impl Details {
    /// The file of a disk; empty if it is none.
    pub(crate) fn file(&self, target: &str) -> &str {
        find(&self.disks, target).unwrap_or_default()
    }

    /// The bridge of an interface; empty if it is on none.
    pub(crate) fn bridge(&self, target: &str) -> &str {
        find(&self.nics, target).unwrap_or_default()
    }

    /// Whether it knows all these interfaces: one that was plugged in later is not there.
    pub(crate) fn knows_nics<'a>(&self, mut targets: impl Iterator<Item = &'a str>) -> bool {
        targets.all(|target| find(&self.nics, target).is_some())
    }

    /// Of a domain's XML.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(xml: &str) -> Result<Self, String> {
        // What XML does not allow is not to cost everything else.
        let is_bad = |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\r');
        let cleaned;
        let xml = match xml.contains(is_bad) {
            true => {
                cleaned = xml.replace(is_bad, "\t");
                cleaned.as_str()
            }
            false => xml,
        };
        let document = Document::parse(xml).map_err(|error| error.to_string())?;
        let domain = document.root_element();
        let mut details = Self::default();
        details.put("hypervisor", domain.attribute("type"));
        for name in ["uuid", "name", "title", "description"] {
            details.put(name, text(domain, name));
        }
        if let Some(metadata) = child(domain, "metadata") {
            details.metadata(metadata, xml);
        }
        if let Some(kind) = child(domain, "os").and_then(|os| child(os, "type")) {
            details.put("os_type", kind.text());
            details.put("architecture", kind.attribute("arch"));
            details.put("machine", kind.attribute("machine"));
        }
        if let Some(vcpu) = child(domain, "vcpu") {
            details.put("vcpus_maximum", vcpu.text());
            details.put("vcpus", vcpu.attribute("current").or(vcpu.text()));
        }
        details.put("memory_maximum_bytes", bytes(domain, "memory").as_deref());
        details.put("memory_bytes", bytes(domain, "currentMemory").as_deref());
        if let Some(devices) = child(domain, "devices") {
            children(devices, "disk").take(MOST).for_each(|disk| details.disk(disk));
            children(devices, "interface").take(MOST).for_each(|nic| details.nic(nic));
            let mut ends = children(devices, "channel").filter_map(|channel| child(channel, "target"));
            let agent = ends.find(|end| end.attribute("name") == Some(GUEST_AGENT));
            details.put("guest_agent", agent.and_then(|end| end.attribute("state")));
        }
        Ok(details)
    }

    /// A fact; an empty one is none.
    pub(crate) fn put(&mut self, name: &str, value: Option<&str>) {
        let value = clean(value.unwrap_or_default(), FACT_BYTES);
        if !value.is_empty() {
            self.facts.insert(name.to_owned(), value);
        }
    }

    fn metadata(&mut self, metadata: Node<'_, '_>, xml: &str) {
        let inside = metadata.first_element_child().zip(metadata.last_element_child());
        let Some(inside) = inside.and_then(|(first, last)| xml.get(first.range().start..last.range().end)) else {
            return;
        };
        // A part of XML says something else than the whole.
        if inside.len() <= FACT_BYTES {
            self.put("metadata", Some(inside));
        } else {
            self.put("metadata_omitted_bytes", Some(&inside.len().to_string()));
        }
        let is_os = |node: &Node<'_, '_>| {
            node.tag_name().name() == "os" && node.tag_name().namespace().is_some_and(|of| of.contains("libosinfo"))
        };
        self.put("os_id", metadata.descendants().find(is_os).and_then(|os| os.attribute("id")));
    }

    fn disk(&mut self, disk: Node<'_, '_>) {
        let target = child(disk, "target");
        let Some(name) = target.and_then(|target| target.attribute("dev")) else { return };
        let source = child(disk, "source");
        let of_source = |name: &'static str| source.and_then(|source| source.attribute(name));
        let volume = of_source("pool").zip(of_source("volume")).map(|(pool, volume)| format!("{pool}/{volume}"));
        let place = ["file", "dev", "name", "dir"].into_iter().find_map(of_source).map(ToOwned::to_owned).or(volume);
        let driver = child(disk, "driver");
        let mut members = Map::new();
        member(&mut members, "device", disk.attribute("device"));
        member(&mut members, "bus", target.and_then(|target| target.attribute("bus")));
        member(&mut members, "type", disk.attribute("type"));
        member(&mut members, "source", place.as_deref());
        member(&mut members, "format", driver.and_then(|driver| driver.attribute("type")));
        member(&mut members, "serial", text(disk, "serial"));
        members.insert("read_only".to_owned(), child(disk, "readonly").is_some().into());
        let name = clean(name, 255);
        self.put(&format!("disk.{name}"), Some(&Value::Object(members).to_string()));
        self.disks.push((name, of_source("file").unwrap_or_default().to_owned()));
    }

    fn nic(&mut self, nic: Node<'_, '_>) {
        let of = |element: &'static str, attribute: &'static str| {
            child(nic, element).and_then(|node| node.attribute(attribute))
        };
        let bridge = of("source", "bridge");
        let mut members = Map::new();
        member(&mut members, "type", nic.attribute("type"));
        member(&mut members, "bridge", bridge);
        member(&mut members, "network", of("source", "network"));
        member(&mut members, "target", of("target", "dev"));
        member(&mut members, "model", of("model", "type"));
        if let Some(mac) = of("mac", "address") {
            let key = format!("nic.{}", clean(mac, 64).to_ascii_lowercase());
            self.put(&key, Some(&Value::Object(members).to_string()));
        }
        if let Some(target) = of("target", "dev") {
            self.nics.push((clean(target, 255), bridge.unwrap_or_default().to_owned()));
        }
    }
}

fn find<'a>(list: &'a [(String, String)], target: &str) -> Option<&'a str> {
    list.iter().find(|(known, _)| known == target).map(|(_, of)| of.as_str())
}

fn member(members: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    let value = clean(value.unwrap_or_default(), MEMBER_BYTES);
    if !value.is_empty() {
        members.insert(name.to_owned(), value.into());
    }
}

/// The elements of a name inside another.
pub(crate) fn children<'a, 'i>(node: Node<'a, 'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The first of them.
pub(crate) fn child<'a, 'i>(node: Node<'a, 'i>, name: &'static str) -> Option<Node<'a, 'i>> {
    children(node, name).next()
}

/// The text inside the first of them.
pub(crate) fn text<'a>(node: Node<'a, '_>, name: &'static str) -> Option<&'a str> {
    child(node, name).and_then(|child| child.text())
}

/// An amount of memory; libvirt says KiB unless it says otherwise.
fn bytes(node: Node<'_, '_>, name: &'static str) -> Option<String> {
    let node = child(node, name)?;
    let factor: u64 = match node.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1_000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    Some(node.text()?.trim().parse::<u64>().ok()?.checked_mul(factor)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<domain type='kvm' id='3'>
  <name>web-1</name>
  <uuid>0c0ffee0-1111-2222-3333-444444444444</uuid>
  <title>财政局\u{7} 预算一体化</title>
  <description>two
  lines</description>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>
      <libosinfo:os id='http://debian.org/debian/12'/>
    </libosinfo:libosinfo>
    <t:owner xmlns:t='urn:tongtu'>finance</t:owner>
  </metadata>
  <memory unit='KiB'>2097152</memory>
  <currentMemory unit='MiB'>1024</currentMemory>
  <vcpu placement='static' current='2'>4</vcpu>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='/images/a &amp; b.qcow2'/><target dev='vda' bus='virtio'/>
      <serial>S1</serial>
    </disk>
    <disk type='network' device='disk'><source protocol='rbd' name='pool/image'/><target dev='vdb'/></disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
    <interface type='bridge'>
      <mac address='52:54:00:AA:BB:CC'/><source bridge='br0'/><target dev='vnet0'/><model type='virtio'/>
    </interface>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>
    <channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0' state='disconnected'/></channel>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
  </devices>
</domain>";

    #[test]
    fn a_domain_is_read_whole() {
        let details = Details::parse(XML).expect("a domain");
        let fact = |name: &str| details.facts.get(name).map(String::as_str).unwrap_or_default();
        for (name, value) in [
            ("hypervisor", "kvm"),
            ("name", "web-1"),
            ("title", "财政局 预算一体化"),
            ("description", "two lines"),
            ("os_id", "http://debian.org/debian/12"),
            ("os_type", "hvm"),
            ("architecture", "x86_64"),
            ("machine", "pc-q35-7.2"),
            ("vcpus", "2"),
            ("vcpus_maximum", "4"),
            ("memory_maximum_bytes", "2147483648"),
            ("memory_bytes", "1073741824"),
            ("guest_agent", "connected"),
        ] {
            assert_eq!(fact(name), value, "{name}");
        }
        assert!(fact("metadata").ends_with("<t:owner xmlns:t='urn:tongtu'>finance</t:owner>"), "{}", fact("metadata"));
        let json = |name: &str| serde_json::from_str::<Value>(fact(name)).expect(name);
        assert_eq!(
            json("disk.vda"),
            serde_json::json!({
                "device": "disk", "bus": "virtio", "type": "file", "source": "/images/a & b.qcow2",
                "format": "qcow2", "serial": "S1", "read_only": false,
            })
        );
        assert_eq!(
            (json("disk.vdb")["source"].as_str(), json("disk.sda")["read_only"].as_bool()),
            (Some("pool/image"), Some(true))
        );
        assert_eq!(json("nic.52:54:00:aa:bb:cc")["target"], "vnet0");
        assert_eq!(json("nic.52:54:00:00:00:01")["network"], "default");
        assert_eq!(
            (details.file("vda"), details.file("vdb"), details.bridge("vnet0")),
            ("/images/a & b.qcow2", "", "br0")
        );
        assert!(details.knows_nics(["vnet0"].into_iter()) && !details.knows_nics(["vnet0", "vnet1"].into_iter()));
    }

    #[test]
    fn a_guest_that_is_off_says_nothing_of_its_agent() {
        let channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>";
        let off = Details::parse(&format!("<domain><devices>{channel}</devices></domain>")).expect("a domain");
        assert!(!off.facts.contains_key("guest_agent"));
    }

    #[test]
    fn what_is_too_long_is_said_to_be_or_cut() {
        let long = "x".repeat(5_000);
        let xml = format!("<domain><title>{long}</title><metadata><a>{long}</a></metadata></domain>");
        let details = Details::parse(&xml).expect("a domain");
        assert_eq!(details.facts["title"].len(), FACT_BYTES);
        assert_eq!(details.facts["metadata_omitted_bytes"], "5007");
        assert!(!details.facts.contains_key("metadata"));
        assert!(Details::parse("<domain><name>").is_err() && Details::parse("").is_err());
        let empty = Details::parse("<domain><disk/><devices><disk/><interface/></devices></domain>").expect("empty");
        assert_eq!(empty, Details::default());
    }
}
