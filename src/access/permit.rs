//! Principals and the permits they are given.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::OrganizationId;
use super::capability::Capability;
use crate::platform::http::Problem;
use crate::platform::ids::ApiTokenId;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything within its organisation.
    Operator,
    /// Look, not touch.
    Reader,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Reader => "reader",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Operator, Self::Reader].into_iter().find(|role| role.as_str() == text)
    }
}

/// Who asks. As an axum extractor it answers 401 where the authentication layer let nobody through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    /// Its token.
    pub token: ApiTokenId,
    pub(super) organization: OrganizationId,
    pub(super) role: Role,
}

impl Principal {
    /// A permit for one capability over the principal's organisation.
    ///
    /// # Errors
    /// Its role does not have it.
    pub fn permit<C: Capability>(&self) -> Result<Permit<C>, Denied> {
        if C::allows(self.role) {
            Ok(Permit { organization: self.organization, capability: PhantomData })
        } else {
            Err(Denied { capability: C::NAME })
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().copied().ok_or_else(|| Problem::unauthenticated(super::http::SEND_A_TOKEN))
    }
}

/// Leave to use one capability over the things of one organisation and those below it.
#[derive(Debug)]
pub struct Permit<C> {
    organization: OrganizationId,
    capability: PhantomData<fn() -> C>,
}

impl<C> Permit<C> {
    /// The organisation whose things, and whose subordinates' things, this permit covers.
    #[must_use]
    pub fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// For tests: everything.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn system() -> Self {
        Self { organization: super::ROOT, capability: PhantomData }
    }

    /// For tests of other domains.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn testing(organization: OrganizationId) -> Self {
        Self { organization, capability: PhantomData }
    }
}

/// A role does not have a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this token may not use {capability}")]
pub struct Denied {
    /// What it lacks.
    pub capability: &'static str,
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        Self::forbidden(denied.to_string())
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
