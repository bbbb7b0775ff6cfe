//! `/api/v1/settings`: what is in force, where it comes from, which certificates there are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::access::{Permit, Principal, capability::SettingsRead};
use crate::config::effective::{Origin, Setting};
use crate::config::{Config, units};
use crate::fleet::Fleet;
use crate::platform::clock::UnixMs;
use crate::platform::http::Problem;
use crate::platform::http::tls::{CertificateShown, Certificates};
use crate::settings;

/// What is asked for the answer.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    settings: Arc<[Setting]>,
    set: settings::Settings,
    fleet: Fleet,
    /// Of the HTTP port, if it speaks TLS.
    https: Option<Certificates>,
}

impl Settings {
    pub(super) fn new(config: &Config, set: settings::Settings, fleet: Fleet, https: Option<Certificates>) -> Self {
        Self { settings: config.settings().into(), set, fleet, https }
    }

    /// With what was set while control runs, which stands before file and default.
    fn in_force(&self, permit: &Permit<SettingsRead>) -> Vec<Setting> {
        let (_, kept) = self.set.retention(permit);
        let over = |mut setting: Setting| {
            let span = match setting.name.as_str() {
                "raw_retention" => kept.raw,
                "slot_retention" => kept.slot,
                "hour_retention" => kept.hour,
                "audit_retention" => kept.audit,
                _ => return setting,
            };
            if span.source == Origin::Set {
                let otherwise = setting.value.replace(units::shown(span.now));
                (setting.default, setting.source) = (otherwise, span.source);
            }
            setting
        };
        self.settings.iter().cloned().map(over).collect()
    }
}

/// What is in force.
#[derive(Debug, Serialize, ToSchema)]
struct SettingsReport {
    /// The configuration.
    sections: Vec<SettingSection>,
    /// Certificates of control.
    certificates: Vec<CertificateReport>,
}

/// A section of the configuration.
#[derive(Debug, Serialize, ToSchema)]
struct SettingSection {
    /// As in the file.
    name: String,
    /// Its keys.
    settings: Vec<SettingReport>,
}

/// One key.
#[derive(Debug, Serialize, ToSchema)]
struct SettingReport {
    /// As in the file.
    name: String,
    /// What is in force, as it is written in the file, with its unit; of a URL no user and no password.
    value: Option<String>,
    /// What a number counts; null where the value says its unit itself.
    #[schema(value_type = Option<String>)]
    unit: Option<&'static str>,
    /// What would be in force otherwise.
    default: Option<String>,
    /// Where the value comes from.
    source: Origin,
}

/// A certificate.
#[derive(Debug, Serialize, ToSchema)]
struct CertificateReport {
    /// What it is for: `agents` is the authority of the agents' certificates, `http` what the API and the dashboard show.
    #[schema(value_type = String, example = "agents")]
    name: &'static str,
    /// Whose it is.
    subject: String,
    /// SHA-256, in hexadecimal digits.
    fingerprint: String,
    /// When it ends.
    not_after_ms: UnixMs,
}

pub(super) fn router(settings: Settings) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(settings_fetch)).with_state(settings)
}

/// The configuration in force, with what was set over it, and certificates.
#[utoipa::path(get, path = "/api/v1/settings", tag = "settings",
    responses((status = 200, body = SettingsReport), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn settings_fetch(
    State(settings): State<Settings>,
    principal: Principal,
) -> Result<Json<SettingsReport>, Problem> {
    let permit = principal.permit::<SettingsRead>()?;
    let mut sections: Vec<SettingSection> = Vec::new();
    for Setting { section, name, value, default, source } in settings.in_force(&permit) {
        let unit = match name.as_str() {
            "commit_frames" => Some("frames"),
            "requests_per_second" => Some("requests"),
            _ => None,
        };
        let report = SettingReport { name, value, unit, default, source };
        match sections.last_mut().filter(|last| last.name == section) {
            Some(last) => last.settings.push(report),
            None => sections.push(SettingSection { name: section, settings: vec![report] }),
        }
    }
    let shown = [
        Some(("agents", settings.fleet.authority_shown(&permit))),
        settings.https.as_ref().map(|https| ("http", https.shown())),
    ];
    let certificates =
        shown.into_iter().flatten().map(|(name, CertificateShown { subject, fingerprint, not_after_ms })| {
            CertificateReport { name, subject, fingerprint, not_after_ms }
        });
    let certificates = certificates.collect();
    Ok(Json(SettingsReport { sections, certificates }))
}
