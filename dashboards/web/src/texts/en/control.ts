/** Settings and control's own health. */
export default {
  settings: {
    soon: "This version of control does not tell its settings yet",
    soon_text: "What is in force stands in `tongtu serve --help` and in the configuration file.",
    name: "Name",
    value: "Value",
    origin: "From",
    origin_name: { default: "default", file: "file" },
    certificates: "Certificates",
    subject: "Subject",
    fingerprint: "Fingerprint",
    ends: "Ends",
    readiness: "Readiness",
    check_name: { start: "start", stop: "stop", database: "database", records: "records" },
    ok: "Well",
    not_ok: "Not well",
  },
};
