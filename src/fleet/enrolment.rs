//! Enrolment tokens, and how they and expired certificates become certificates.
//!
//! What must hold: a use of a token is taken in the transaction that makes the agent, its owner and
//! its certificate. A machine whose answer was lost asks again with the same key and is given the
//! same agent, without another use; also where control itself was not told that its commit was done, so a
//! key that memory does not know is looked for in the database. A certificate is good only while its serial is on record, so a
//! database that is older than an agent refuses it, rather than taking it for another one. An agent that asks
//! again and again is given the same certificate, without an entry in the audit log each time: it cannot fill the disk.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use sea_orm::DbErr;
use serde_json::{Value, json};
use tongtu_protocol::token::{SECRET_BYTES, Token};
use tongtu_protocol::{reason::Reason, v1};

use super::admission::{self, Fault};
use super::attempts::AgentAttempt;
use super::authority::{Request, sha256};
use super::directory::{Agent, Certificate, Details, Given};
use super::peer::PeerCertificate;
use super::{Fleet, store};
use crate::access::audit::{Change, Doer};
use crate::access::capability::{AgentsRead, AgentsWrite};
use crate::access::{Permit, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::http::origin::Origin;
use crate::platform::ids::{AgentId, EnrolmentTokenId, OrganizationId};

/// A token lives at most this long.
pub const TTL_MAX: Duration = Duration::from_secs(30 * 86_400);
/// A token enrols at most so many agents.
pub const USES_MAX: u32 = 100_000;
/// Who asks again within this is given the same certificate.
const AGAIN_MS: i64 = 10 * 60_000;

/// What the audit log calls getting a first certificate, and the next one.
pub(super) const ENROL: &str = "agent.enrol";
pub(super) const RENEW: &str = "agent.renew";

/// An enrolment token as control remembers it: without its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrolmentToken {
    /// Its number.
    pub id: EnrolmentTokenId,
    /// Owner of what it enrols.
    pub organization: OrganizationId,
    /// When it was made.
    pub created_ms: UnixMs,
    /// When it ends.
    pub expires_ms: UnixMs,
    /// Agents it may enrol in all.
    pub uses: u32,
    /// Agents it may still enrol.
    pub uses_left: u32,
    /// When an operator took it back.
    pub revoked_ms: Option<UnixMs>,
}

impl EnrolmentToken {
    /// Why it does not enrol, if it does not.
    fn fault(&self, now_ms: UnixMs) -> Option<Reason> {
        if self.revoked_ms.is_some() {
            Some(Reason::TokenRevoked)
        } else if self.uses_left == 0 {
            Some(Reason::TokenUsed)
        } else if self.expires_ms <= now_ms {
            Some(Reason::TokenExpired)
        } else {
            None
        }
    }
}

/// Why no token is made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Out of range.
    #[error("a token lives from one second to {} days", TTL_MAX.as_secs() / 86_400)]
    Ttl,
    /// Out of range.
    #[error("a token enrols from 1 to {USES_MAX} agents")]
    Uses,
    /// There is no such organisation for this permit.
    #[error("there is no organisation {0}")]
    Organization(OrganizationId),
    /// The database failed.
    #[error("the token cannot be stored: {0}")]
    Database(#[from] DbErr),
}

/// An agent about to be.
pub(super) struct NewAgent {
    pub(super) kind: String,
    pub(super) machine_id: String,
    pub(super) hostname: String,
    pub(super) version: String,
    pub(super) enrolled_with: (EnrolmentTokenId, [u8; 32]),
}

impl Fleet {
    /// Makes a token. Its text is returned here and kept nowhere.
    ///
    /// # Errors
    /// A value out of range, an organisation that the permit does not cover, the database.
    pub async fn token_create(
        &self,
        permit: &Permit<AgentsWrite>,
        ttl: Duration,
        uses: u32,
        organization: Option<OrganizationId>,
    ) -> Result<(EnrolmentToken, String), TokenError> {
        let organization = organization.unwrap_or_else(|| permit.organization());
        if !self.access.is_visible_organization(permit, organization) {
            return Err(TokenError::Organization(organization));
        }
        if ttl < Duration::from_secs(1) || ttl > TTL_MAX {
            return Err(TokenError::Ttl);
        }
        if uses == 0 || uses > USES_MAX {
            return Err(TokenError::Uses);
        }
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).expect("the system gives random bytes");
        let text = Token { address: self.advertise.clone(), ca_fingerprint: self.authority.fingerprint(), secret };
        let created_ms = self.clock.now_ms();
        let mut token = EnrolmentToken {
            id: EnrolmentTokenId(0),
            organization,
            created_ms,
            expires_ms: created_ms + ttl.as_millis() as i64,
            uses,
            uses_left: uses,
            revoked_ms: None,
        };
        let transaction = self.db.begin("enrolment_token_create").await?;
        store::token_insert(&transaction, &sha256(&secret), &mut token).await?;
        let after = json!({ "organization": organization, "uses": uses, "expires_ms": token.expires_ms });
        let resource = token.id.to_string();
        let change = Change { action: "enrolment_token.create", resource, before: Value::Null, after };
        let recorded = self.access.record(&transaction, permit, change).await?;
        transaction.commit().await?;
        self.access.recorded(recorded);
        tracing::info!(token = %token.id, %organization, uses, ttl_seconds = ttl.as_secs(), "enrolment token made");
        Ok((token, text.to_string()))
    }

    /// The tokens of the permit's organisations, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn token_list(&self, permit: &Permit<AgentsRead>) -> Result<Vec<EnrolmentToken>, DbErr> {
        let mut tokens = store::token_list(&self.db).await?;
        tokens.retain(|token| self.access.is_visible_organization(permit, token.organization));
        Ok(tokens)
    }

    /// Takes a token back; agents that it enrolled stay. `false`: there is none for this permit.
    ///
    /// # Errors
    /// The database failed.
    pub async fn token_revoke(&self, permit: &Permit<AgentsWrite>, id: EnrolmentTokenId) -> Result<bool, DbErr> {
        let tokens = store::token_list(&self.db).await?;
        let visible = tokens
            .iter()
            .any(|token| token.id == id && self.access.is_visible_organization(permit, token.organization));
        if visible {
            let transaction = self.db.begin("enrolment_token_revoke").await?;
            store::token_revoke(&transaction, id, self.clock.now_ms()).await?;
            let (before, after) = (Value::Null, json!({ "revoked": true }));
            let change = Change { action: "enrolment_token.revoke", resource: id.to_string(), before, after };
            let recorded = self.access.record(&transaction, permit, change).await?;
            transaction.commit().await?;
            self.access.recorded(recorded);
            tracing::info!(token = %id, "enrolment token revoked");
        }
        Ok(visible)
    }

    /// The agent that enrolled with a token last.
    pub(super) fn agent_enrolled_with(&self, token: EnrolmentTokenId) -> Option<AgentId> {
        let agents = self.directory.all();
        agents.iter().rev().find(|agent| agent.details().enrolled_with.0 == token).map(|agent| agent.id)
    }

    /// Turns a token and a request into an agent and its certificate.
    pub(super) async fn enroll(&self, asked: v1::EnrollRequest, origin: Origin) -> Result<v1::EnrollResponse, Fault> {
        let token = self.token_of(&asked).await;
        let known = token.as_ref().ok().copied();
        let enrolled = match token {
            Ok(token) => self.enroll_with(token, asked, origin).await,
            Err(fault) => Err(fault),
        };
        enrolled.inspect_err(|fault| {
            let resource = known.map(|token| token.id.to_string()).unwrap_or_default();
            let owner = known.map(|token| token.organization);
            let attempt = (AgentAttempt::Enrol, resource.as_str());
            self.attempt_failed(Doer::nobody(), origin, attempt, owner, fault.reason.as_str());
        })
    }

    /// The token that somebody shows, whether it still enrols or not.
    async fn token_of(&self, asked: &v1::EnrollRequest) -> Result<EnrolmentToken, Fault> {
        admission::identity(&[&asked.kind, &asked.machine_id], &[&asked.hostname, &asked.agent_version])?;
        if asked.token_secret.len() != SECRET_BYTES {
            return Err(Reason::TokenUnknown.into());
        }
        // The token before the request: who has none costs no signature check.
        let token = store::token_by_hash(self.db.read(), &sha256(&asked.token_secret)).await;
        Ok(token.map_err(|error| unavailable(&error))?.ok_or(Reason::TokenUnknown)?)
    }

    async fn enroll_with(
        &self,
        token: EnrolmentToken,
        asked: v1::EnrollRequest,
        origin: Origin,
    ) -> Result<v1::EnrollResponse, Fault> {
        let now_ms = self.clock.now_ms();
        let request = Request::read(&asked.csr_der)?;
        let enrolled_with = (token.id, request.key_hash());
        if !self.directory.knows(enrolled_with.1) {
            self.read_back(enrolled_with.1, &token).await?;
        }
        if let Some(agent) = self.directory.enrolled_before(enrolled_with, &asked.machine_id) {
            return self.answer_again(&agent, &request, (now_ms, origin)).await;
        }
        if let Some(reason) = token.fault(now_ms) {
            return Err(reason.into());
        }
        let agent = NewAgent {
            kind: asked.kind,
            machine_id: asked.machine_id,
            hostname: asked.hostname,
            version: asked.agent_version,
            enrolled_with,
        };
        self.agent_make(agent, token, &request, (now_ms, origin)).await
    }

    /// Takes over an agent whose enrolment was committed and reported as failed.
    async fn read_back(&self, key: [u8; 32], token: &EnrolmentToken) -> Result<(), Fault> {
        let rows = store::agents_load(&self.db, Some(key)).await.map_err(|error| unavailable(&error))?;
        for row in rows.into_iter().filter(|row| row.details.enrolled_with.0 == token.id) {
            self.access.owned(&[(Resource::Agent(row.id), token.organization, row.enrolled_ms)]);
            tracing::info!(agent = %row.id, "an enrolment was committed after all");
            self.directory.insert(Agent::new(row));
        }
        Ok(())
    }

    async fn answer_again(
        &self,
        agent: &Agent,
        request: &Request,
        at: (UnixMs, Origin),
    ) -> Result<v1::EnrollResponse, Fault> {
        let current = agent.details().certificates.last().copied();
        let Some(current) = current else { return Err(Reason::Unavailable.into()) };
        let who = Doer::agent(agent.id, agent.details().hostname.clone());
        let certificate_pem = self.certify(agent, current, request, at, (who, "agent.enrol_again")).await?;
        Ok(v1::EnrollResponse {
            agent_id: agent.id.to_string(),
            certificate_pem,
            ca_bundle_pem: self.authority.pem().to_owned(),
        })
    }

    async fn agent_make(
        &self,
        agent: NewAgent,
        token: EnrolmentToken,
        request: &Request,
        (now_ms, origin): (UnixMs, Origin),
    ) -> Result<v1::EnrollResponse, Fault> {
        let failed = |error: DbErr| unavailable(&error);
        let transaction = self.db.begin("enroll").await.map_err(failed)?;
        if !store::token_take(&transaction, token.id, now_ms).await.map_err(failed)? {
            // Another took the last use, or it ended, since it was read.
            drop(transaction);
            let again = store::token_list(&self.db).await.map_err(failed)?;
            let again = again.into_iter().find(|each| each.id == token.id);
            return Err(again.and_then(|token| token.fault(now_ms)).unwrap_or(Reason::TokenUsed).into());
        }
        let id = AgentId(store::next_id(&transaction, "agent").await.map_err(failed)?);
        let issued = self.authority.issue_agent(request, id, now_ms).map_err(|error| unavailable(&error))?;
        store::agent_insert(&transaction, id, &agent, now_ms).await.map_err(failed)?;
        store::certificate_insert(&transaction, id, &issued, now_ms).await.map_err(failed)?;
        let owner = [(Resource::Agent(id), token.organization, now_ms)];
        self.access.own(&transaction, &owner).await.map_err(failed)?;
        let after = json!({ "hostname": agent.hostname, "organization": token.organization, "token": token.id });
        let change = Change { action: ENROL, resource: id.to_string(), before: Value::Null, after };
        let who = Doer::agent(id, agent.hostname.clone());
        let recorded = self.access.record_as(&transaction, who, origin, change).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.access.recorded(recorded);

        self.access.owned(&owner);
        tracing::info!(agent = %id, token = %token.id, kind = agent.kind, hostname = agent.hostname, "agent enrolled");
        self.metrics.enrolled.inc();
        let certificate = Certificate { serial: issued.serial, not_after_ms: issued.not_after_ms };
        let mut made = Agent::new(store::AgentRow {
            id,
            enrolled_ms: now_ms,
            details: Details {
                kind: agent.kind,
                machine_id: agent.machine_id,
                hostname: agent.hostname,
                version: agent.version,
                protocol: 0,
                interval_ms: 0,
                revoked_ms: None,
                enrolled_with: agent.enrolled_with,
                certificates: vec![certificate],
                live: None,
                changed: false,
            },
            last_report_ms: None,
            clock_offset_ms: None,
            cloned_ms: None,
        });
        *made.given.get_mut() = Some(Given { at_ms: now_ms, key: request.key_hash(), certificate });
        self.directory.insert(made);
        Ok(v1::EnrollResponse {
            agent_id: id.to_string(),
            certificate_pem: issued.pem,
            ca_bundle_pem: self.authority.pem().to_owned(),
        })
    }

    /// A new certificate in place of `presented`, which may have expired.
    pub(super) async fn renew(
        &self,
        presented: PeerCertificate,
        asked: v1::RenewRequest,
        origin: Origin,
    ) -> Result<v1::RenewResponse, Fault> {
        let name = self.directory.get(presented.agent).map(|agent| agent.details().hostname.clone());
        let who = Doer::agent(presented.agent, name.unwrap_or_default());
        let renewed = self.renew_as(who.clone(), presented, asked, origin).await;
        renewed.inspect_err(|fault| {
            let owner = self.access.owner(Resource::Agent(presented.agent));
            let resource = presented.agent.to_string();
            self.attempt_failed(who, origin, (AgentAttempt::Renew, &resource), owner, fault.reason.as_str());
        })
    }

    async fn renew_as(
        &self,
        who: Doer,
        presented: PeerCertificate,
        asked: v1::RenewRequest,
        origin: Origin,
    ) -> Result<v1::RenewResponse, Fault> {
        let (agent, current) = self.on_record(presented)?;
        let request = Request::read(&asked.csr_der)?;
        let at = (self.clock.now_ms(), origin);
        let certificate_pem = self.certify(&agent, current, &request, at, (who, RENEW)).await?;
        Ok(v1::RenewResponse { certificate_pem, ca_bundle_pem: self.authority.pem().to_owned() })
    }

    /// Issues a certificate beside `current`: whichever of the two the agent holds after a crash is good. Who was
    /// given one a moment ago gets that one again, because its answer may have been lost; for another key, which no
    /// agent of ours has so soon, it has to come later.
    async fn certify(
        &self,
        agent: &Agent,
        current: Certificate,
        request: &Request,
        (now_ms, origin): (UnixMs, Origin),
        (who, action): (Doer, &'static str),
    ) -> Result<String, Fault> {
        let failed = |error: DbErr| unavailable(&error);
        let key = request.key_hash();
        let mut given = agent.given.lock().await;
        if let Some(given) = given.filter(|given| (0..AGAIN_MS).contains(&(now_ms - given.at_ms))) {
            if given.key != key {
                return Err(Reason::Unavailable.into());
            }
            let Certificate { serial, not_after_ms } = given.certificate;
            let same = self.authority.issue_agent_as(request, agent.id, serial, not_after_ms);
            return same.map(|issued| issued.pem).map_err(|error| unavailable(&error));
        }
        let issued = self.authority.issue_agent(request, agent.id, now_ms).map_err(|error| unavailable(&error))?;
        let transaction = self.db.begin("renew").await.map_err(failed)?;
        store::certificate_insert(&transaction, agent.id, &issued, now_ms).await.map_err(failed)?;
        store::certificates_keep(&transaction, agent.id, [current.serial, issued.serial]).await.map_err(failed)?;
        let before = json!({ "certificate_not_after_ms": current.not_after_ms });
        let after = json!({ "certificate_not_after_ms": issued.not_after_ms });
        let change = Change { action, resource: agent.id.to_string(), before, after };
        let recorded = self.access.record_as(&transaction, who, origin, change).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.access.recorded(recorded);
        if action == RENEW {
            self.metrics.renewed.inc();
        }
        tracing::info!(agent = %agent.id, action, "certificate given");
        let certificate = Certificate { serial: issued.serial, not_after_ms: issued.not_after_ms };
        *given = Some(Given { at_ms: now_ms, key, certificate });
        let mut details = agent.details();
        details.certificates.retain(|each| each.serial == current.serial);
        details.certificates.push(certificate);
        Ok(issued.pem)
    }

    /// The agent of a certificate that is on record and not revoked; it may have expired.
    pub(super) fn on_record(&self, presented: PeerCertificate) -> Result<(std::sync::Arc<Agent>, Certificate), Reason> {
        let agent = self.directory.get(presented.agent).ok_or(Reason::CertificateUnknown)?;
        let certificate = {
            let details = agent.details();
            if details.revoked_ms.is_some() {
                return Err(Reason::Revoked);
            }
            details.certificates.iter().find(|each| each.serial == presented.serial).copied()
        };
        Ok((agent, certificate.ok_or(Reason::CertificateUnknown)?))
    }
}

fn unavailable(cause: &dyn std::fmt::Display) -> Fault {
    tracing::error!(%cause, "a certificate could not be given");
    Reason::Unavailable.into()
}
