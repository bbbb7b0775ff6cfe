//! Organisations: a tree with administrative levels. Whoever is above sees what is below.
//!
//! What must hold: it stays one tree, so no organisation is below itself, and none so deep that it would be lost.
//! Whose a thing was is kept for ever, so an organisation is never deleted; under which another one it stands is
//! known as it is now, for the past as well: who moves is seen, whole, by whom it moved under.

use serde_json::{Value, json};

use super::audit::Change;
use super::capability::{AccessRead, AccessWrite, AccountWrite};
use super::form::{self, Fault, Faults};
use super::{Access, PeopleError, Permit, State, store};
use crate::platform::clock::UnixMs;
use crate::platform::ids::OrganizationId;

/// Organisations from the root to the deepest. No more are followed: a circle must not hang a request.
const DEPTH: usize = 64;

/// An administrative level, the highest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AdministrativeLevel {
    /// A province.
    Province,
    /// A city.
    City,
    /// A district or county.
    District,
    /// A department of one of them.
    Department,
    /// A unit of a department.
    Unit,
}

impl AdministrativeLevel {
    const ALL: [Self; 5] = [Self::Province, Self::City, Self::District, Self::Department, Self::Unit];

    /// As the API and the database name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Province => "province",
            Self::City => "city",
            Self::District => "district",
            Self::Department => "department",
            Self::Unit => "unit",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// How it is called.
    pub name: String,
    /// Where it stands.
    pub level: AdministrativeLevel,
    /// Under which it is; only the root is under none.
    pub parent: Option<OrganizationId>,
    /// When it was added.
    pub created_ms: UnixMs,
}

impl Organization {
    /// As the audit log shows it.
    fn audited(&self) -> Value {
        json!({ "name": self.name, "level": self.level, "parent": self.parent })
    }
}

/// What of an organisation changes; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct OrganizationChange {
    /// Its name.
    pub name: Option<String>,
    /// Its level.
    pub level: Option<AdministrativeLevel>,
    /// Its parent.
    pub parent: Option<OrganizationId>,
}

impl State {
    /// Whether an organisation is another one or below it.
    pub(super) fn is_within(&self, organization: OrganizationId, scope: OrganizationId) -> bool {
        let mut next = Some(organization);
        for _ in 0..DEPTH {
            match next {
                Some(at) if at == scope => return true,
                Some(at) => next = self.organizations.get(&at).and_then(|organization| organization.parent),
                None => return false,
            }
        }
        false
    }

    /// Organisations from the root to this one.
    fn depth(&self, organization: OrganizationId) -> usize {
        let above = |id: &OrganizationId| self.organizations.get(id).and_then(|organization| organization.parent);
        std::iter::successors(Some(organization), above).take(DEPTH).count()
    }

    /// Organisations from this one to the deepest below it.
    fn height(&self, organization: OrganizationId) -> usize {
        let own = self.depth(organization);
        let below = self.organizations.keys().filter(|other| self.is_within(**other, organization));
        below.map(|other| self.depth(*other) + 1 - own).max().unwrap_or(1)
    }

    /// Whether the tree may hold an organisation as it is wished.
    fn check(&self, wished: &Organization, scope: OrganizationId) -> Result<(), Faults> {
        let mut faults = Faults::default();
        faults.note(form::check_shown("name", &wished.name));
        if let Some(parent) = wished.parent {
            match self.organizations.get(&parent).filter(|parent| self.is_within(parent.id, scope)) {
                None => faults.note(Err(no_parent())),
                Some(_) if self.is_within(parent, wished.id) => faults.note(Err(Fault::new(
                    "parent",
                    "an organisation cannot be below itself",
                    "组织不能移到自己或自己的下级之下",
                ))),
                Some(_) if self.depth(parent) + self.height(wished.id) > DEPTH => faults.note(Err(Fault::new(
                    "parent",
                    format!("the tree would have more than {DEPTH} levels"),
                    format!("组织层级不能超过 {DEPTH} 层"),
                ))),
                Some(above) if above.level > wished.level => faults.note(Err(level_fault())),
                Some(_) => {}
            }
        }
        let below = self.organizations.values().filter(|other| other.parent == Some(wished.id));
        if below.into_iter().any(|below| below.level < wished.level) {
            faults.note(Err(level_fault()));
        }
        faults.settled()
    }
}

fn no_parent() -> Fault {
    Fault::new("parent", "there is no such organisation", "没有此上级组织")
}

fn level_fault() -> Fault {
    Fault::new(
        "level",
        "its level is above its parent's, or below one of its own's",
        "级别高于上级组织，或低于某个下级组织",
    )
}

impl Access {
    /// Organisations that a permit covers, in order of id.
    #[must_use]
    pub fn organizations(&self, permit: &Permit<AccessRead>) -> Vec<Organization> {
        self.covered(permit)
    }

    fn covered<C>(&self, permit: &Permit<C>) -> Vec<Organization> {
        let state = self.read();
        let covered = state.organizations.values().filter(|it| state.is_within(it.id, permit.organization()));
        covered.cloned().collect()
    }

    /// Organisations that one reaches, in order of id: to name the owners of what one sees, and to choose one.
    #[must_use]
    pub fn account_organizations(&self, permit: &Permit<AccountWrite>) -> Vec<Organization> {
        self.covered(permit)
    }

    /// One of them.
    #[must_use]
    pub fn organization(&self, permit: &Permit<AccessRead>, id: OrganizationId) -> Option<Organization> {
        let state = self.read();
        state.organizations.get(&id).filter(|it| state.is_within(it.id, permit.organization())).cloned()
    }

    /// Adds an organisation.
    ///
    /// # Errors
    /// Fields; the database.
    pub async fn organization_create(
        &self,
        permit: &Permit<AccessWrite>,
        name: String,
        level: AdministrativeLevel,
        parent: OrganizationId,
    ) -> Result<Organization, PeopleError> {
        let _changing = self.change().await?;
        let created_ms = self.clock.now_ms();
        let mut made = Organization { id: OrganizationId(0), name, level, parent: Some(parent), created_ms };
        self.read().check(&made, permit.organization())?;
        let transaction = self.db.begin("organization_create").await?;
        store::organization::insert(&transaction, &mut made).await?;
        let (resource, after) = (made.id.to_string(), made.audited());
        let change = Change { action: "organization.create", resource, before: Value::Null, after };
        let recorded = self.record(&transaction, permit, change).await?;
        self.commit(transaction, [recorded]).await?;
        self.write().organizations.insert(made.id, made.clone());
        Ok(made)
    }

    /// Changes an organisation. `None`: there is none such for this permit.
    ///
    /// # Errors
    /// Fields; the database.
    pub async fn organization_update(
        &self,
        permit: &Permit<AccessWrite>,
        id: OrganizationId,
        change: OrganizationChange,
    ) -> Result<Option<Organization>, PeopleError> {
        let _changing = self.change().await?;
        let scope = permit.organization();
        let (before, changed) = {
            let state = self.read();
            let known = state.organizations.get(&id).filter(|it| state.is_within(it.id, scope));
            let Some(before) = known.cloned() else { return Ok(None) };
            let OrganizationChange { name, level, parent } = change;
            if before.parent.is_none() && parent.is_some() {
                return Err(Faults::from(Fault::new("parent", "the root is below nothing", "根组织没有上级")).into());
            }
            let changed = Organization {
                name: name.unwrap_or_else(|| before.name.clone()),
                level: level.unwrap_or(before.level),
                parent: parent.or(before.parent),
                ..before
            };
            state.check(&changed, scope)?;
            (before, changed)
        };
        let transaction = self.db.begin("organization_update").await?;
        store::organization::update(&transaction, &changed).await?;
        let change = Change {
            action: "organization.update",
            resource: id.to_string(),
            before: before.audited(),
            after: changed.audited(),
        };
        let recorded = self.record(&transaction, permit, change).await?;
        self.commit(transaction, [recorded]).await?;
        self.write().organizations.insert(id, changed.clone());
        Ok(Some(changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State::default();
        for (id, parent, level) in [
            (1, None, AdministrativeLevel::City),
            (2, Some(1), AdministrativeLevel::District),
            (3, Some(2), AdministrativeLevel::Department),
            (4, Some(1), AdministrativeLevel::Department),
        ] {
            let [id, parent] = [Some(id), parent].map(|id| id.map(OrganizationId));
            let id = id.expect("given");
            let organization = Organization { id, name: id.to_string(), level, parent, created_ms: 0 };
            state.organizations.insert(id, organization);
        }
        state
    }

    #[test]
    fn the_tree_stays_one() {
        let state = state();
        let fields = |id: i64, parent: i64, level| {
            let wished = Organization {
                id: OrganizationId(id),
                name: "甲".to_owned(),
                level,
                parent: Some(OrganizationId(parent)),
                created_ms: 0,
            };
            let faults = state.check(&wished, OrganizationId(1)).err().unwrap_or_default();
            faults.0.into_iter().map(|fault| fault.field).collect::<Vec<_>>()
        };
        use AdministrativeLevel::{City, Department, District, Province, Unit};
        assert_eq!(fields(3, 1, Department), [""; 0]);
        assert_eq!(fields(2, 2, District), ["parent"], "below itself");
        assert_eq!(fields(2, 3, District), ["parent"], "below its own");
        assert_eq!(fields(4, 9, Department), ["parent"], "below nothing");
        assert_eq!(fields(4, 3, City), ["level"], "above its parent");
        assert_eq!(fields(2, 1, Unit), ["level"], "below its own department");
        assert_eq!(fields(4, 1, Province), ["level"]);
    }

    #[test]
    fn nothing_stands_so_deep_that_it_is_lost() {
        let mut state = State::default();
        let organization = |id: i64, parent: Option<i64>| Organization {
            id: OrganizationId(id),
            name: id.to_string(),
            level: AdministrativeLevel::Unit,
            parent: parent.map(OrganizationId),
            created_ms: 0,
        };
        let deepest = DEPTH as i64;
        for id in 1..=deepest {
            let made = organization(id, (id > 1).then(|| id - 1));
            assert_eq!(state.check(&made, OrganizationId(1)), Ok(()), "{id}");
            state.organizations.insert(made.id, made);
        }
        assert!(state.is_within(OrganizationId(deepest), OrganizationId(1)));
        let fields = |wished: &Organization| {
            let faults = state.check(wished, OrganizationId(1)).err().unwrap_or_default();
            faults.0.into_iter().map(|fault| fault.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(&organization(0, Some(deepest))), ["parent"], "one more");
        assert_eq!(fields(&organization(0, Some(deepest - 1))), [""; 0]);
        assert_eq!(fields(&organization(deepest, Some(1))), [""; 0], "a leaf moves up");
        // Three with a tail, under the one before the last.
        state.organizations.insert(OrganizationId(900), organization(900, Some(1)));
        state.organizations.insert(OrganizationId(901), organization(901, Some(900)));
        let fields = |parent: i64| {
            let faults = state.check(&organization(900, Some(parent)), OrganizationId(1)).err().unwrap_or_default();
            faults.0.into_iter().map(|fault| fault.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(deepest - 1), ["parent"], "what is below it moves as well");
        assert_eq!(fields(deepest - 2), [""; 0]);
    }

    #[test]
    fn a_circle_hangs_nothing() {
        let mut state = state();
        state.organizations.get_mut(&OrganizationId(2)).expect("there").parent = Some(OrganizationId(3));
        assert!(!state.is_within(OrganizationId(3), OrganizationId(4)));
    }
}
