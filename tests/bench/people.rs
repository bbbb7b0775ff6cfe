//! People of a control, made as a newcomer makes them: the first link, then an operator's.

use serde_json::{Value, json};
use tongtu_tests::control::Control;
use tongtu_tests::http;

/// Of everybody here.
pub(crate) const PASSWORD: &str = "a bridge over the widest river";

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// What the cookie holds.
    pub(crate) session: String,
    csrf: String,
}

/// The cookie with a session.
pub(crate) fn cookie(session: &str) -> String {
    format!("tongtu_session={session}")
}

/// Uses the link that the first start made.
pub(crate) fn security_administrator(control: &Control) -> Person {
    let output = control.tongtu(&["invitation"]);
    let link = output.stdout.lines().last().unwrap_or_default().to_owned();
    accept(control, &link, json!({ "name": "security" }))
}

/// An operator of the whole city, added by a security administrator.
pub(crate) fn operator(control: &Control, by: &Person, name: &str) -> Person {
    let user = json!({ "name": name, "display_name": name, "roles": ["operator"], "organization": "org_1" });
    let made = post(control, "/api/v1/users", Some(by), &user);
    let link = made.body.pointer("/invitation/url").and_then(Value::as_str);
    accept(control, link.unwrap_or_else(|| panic!("no link: {}", made.body)), json!({}))
}

fn accept(control: &Control, link: &str, mut of: Value) -> Person {
    let (_, secret) = link.rsplit_once('#').unwrap_or_else(|| panic!("no link: {link}"));
    of["secret"] = secret.into();
    of["password"] = PASSWORD.into();
    let answer = post(control, "/api/v1/invitations/accept", None, &of);
    let csrf = answer.body["csrf"].as_str().unwrap_or_else(|| panic!("not logged in: {}", answer.body));
    Person { session: answer.session, csrf: csrf.to_owned() }
}

struct Answer {
    session: String,
    body: Value,
}

fn post(control: &Control, route: &str, by: Option<&Person>, body: &Value) -> Answer {
    http::wait(async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client without options that can fail");
        let mut request = client.post(control.url(route)).json(body);
        if let Some(person) = by {
            request = request.header("cookie", cookie(&person.session)).header("x-csrf-token", &person.csrf);
        }
        let response = request.send().await.expect("control answers");
        let set = response.headers().get("set-cookie").and_then(|set| set.to_str().ok()).unwrap_or_default();
        let session = set.split(';').next().and_then(|pair| pair.strip_prefix("tongtu_session="));
        let session = session.unwrap_or_default().to_owned();
        Answer { session, body: response.json().await.expect("JSON") }
    })
}
