//! Tests of the configuration: what a person who made a slip is told.

use super::*;

fn said(text: &str) -> String {
    Config::parse(text, "tongtu.toml").expect_err("it must not be taken").to_string()
}

#[test]
fn the_embedded_default_is_complete_and_valid() {
    let config = Config::parse("", "").expect("the default");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:6480");
    assert_eq!(config.telemetry.raw_retention, Duration::from_secs(8 * 86_400));
    assert_eq!(config.telemetry.window_size, 256 << 20);
    assert!(config.database.url.is_none());
}

/// What stands there as a comment can be used as it stands.
#[test]
fn the_commented_keys_of_the_default_are_valid() {
    let is_key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = ");
    let used: Vec<&str> =
        DEFAULT.lines().map(|line| line.strip_prefix('#').filter(|line| is_key(line)).unwrap_or(line)).collect();
    let used = used.join("\n").replace("tls = \"off\"", "tls = \"files\"");
    let config = Config::parse(&used, "default.toml").expect("valid");
    assert!(config.agents.advertise.is_some() && config.database.url.is_some());
}

#[test]
fn a_file_holds_only_what_differs() {
    let config = Config::parse("[telemetry]\nwindow_span = \"10m\"\n", "").expect("taken");
    assert_eq!(config.telemetry.window_span, Duration::from_secs(600));
    assert_eq!(config.telemetry.raw_retention, Duration::from_secs(8 * 86_400));
}

#[test]
fn under_tls_any_address_is_taken() {
    for tls in ["tls = \"self_made\"", "tls = \"files\"\ntls_certificate = \"c.pem\"\ntls_key = \"k.pem\""] {
        let config = Config::parse(&format!("[http]\nlisten = \"0.0.0.0:6480\"\n{tls}\n"), "").expect(tls);
        assert_eq!(config.http.scheme(), "https");
    }
}

#[test]
fn slips_are_said_in_one_sentence_with_file_and_key() {
    for (text, key) in [
        ("[telemetry]\nwindow_spam = \"2h\"\n", "window_spam"),
        ("[telemetri]\n", "telemetri"),
        ("[telemetry]\nwindow_span = 7200\n", "telemetry.window_span"),
        ("[telemetry]\nwindow_span = \"2 fortnights\"\n", "telemetry.window_span"),
        ("[telemetry]\nwindow_size = \"64MB\"\n", "telemetry.window_size"),
        ("[telemetry]\nwindow_size = \"2h\"\n", "telemetry.window_size"),
        ("[http]\nlisten = \"localhost\"\n", "http.listen"),
        ("[http]\nlisten = \"0.0.0.0:6480\"\n", "tls = \"self_made\""),
        ("[http]\nrequests_per_second = 0\n", "http.requests_per_second"),
        ("[http]\nrequests_per_second = -1\n", "requests_per_second"),
        ("[http]\ntls = \"on\"\n", "http.tls"),
        ("[http]\ntls = \"files\"\n", "http.tls_certificate"),
        ("[http]\ntls = \"files\"\ntls_certificate = \"c.pem\"\n", "http.tls_key"),
        ("[http]\ntls_key = \"k.pem\"\n", "http.tls_key"),
        ("[log]\nformat = \"xml\"\n", "log.format"),
        ("telemetry = 5\n", "telemetry"),
        ("[telemetry\n", "line 1"),
        ("[http]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:1\"\n", "listen"),
        ("[telemetry]\nwindow_span = \"0s\"\n", "telemetry.window_span"),
        ("[telemetry]\nslot_retention = \"1d\"\n", "telemetry.slot_retention"),
        ("[agents]\nadvertise = \"control\"\n", "agents.advertise"),
        ("[access]\nsession_idle_timeout = \"1s\"\n", "access.session_idle_timeout"),
        ("[access]\nsession_timeout = \"10m\"\n", "access.session_timeout"),
        ("[access]\naudit_retention = \"183d\"\n", "access.audit_retention"),
    ] {
        let said = said(text);
        println!("{said}");
        assert!(said.starts_with("tongtu.toml: ") && said.contains(key), "{text:?} said {said:?}");
        assert!(!said.contains('\n'), "more than a line: {said:?}");
    }
}

#[test]
fn units_are_read_as_written() {
    for (text, seconds) in [("15s", 15.0), ("8d", 691_200.0), ("1h30m", 5_400.0), ("100ms", 0.1)] {
        assert_eq!(units::parse_duration(text).map(|d| d.as_secs_f64()), Ok(seconds), "{text}");
    }
    for text in ["100ms", "15s", "90m", "2h", "8d"] {
        assert_eq!(units::shown(units::parse_duration(text).expect(text)), text);
    }
    for text in ["15", "-1s", "s", "", "1 month", "9999999d", "1.5"] {
        assert!(units::parse_duration(text).is_err(), "{text}");
    }
    for (text, bytes) in [("0B", 0), ("512B", 512), ("64MiB", 64 << 20), ("2 GiB", 2 << 30)] {
        assert_eq!(units::parse_size(text), Ok(bytes), "{text}");
    }
    for text in ["64", "64MB", "-1B", "1.5MiB", "99999999999TiB", "MiB", ""] {
        assert!(units::parse_size(text).is_err(), "{text}");
    }
}
