//! Browsers in which a person has logged in before.
//!
//! Failures slow an address and a name. Behind a shared address that would let one slow another, so a login
//! leaves a cookie in the browser that proves it, and a browser that shows it is slowed by its own failures
//! alone. The proof is made with the password's hash: it is kept nowhere, and dies with the password. It opens
//! nothing: whoever steals it has a few more guesses.

use axum::http::{HeaderMap, HeaderValue, header};

use super::{User, secret};
use crate::platform::http::origin::Origin;
use crate::platform::ids::UserId;

/// The cookie's name before the number of the user.
const COOKIE: &str = "tongtu_known_";
/// 180 days.
const SECONDS: u32 = 180 * 86_400;
/// Cookies that are looked at.
const COOKIES: usize = 32;

/// What a browser shows of who has logged in there.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(Vec<(UserId, String)>);

impl Shown {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let known = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| {
            let (user, value) = cookie.trim().strip_prefix(COOKIE)?.split_once('=')?;
            Some((UserId(user.parse().ok()?), value.to_owned()))
        });
        Self(known.take(COOKIES).collect())
    }

    /// Which browser it is, if a person has logged in there with their password of now.
    pub(super) fn browser(&self, user: &User) -> Option<&str> {
        let shown = self.0.iter().filter(|(id, _)| *id == user.id).filter_map(|(_, value)| value.split_once('.'));
        shown
            .filter(|(browser, proof)| prove(user, browser).is_some_and(|expected| secret::equal(proof, &expected)))
            .map(|(browser, _)| browser)
            .next()
    }
}

fn prove(user: &User, browser: &str) -> Option<String> {
    let password = user.password.as_ref()?;
    Some(secret::derive(&password.0, &format!("known browser {} {browser}", user.id)))
}

/// What a browser is to show from now on.
pub(super) fn remembered(user: &User) -> Option<String> {
    let browser = secret::generate();
    let proof = prove(user, &browser)?;
    Some(format!("{COOKIE}{}={browser}.{proof}", user.id.0))
}

/// The header that leaves it there; no script reads it, and it goes only where logins go.
pub(super) fn cookie(remembered: &str, origin: Origin) -> HeaderValue {
    let secure = if origin.is_secure { "; Secure" } else { "" };
    let cookie = format!("{remembered}; HttpOnly; SameSite=Strict; Path=/api/v1/session; Max-Age={SECONDS}{secure}");
    HeaderValue::try_from(cookie).expect("base64 and constants")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Password, ROOT, Role, Roles};

    fn user(id: i64, password: &str) -> User {
        User {
            id: UserId(id),
            name: "zhang".to_owned(),
            display_name: "张".to_owned(),
            organization: ROOT,
            roles: Roles::one(Role::Operator),
            password: Some(Password(password.to_owned())),
            language: None,
            created_ms: 0,
            disabled_ms: None,
            last_login_ms: None,
        }
    }

    fn shown(cookies: &str) -> Shown {
        Shown::of(&HeaderMap::from_iter([(header::COOKIE, cookies.parse().expect("a value"))]))
    }

    #[test]
    fn a_browser_is_known_for_one_person_and_one_password() {
        let zhang = user(7, "$argon2id$one");
        let left = remembered(&zhang).expect("a password");
        let cookies = format!("tongtu_session=x; tongtu_known_8=a.b; {left}");
        let browser = left.split_once('=').and_then(|(_, value)| value.split_once('.')).expect("a value").0;
        assert_eq!(shown(&cookies).browser(&zhang), Some(browser));
        assert_eq!(shown(&cookies).browser(&user(7, "$argon2id$another")), None, "another password");
        let others = left.replace("known_7", "known_8");
        assert_eq!(shown(&others).browser(&user(8, "$argon2id$one")), None, "another person");
        for forged in [format!("{left}x"), left.replace('.', ".x"), "tongtu_known_7=a.b".to_owned(), String::new()] {
            assert_eq!(shown(&forged).browser(&zhang), None, "{forged}");
        }
    }

    #[test]
    fn the_cookie_is_for_no_script_and_no_other_site() {
        let cookie = cookie("tongtu_known_7=a.b", Origin { is_secure: true, ..Origin::default() });
        assert_eq!(
            cookie,
            "tongtu_known_7=a.b; HttpOnly; SameSite=Strict; Path=/api/v1/session; Max-Age=15552000; Secure"
        );
    }
}
