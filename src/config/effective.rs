//! What is in force, and where each value comes from: for people, without secrets.

use std::collections::BTreeSet;

use super::{Config, DEFAULT};

/// Keys without a default.
const OPTIONAL: [(&str, &str); 5] = [
    ("agents", "advertise"),
    ("agents", "directory"),
    ("database", "url"),
    ("http", "tls_certificate"),
    ("http", "tls_key"),
];

/// What was said beside the defaults.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// By the file.
    pub(super) file: toml::Table,
    /// On the command line.
    arguments: toml::Table,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is the default.
    Default,
    /// The configuration file.
    File,
    /// The command line.
    Argument,
    /// A system administrator set it while control ran.
    Set,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its section.
    pub section: String,
    /// Its name in the section.
    pub name: String,
    /// What is in force, as it is written in the file.
    pub value: Option<String>,
    /// What would be without file and arguments.
    pub default: Option<String>,
    /// Where the value comes from.
    pub source: Origin,
}

impl Said {
    /// Notes what the command line says.
    pub fn argument(&mut self, section: &str, name: &str, value: &str) {
        let section = self.arguments.entry(section).or_insert_with(|| toml::Table::new().into());
        if let Some(section) = section.as_table_mut() {
            section.insert(name.to_owned(), value.into());
        }
    }
}

impl Config {
    /// Every key, by section.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let defaults: toml::Table = toml::from_str(DEFAULT).expect("a test reads the embedded default");
        let mut keys: BTreeSet<(&str, &str)> = OPTIONAL.into();
        for (section, values) in &defaults {
            keys.extend(values.as_table().into_iter().flatten().map(|(name, _)| (section.as_str(), name.as_str())));
        }
        let of = |table: &toml::Table, (section, name): (&str, &str)| {
            let value = table.get(section)?.as_table()?.get(name)?;
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            Some(if (section, name) == ("database", "url") { without_secrets(&text) } else { text })
        };
        let setting = |key: (&str, &str)| {
            let default = of(&defaults, key);
            let (value, source) = match (of(&self.said.arguments, key), of(&self.said.file, key)) {
                (Some(value), _) => (Some(value), Origin::Argument),
                (None, Some(value)) => (Some(value), Origin::File),
                (None, None) => (default.clone(), Origin::Default),
            };
            Setting { section: key.0.to_owned(), name: key.1.to_owned(), value, default, source }
        };
        keys.into_iter().map(setting).collect()
    }
}

/// Scheme, host and database of a URL: user, password and options stay out.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_tells_where_it_comes_from_and_no_secret() {
        let file = "[telemetry]\nraw_retention = \"9d\"\n[database]\nurl = \"postgres://u:se@cret@h:1/db?password=secret\"\n\
                    [http]\nlisten = \"127.0.0.1:1\"";
        let mut config = Config::parse(file, "f").expect("valid");
        config.said.argument("http", "listen", "127.0.0.1:2");
        let settings = config.settings();
        let found = |section: &str, name: &str| {
            let setting = settings.iter().find(|one| (one.section.as_str(), one.name.as_str()) == (section, name));
            let setting = setting.expect("listed");
            (setting.value.as_deref(), setting.default.as_deref(), setting.source)
        };
        assert_eq!(found("telemetry", "raw_retention"), (Some("9d"), Some("8d"), Origin::File));
        assert_eq!(found("telemetry", "commit_frames"), (Some("2000"), Some("2000"), Origin::Default));
        assert_eq!(found("http", "listen"), (Some("127.0.0.1:2"), Some("127.0.0.1:6480"), Origin::Argument));
        assert_eq!(found("agents", "advertise"), (None, None, Origin::Default));
        assert_eq!(found("database", "url"), (Some("postgres://h:1/db"), None, Origin::File));
    }
}
