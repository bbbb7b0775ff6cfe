//! What may be asked for: which action, on which machines, with what credential. Pure.

use std::collections::BTreeSet;

use serde::Deserialize;
use utoipa::ToSchema;

use super::credential::Credential;
use super::place;
use super::plan::Action;
use super::program::Program;
use crate::platform::ids::OrganizationId;

/// Machines of one roll-out.
const MACHINES: usize = 500;

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Host name or address.
    #[schema(example = "10.1.2.3")]
    pub address: String,
    /// Of its SSH server.
    #[serde(default = "ssh")]
    #[schema(default = 22)]
    pub port: u16,
    /// Who logs in: root, or one whom `sudo` makes root.
    #[serde(default = "root")]
    #[schema(default = "root")]
    pub user: String,
    /// Where it stands; so many machines of one site are worked on at once. Empty: nowhere in particular.
    #[serde(default)]
    pub site: String,
    /// Owner of what is enrolled there; the caller's organisation if absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "org_1")]
    pub organization: Option<OrganizationId>,
}

fn ssh() -> u16 {
    22
}

fn root() -> String {
    "root".to_owned()
}

/// A roll-out that is asked for.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What is done.
    pub action: Action,
    /// To which agent.
    #[serde(default)]
    #[schema(default = "host")]
    pub program: Program,
    /// On which machines.
    #[schema(min_items = 1, max_items = 500)]
    pub machines: Vec<Machine>,
    /// With what control logs in. It is kept in memory while the roll-out runs, and stored nowhere.
    pub credential: Credential,
    /// Looks, and prints what would be done; changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderFault {
    /// Its path.
    pub field: String,
    /// What is wrong and what is right.
    pub english: &'static str,
    /// The same in Chinese.
    pub chinese: &'static str,
}

/// What is wrong with a credential.
pub(super) fn credential_fault(credential: &Credential) -> Option<OrderFault> {
    let is_missing = credential.is_empty();
    is_missing.then(|| OrderFault {
        field: "credential".to_owned(),
        english: "a password or a private key is needed",
        chinese: "需要口令或私钥",
    })
}

impl Machine {
    fn faults(&self, at: usize) -> impl Iterator<Item = OrderFault> {
        let is_address = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_".contains(&byte);
        let is_user = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@\\".contains(&byte);
        let (address, user) = (&self.address, &self.user);
        let wrong = [
            (
                "address",
                !(1..=253).contains(&address.len()) || !address.bytes().all(is_address) || address.starts_with('-'),
                "a host name or an address",
                "应为主机名或 IP 地址",
            ),
            ("port", self.port == 0, "1 to 65535", "应为 1 到 65535"),
            (
                "user",
                !(1..=64).contains(&user.len()) || !user.bytes().all(is_user) || user.starts_with('-'),
                "a user's name",
                "应为用户名",
            ),
            (
                "site",
                self.site.chars().count() > 100 || self.site.chars().any(char::is_control),
                "at most 100 characters",
                "最多 100 个字符",
            ),
        ];
        wrong.into_iter().filter(|(_, is_wrong, ..)| *is_wrong).map(move |(field, _, english, chinese)| OrderFault {
            field: format!("machines[{at}].{field}"),
            english,
            chinese,
        })
    }
}

impl Order {
    /// The order, with names as they are compared, or all that is wrong with it.
    pub(super) fn checked(mut self) -> Result<Self, Vec<OrderFault>> {
        let mut faults: Vec<OrderFault> = credential_fault(&self.credential).into_iter().collect();
        if self.machines.is_empty() || self.machines.len() > MACHINES {
            faults.push(OrderFault {
                field: "machines".to_owned(),
                english: "1 to 500 machines at once",
                chinese: "一次 1 到 500 台主机",
            });
            return Err(faults);
        }
        let mut places = BTreeSet::new();
        for (at, machine) in self.machines.iter_mut().enumerate() {
            machine.address = machine.address.trim().trim_matches(['[', ']']).to_ascii_lowercase();
            machine.site = machine.site.trim().to_owned();
            faults.extend(machine.faults(at));
            if !places.insert(place(&machine.address, machine.port)) {
                faults.push(OrderFault {
                    field: format!("machines[{at}].address"),
                    english: "this machine stands there before",
                    chinese: "该主机重复出现",
                });
            }
        }
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(machines: &str, credential: &str) -> Result<Order, Vec<String>> {
        let text = format!(r#"{{"action":"install","machines":[{machines}],"credential":{credential}}}"#);
        let order: Order = serde_json::from_str(&text).expect("read");
        order.checked().map_err(|faults| faults.into_iter().map(|fault| fault.field).collect())
    }

    #[test]
    fn what_is_left_out_is_as_usual() {
        let order =
            order(r#"{"address":" Web-1.Example "},{"address":"[fd00::1]","port":2222}"#, r#"{"password":"x"}"#);
        let order = order.expect("good");
        let first = &order.machines[0];
        assert_eq!((first.address.as_str(), first.port, first.user.as_str()), ("web-1.example", 22, "root"));
        assert_eq!(place(&order.machines[1].address, order.machines[1].port), "[fd00::1]:2222");
        assert!(!order.dry_run);
        assert_eq!(order.program, Program::Host);
    }

    #[test]
    fn everything_wrong_is_named() {
        let machines = r#"{"address":"a b"},{"address":"h","port":0},{"address":"h2","user":"-oProxyCommand=x"},
            {"address":"H3"},{"address":"h3"},{"address":""}"#;
        let faults = order(machines, "{}").expect_err("wrong");
        let expected = [
            "credential",
            "machines[0].address",
            "machines[1].port",
            "machines[2].user",
            "machines[4].address",
            "machines[5].address",
        ];
        assert_eq!(faults, expected);
        assert_eq!(order("", r#"{"password":"x"}"#).expect_err("none"), ["machines"]);
        let many = vec![r#"{"address":"h"}"#; MACHINES + 1].join(",");
        assert_eq!(order(&many, r#"{"password":"x"}"#).expect_err("too many"), ["machines"]);
    }
}
