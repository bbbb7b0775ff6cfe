//! The API of access: sessions, one's own account, one-time links, users, organisations, machine tokens.
//! One file a noun; each handler: extract, permit, call the domain, render.

use utoipa_axum::router::OpenApiRouter;

use super::form::Faults;
use super::{AccessError, Authentication, Busy, LoginError, PeopleError};
use crate::platform::http::{Problem, finish};
use axum::http::StatusCode;

mod account;
mod audit;
mod invitation;
mod organization;
mod role;
mod session;
mod token;
mod user;

/// Routes for those who are somebody.
pub fn router(authentication: &Authentication) -> OpenApiRouter {
    session::router(authentication.clone())
        .merge(account::router(authentication.clone()))
        .merge(audit::router(authentication.access.clone()))
        .merge(role::router(authentication.access.clone()))
        .merge(user::router(authentication.access.clone()))
        .merge(organization::router(authentication.access.clone()))
        .merge(token::router(authentication.access.clone()))
}

/// Routes for anybody: to become somebody.
pub fn open_router(authentication: &Authentication) -> OpenApiRouter {
    session::open_router(authentication.clone()).merge(invitation::router(authentication.clone()))
}

impl From<Faults> for Problem {
    fn from(faults: Faults) -> Self {
        let problem = Self::invalid("a field is not as it should be").chinese("有内容不符合要求");
        faults.0.into_iter().fold(problem, |problem, fault| problem.field(fault.field, fault.english, fault.chinese))
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        Self::internal(&error)
    }
}

impl From<Busy> for Problem {
    fn from(Busy(seconds): Busy) -> Self {
        let said = format!("many people log in just now; try again in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", said)
            .chinese(format!("当前登录人数较多，请在 {seconds} 秒后重试"))
            .retry_after(seconds)
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong => Self::of_kind(StatusCode::UNAUTHORIZED, "login-failed"),
            LoginError::Limited(seconds) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many",
                format!("too many failed logins from your address with this name; wait {seconds} s"),
            )
            .chinese(format!("从您的地址用此用户名登录失败次数过多，请等待 {seconds} 秒"))
            .retry_after(seconds),
            LoginError::Busy(busy) => busy.into(),
            LoginError::Form(faults) => faults.into(),
            LoginError::Access(error) => error.into(),
        }
    }
}

impl From<PeopleError> for Problem {
    fn from(error: PeopleError) -> Self {
        match error {
            PeopleError::Form(faults) => faults.into(),
            PeopleError::OwnRights => Self::of_kind(StatusCode::FORBIDDEN, "own-rights"),
            PeopleError::LastSecurityAdministrator => {
                Self::of_kind(StatusCode::CONFLICT, "last-security-administrator")
            }
            PeopleError::Disabled => Self::conflict(error.to_string()).chinese("此用户已停用，请先启用"),
            PeopleError::Access(error) => error.into(),
        }
    }
}
