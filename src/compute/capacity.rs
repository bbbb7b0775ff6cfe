//! What hypervisors have, what of it is given to virtual machines, and for how many more of a size there is room. Pure.
//!
//! What must hold: room is promised only where every part of a machine fits on one host; with a host lost, what ran
//! there is placed on the others first; what is not known of a host gives no room. Of disks that are placed anew only
//! what is known is asked: they may lie on storage that hosts share.

/// What a machine is given, or a host has: processors, memory, storage.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Size {
    pub cpus: f64,
    pub memory_bytes: f64,
    pub disk_bytes: f64,
}

/// Of a host that tells nothing of its storage: no new disk finds room, and nothing is said of those that are there.
pub(super) const UNKNOWN_DISK: f64 = f64::INFINITY;

impl Size {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            cpus: self.cpus + other.cpus,
            memory_bytes: self.memory_bytes + other.memory_bytes,
            disk_bytes: self.disk_bytes + other.disk_bytes,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            cpus: self.cpus - other.cpus,
            memory_bytes: self.memory_bytes - other.memory_bytes,
            disk_bytes: self.disk_bytes - other.disk_bytes,
        }
    }

    fn fits(self, free: Self) -> bool {
        self.cpus <= free.cpus && self.memory_bytes <= free.memory_bytes && self.disk_bytes <= free.disk_bytes
    }

    /// How many of this size fit into what is free. What a size does not need limits nothing.
    fn times_in(self, free: Self) -> u64 {
        let parts =
            [(self.cpus, free.cpus), (self.memory_bytes, free.memory_bytes), (self.disk_bytes, free.disk_bytes)];
        let needed = parts.into_iter().filter(|(needed, _)| *needed > 0.0);
        let times = needed.map(|(needed, free)| if free.is_infinite() { 0.0 } else { (free / needed).floor() });
        times.fold(f64::INFINITY, f64::min).clamp(0.0, MOST) as u64
    }
}

/// More of one size than this on one host is not counted.
const MOST: f64 = 1_000_000.0;

/// A host with what runs on it. `None`: it is not known what it has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Holder<K> {
    pub host: K,
    pub physical: Option<Size>,
    pub vms: Vec<Size>,
}

impl<K> Holder<K> {
    pub(super) fn allocated(&self) -> Size {
        self.vms.iter().fold(Size::default(), |sum, vm| sum.plus(*vm))
    }

    /// What may still be given, if processors are given so many times over.
    fn free(&self, overcommit: f64) -> Option<Size> {
        let physical = self.physical?;
        // Disks take from pools what is written, so what a pool has left is what it has left.
        Some(Size { cpus: physical.cpus * overcommit, ..physical }.minus(Size { disk_bytes: 0.0, ..self.allocated() }))
    }
}

/// For how many more machines of a size there is room.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Room<K> {
    /// Of each host of which it is known what it has.
    pub hosts: Vec<(K, u64)>,
    /// On all of them.
    pub fits: u64,
    /// The same if the host of which it matters most is lost and what ran there runs on the others; 0 if it cannot.
    pub fits_with_one_lost: u64,
    /// That host.
    pub worst: Option<K>,
}

/// For how many more machines of a size there is room, processors being given `overcommit` times over.
pub(super) fn room<K: Copy>(holders: &[Holder<K>], size: Size, overcommit: f64) -> Room<K> {
    let free: Vec<Option<Size>> = holders.iter().map(|holder| holder.free(overcommit)).collect();
    let known = holders.iter().zip(&free).filter_map(|(holder, free)| Some((holder.host, size.times_in((*free)?))));
    let hosts: Vec<(K, u64)> = known.collect();
    let fits = hosts.iter().map(|(_, fits)| fits).sum();
    let mut worst: Option<(K, u64)> = None;
    for (lost, holder) in holders.iter().enumerate() {
        let left = left_without(holders, &free, lost, size);
        if worst.is_none_or(|(_, least)| left < least) {
            worst = Some((holder.host, left));
        }
        if left == 0 {
            break;
        }
    }
    let (worst, fits_with_one_lost) = worst.map_or((None, 0), |(host, left)| (Some(host), left));
    Room { hosts, fits, fits_with_one_lost, worst }
}

/// How many fit without a host, once what ran there is placed: the largest first, each where the most memory is left.
/// So it is a number that can be had, if not always the largest one.
fn left_without<K>(holders: &[Holder<K>], free: &[Option<Size>], lost: usize, size: Size) -> u64 {
    let mut rest: Vec<Size> =
        free.iter().enumerate().filter(|(at, _)| *at != lost).filter_map(|(_, free)| *free).collect();
    let mut moving = holders[lost].vms.clone();
    moving.sort_unstable_by(|a, b| b.memory_bytes.total_cmp(&a.memory_bytes));
    for vm in moving {
        let places = rest.iter_mut().filter(|free| vm.fits(**free));
        let Some(place) = places.max_by(|a, b| a.memory_bytes.total_cmp(&b.memory_bytes)) else { return 0 };
        *place = place.minus(vm);
    }
    rest.into_iter().map(|free| size.times_in(free)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: f64 = (1u64 << 30) as f64;

    fn size(cpus: f64, memory_gib: f64) -> Size {
        Size { cpus, memory_bytes: memory_gib * GIB, disk_bytes: 0.0 }
    }

    fn holder(host: u32, physical: Size, vms: &[Size]) -> Holder<u32> {
        Holder { host, physical: Some(physical), vms: vms.to_vec() }
    }

    #[test]
    fn room_is_what_fits_on_one_host() {
        let two = [holder(1, size(8.0, 32.0), &[size(4.0, 12.0)]), holder(2, size(8.0, 32.0), &[])];
        // By memory 20 and 32 of 8: two and four; by processors 4 and 8 of 4: one and two.
        let found = room(&two, size(4.0, 8.0), 1.0);
        assert_eq!((found.hosts, found.fits), (vec![(1, 1), (2, 2)], 3));
        let found = room(&two, size(4.0, 8.0), 4.0);
        assert_eq!(found.fits, 6, "processors four times over, memory once");
        // Without host 2 nothing moves and host 1 has room for two; without host 1 what ran there takes room of host 2.
        assert_eq!((found.fits_with_one_lost, found.worst), (2, Some(1)));
        let full = [holder(1, size(8.0, 32.0), &[size(4.0, 24.0)]), holder(2, size(8.0, 32.0), &[size(4.0, 24.0)])];
        assert_eq!(room(&full, size(1.0, 1.0), 4.0).fits_with_one_lost, 0, "what ran there finds no place");
        let one = [holder(1, size(8.0, 32.0), &[])];
        assert_eq!(room(&one, size(1.0, 1.0), 1.0).fits_with_one_lost, 0);
        // No pool is known: what ran elsewhere is taken, no new disk is promised.
        let disks = |cpus, memory| Size { disk_bytes: 40.0 * GIB, ..size(cpus, memory) };
        let elsewhere = |host| {
            let physical = Size { disk_bytes: UNKNOWN_DISK, ..size(8.0, 32.0) };
            Holder { host, physical: Some(physical), vms: vec![disks(2.0, 8.0)] }
        };
        let two = [elsewhere(1), elsewhere(2)];
        let found = room(&two, size(1.0, 8.0), 4.0);
        assert_eq!((found.fits, found.fits_with_one_lost), (6, 2));
        assert_eq!(room(&two, disks(1.0, 8.0), 4.0).fits, 0);
        let unknown = Holder { host: 3, physical: None, vms: Vec::new() };
        assert_eq!(room(&[unknown], size(1.0, 1.0), 1.0).fits, 0, "what is not known gives no room");
        assert_eq!(room::<u32>(&[], size(1.0, 1.0), 1.0).worst, None);
    }

    prop_compose! {
        fn any_size(cpus: u32, memory: u32)(cpus in 1..=cpus, memory in 1..=memory) -> Size {
            size(f64::from(cpus), f64::from(memory))
        }
    }

    prop_compose! {
        fn any_holder()(physical in any_size(64, 256), vms in proptest::collection::vec(any_size(8, 32), 0..6))
            -> Holder<u32>
        {
            holder(0, physical, &vms)
        }
    }

    proptest! {
        #[test]
        fn what_is_promised_can_be_had(
            mut holders in proptest::collection::vec(any_holder(), 1..6), wanted in any_size(16, 64),
            overcommit in 1u32..6,
        ) {
            let overcommit = f64::from(overcommit);
            (0..).zip(&mut holders).for_each(|(at, holder)| holder.host = at);
            let found = room(&holders, wanted, overcommit);
            prop_assert!(found.fits_with_one_lost <= found.fits);
            for (host, fits) in &found.hosts {
                let holder = &holders[*host as usize];
                let (given, physical) = (holder.allocated(), holder.physical.expect("known"));
                if *fits > 0 {
                    let all = given.memory_bytes + *fits as f64 * wanted.memory_bytes;
                    prop_assert!(all <= physical.memory_bytes + 1.0);
                    prop_assert!(given.cpus + *fits as f64 * wanted.cpus <= physical.cpus * overcommit + 1e-6);
                }
            }
            // Another host takes no room away.
            let mut more = holders.clone();
            more.push(holder(99, size(64.0, 256.0), &[]));
            prop_assert!(room(&more, wanted, overcommit).fits >= found.fits);
            // Without a host that nothing runs on there is the room of the others.
            if let Some(empty) = holders.iter().position(|holder| holder.vms.is_empty()) {
                let others: u64 =
                    found.hosts.iter().filter(|(host, _)| *host as usize != empty).map(|(_, fits)| fits).sum();
                prop_assert!(found.fits_with_one_lost <= others);
            }
        }
    }
}
