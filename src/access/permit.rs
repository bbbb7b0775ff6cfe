//! Principals and the permits they are given.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::roles::{Area, Capability, Level, Roles};
use super::{OrganizationId, ROOT};
use crate::platform::http::Problem;
use crate::platform::http::origin::Origin;
use crate::platform::ids::{ApiTokenId, SessionId, UserId};

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Control itself, or who holds the machine.
    System,
    /// A person, in a session.
    User(UserId, SessionId),
    /// A machine token.
    Token(ApiTokenId),
}

/// Who asks. As an axum extractor it answers 401 where the authentication layer let nobody through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    pub(super) actor: Actor,
    pub(super) organization: OrganizationId,
    pub(super) roles: Roles,
    pub(super) origin: Origin,
}

impl Principal {
    /// A permit for one capability over what the principal reaches.
    ///
    /// # Errors
    /// No role of it has it.
    pub fn permit<C: Capability>(&self) -> Result<Permit<C>, Denied> {
        let denied = Denied { area: C::AREA, level: C::LEVEL };
        if self.roles.level(C::AREA) < C::LEVEL {
            return Err(denied);
        }
        let organization = match self.actor {
            // A machine reaches what its token was made for, and has no account.
            Actor::Token(_) if C::AREA == Area::Account => return Err(denied),
            Actor::User(..) if self.roles.is_city_wide(C::AREA, C::LEVEL) => ROOT,
            Actor::Token(_) | Actor::User(..) | Actor::System => self.organization,
        };
        Ok(Permit { organization, actor: self.actor, origin: self.origin, capability: PhantomData })
    }

    /// Who it is.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.actor
    }

    /// For tests of other domains: a person with one role.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn testing(organization: OrganizationId, role: super::Role) -> Self {
        let actor = Actor::User(UserId(1), SessionId(1));
        Self { actor, organization, roles: Roles::one(role), origin: Origin::default() }
    }

    /// What it may do of an area.
    #[must_use]
    pub fn level(&self, area: Area) -> Level {
        match self.actor {
            Actor::Token(_) if area == Area::Account => Level::None,
            _ => self.roles.level(area),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().copied().ok_or_else(super::http::nobody)
    }
}

/// Leave to use one capability over the things of one organisation and those below it.
#[derive(Debug)]
pub struct Permit<C> {
    organization: OrganizationId,
    actor: Actor,
    origin: Origin,
    capability: PhantomData<fn() -> C>,
}

impl<C> Permit<C> {
    /// The organisation whose things, and whose subordinates' things, this permit covers.
    #[must_use]
    pub fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// Who uses it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.actor
    }

    /// The person who uses it.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        match self.actor {
            Actor::User(user, _) => Some(user),
            Actor::Token(_) | Actor::System => None,
        }
    }

    /// From where.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// For tests: everything.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn system() -> Self {
        Self::testing(ROOT)
    }

    /// For tests of other domains.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn testing(organization: OrganizationId) -> Self {
        Self { organization, actor: Actor::System, origin: Origin::default(), capability: PhantomData }
    }
}

/// No role has a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this takes the right to {} {}, which your roles do not give", verb(*.level), .area.name())]
pub struct Denied {
    /// Of what.
    pub area: Area,
    /// How much.
    pub level: Level,
}

fn verb(level: Level) -> &'static str {
    if level == Level::Write { "write" } else { "read" }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let area = match denied.area {
            Area::Settings => "系统设置",
            Area::Access => "用户与权限",
            Area::Audit => "审计日志",
            Area::Agents => "探针",
            Area::Measurements => "资源与监测数据",
            Area::Migration => "迁移",
            Area::Health => "系统运行状况",
            Area::Account => "个人账户",
        };
        let verb = if denied.level == Level::Write { "修改" } else { "查看" };
        Self::forbidden(denied.to_string()).chinese(format!("此操作需要{verb}“{area}”的权限，您的角色没有此项权限"))
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
