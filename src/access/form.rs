//! What people write into forms: which names, display names and passwords are taken, and what is said
//! of the others. Pure.

use super::WeakPassword;
use super::roles::RolesError;

/// What is wrong with one field, in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its name in the body.
    pub field: &'static str,
    /// What is wrong and what is right.
    pub english: String,
    /// The same in Chinese.
    pub chinese: String,
}

impl Fault {
    /// Of a field.
    pub(crate) fn new(field: &'static str, english: impl Into<String>, chinese: impl Into<String>) -> Self {
        Self { field, english: english.into(), chinese: chinese.into() }
    }
}

/// What is wrong with a form, field by field.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
#[error("a field is not as it should be")]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Notes what is wrong, if something is.
    pub(crate) fn note(&mut self, checked: Result<(), Fault>) {
        self.0.extend(checked.err());
    }

    /// Nothing is wrong, or everything that is.
    pub(crate) fn settled(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// The name with which a person logs in: it is compared without regard to case.
pub(super) fn check_name(name: &str) -> Result<(), Fault> {
    let fits = (1..=64).contains(&name.chars().count());
    if fits && name.chars().all(|c| c.is_alphanumeric() || ".-_@".contains(c)) {
        Ok(())
    } else {
        Err(Fault::new(
            "name",
            "use 1 to 64 letters, digits, '.', '-', '_' or '@'",
            "请使用 1 到 64 个字母、汉字、数字或 . - _ @",
        ))
    }
}

/// A name that is only shown: of a person, an organisation, a token.
pub(crate) fn check_shown(field: &'static str, text: &str) -> Result<(), Fault> {
    let fits = (1..=100).contains(&text.chars().count()) && !text.trim().is_empty();
    if fits && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Fault::new(field, "use 1 to 100 characters on one line", "请使用 1 到 100 个字符，不含换行"))
    }
}

/// A new password of a person.
pub(super) fn check_password(field: &'static str, password: &str, name: &str) -> Result<(), Fault> {
    super::check_password(password, name).map_err(|weak| {
        let chinese = match weak {
            WeakPassword::Short => "请使用至少 12 个字符",
            WeakPassword::Long => "请使用不超过 256 个字符",
            WeakPassword::Name => "密码不能与用户名相同",
            WeakPassword::Common => "这是最容易被猜到的密码之一，请换一个",
        };
        Fault::new(field, weak.to_string(), chinese)
    })
}

/// Another one has the name.
pub(super) fn name_taken() -> Fault {
    Fault::new("name", "another user has this name", "此用户名已被使用")
}

impl From<RolesError> for Fault {
    fn from(error: RolesError) -> Self {
        let chinese = match error {
            RolesError::None => "请至少选择一个角色",
            RolesError::NotAlone(_) => "系统管理员、安全管理员、审计员三员分立，不能与其他角色同时担任",
            RolesError::Machine(_) => "此角色只用于机器令牌",
        };
        Self::new("roles", error.to_string(), chinese)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_what_is_shown_is_a_line() {
        for name in ["zhang.wei", "张伟", "op-1", "a@b", "Ω"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "a b", "' OR 1=1 --", "<script>", "a\u{0}b", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for text in ["<script>alert(1)</script>", "'; DROP TABLE user_account; --", "张伟（运维）"] {
            assert_eq!(check_shown("display_name", text), Ok(()), "{text} is only shown");
        }
        for text in ["", "  ", "a\nb", &"a".repeat(101)] {
            assert!(check_shown("display_name", text).is_err(), "{text}");
        }
    }
}
