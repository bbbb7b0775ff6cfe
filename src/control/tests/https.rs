//! The HTTP port over TLS, as a browser and a machine see it.

use super::*;
use crate::config::Tls;

/// Control with a self-made certificate, and a client that trusts its authority.
async fn secured() -> Started {
    let data = tempfile::tempdir().expect("a directory");
    let mut options = options(data.path());
    options.config.http.tls = Tls::SelfMade;
    let mut started = started_with(data, options).await;
    let authority = fs::read(started.data.path().join("ca/ca.pem")).expect("the authority");
    let authority = reqwest::Certificate::from_pem(&authority).expect("PEM");
    let client = Client::builder().no_proxy().tls_certs_only([authority]);
    started.client = client.redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    started
}

#[tokio::test]
async fn a_self_made_certificate_is_trusted_by_who_trusts_the_authority() {
    let started = secured().await;
    let port = started.running.http().port();
    assert_eq!(started.base(), format!("https://127.0.0.1:{port}"));
    let answer = started.send(Method::GET, "/healthz", None).await;
    assert_eq!(answer.status(), StatusCode::OK);
    // What is said of a host holds for all of its ports, on which others may be.
    for (host, is_strict) in [
        ("control.example", true),
        ("control.example:443", true),
        ("control.example:6480", false),
        (&*format!("127.0.0.1:{port}"), false),
        ("localhost", false),
    ] {
        let answer = started.client.get(format!("{}/healthz", started.base())).header("host", host);
        let answer = answer.send().await.expect("an answer");
        let said = answer.headers().get("strict-transport-security").map(|value| value.to_str().expect("text"));
        assert_eq!(said, is_strict.then_some("max-age=31536000"), "{host}");
    }
    started.client.get(format!("https://localhost:{port}/healthz")).send().await.expect("trusted by this name too");
    let stranger = Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    assert!(stranger.get(format!("{}/healthz", started.base())).send().await.is_err());

    let plain = started.client.get(format!("http://127.0.0.1:{port}/hosts")).send().await.expect("an answer");
    assert_eq!(plain.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(plain.headers()["location"], format!("https://127.0.0.1:{port}/hosts").as_str());
}

#[tokio::test]
async fn a_session_over_tls_is_for_this_host_and_its_pages() {
    let started = secured().await;
    let link = started.running.first_link().expect("nobody can log in yet");
    assert!(link.starts_with(&started.base()), "{link}");
    let administrator = started.first_administrator().await;
    assert!(administrator.cookie.starts_with("__Host-tongtu_session="), "{}", administrator.cookie);
    let login = started.log_in("security", PASSWORD).await;
    let cookie = login.headers()["set-cookie"].to_str().expect("text");
    assert!(cookie.contains("; Secure") && cookie.contains("; Path=/;"), "{cookie}");

    let end = |origin: &str| {
        let request = administrator.request(Method::DELETE, "/api/v1/session");
        request.header("x-csrf-token", &administrator.csrf).header("origin", origin)
    };
    let plain = started.base().replace("https", "http");
    let refused = problem(end(&plain).send().await.expect("an answer"), StatusCode::FORBIDDEN).await;
    assert_eq!(refused["type"], "urn:tongtu:problem:csrf");
    assert_eq!(end(&started.base()).send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_settings_know_of_the_certificate() {
    let started = secured().await;
    let (_, auditor) = started.join(&started.first_administrator().await, "auditor", "auditor").await;
    let settings: Value = auditor.send(Method::GET, "/api/v1/settings", None).await.json().await.expect("JSON");
    let certificates = settings["certificates"].as_array().expect("a list");
    let names: Vec<_> = certificates.iter().map(|certificate| certificate["name"].as_str()).collect();
    assert_eq!(names, [Some("agents"), Some("http")]);
    assert!(certificates[1]["subject"].as_str().is_some_and(|subject| subject.contains("tongtu-control")));
    let year_ms = 365 * 86_400_000;
    let left_ms = certificates[1]["not_after_ms"].as_i64().expect("a time") - Clock::System.now_ms();
    assert!((year_ms - 600_000..=year_ms).contains(&left_ms), "{left_ms}");
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again() {
    let data = tempfile::tempdir().expect("a directory");
    let mut options = options(data.path());
    options.config.http.requests_per_second = 10;
    let started = started_with(data, options).await;
    let administrator = started.first_administrator().await;
    let ask = async || administrator.request(Method::GET, "/api/v1/session").header("accept-language", "en");
    let limited = loop {
        let answer = ask().await.send().await.expect("an answer");
        if answer.status() != StatusCode::OK {
            break answer;
        }
    };
    assert_eq!(limited.headers()["retry-after"], "1");
    let said = problem(limited, StatusCode::TOO_MANY_REQUESTS).await;
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("10 requests a second")), "{said}");
    // Others are unharmed, and nobody has an account of their own, for each address.
    for _ in 0..100 {
        assert_eq!(started.send(Method::GET, "/api/v1/agents", Some(&started.token())).await.status(), StatusCode::OK);
        assert_eq!(started.send(Method::GET, "/readyz", None).await.status(), StatusCode::OK);
    }
    for path in ["/api/v1/agents", "/api/v1/first-run"] {
        let limited = loop {
            let answer = started.send(Method::GET, path, None).await;
            if answer.status() == StatusCode::TOO_MANY_REQUESTS {
                break answer;
            }
        };
        let said = problem(limited, StatusCode::TOO_MANY_REQUESTS).await;
        assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("每秒 10 次")), "{said}");
    }
    let text = started.send(Method::GET, "/metrics", Some(&started.token())).await.text().await.expect("text");
    assert!(text.contains("tongtu_http_limited_total{principal=\"session\"} 1"), "{text}");
}
