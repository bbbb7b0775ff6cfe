//! A person in a session, as the browser keeps it.

use crate::control::Control;
use crate::http::{self, Response};
use serde_json::{Value, json};

/// Everybody's here.
pub const PASSWORD: &str = "a bridge over the widest river";

/// Somebody who is logged in.
#[derive(Debug)]
pub struct Person {
    cookie: String,
    csrf: String,
}

impl Person {
    /// The first security administrator, with the link that the first start wrote.
    ///
    /// # Panics
    /// When there is one already.
    #[must_use]
    #[track_caller]
    pub fn first(control: &Control) -> Self {
        let link = std::fs::read_to_string(control.data.join("first-link")).expect("the first start writes a link");
        Self::invited(control, link.trim(), "security")
    }

    /// Somebody of a role, whom this one creates.
    ///
    /// # Panics
    /// When it may not.
    #[must_use]
    #[track_caller]
    pub fn create(&self, control: &Control, name: &str, role: &str) -> Self {
        self.create_in(control, name, role, "org_1")
    }

    /// The same, of an organisation.
    ///
    /// # Panics
    /// When it may not.
    #[must_use]
    #[track_caller]
    pub fn create_in(&self, control: &Control, name: &str, role: &str, organization: &str) -> Self {
        let wished = json!({ "name": name, "display_name": name, "roles": [role], "organization": organization });
        let made = self.ask(control, "POST", "/api/v1/users", Some(&wished));
        assert_eq!(made.status, 201, "{}", made.text);
        let made = made.json();
        Self::invited(control, made["invitation"]["url"].as_str().expect("a link"), name)
    }

    /// A department of the city, which this one adds: its id.
    ///
    /// # Panics
    /// When it may not.
    #[must_use]
    #[track_caller]
    pub fn organization(&self, control: &Control, name: &str) -> String {
        let wished = json!({ "name": name, "level": "department", "parent": "org_1" });
        let made = self.ask(control, "POST", "/api/v1/organizations", Some(&wished));
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()["id"].as_str().expect("an id").to_owned()
    }

    fn invited(control: &Control, link: &str, name: &str) -> Self {
        let secret = link.rsplit_once('#').expect("a secret").1;
        let mut accepted = json!({ "secret": secret, "password": PASSWORD });
        if name == "security" {
            accepted["name"] = name.into();
            accepted["display_name"] = name.into();
        }
        Self::welcomed(control, "/api/v1/invitations/accept", &accepted)
    }

    /// Somebody who is known and logs in.
    ///
    /// # Panics
    /// When that is refused.
    #[must_use]
    #[track_caller]
    pub fn again(control: &Control, name: &str) -> Self {
        Self::welcomed(control, "/api/v1/session", &json!({ "name": name, "password": PASSWORD }))
    }

    #[track_caller]
    fn welcomed(control: &Control, route: &str, shown: &Value) -> Self {
        let welcomed = http::request("POST", &control.url(route), None, Some(shown)).expect("an answer").ok();
        let me: Value = welcomed.json();
        let csrf = me["csrf"].as_str().expect("a token").to_owned();
        Self { cookie: welcomed.cookie.expect("a cookie"), csrf }
    }

    /// The session's cookie, `name=value`.
    #[must_use]
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// What control answers them.
    ///
    /// # Panics
    /// When nobody answers.
    #[must_use]
    #[track_caller]
    pub fn ask(&self, control: &Control, method: &str, route: &str, body: Option<&Value>) -> Response {
        let session = (self.cookie.as_str(), self.csrf.as_str());
        http::browse(method, &control.url(route), session, body).unwrap_or_else(|err| panic!("{route}: {err}"))
    }
}
