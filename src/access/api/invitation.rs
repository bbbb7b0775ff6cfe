//! One-time links: what one is for, and using it.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::finish;
use super::session::{Welcome, client, welcome};
use crate::access::login::Acceptance;
use crate::access::{Authentication, InvitationError, Purpose};
use crate::platform::http::origin::Origin;
use crate::platform::http::{Language, Problem};

pub(super) fn router(authentication: Authentication) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(invitation_look)).routes(routes!(invitation_accept)).with_state(authentication)
}

impl From<InvitationError> for Problem {
    fn from(error: InvitationError) -> Self {
        match error {
            InvitationError::Unknown => {
                Self::not_found(error.to_string()).chinese("此链接不存在、已使用或已过期，请重新索取")
            }
            InvitationError::Form(faults) => faults.into(),
            InvitationError::Busy(busy) => busy.into(),
            InvitationError::Access(error) => error.into(),
        }
    }
}

/// What stands behind the `#` of a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Look {
    secret: String,
}

/// What a link is for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum LinkPurpose {
    /// Making the first security administrator, who chooses a name.
    FirstSecurityAdministrator,
    /// Setting a password.
    SetPassword,
}

/// A link that can be used.
#[derive(Debug, Serialize, ToSchema)]
struct Link {
    purpose: LinkPurpose,
    /// Whose password it sets.
    name: Option<String>,
    display_name: Option<String>,
    expires_ms: i64,
}

/// What a link is for. It is not used by this.
#[utoipa::path(post, path = "/api/v1/invitations/look", tag = "session", security(()), request_body = Look,
    responses(
        (status = 200, body = Link),
        (status = 404, description = "Unknown, used or expired.", body = Problem),
    ))]
async fn invitation_look(State(state): State<Authentication>, Json(look): Json<Look>) -> Result<Json<Link>, Problem> {
    let (invitation, user) = state.access.invitation_look(&look.secret).ok_or(InvitationError::Unknown)?;
    let (name, display_name) = user.map(|user| (user.name, user.display_name)).unzip();
    Ok(Json(Link {
        purpose: match invitation.purpose {
            Purpose::FirstSecurityAdministrator => LinkPurpose::FirstSecurityAdministrator,
            Purpose::SetPassword(_) => LinkPurpose::SetPassword,
        },
        name,
        display_name,
        expires_ms: invitation.expires_ms,
    }))
}

/// What a person writes who uses a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Accept {
    secret: String,
    /// Of the first security administrator.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    display_name: Option<String>,
    /// At least 12 characters, not the name, none that everybody tries first.
    #[schema(format = Password)]
    password: String,
    #[serde(default)]
    language: Option<Language>,
}

/// Uses a link: sets the password and logs in. The person's other sessions end.
#[utoipa::path(post, path = "/api/v1/invitations/accept", tag = "session", security(()), request_body = Accept,
    responses(
        (status = 200, response = inline(Welcome)),
        (status = 403, description = "Sent by a page of another site.", body = Problem),
        (status = 404, description = "Unknown, used or expired.", body = Problem),
        (status = 422, description = "`errors` names the field.", body = Problem),
        (status = 429, description = "Too many at once.", body = Problem),
    ))]
async fn invitation_accept(
    State(state): State<Authentication>,
    origin: Origin,
    headers: HeaderMap,
    Json(accept): Json<Accept>,
) -> Result<Response, Problem> {
    let client = client(&state, &headers, origin, "invitation.accept")?;
    let Accept { secret, name, display_name, password, language } = accept;
    let acceptance = Acceptance { secret, name, display_name, password, language };
    let authentication = state.clone();
    let somebody = finish(async move { authentication.accept(acceptance, client).await }).await??;
    welcome(&state, &somebody, origin)
}
