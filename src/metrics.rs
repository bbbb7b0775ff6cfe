//! The list of control's own metrics. Names only: instruments are made by their owners through
//! [`platform::metrics::Registry`](crate::platform::metrics::Registry).

use crate::platform::metrics::{Kind, Spec};

/// Defines each spec and the list of all of them.
macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Spec =
                Spec { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// Every metric of control.
        pub const ALL: &[Spec] = &[$($constant),*];
    };
}

metrics! {
    BUILD_INFO = Gauge "tongtu_build_info" ["version"] "Always 1; the version of control.";
    PROCESS_CPU = Counter "tongtu_process_cpu_seconds_total" [] "CPU time of control, of all its threads.";
    PROCESS_RESIDENT_MEMORY = Gauge "tongtu_process_resident_memory_bytes" [] "Memory of control that is in RAM.";
    PROCESS_OPEN_FILES = Gauge "tongtu_process_open_files" [] "Files and sockets that control has open.";
    DATABASE_SIZE = Gauge "tongtu_database_size_bytes" [] "What the database takes.";
    DATA_FREE = Gauge "tongtu_data_free_bytes" [] "Room that control may still use where its data directory is.";
    DATA_SIZE = Gauge "tongtu_data_size_bytes" [] "The file system that holds the data directory.";
    BACKUP_LAST = Gauge "tongtu_backup_last_success_timestamp_seconds" [] "When the newest whole backup was begun, in Unix time; 0: there is none.";
    BACKUP_DURATION = Gauge "tongtu_backup_duration_seconds" [] "Time that the last backup since the start took.";
    BACKUP_SIZE = Gauge "tongtu_backup_size_bytes" [] "What the newest whole backup takes.";
    BACKUP_INTERVAL = Gauge "tongtu_backup_interval_seconds" [] "Time between two scheduled backups; 0: none are scheduled.";
    BACKUP_FAILURES = Counter "tongtu_backup_failures_total" [] "Backups that were not made.";
    READY = Gauge "tongtu_ready" [] "Whether control accepts records and queries: 1 or 0.";
    HTTP_REQUESTS = Counter "tongtu_http_requests_total" ["method", "route", "status"] "HTTP requests answered.";
    HTTP_REQUEST_DURATION = Histogram "tongtu_http_request_duration_seconds" ["route"] "Time to answer an HTTP request.";
    HTTP_UNAUTHENTICATED = Counter "tongtu_http_unauthenticated_total" [] "HTTP requests without a known token or session.";
    HTTP_LIMITED = Counter "tongtu_http_limited_total" ["principal"] "HTTP requests beyond the limit of their session, token or address.";
    LOGINS = Counter "tongtu_logins_total" ["result"] "Logins of people: done, wrong, limited or busy.";
    AGENT_CONNECTIONS = Gauge "tongtu_agent_connections" [] "Connections on the agents' port.";
    AGENT_SESSIONS = Gauge "tongtu_agent_sessions" [] "Agents' streams that said hello.";
    AGENTS_ENROLLED = Counter "tongtu_agents_enrolled_total" [] "Agents enrolled.";
    AGENT_CERTIFICATES_RENEWED = Counter "tongtu_agent_certificates_renewed_total" [] "Agents' certificates renewed.";
    AGENTS_REFUSED = Counter "tongtu_agents_refused_total" ["reason"] "Connections, calls and streams of agents that were refused or ended, by reason.";
    RECORDS_ACCEPTED = Counter "tongtu_records_accepted_total" [] "Records that became durable.";
    RECORDS_REFUSED = Counter "tongtu_records_refused_total" ["reason"] "Records refused for good.";
    RECORDS_LOST = Counter "tongtu_records_lost_total" [] "Records that agents reported as lost.";
    RECORDS_LATER = Counter "tongtu_records_later_total" [] "Records that agents were told to send again later.";
    COMMIT_DURATION = Histogram "tongtu_commit_duration_seconds" [] "Time from taking what waits to knowing it durable.";
    QUEUE_BYTES = Gauge "tongtu_queue_bytes" [] "Bytes received that wait for their commit.";
    QUEUE_LIMIT = Gauge "tongtu_queue_limit_bytes" [] "Bytes that may wait; beyond them agents are told to send again later.";
    WINDOWS_SEALED = Gauge "tongtu_windows_sealed" [] "Windows that wait for compaction or are in it.";
    COMPACTION_DURATION = Histogram "tongtu_compaction_duration_seconds" [] "Time to compact a window.";
    COMPACTIONS = Counter "tongtu_compactions_total" ["result"] "Compactions of windows, ok or failed.";
    COMPACTED_SAMPLES = Counter "tongtu_compacted_samples_total" [] "Values of columns written to chunks.";
    COMPACTION_SOURCES_LEFT_OUT = Counter "tongtu_compaction_sources_left_out_total" [] "Sources of a window of whose frames no slots could be made; the frames are kept aside.";
    CHUNK_BYTES = Counter "tongtu_chunk_bytes_total" [] "Bytes of chunks written.";
    AGENTS = Gauge "tongtu_agents" ["state"] "Agents by state.";
    AGENT_UP = Gauge "tongtu_agent_up" ["agent", "hostname"] "1 if the agent reports as it should, 0 otherwise.";
    AGENT_LAST_REPORT = Gauge "tongtu_agent_last_report_timestamp_seconds" ["agent", "hostname"] "When a record of the agent last came, in Unix time.";
    AGENT_COMPLETENESS = Gauge "tongtu_agent_completeness_ratio" ["agent", "hostname"] "Frames of the last hour that are here, of those that should be.";
    AGENT_CLOCK_OFFSET = Gauge "tongtu_agent_clock_offset_seconds" ["agent", "hostname"] "The agent's wall clock minus control's.";
    AGENT_RECORDS_ACCEPTED = Counter "tongtu_agent_records_accepted_total" ["agent", "hostname"] "Records of the agent that are durable.";
    AGENT_RECORDS_REFUSED = Counter "tongtu_agent_records_refused_total" ["agent", "hostname"] "Records of the agent refused for good.";
    AGENT_RECORDS_LOST = Counter "tongtu_agent_records_lost_total" ["agent", "hostname"] "Records that the agent reported lost.";
}
