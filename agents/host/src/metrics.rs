//! Every metric that this agent can report, each once: name, unit, exponent, labels, source, help.
//!
//! What node_exporter names keeps its name, type, unit and labels; our own names begin with
//! `tongtu_`. `tests/metrics.rs` holds that a collector emits nothing that is not in this list and
//! `tests/exporter.rs` holds the list against the real exporter. Jiffies are 1/100 s for user space
//! on every architecture that the agent is built for, so CPU time has the exponent -2.

use tongtu_agent_runtime::metric::{Kind, Metric};

const fn metric(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    exponent: i32,
    labels: &'static [&'static str],
    source: &'static str,
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, exponent, labels, help, source, width_bits: 64 }
}

macro_rules! metrics {
    ($($name:ident: $kind:ident $width:literal $text:literal $unit:literal $exponent:literal $labels:expr, $source:literal, $help:literal;)*) => {
        $(
            #[doc = concat!("`", $text, "`: ", $help)]
            pub static $name: Metric = Metric {
                width_bits: $width,
                ..metric(Kind::$kind, $text, $unit, $exponent, &$labels, $source, $help)
            };
        )*
        static SINGLE: &[&Metric] = &[$(&$name),*];
    };
}

macro_rules! family {
    ($(#[$doc:meta])* $name:ident: $kind:ident, $source:literal; $($key:literal $text:literal $unit:literal $help:literal;)*) => {
        $(#[$doc])*
        pub static $name: &[(&str, Metric)] = &[
            $(($key, metric(Kind::$kind, $text, $unit, 0, &[], $source, $help)),)*
        ];
    };
}

/// Every metric.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    let families = [MEMORY, VMSTAT, NETSTAT, SNMP6, SOCKSTAT, CONNTRACK_STAT];
    let keyed = families.into_iter().flatten().map(|(_, metric)| metric);
    SINGLE.iter().copied().chain(keyed)
}

metrics! {
    // Processors, and what else /proc/stat counts. `width` is where a counter wraps.
    CPU_SECONDS: Counter 64 "node_cpu_seconds_total" "s" -2 ["cpu", "mode"], "/proc/stat", "Time each core spent in each mode";
    CPU_GUEST_SECONDS: Counter 64 "node_cpu_guest_seconds_total" "s" -2 ["cpu", "mode"], "/proc/stat", "Time each core spent running guests, contained in user and nice";
    CPU_CORE_THROTTLES: Counter 64 "node_cpu_core_throttles_total" "1" 0 ["core", "package"], "/sys/devices/system/cpu/cpu*/thermal_throttle", "Times a core was slowed down because it was hot";
    CPU_PACKAGE_THROTTLES: Counter 64 "node_cpu_package_throttles_total" "1" 0 ["package"], "/sys/devices/system/cpu/cpu*/thermal_throttle", "Times a whole package was slowed down because it was hot";
    CPU_FREQUENCY: Gauge 64 "node_cpu_frequency_hertz" "Hz" 0 ["cpu"], "/sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_cur_freq", "Frequency the hardware reports for a core";
    CPU_FREQUENCY_MIN: Gauge 64 "node_cpu_frequency_min_hertz" "Hz" 0 ["cpu"], "/sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_min_freq", "Lowest frequency a core can run at";
    CPU_FREQUENCY_MAX: Gauge 64 "node_cpu_frequency_max_hertz" "Hz" 0 ["cpu"], "/sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_max_freq", "Highest frequency a core can run at";
    CPU_SCALING_FREQUENCY: Gauge 64 "node_cpu_scaling_frequency_hertz" "Hz" 0 ["cpu"], "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq", "Frequency the kernel runs a core at";
    CPU_SCALING_FREQUENCY_MIN: Gauge 64 "node_cpu_scaling_frequency_min_hertz" "Hz" 0 ["cpu"], "/sys/devices/system/cpu/cpu*/cpufreq/scaling_min_freq", "Lowest frequency the kernel may choose for a core";
    CPU_SCALING_FREQUENCY_MAX: Gauge 64 "node_cpu_scaling_frequency_max_hertz" "Hz" 0 ["cpu"], "/sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq", "Highest frequency the kernel may choose for a core";
    BOOT_TIME: Gauge 64 "node_boot_time_seconds" "s" 0 [], "/proc/stat", "When the machine was started, in Unix time";
    CONTEXT_SWITCHES: Counter 64 "node_context_switches_total" "1" 0 [], "/proc/stat", "Switches from one task to another";
    FORKS: Counter 64 "node_forks_total" "1" 0 [], "/proc/stat", "Processes and threads created";
    INTERRUPTS: Counter 64 "node_intr_total" "1" 0 [], "/proc/stat", "Interrupts serviced";
    PROCS_RUNNING: Gauge 64 "node_procs_running" "1" 0 [], "/proc/stat", "Tasks that run or could run";
    PROCS_BLOCKED: Gauge 64 "node_procs_blocked" "1" 0 [], "/proc/stat", "Tasks that wait for input or output";
    LOAD1: Gauge 64 "node_load1" "1" -2 [], "/proc/loadavg", "Load average over one minute";
    LOAD5: Gauge 64 "node_load5" "1" -2 [], "/proc/loadavg", "Load average over five minutes";
    LOAD15: Gauge 64 "node_load15" "1" -2 [], "/proc/loadavg", "Load average over fifteen minutes";
    SCHEDSTAT_RUNNING: Counter 64 "node_schedstat_running_seconds_total" "s" -9 ["cpu"], "/proc/schedstat", "Time a core spent running tasks";
    SCHEDSTAT_WAITING: Counter 64 "node_schedstat_waiting_seconds_total" "s" -9 ["cpu"], "/proc/schedstat", "Time tasks waited for a core";
    SCHEDSTAT_TIMESLICES: Counter 64 "node_schedstat_timeslices_total" "1" 0 ["cpu"], "/proc/schedstat", "Time slices a core gave to tasks";
    PRESSURE_CPU_WAITING: Counter 64 "node_pressure_cpu_waiting_seconds_total" "s" -6 [], "/proc/pressure/cpu", "Time in which some task waited for a processor";
    PRESSURE_MEMORY_WAITING: Counter 64 "node_pressure_memory_waiting_seconds_total" "s" -6 [], "/proc/pressure/memory", "Time in which some task waited for memory";
    PRESSURE_MEMORY_STALLED: Counter 64 "node_pressure_memory_stalled_seconds_total" "s" -6 [], "/proc/pressure/memory", "Time in which every task waited for memory";
    PRESSURE_IRQ_STALLED: Counter 64 "node_pressure_irq_stalled_seconds_total" "s" -6 [], "/proc/pressure/irq", "Time in which interrupts kept every task from running";
    PRESSURE_IO_WAITING: Counter 64 "node_pressure_io_waiting_seconds_total" "s" -6 [], "/proc/pressure/io", "Time in which some task waited for input or output";
    PRESSURE_IO_STALLED: Counter 64 "node_pressure_io_stalled_seconds_total" "s" -6 [], "/proc/pressure/io", "Time in which every task waited for input or output";

    // Disks. The kernel prints times in milliseconds as 32-bit numbers.
    DISK_READS: Counter 64 "node_disk_reads_completed_total" "1" 0 ["device"], "/proc/diskstats", "Reads completed";
    DISK_READS_MERGED: Counter 64 "node_disk_reads_merged_total" "1" 0 ["device"], "/proc/diskstats", "Reads merged with another";
    DISK_READ_BYTES: Counter 64 "node_disk_read_bytes_total" "By" 0 ["device"], "/proc/diskstats", "Bytes read";
    DISK_READ_TIME: Counter 32 "node_disk_read_time_seconds_total" "s" -3 ["device"], "/proc/diskstats", "Time of all reads together";
    DISK_WRITES: Counter 64 "node_disk_writes_completed_total" "1" 0 ["device"], "/proc/diskstats", "Writes completed";
    DISK_WRITES_MERGED: Counter 64 "node_disk_writes_merged_total" "1" 0 ["device"], "/proc/diskstats", "Writes merged with another";
    DISK_WRITTEN_BYTES: Counter 64 "node_disk_written_bytes_total" "By" 0 ["device"], "/proc/diskstats", "Bytes written";
    DISK_WRITE_TIME: Counter 32 "node_disk_write_time_seconds_total" "s" -3 ["device"], "/proc/diskstats", "Time of all writes together";
    DISK_IO_NOW: Gauge 64 "node_disk_io_now" "1" 0 ["device"], "/proc/diskstats", "Operations in progress";
    DISK_IO_TIME: Counter 32 "node_disk_io_time_seconds_total" "s" -3 ["device"], "/proc/diskstats", "Time in which at least one operation was in progress";
    DISK_IO_TIME_WEIGHTED: Counter 32 "node_disk_io_time_weighted_seconds_total" "s" -3 ["device"], "/proc/diskstats", "Time in progress, times the operations then in progress";
    DISK_DISCARDS: Counter 64 "node_disk_discards_completed_total" "1" 0 ["device"], "/proc/diskstats", "Discards completed";
    DISK_DISCARDS_MERGED: Counter 64 "node_disk_discards_merged_total" "1" 0 ["device"], "/proc/diskstats", "Discards merged with another";
    DISK_DISCARDED_SECTORS: Counter 64 "node_disk_discarded_sectors_total" "1" 0 ["device"], "/proc/diskstats", "Sectors of 512 bytes discarded";
    DISK_DISCARD_TIME: Counter 32 "node_disk_discard_time_seconds_total" "s" -3 ["device"], "/proc/diskstats", "Time of all discards together";
    DISK_FLUSHES: Counter 64 "node_disk_flush_requests_total" "1" 0 ["device"], "/proc/diskstats", "Flushes completed";
    DISK_FLUSH_TIME: Counter 32 "node_disk_flush_requests_time_seconds_total" "s" -3 ["device"], "/proc/diskstats", "Time of all flushes together";
    DISK_INFO: Gauge 64 "node_disk_info" "1" 0 ["device", "major", "minor", "model", "path", "revision", "serial", "wwn"], "/proc/diskstats, /run/udev/data", "Always 1; the labels describe the disk";
    NVME_INFO: Gauge 64 "node_nvme_info" "1" 0 ["device", "firmware_revision", "model", "serial", "state"], "/sys/class/nvme", "Always 1; the labels describe the controller";
    MD_STATE: Gauge 64 "node_md_state" "1" 0 ["device", "state"], "/proc/mdstat", "1 for the state in which the array is";
    MD_DISKS: Gauge 64 "node_md_disks" "1" 0 ["device", "state"], "/proc/mdstat", "Disks of the array in each state";
    MD_DISKS_REQUIRED: Gauge 64 "node_md_disks_required" "1" 0 ["device"], "/proc/mdstat", "Disks the array needs to be whole";
    MD_BLOCKS: Gauge 64 "node_md_blocks" "1" 0 ["device"], "/proc/mdstat", "Blocks of the array";
    MD_BLOCKS_SYNCED: Gauge 64 "node_md_blocks_synced" "1" 0 ["device"], "/proc/mdstat", "Blocks of the array that are in step";

    // File systems.
    FILESYSTEM_SIZE: Gauge 64 "node_filesystem_size_bytes" "By" 0 ["mountpoint", "device", "fstype"], "statvfs", "Size of the file system";
    FILESYSTEM_FREE: Gauge 64 "node_filesystem_free_bytes" "By" 0 ["mountpoint", "device", "fstype"], "statvfs", "Free space";
    FILESYSTEM_AVAIL: Gauge 64 "node_filesystem_avail_bytes" "By" 0 ["mountpoint", "device", "fstype"], "statvfs", "Free space that is not reserved for root";
    FILESYSTEM_FILES: Gauge 64 "node_filesystem_files" "1" 0 ["mountpoint", "device", "fstype"], "statvfs", "Inodes of the file system";
    FILESYSTEM_FILES_FREE: Gauge 64 "node_filesystem_files_free" "1" 0 ["mountpoint", "device", "fstype"], "statvfs", "Free inodes";
    FILESYSTEM_READONLY: Gauge 64 "node_filesystem_readonly" "1" 0 ["mountpoint", "device", "fstype"], "/proc/1/mounts", "1 if it is mounted read-only";
    FILESYSTEM_DEVICE_ERROR: Gauge 64 "node_filesystem_device_error" "1" 0 ["mountpoint", "device", "fstype"], "statvfs", "1 if the file system did not answer";

    // Network interfaces.
    NETWORK_RECEIVE_BYTES: Counter 64 "node_network_receive_bytes_total" "By" 0 ["device"], "rtnetlink", "Bytes received";
    NETWORK_RECEIVE_PACKETS: Counter 64 "node_network_receive_packets_total" "1" 0 ["device"], "rtnetlink", "Packets received";
    NETWORK_RECEIVE_ERRS: Counter 64 "node_network_receive_errs_total" "1" 0 ["device"], "rtnetlink", "Received packets with an error";
    NETWORK_RECEIVE_DROP: Counter 64 "node_network_receive_drop_total" "1" 0 ["device"], "rtnetlink", "Received packets that were dropped or missed";
    NETWORK_RECEIVE_FIFO: Counter 64 "node_network_receive_fifo_total" "1" 0 ["device"], "rtnetlink", "Overruns of the receive queue";
    NETWORK_RECEIVE_FRAME: Counter 64 "node_network_receive_frame_total" "1" 0 ["device"], "rtnetlink", "Received packets with a wrong length, alignment or checksum";
    NETWORK_RECEIVE_COMPRESSED: Counter 64 "node_network_receive_compressed_total" "1" 0 ["device"], "rtnetlink", "Compressed packets received";
    NETWORK_RECEIVE_MULTICAST: Counter 64 "node_network_receive_multicast_total" "1" 0 ["device"], "rtnetlink", "Multicast packets received";
    NETWORK_RECEIVE_NOHANDLER: Counter 64 "node_network_receive_nohandler_total" "1" 0 ["device"], "rtnetlink", "Packets dropped because the interface was inactive";
    NETWORK_TRANSMIT_BYTES: Counter 64 "node_network_transmit_bytes_total" "By" 0 ["device"], "rtnetlink", "Bytes sent";
    NETWORK_TRANSMIT_PACKETS: Counter 64 "node_network_transmit_packets_total" "1" 0 ["device"], "rtnetlink", "Packets sent";
    NETWORK_TRANSMIT_ERRS: Counter 64 "node_network_transmit_errs_total" "1" 0 ["device"], "rtnetlink", "Packets that could not be sent";
    NETWORK_TRANSMIT_DROP: Counter 64 "node_network_transmit_drop_total" "1" 0 ["device"], "rtnetlink", "Packets dropped on their way out";
    NETWORK_TRANSMIT_FIFO: Counter 64 "node_network_transmit_fifo_total" "1" 0 ["device"], "rtnetlink", "Underruns of the transmit queue";
    NETWORK_TRANSMIT_COLLS: Counter 64 "node_network_transmit_colls_total" "1" 0 ["device"], "rtnetlink", "Collisions";
    NETWORK_TRANSMIT_CARRIER: Counter 64 "node_network_transmit_carrier_total" "1" 0 ["device"], "rtnetlink", "Packets not sent for want of carrier, heartbeat or window";
    NETWORK_TRANSMIT_COMPRESSED: Counter 64 "node_network_transmit_compressed_total" "1" 0 ["device"], "rtnetlink", "Compressed packets sent";
    NETWORK_UP: Gauge 64 "node_network_up" "1" 0 ["device"], "rtnetlink", "1 if the interface is operational";
    NETWORK_CARRIER: Gauge 64 "node_network_carrier" "1" 0 ["device"], "rtnetlink", "1 if there is a link";
    NETWORK_CARRIER_CHANGES: Counter 32 "node_network_carrier_changes_total" "1" 0 ["device"], "rtnetlink", "Changes of the link, up and down";
    NETWORK_CARRIER_UP_CHANGES: Counter 32 "node_network_carrier_up_changes_total" "1" 0 ["device"], "rtnetlink", "Times the link came up";
    NETWORK_CARRIER_DOWN_CHANGES: Counter 32 "node_network_carrier_down_changes_total" "1" 0 ["device"], "rtnetlink", "Times the link went down";
    NETWORK_DORMANT: Gauge 64 "node_network_dormant" "1" 0 ["device"], "rtnetlink", "1 if the interface waits for an outer event";
    NETWORK_FLAGS: Gauge 64 "node_network_flags" "1" 0 ["device"], "rtnetlink", "Flags of the interface, as in if.h";
    NETWORK_SPEED: Gauge 64 "node_network_speed_bytes" "By/s" 0 ["device"], "/sys/class/net/*/speed", "Speed of the link; negative if the device does not know it";
    NETWORK_MTU: Gauge 64 "node_network_mtu_bytes" "By" 0 ["device"], "rtnetlink", "Largest packet";
    NETWORK_QUEUE: Gauge 64 "node_network_transmit_queue_length" "1" 0 ["device"], "rtnetlink", "Packets the transmit queue holds";
    NETWORK_IFACE_ID: Gauge 64 "node_network_iface_id" "1" 0 ["device"], "rtnetlink", "Index of the interface";
    NETWORK_IFACE_LINK: Gauge 64 "node_network_iface_link" "1" 0 ["device"], "rtnetlink", "Index of the interface below this one";
    NETWORK_IFACE_LINK_MODE: Gauge 64 "node_network_iface_link_mode" "1" 0 ["device"], "rtnetlink", "Link mode of the interface";
    NETWORK_GROUP: Gauge 64 "node_network_net_dev_group" "1" 0 ["device"], "rtnetlink", "Group of the interface";
    NETWORK_PROTOCOL: Gauge 64 "node_network_protocol_type" "1" 0 ["device"], "rtnetlink", "Hardware type, as in if_arp.h";
    NETWORK_ADDRESS_ASSIGN: Gauge 64 "node_network_address_assign_type" "1" 0 ["device"], "/sys/class/net/*/addr_assign_type", "How the hardware address was assigned";
    NETWORK_NAME_ASSIGN: Gauge 64 "node_network_name_assign_type" "1" 0 ["device"], "/sys/class/net/*/name_assign_type", "How the name was assigned";
    NETWORK_DEVICE_ID: Gauge 64 "node_network_device_id" "1" 0 ["device"], "/sys/class/net/*/dev_id", "Tells apart interfaces of one device";
    NETWORK_INFO: Gauge 64 "node_network_info" "1" 0 ["device", "address", "broadcast", "duplex", "ifalias", "operstate"], "rtnetlink, /sys/class/net/*/duplex", "Always 1; the labels describe the interface";
    BONDING_SLAVES: Gauge 64 "node_bonding_slaves" "1" 0 ["master"], "/sys/class/net/*/bonding", "Interfaces of a bond";
    BONDING_ACTIVE: Gauge 64 "node_bonding_active" "1" 0 ["master"], "/sys/class/net/*/bonding", "Interfaces of a bond that have a link";
    ARP_ENTRIES: Gauge 64 "node_arp_entries" "1" 0 ["device"], "/proc/net/arp", "Neighbours known on each interface";

    // Sockets and queues.
    SOFTNET_PROCESSED: Counter 32 "node_softnet_processed_total" "1" 0 ["cpu"], "/proc/net/softnet_stat", "Packets a core took from its queue";
    SOFTNET_DROPPED: Counter 32 "node_softnet_dropped_total" "1" 0 ["cpu"], "/proc/net/softnet_stat", "Packets dropped because a core's queue was full";
    SOFTNET_SQUEEZED: Counter 32 "node_softnet_times_squeezed_total" "1" 0 ["cpu"], "/proc/net/softnet_stat", "Times a core ran out of its share before its queue was empty";
    SOFTNET_COLLISIONS: Counter 32 "node_softnet_cpu_collision_total" "1" 0 ["cpu"], "/proc/net/softnet_stat", "Times a core found the device it sends by in use";
    SOFTNET_RPS: Counter 32 "node_softnet_received_rps_total" "1" 0 ["cpu"], "/proc/net/softnet_stat", "Times a core was woken to take packets from another";
    SOFTNET_FLOW_LIMIT: Counter 32 "node_softnet_flow_limit_count_total" "1" 0 ["cpu"], "/proc/net/softnet_stat", "Times the flow limit was reached";
    SOFTNET_BACKLOG: Gauge 64 "node_softnet_backlog_len" "1" 0 ["cpu"], "/proc/net/softnet_stat", "Packets in a core's queue";
    TCP_STATES: Gauge 64 "node_tcp_connection_states" "1" 0 ["state"], "sock_diag", "TCP sockets in each state";
    UDP_QUEUES: Gauge 64 "node_udp_queues" "By" 0 ["ip", "queue"], "sock_diag", "Bytes in the queues of all UDP sockets";
    CONNTRACK_ENTRIES: Gauge 64 "node_nf_conntrack_entries" "1" 0 [], "/proc/sys/net/netfilter", "Tracked connections";
    CONNTRACK_LIMIT: Gauge 64 "node_nf_conntrack_entries_limit" "1" 0 [], "/proc/sys/net/netfilter", "Most connections that can be tracked";

    // Processes and files.
    PROCESSES_STATE: Gauge 64 "node_processes_state" "1" 0 ["state"], "/proc/*/stat", "Processes in each state";
    PROCESSES_PIDS: Gauge 64 "node_processes_pids" "1" 0 [], "/proc", "Processes";
    PROCESSES_THREADS: Gauge 64 "node_processes_threads" "1" 0 [], "/proc/*/stat", "Threads of all processes";
    PROCESSES_MAX: Gauge 64 "node_processes_max_processes" "1" 0 [], "/proc/sys/kernel/pid_max", "Highest process number";
    PROCESSES_MAX_THREADS: Gauge 64 "node_processes_max_threads" "1" 0 [], "/proc/sys/kernel/threads-max", "Most threads the kernel allows";
    FILEFD_ALLOCATED: Gauge 64 "node_filefd_allocated" "1" 0 [], "/proc/sys/fs/file-nr", "Open files";
    FILEFD_MAXIMUM: Gauge 64 "node_filefd_maximum" "1" 0 [], "/proc/sys/fs/file-nr", "Most files that may be open";

    // Clocks.
    TIME: Gauge 64 "node_time_seconds" "s" -3 [], "clock_gettime", "The machine's clock";
    TIME_ZONE: Gauge 64 "node_time_zone_offset_seconds" "s" 0 ["time_zone"], "/etc/localtime", "How far local time is ahead of UTC";
    CLOCKSOURCE_AVAILABLE: Gauge 64 "node_time_clocksource_available_info" "1" 0 ["clocksource", "device"], "/sys/devices/system/clocksource", "Always 1, for each clock source there is";
    CLOCKSOURCE_CURRENT: Gauge 64 "node_time_clocksource_current_info" "1" 0 ["clocksource", "device"], "/sys/devices/system/clocksource", "Always 1, for the clock source in use";
    TIMEX_SYNC: Gauge 64 "node_timex_sync_status" "1" 0 [], "adjtimex", "1 if the clock is synchronised";
    TIMEX_OFFSET: Gauge 64 "node_timex_offset_seconds" "s" -9 [], "adjtimex", "Offset from the reference clock that is being corrected";
    TIMEX_FREQUENCY: Gauge 64 "node_timex_frequency_adjustment_ratio" "1" -15 [], "adjtimex", "Correction of the clock's frequency";
    TIMEX_MAXERROR: Gauge 64 "node_timex_maxerror_seconds" "s" -6 [], "adjtimex", "Largest possible error";
    TIMEX_ESTERROR: Gauge 64 "node_timex_estimated_error_seconds" "s" -6 [], "adjtimex", "Estimated error";
    TIMEX_STATUS: Gauge 64 "node_timex_status" "1" 0 [], "adjtimex", "Status bits, as in timex.h";
    TIMEX_CONSTANT: Gauge 64 "node_timex_loop_time_constant" "1" 0 [], "adjtimex", "Time constant of the correction";
    TIMEX_TICK: Gauge 64 "node_timex_tick_seconds" "s" -6 [], "adjtimex", "Time between two ticks";
    TIMEX_TAI: Gauge 64 "node_timex_tai_offset_seconds" "s" 0 [], "adjtimex", "Offset of atomic time from UTC";
    TIMEX_PPS_FREQUENCY: Gauge 64 "node_timex_pps_frequency_hertz" "Hz" -15 [], "adjtimex", "Frequency of the pulse per second";
    TIMEX_PPS_JITTER: Gauge 64 "node_timex_pps_jitter_seconds" "s" -9 [], "adjtimex", "Jitter of the pulse per second";
    TIMEX_PPS_SHIFT: Gauge 64 "node_timex_pps_shift_seconds" "s" 0 [], "adjtimex", "Interval of the pulse per second";
    TIMEX_PPS_STABILITY: Gauge 64 "node_timex_pps_stability_hertz" "Hz" -15 [], "adjtimex", "Stability of the pulse per second";
    TIMEX_PPS_JITTERS: Counter 64 "node_timex_pps_jitter_total" "1" 0 [], "adjtimex", "Times the jitter of the pulse was too large";
    TIMEX_PPS_CALIBRATIONS: Counter 64 "node_timex_pps_calibration_total" "1" 0 [], "adjtimex", "Calibrations by the pulse";
    TIMEX_PPS_ERRORS: Counter 64 "node_timex_pps_error_total" "1" 0 [], "adjtimex", "Calibrations by the pulse that failed";
    TIMEX_PPS_EXCEEDED: Counter 64 "node_timex_pps_stability_exceeded_total" "1" 0 [], "adjtimex", "Times the pulse was not stable enough";

    // Sensors and hardware errors.
    HWMON_CHIP_NAMES: Gauge 64 "node_hwmon_chip_names" "1" 0 ["chip", "chip_name"], "/sys/class/hwmon", "Always 1; gives a chip its name";
    HWMON_SENSOR_LABEL: Gauge 64 "node_hwmon_sensor_label" "1" 0 ["chip", "sensor", "label"], "/sys/class/hwmon", "Always 1; gives a sensor its label";
    HWMON_TEMP: Gauge 64 "node_hwmon_temp_celsius" "Cel" -3 ["chip", "sensor"], "/sys/class/hwmon", "Temperature";
    HWMON_TEMP_MAX: Gauge 64 "node_hwmon_temp_max_celsius" "Cel" -3 ["chip", "sensor"], "/sys/class/hwmon", "Temperature that should not be exceeded";
    HWMON_TEMP_CRIT: Gauge 64 "node_hwmon_temp_crit_celsius" "Cel" -3 ["chip", "sensor"], "/sys/class/hwmon", "Temperature at which the hardware is in danger";
    HWMON_FAN: Gauge 64 "node_hwmon_fan_rpm" "{rpm}" 0 ["chip", "sensor"], "/sys/class/hwmon", "Turns of a fan in a minute";
    HWMON_IN: Gauge 64 "node_hwmon_in_volts" "V" -3 ["chip", "sensor"], "/sys/class/hwmon", "Voltage";
    HWMON_CURR: Gauge 64 "node_hwmon_curr_amps" "A" -3 ["chip", "sensor"], "/sys/class/hwmon", "Current";
    HWMON_POWER: Gauge 64 "node_hwmon_power_watt" "W" -6 ["chip", "sensor"], "/sys/class/hwmon", "Power";
    THERMAL_ZONE: Gauge 64 "node_thermal_zone_temp" "Cel" -3 ["zone", "type"], "/sys/class/thermal", "Temperature of a zone";
    COOLING_CURRENT: Gauge 64 "node_cooling_device_cur_state" "1" 0 ["name", "type"], "/sys/class/thermal", "How hard a cooling device works";
    COOLING_MAX: Gauge 64 "node_cooling_device_max_state" "1" 0 ["name", "type"], "/sys/class/thermal", "How hard a cooling device can work";
    EDAC_CORRECTABLE: Counter 64 "node_edac_correctable_errors_total" "1" 0 ["controller"], "/sys/devices/system/edac", "Memory errors that were corrected";
    EDAC_UNCORRECTABLE: Counter 64 "node_edac_uncorrectable_errors_total" "1" 0 ["controller"], "/sys/devices/system/edac", "Memory errors that could not be corrected";
    EDAC_ROW_CORRECTABLE: Counter 64 "node_edac_csrow_correctable_errors_total" "1" 0 ["controller", "csrow"], "/sys/devices/system/edac", "Memory errors of a row that were corrected";
    EDAC_ROW_UNCORRECTABLE: Counter 64 "node_edac_csrow_uncorrectable_errors_total" "1" 0 ["controller", "csrow"], "/sys/devices/system/edac", "Memory errors of a row that could not be corrected";

    // What the machine is.
    UNAME: Gauge 64 "node_uname_info" "1" 0 ["nodename", "domainname", "machine", "release", "sysname", "version"], "uname", "Always 1; the labels name the machine and its kernel";
    OS_INFO: Gauge 64 "node_os_info" "1" 0 ["id", "build_id", "id_like", "image_id", "image_version", "name", "pretty_name", "variant", "variant_id", "version", "version_codename", "version_id"], "/etc/os-release", "Always 1; the labels name the operating system";
    OS_VERSION: Gauge 64 "node_os_version" "1" -4 ["id", "id_like", "name"], "/etc/os-release", "Version of the operating system as a number";
    DMI_INFO: Gauge 64 "node_dmi_info" "1" 0 ["product_name", "bios_date", "bios_release", "bios_vendor", "bios_version", "board_asset_tag", "board_name", "board_serial", "board_vendor", "board_version", "chassis_asset_tag", "chassis_serial", "chassis_vendor", "chassis_version", "product_family", "product_serial", "product_sku", "product_uuid", "product_version", "system_vendor"], "/sys/class/dmi/id", "Always 1; the labels name the hardware";
    SELINUX_ENABLED: Gauge 64 "node_selinux_enabled" "1" 0 [], "/sys/fs/selinux", "1 if SELinux is enabled";
    SELINUX_CURRENT_MODE: Gauge 64 "node_selinux_current_mode" "1" 0 [], "/sys/fs/selinux/enforce", "1 if SELinux enforces now";
    SELINUX_CONFIG_MODE: Gauge 64 "node_selinux_config_mode" "1" 0 [], "/etc/selinux/config", "1 if SELinux is configured to enforce";
    ENTROPY_AVAILABLE: Gauge 64 "node_entropy_available_bits" "bit" 0 [], "/proc/sys/kernel/random", "Entropy in the kernel's pool";
    ENTROPY_POOL_SIZE: Gauge 64 "node_entropy_pool_size_bits" "bit" 0 [], "/proc/sys/kernel/random", "Size of the kernel's pool";

    // Our own.
    UPTIME: Gauge 64 "tongtu_uptime_seconds" "s" -3 [], "clock_gettime", "Time since the machine was started, suspended time included";
    LEFT_OUT: Gauge 64 "tongtu_collector_left_out" "1" 0 ["collector"], "the agent", "Things of a collector that its bound left out";
    CPU_USAGE: Gauge 64 "tongtu_cpu_usage_ratio" "1" -4 ["cpu"], "sysinfo", "Share of a core in use, where the system counts no CPU time";
    COMPONENT_TEMPERATURE: Gauge 64 "tongtu_component_temperature_celsius" "Cel" -3 ["component"], "sysinfo", "Temperature of a component, on systems without hwmon";
}

family! {
    /// By the kernel's name in `/proc/meminfo`, in its order. Values with a unit are kB there.
    MEMORY: Gauge, "/proc/meminfo";
    "MemTotal" "node_memory_MemTotal_bytes" "By" "Memory that the kernel manages";
    "MemFree" "node_memory_MemFree_bytes" "By" "Memory that nothing uses";
    "MemAvailable" "node_memory_MemAvailable_bytes" "By" "Memory that programs could get without swapping";
    "Buffers" "node_memory_Buffers_bytes" "By" "Cached blocks of devices";
    "Cached" "node_memory_Cached_bytes" "By" "Cached pages of files";
    "SwapCached" "node_memory_SwapCached_bytes" "By" "Swapped pages that are also in memory";
    "Active" "node_memory_Active_bytes" "By" "Memory used lately";
    "Inactive" "node_memory_Inactive_bytes" "By" "Memory not used lately";
    "Active(anon)" "node_memory_Active_anon_bytes" "By" "Anonymous memory used lately";
    "Inactive(anon)" "node_memory_Inactive_anon_bytes" "By" "Anonymous memory not used lately";
    "Active(file)" "node_memory_Active_file_bytes" "By" "File cache used lately";
    "Inactive(file)" "node_memory_Inactive_file_bytes" "By" "File cache not used lately";
    "Unevictable" "node_memory_Unevictable_bytes" "By" "Memory that cannot be reclaimed";
    "Mlocked" "node_memory_Mlocked_bytes" "By" "Memory locked by programs";
    "HighTotal" "node_memory_HighTotal_bytes" "By" "High memory";
    "HighFree" "node_memory_HighFree_bytes" "By" "Free high memory";
    "LowTotal" "node_memory_LowTotal_bytes" "By" "Low memory";
    "LowFree" "node_memory_LowFree_bytes" "By" "Free low memory";
    "MmapCopy" "node_memory_MmapCopy_bytes" "By" "Memory of copied mappings, without an MMU";
    "SwapTotal" "node_memory_SwapTotal_bytes" "By" "Swap space";
    "SwapFree" "node_memory_SwapFree_bytes" "By" "Free swap space";
    "Zswap" "node_memory_Zswap_bytes" "By" "Memory that compressed swap takes";
    "Zswapped" "node_memory_Zswapped_bytes" "By" "Memory that compressed swap stands for";
    "Dirty" "node_memory_Dirty_bytes" "By" "Memory that waits to be written to disk";
    "Writeback" "node_memory_Writeback_bytes" "By" "Memory that is being written to disk";
    "AnonPages" "node_memory_AnonPages_bytes" "By" "Anonymous memory in page tables";
    "Mapped" "node_memory_Mapped_bytes" "By" "Mapped pages of files";
    "Shmem" "node_memory_Shmem_bytes" "By" "Shared memory and tmpfs";
    "KReclaimable" "node_memory_KReclaimable_bytes" "By" "Kernel memory that can be reclaimed";
    "Slab" "node_memory_Slab_bytes" "By" "Caches of kernel structures";
    "SReclaimable" "node_memory_SReclaimable_bytes" "By" "Caches of kernel structures that can be reclaimed";
    "SUnreclaim" "node_memory_SUnreclaim_bytes" "By" "Caches of kernel structures that cannot be reclaimed";
    "KernelStack" "node_memory_KernelStack_bytes" "By" "Kernel stacks of all tasks";
    "ShadowCallStack" "node_memory_ShadowCallStack_bytes" "By" "Shadow call stacks of all tasks";
    "PageTables" "node_memory_PageTables_bytes" "By" "Page tables";
    "SecPageTables" "node_memory_SecPageTables_bytes" "By" "Page tables of guests and devices";
    "Quicklists" "node_memory_Quicklists_bytes" "By" "Lists of free page tables";
    "NFS_Unstable" "node_memory_NFS_Unstable_bytes" "By" "Pages sent to an NFS server and not yet stored";
    "Bounce" "node_memory_Bounce_bytes" "By" "Bounce buffers of block devices";
    "WritebackTmp" "node_memory_WritebackTmp_bytes" "By" "Temporary buffers of FUSE";
    "CommitLimit" "node_memory_CommitLimit_bytes" "By" "Memory that can be promised under strict accounting";
    "Committed_AS" "node_memory_Committed_AS_bytes" "By" "Memory promised to programs";
    "VmallocTotal" "node_memory_VmallocTotal_bytes" "By" "Address space of vmalloc";
    "VmallocUsed" "node_memory_VmallocUsed_bytes" "By" "Used address space of vmalloc";
    "VmallocChunk" "node_memory_VmallocChunk_bytes" "By" "Largest free block of vmalloc";
    "Percpu" "node_memory_Percpu_bytes" "By" "Memory of per-core allocations";
    "EarlyMemtestBad" "node_memory_EarlyMemtestBad_bytes" "By" "Bad memory found at start";
    "HardwareCorrupted" "node_memory_HardwareCorrupted_bytes" "By" "Memory set aside after hardware errors";
    "AnonHugePages" "node_memory_AnonHugePages_bytes" "By" "Anonymous memory in huge pages";
    "ShmemHugePages" "node_memory_ShmemHugePages_bytes" "By" "Shared memory in huge pages";
    "ShmemPmdMapped" "node_memory_ShmemPmdMapped_bytes" "By" "Shared memory mapped by huge pages";
    "FileHugePages" "node_memory_FileHugePages_bytes" "By" "File cache in huge pages";
    "FilePmdMapped" "node_memory_FilePmdMapped_bytes" "By" "File cache mapped by huge pages";
    "CmaTotal" "node_memory_CmaTotal_bytes" "By" "Contiguous memory reserved";
    "CmaFree" "node_memory_CmaFree_bytes" "By" "Contiguous memory reserved and free";
    "Unaccepted" "node_memory_Unaccepted_bytes" "By" "Memory a confidential guest has not accepted yet";
    "Balloon" "node_memory_Balloon_bytes" "By" "Memory given back to the hypervisor";
    "GPUActive" "node_memory_GPUActive_bytes" "By" "Memory that graphics devices use";
    "GPUReclaim" "node_memory_GPUReclaim_bytes" "By" "Memory of graphics devices that can be reclaimed";
    "HugePages_Total" "node_memory_HugePages_Total" "1" "Huge pages in the pool";
    "HugePages_Free" "node_memory_HugePages_Free" "1" "Huge pages that are free";
    "HugePages_Rsvd" "node_memory_HugePages_Rsvd" "1" "Huge pages promised and not yet allocated";
    "HugePages_Surp" "node_memory_HugePages_Surp" "1" "Huge pages above the pool's size";
    "Hugepagesize" "node_memory_Hugepagesize_bytes" "By" "Size of a huge page";
    "Hugetlb" "node_memory_Hugetlb_bytes" "By" "Memory of huge pages of every size";
    "DirectMap4k" "node_memory_DirectMap4k_bytes" "By" "Memory the kernel maps in pages of 4 KiB";
    "DirectMap64k" "node_memory_DirectMap64k_bytes" "By" "Memory the kernel maps in pages of 64 KiB";
    "DirectMap1M" "node_memory_DirectMap1M_bytes" "By" "Memory the kernel maps in pages of 1 MiB";
    "DirectMap2M" "node_memory_DirectMap2M_bytes" "By" "Memory the kernel maps in pages of 2 MiB";
    "DirectMap4M" "node_memory_DirectMap4M_bytes" "By" "Memory the kernel maps in pages of 4 MiB";
    "DirectMap1G" "node_memory_DirectMap1G_bytes" "By" "Memory the kernel maps in pages of 1 GiB";
    "DirectMap2G" "node_memory_DirectMap2G_bytes" "By" "Memory the kernel maps in pages of 2 GiB";
}

family! {
    /// By the kernel's name in `/proc/vmstat`: node_exporter's, and how hard the kernel looks for memory.
    VMSTAT: Untyped, "/proc/vmstat";
    "workingset_refault_anon" "node_vmstat_workingset_refault_anon" "1" "Anonymous pages read back soon after they were swapped out";
    "workingset_refault_file" "node_vmstat_workingset_refault_file" "1" "Pages of files read back soon after they were dropped";
    "pgpgin" "node_vmstat_pgpgin" "1" "Kilobytes paged in from disks";
    "pgpgout" "node_vmstat_pgpgout" "1" "Kilobytes paged out to disks";
    "pswpin" "node_vmstat_pswpin" "1" "Pages swapped in";
    "pswpout" "node_vmstat_pswpout" "1" "Pages swapped out";
    "allocstall_normal" "node_vmstat_allocstall_normal" "1" "Allocations of usual memory that had to reclaim some first";
    "allocstall_movable" "node_vmstat_allocstall_movable" "1" "Allocations of movable memory that had to reclaim some first";
    "pgactivate" "node_vmstat_pgactivate" "1" "Pages found to be in use";
    "pgdeactivate" "node_vmstat_pgdeactivate" "1" "Pages found not to be in use any more";
    "pgfault" "node_vmstat_pgfault" "1" "Page faults";
    "pgmajfault" "node_vmstat_pgmajfault" "1" "Page faults that had to read a disk";
    "pgrefill" "node_vmstat_pgrefill" "1" "Pages in use that were looked at for reclaim";
    "pgsteal_kswapd" "node_vmstat_pgsteal_kswapd" "1" "Pages reclaimed in the background";
    "pgsteal_direct" "node_vmstat_pgsteal_direct" "1" "Pages reclaimed by who needed memory";
    "pgscan_kswapd" "node_vmstat_pgscan_kswapd" "1" "Pages looked at in the background to reclaim them";
    "pgscan_direct" "node_vmstat_pgscan_direct" "1" "Pages looked at to reclaim them by who needed memory";
    "slabs_scanned" "node_vmstat_slabs_scanned" "1" "Objects of the kernel looked at to reclaim them";
    "kswapd_low_wmark_hit_quickly" "node_vmstat_kswapd_low_wmark_hit_quickly" "1" "Times memory was short again soon after a reclaim";
    "pageoutrun" "node_vmstat_pageoutrun" "1" "Runs of background reclaim";
    "drop_pagecache" "node_vmstat_drop_pagecache" "1" "Times somebody had the file cache dropped";
    "drop_slab" "node_vmstat_drop_slab" "1" "Times somebody had the kernel's caches dropped";
    "oom_kill" "node_vmstat_oom_kill" "1" "Processes killed for want of memory";
    "pgmigrate_success" "node_vmstat_pgmigrate_success" "1" "Pages moved in memory";
    "pgmigrate_fail" "node_vmstat_pgmigrate_fail" "1" "Pages that could not be moved in memory";
    "compact_stall" "node_vmstat_compact_stall" "1" "Allocations that had to wait for memory to be made contiguous";
    "compact_fail" "node_vmstat_compact_fail" "1" "Of these, in vain";
    "compact_success" "node_vmstat_compact_success" "1" "Of these, with success";
    "thp_fault_alloc" "node_vmstat_thp_fault_alloc" "1" "Huge pages given at a page fault";
    "thp_fault_fallback" "node_vmstat_thp_fault_fallback" "1" "Page faults that found no huge page";
    "thp_collapse_alloc" "node_vmstat_thp_collapse_alloc" "1" "Huge pages made of small ones";
    "thp_split_page" "node_vmstat_thp_split_page" "1" "Huge pages taken apart";
    "balloon_inflate" "node_vmstat_balloon_inflate" "1" "Pages given to the hypervisor";
    "balloon_deflate" "node_vmstat_balloon_deflate" "1" "Pages taken back from the hypervisor";
}

family! {
    /// By `Protocol.Field` of `/proc/net/snmp` and `/proc/net/netstat`.
    NETSTAT: Untyped, "/proc/net/snmp, /proc/net/netstat";
    "Ip.Forwarding" "node_netstat_Ip_Forwarding" "1" "1 if this machine forwards packets, 2 if not";
    "Icmp.InMsgs" "node_netstat_Icmp_InMsgs" "1" "ICMP messages received";
    "Icmp.InErrors" "node_netstat_Icmp_InErrors" "1" "ICMP messages received with an error";
    "Icmp.OutMsgs" "node_netstat_Icmp_OutMsgs" "1" "ICMP messages sent";
    "Tcp.ActiveOpens" "node_netstat_Tcp_ActiveOpens" "1" "Connections begun from here";
    "Tcp.PassiveOpens" "node_netstat_Tcp_PassiveOpens" "1" "Connections begun from elsewhere";
    "Tcp.CurrEstab" "node_netstat_Tcp_CurrEstab" "1" "Connections that are open";
    "Tcp.InSegs" "node_netstat_Tcp_InSegs" "1" "Segments received";
    "Tcp.OutSegs" "node_netstat_Tcp_OutSegs" "1" "Segments sent";
    "Tcp.RetransSegs" "node_netstat_Tcp_RetransSegs" "1" "Segments sent again";
    "Tcp.InErrs" "node_netstat_Tcp_InErrs" "1" "Segments received with an error";
    "Tcp.OutRsts" "node_netstat_Tcp_OutRsts" "1" "Resets sent";
    "Udp.InDatagrams" "node_netstat_Udp_InDatagrams" "1" "Datagrams received";
    "Udp.NoPorts" "node_netstat_Udp_NoPorts" "1" "Datagrams received for a port that nobody listens on";
    "Udp.InErrors" "node_netstat_Udp_InErrors" "1" "Datagrams that could not be delivered";
    "Udp.OutDatagrams" "node_netstat_Udp_OutDatagrams" "1" "Datagrams sent";
    "Udp.RcvbufErrors" "node_netstat_Udp_RcvbufErrors" "1" "Datagrams dropped because a receive buffer was full";
    "Udp.SndbufErrors" "node_netstat_Udp_SndbufErrors" "1" "Datagrams dropped because a send buffer was full";
    "UdpLite.InErrors" "node_netstat_UdpLite_InErrors" "1" "UDP-Lite datagrams that could not be delivered";
    "TcpExt.SyncookiesSent" "node_netstat_TcpExt_SyncookiesSent" "1" "SYN cookies sent";
    "TcpExt.SyncookiesRecv" "node_netstat_TcpExt_SyncookiesRecv" "1" "SYN cookies received";
    "TcpExt.SyncookiesFailed" "node_netstat_TcpExt_SyncookiesFailed" "1" "SYN cookies that were not valid";
    "TcpExt.ListenOverflows" "node_netstat_TcpExt_ListenOverflows" "1" "Connections refused because a listen queue was full";
    "TcpExt.ListenDrops" "node_netstat_TcpExt_ListenDrops" "1" "Connections dropped by listening sockets";
    "TcpExt.TCPTimeouts" "node_netstat_TcpExt_TCPTimeouts" "1" "Retransmission timers that ran out";
    "TcpExt.TCPSynRetrans" "node_netstat_TcpExt_TCPSynRetrans" "1" "SYN segments sent again";
    "IpExt.InOctets" "node_netstat_IpExt_InOctets" "By" "IPv4 bytes received";
    "IpExt.OutOctets" "node_netstat_IpExt_OutOctets" "By" "IPv4 bytes sent";
}

family! {
    /// By the kernel's name in `/proc/net/snmp6`.
    SNMP6: Untyped, "/proc/net/snmp6";
    "Ip6InOctets" "node_netstat_Ip6_InOctets" "By" "IPv6 bytes received";
    "Ip6OutOctets" "node_netstat_Ip6_OutOctets" "By" "IPv6 bytes sent";
    "Icmp6InMsgs" "node_netstat_Icmp6_InMsgs" "1" "ICMPv6 messages received";
    "Icmp6InErrors" "node_netstat_Icmp6_InErrors" "1" "ICMPv6 messages received with an error";
    "Icmp6OutMsgs" "node_netstat_Icmp6_OutMsgs" "1" "ICMPv6 messages sent";
    "Udp6InDatagrams" "node_netstat_Udp6_InDatagrams" "1" "IPv6 datagrams received";
    "Udp6NoPorts" "node_netstat_Udp6_NoPorts" "1" "IPv6 datagrams received for a port that nobody listens on";
    "Udp6InErrors" "node_netstat_Udp6_InErrors" "1" "IPv6 datagrams that could not be delivered";
    "Udp6OutDatagrams" "node_netstat_Udp6_OutDatagrams" "1" "IPv6 datagrams sent";
    "Udp6RcvbufErrors" "node_netstat_Udp6_RcvbufErrors" "1" "IPv6 datagrams dropped because a receive buffer was full";
    "Udp6SndbufErrors" "node_netstat_Udp6_SndbufErrors" "1" "IPv6 datagrams dropped because a send buffer was full";
    "UdpLite6InErrors" "node_netstat_UdpLite6_InErrors" "1" "IPv6 UDP-Lite datagrams that could not be delivered";
}

family! {
    /// By `Protocol.field` of `/proc/net/sockstat` and `sockstat6`; memory is in pages, and again in bytes.
    SOCKSTAT: Gauge, "/proc/net/sockstat, /proc/net/sockstat6";
    "sockets.used" "node_sockstat_sockets_used" "1" "Sockets of every kind";
    "TCP.inuse" "node_sockstat_TCP_inuse" "1" "TCP sockets";
    "TCP.orphan" "node_sockstat_TCP_orphan" "1" "TCP sockets that no process holds";
    "TCP.tw" "node_sockstat_TCP_tw" "1" "TCP sockets that wait after closing";
    "TCP.alloc" "node_sockstat_TCP_alloc" "1" "TCP sockets allocated";
    "TCP.mem" "node_sockstat_TCP_mem" "1" "Pages of memory that TCP uses";
    "TCP.mem_bytes" "node_sockstat_TCP_mem_bytes" "By" "Memory that TCP uses";
    "UDP.inuse" "node_sockstat_UDP_inuse" "1" "UDP sockets";
    "UDP.mem" "node_sockstat_UDP_mem" "1" "Pages of memory that UDP uses";
    "UDP.mem_bytes" "node_sockstat_UDP_mem_bytes" "By" "Memory that UDP uses";
    "UDPLITE.inuse" "node_sockstat_UDPLITE_inuse" "1" "UDP-Lite sockets";
    "RAW.inuse" "node_sockstat_RAW_inuse" "1" "Raw sockets";
    "FRAG.inuse" "node_sockstat_FRAG_inuse" "1" "Datagrams being reassembled";
    "FRAG.memory" "node_sockstat_FRAG_memory" "By" "Memory of datagrams being reassembled";
    "TCP6.inuse" "node_sockstat_TCP6_inuse" "1" "TCP sockets over IPv6";
    "UDP6.inuse" "node_sockstat_UDP6_inuse" "1" "UDP sockets over IPv6";
    "UDPLITE6.inuse" "node_sockstat_UDPLITE6_inuse" "1" "UDP-Lite sockets over IPv6";
    "RAW6.inuse" "node_sockstat_RAW6_inuse" "1" "Raw sockets over IPv6";
    "FRAG6.inuse" "node_sockstat_FRAG6_inuse" "1" "IPv6 datagrams being reassembled";
    "FRAG6.memory" "node_sockstat_FRAG6_memory" "By" "Memory of IPv6 datagrams being reassembled";
}

family! {
    /// By the kernel's name in `/proc/net/stat/nf_conntrack`; summed over the cores.
    CONNTRACK_STAT: Gauge, "/proc/net/stat/nf_conntrack";
    "found" "node_nf_conntrack_stat_found" "1" "Searches of the table that found an entry";
    "invalid" "node_nf_conntrack_stat_invalid" "1" "Packets that cannot be tracked";
    "ignore" "node_nf_conntrack_stat_ignore" "1" "Packets that were already tracked";
    "insert" "node_nf_conntrack_stat_insert" "1" "Entries inserted";
    "insert_failed" "node_nf_conntrack_stat_insert_failed" "1" "Entries that could not be inserted";
    "drop" "node_nf_conntrack_stat_drop" "1" "Packets dropped because tracking failed";
    "early_drop" "node_nf_conntrack_stat_early_drop" "1" "Entries dropped to make room";
    "search_restart" "node_nf_conntrack_stat_search_restart" "1" "Searches begun anew because the table changed";
}
