//! The agents that control can roll out: files beside a `manifest.json`, each with its version and SHA-256.
//!
//! `make agents` makes the directory (`dist/agents`, beside the program of control) and `agents.directory`
//! names another one. It is read anew for each roll-out, so new agents need no restart.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::facts::is_name;
use super::fault::Fault;
use super::libvirt;
use super::program::Program;
use crate::fleet::authority::sha256;

/// What names the files.
pub(super) const MANIFEST: &str = "manifest.json";
/// An agent is small; a file that is not is none.
const SIZE_MAX: u64 = 512 << 20;

/// One program for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Package {
    /// By the name of its file, `tongtu-agent` or `tongtu-agent-libvirt`.
    #[serde(deserialize_with = "program")]
    pub(super) program: Program,
    pub(super) version: String,
    /// As `uname -m` says it.
    pub(super) architecture: String,
    /// The C library that it needs.
    #[serde(deserialize_with = "major_minor")]
    pub(super) glibc: (u32, u32),
    /// The libvirt that it needs, if it links one.
    #[serde(default, deserialize_with = "major_minor_micro")]
    pub(super) libvirt: Option<libvirt::Version>,
    pub(super) sha256: String,
    pub(super) size: u64,
    /// Below the directory.
    pub(super) file: PathBuf,
}

/// The manifest.
#[derive(Debug, Deserialize)]
struct Manifest {
    packages: Vec<Package>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// There is no manifest.
    #[error(
        "control has no agents to roll out: {} is missing; `make agents` makes it beside the program, agents.directory names another directory",
        .0.display()
    )]
    Missing(PathBuf),
    /// The manifest, or a file, is not what it should be.
    #[error("the agents to roll out are not usable: {}: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Package {
    /// The directory that it has on a machine: two builds of one version are two.
    pub(super) fn directory(&self) -> String {
        format!("{}-{}", self.version, &self.sha256[..8])
    }

    fn fault(&self) -> Option<&'static str> {
        let is_hex = self.sha256.len() == 64 && self.sha256.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        let is_below = self.file.components().all(|part| matches!(part, Component::Normal(_)));
        match () {
            () if !is_name(&self.version) || self.version.len() > 60 => {
                Some("a version is letters, digits and . _ + -")
            }
            () if !is_name(&self.architecture) => Some("an architecture is as `uname -m` says it"),
            () if !is_hex => Some("a sha256 is 64 of 0-9 and a-f"),
            () if !is_below => Some("a file lies below the directory"),
            () if !(1..=SIZE_MAX).contains(&self.size) => Some("a size is 1 byte to 512 MiB"),
            () => None,
        }
    }
}

fn major_minor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(u32, u32), D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parsed.ok_or_else(|| serde::de::Error::custom("glibc is like \"2.17\""))
}

fn major_minor_micro<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<libvirt::Version>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[major, minor, micro]) => Ok(Some((major, minor, micro))),
        _ => Err(serde::de::Error::custom("libvirt is like \"1.2.14\"")),
    }
}

fn program<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Program, D::Error> {
    let file = String::deserialize(deserializer)?;
    Program::of_file(&file).ok_or_else(|| serde::de::Error::custom("a program is tongtu-agent or tongtu-agent-libvirt"))
}

/// The packages of a directory.
pub(super) fn read(directory: &Path) -> Result<Vec<Package>, PackagesError> {
    let path = directory.join(MANIFEST);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(PackagesError::Missing(path)),
        Err(error) => return Err(PackagesError::Damaged { path, reason: error.to_string() }),
    };
    let damaged = |reason: String| PackagesError::Damaged { path: path.clone(), reason };
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    match manifest.packages.iter().find_map(Package::fault) {
        Some(reason) => Err(damaged(reason.to_owned())),
        None => Ok(manifest.packages),
    }
}

/// The one of a program for an architecture.
pub(super) fn choose<'a>(packages: &'a [Package], program: Program, architecture: &str) -> Result<&'a Package, Fault> {
    let found = packages.iter().find(|package| package.architecture == architecture && package.program == program);
    found.ok_or_else(|| {
        let name = |package: &Package| format!("{} {}", package.program.file(), package.architecture);
        let there: Vec<String> = packages.iter().map(name).collect();
        Fault::NoPackage {
            program: program.file(),
            architecture: architecture.to_owned(),
            there: if there.is_empty() { "-".to_owned() } else { there.join(", ") },
        }
    })
}

/// A package's bytes, if they are what the manifest says.
pub(super) fn load(directory: &Path, package: &Package) -> Result<Vec<u8>, PackagesError> {
    let path = directory.join(&package.file);
    let damaged = |reason: String| PackagesError::Damaged { path: path.clone(), reason };
    let bytes = std::fs::read(&path).map_err(|error| damaged(error.to_string()))?;
    if bytes.len() as u64 != package.size || hex(&sha256(&bytes)) != package.sha256 {
        return Err(damaged(format!("size or SHA-256 are not as {MANIFEST} says")));
    }
    Ok(bytes)
}

/// As `sha256sum` prints it.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(manifest: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(MANIFEST), manifest).expect("room");
        directory
    }

    fn package(change: impl FnOnce(&mut serde_json::Value)) -> serde_json::Value {
        let mut package = serde_json::json!({
            "program": "tongtu-agent", "version": "0.1.0", "architecture": "x86_64", "glibc": "2.17",
            "sha256": hex(&sha256(b"program")), "size": 7, "file": "x86_64/tongtu-agent",
        });
        change(&mut package);
        package
    }

    fn manifest(packages: &[serde_json::Value]) -> String {
        serde_json::json!({ "packages": packages }).to_string()
    }

    #[test]
    fn a_package_is_what_its_manifest_says_or_none() {
        let directory = directory(&manifest(&[package(|_| {})]));
        let packages = read(directory.path()).expect("read");
        let package = choose(&packages, Program::Host, "x86_64").expect("there");
        assert_eq!(package.directory(), format!("0.1.0-{}", &package.sha256[..8]));
        assert!(load(directory.path(), package).is_err(), "the file is missing");
        std::fs::create_dir(directory.path().join("x86_64")).expect("room");
        let file = directory.path().join(&package.file);
        std::fs::write(&file, b"program").expect("room");
        assert_eq!(load(directory.path(), package).expect("whole"), b"program");
        std::fs::write(&file, b"progrem").expect("room");
        assert!(load(directory.path(), package).is_err(), "it was changed");
        for (program, architecture) in [(Program::Host, "mips"), (Program::Libvirt, "x86_64")] {
            let fault = choose(&packages, program, architecture).expect_err("none");
            let there = "tongtu-agent x86_64".to_owned();
            let expected = Fault::NoPackage { program: program.file(), architecture: architecture.to_owned(), there };
            assert_eq!(fault, expected);
        }
    }

    #[test]
    fn each_program_has_its_own() {
        let of_libvirt = package(|package| {
            package["program"] = "tongtu-agent-libvirt".into();
            package["libvirt"] = "1.2.14".into();
        });
        let directory = directory(&manifest(&[package(|_| {}), of_libvirt]));
        let packages = read(directory.path()).expect("read");
        for (program, libvirt) in [(Program::Host, None), (Program::Libvirt, Some((1, 2, 14)))] {
            let package = choose(&packages, program, "x86_64").expect("there");
            assert_eq!((package.program, package.libvirt), (program, libvirt));
        }
    }

    #[test]
    fn a_manifest_leads_nowhere_else() {
        for (field, value) in [
            ("file", "../../etc/shadow"),
            ("file", "/etc/shadow"),
            ("version", "1; reboot"),
            ("sha256", "ab"),
            ("glibc", "two"),
            ("architecture", ""),
            ("program", "reboot"),
            ("libvirt", "new"),
        ] {
            let directory = directory(&manifest(&[package(|package| package[field] = value.into())]));
            assert!(matches!(read(directory.path()), Err(PackagesError::Damaged { .. })), "{field} = {value}");
        }
        let empty = tempfile::tempdir().expect("a directory");
        let said = read(empty.path()).expect_err("nothing there").to_string();
        assert!(said.contains("make agents") && said.contains("agents.directory"), "{said}");
    }
}
