//! Holds what no compiler holds: the layer arrows of control, a `//!` on every module, names, file
//! length, clocks, and that the two READMEs say the same. Reads the tree as text; a rule that a line
//! of code can step around by effort is still worth its few lines here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What a domain of control may use of the crate besides itself.
const ARROWS: [(&str, &[&str]); 8] = [
    ("config", &[]),
    ("platform", &["config"]),
    ("access", &["platform", "config"]),
    ("fleet", &["platform", "config", "access"]),
    ("telemetry", &["platform", "config", "access", "fleet"]),
    ("compute", &["platform", "config", "access", "fleet", "telemetry"]),
    ("settings", &["platform", "config", "access", "telemetry"]),
    ("backup", &["platform", "config", "access", "settings"]),
];

/// Names that say nothing of what a file is for.
const BANNED_NAMES: [&str; 11] =
    ["util", "utils", "common", "helper", "helpers", "manager", "misc", "shared", "stuff", "base", "core"];

/// The only files that read a clock.
const CLOCKS: [&str; 3] = ["src/platform/clock.rs", "agents/runtime/src/clock.rs", "tests/lab/wait.rs"];

/// A file that a reader can still hold in the head.
const MAX_LINES: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the repository: its path from the root, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Every text file that is, or would be, committed.
fn files() -> Vec<File> {
    fn walk(root: &Path, at: &Path, into: &mut Vec<File>) {
        for entry in std::fs::read_dir(at).expect("a folder of the tree") {
            let path = entry.expect("an entry of the tree").path();
            let relative = path.strip_prefix(root).expect("under the root").to_string_lossy().into_owned();
            // What others wrote, and what is made of what stands elsewhere.
            let ignored = [
                "target",
                "data",
                "dist",
                ".git",
                "dashboards/web/node_modules",
                "dashboards/web/dist",
                "dashboards/web/src/api",
            ];
            if ignored.contains(&relative.as_str()) {
                continue;
            }
            if path.is_dir() {
                walk(root, &path, into);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                into.push(File { path: relative, text });
            }
        }
    }
    let mut files = Vec::new();
    walk(&root(), &root(), &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 30, "the tree was not found from {}", root().display());
    files
}

/// Fails with every offence at once.
fn check(offences: Vec<String>, rule: &str) {
    let mut text = String::new();
    for offence in &offences {
        let _ = writeln!(text, "  {offence}");
    }
    assert!(offences.is_empty(), "{rule}:\n{text}");
}

/// The code without comments: what they mention is no use of it.
fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| match line.find("//") {
            // `://` stands in an address.
            Some(at) if !line[..at].ends_with(':') => &line[..at],
            _ => line,
        })
        .fold(String::new(), |code, line| code + line + "\n")
}

/// Every path that starts at the crate's root, as its first two segments: `crate::a::{b, c::d}`
/// gives (a, b) and (a, c); `crate::{a, b::c}` gives (a, "") and (b, c).
fn crate_paths(code: &str) -> BTreeSet<(String, String)> {
    let mut paths = BTreeSet::new();
    for start in ["crate::", "tongtu::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            for path in expand(&code[at + start.len()..]) {
                let mut segments = path.split("::").map(ToOwned::to_owned);
                let first = segments.next().unwrap_or_default();
                paths.insert((first, segments.next().unwrap_or_default()));
            }
        }
    }
    paths
}

/// The paths of a use tree at the beginning of a text.
fn expand(text: &str) -> Vec<String> {
    let text = text.trim_start();
    if let Some(inside) = text.strip_prefix('{') {
        let mut paths = Vec::new();
        let mut depth = 0;
        let mut begin = 0;
        for (at, c) in inside.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    paths.extend(expand(&inside[begin..at]));
                    return paths;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    paths.extend(expand(&inside[begin..at]));
                    begin = at + 1;
                }
                _ => {}
            }
        }
        return paths;
    }
    let length = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    if name.is_empty() {
        return Vec::new();
    }
    match rest.strip_prefix("::") {
        Some(rest) => {
            let inner = expand(rest);
            if inner.is_empty() {
                vec![name.to_owned()]
            } else {
                inner.into_iter().map(|path| format!("{name}::{path}")).collect()
            }
        }
        None => vec![name.to_owned()],
    }
}

#[test]
fn use_trees_are_read() {
    let code = "use crate::{access, fleet::{store::x, sink}};\nlet a = crate::compute::api::router();";
    let paths = crate_paths(code);
    let expected = [("access", ""), ("compute", "api"), ("fleet", "sink"), ("fleet", "store")];
    assert_eq!(paths, expected.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect());
}

#[test]
fn arrows_between_domains_point_one_way() {
    let mut offences = Vec::new();
    for file in files() {
        let Some((domain, _)) = file.path.strip_prefix("src/").and_then(|rest| rest.split_once('/')) else {
            continue; // the composition root joins them all
        };
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == domain) else {
            continue;
        };
        if !file.is_rust() {
            continue;
        }
        for (to, part) in crate_paths(&without_comments(&file.text)) {
            if to == domain || !ARROWS.iter().any(|(name, _)| *name == to) {
                continue;
            }
            if !allowed.contains(&to.as_str()) {
                offences.push(format!("{}: {domain} uses {to}", file.path));
            } else if part == "store" || part == "api" {
                offences.push(format!(
                    "{}: {domain} uses {to}::{part}; only its public functions are for others",
                    file.path
                ));
            }
        }
    }
    check(offences, "arrows: config ← platform ← access ← fleet ← telemetry ← compute");
}

#[test]
fn agents_do_not_link_control_and_the_wire_does_no_io() {
    let mut offences = Vec::new();
    for file in files() {
        if file.path.starts_with("agents/") && file.path.ends_with("Cargo.toml") {
            for line in file.text.lines() {
                let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
                if name == "tongtu" || name == "sea-orm" {
                    offences.push(format!("{}: {line}", file.path));
                }
            }
        }
        if file.path.starts_with("agents/protocol/src") {
            let code = without_comments(&file.text);
            for banned in ["std::fs", "std::net", "std::time", "std::process", "tokio::"] {
                if code.contains(banned) {
                    offences.push(format!("{}: {banned}", file.path));
                }
            }
        }
    }
    check(offences, "agents stand alone, and agents/protocol reads no clock and no file");
}

#[test]
fn every_module_says_what_it_owns() {
    let offences = files()
        .into_iter()
        .filter(|file| file.is_rust())
        .filter(|file| {
            let first = file.text.lines().next().unwrap_or_default();
            let described = first.strip_prefix("//! ").is_some_and(|words| words.len() >= 10);
            !described && !first.starts_with("#![doc = include_str!(")
        })
        .map(|file| file.path)
        .collect();
    check(offences, "a module opens with `//!`: what it owns, what must hold, what is absent");
}

#[test]
fn names_are_nouns_of_the_field() {
    let mut offences = Vec::new();
    for file in files() {
        for name in file.path.split('/') {
            let stem = name.split('.').next().unwrap_or(name);
            let words: Vec<_> = stem.split(['_', '-']).collect();
            if words.iter().any(|word| BANNED_NAMES.contains(word)) {
                offences.push(file.path.clone());
            }
        }
    }
    check(offences, "a file is named for what it owns");
}

#[test]
fn files_stay_short() {
    let offences = files()
        .into_iter()
        .filter(|file| {
            [".rs", ".sh", ".proto", ".md", ".ts", ".vue", ".css", ".mjs"].iter().any(|end| file.path.ends_with(end))
        })
        .filter_map(|file| {
            let lines = file.text.lines().count();
            (lines > MAX_LINES).then(|| format!("{}: {lines} lines", file.path))
        })
        .collect();
    check(offences, "about 400 lines a file, never over 800");
}

#[test]
fn clocks_are_read_in_one_place() {
    let mut offences = Vec::new();
    for file in files() {
        if !file.is_rust() || CLOCKS.contains(&file.path.as_str()) || file.path == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in without_comments(&file.text).lines().enumerate() {
            let reads = ["::now()", "SystemTime::now", "Instant::now", "::now_utc(", "::now_v7("];
            // Asking the agents' clock module is not reading a clock.
            let line = line.replace("clock::now()", "");
            if reads.iter().any(|read| line.contains(read)) {
                offences.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    check(offences, "only a clock module reads a clock");
}

#[test]
fn files_name_no_machine_and_no_registry() {
    // Put together here, so that this file is not its own offence.
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("static.crates", ".io"),
        concat!("index.crates", ".io"),
        concat!("deb.debian", ".org"),
        concat!("pypi", ".org"),
        concat!("registry.npmjs", ".org"),
        concat!("proxy.golang", ".org"),
    ];
    let mut offences = Vec::new();
    for file in files() {
        if file.path == "Cargo.lock" {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            for word in banned {
                if line.contains(word) {
                    offences.push(format!("{}:{}: {word}", file.path, number + 1));
                }
            }
        }
    }
    check(offences, "the repository knows no machine and no registry's host");
}

/// The levels of a document's headings, and its blocks of code with what each holds.
fn skeleton(text: &str) -> (Vec<usize>, Vec<String>) {
    let mut headings = Vec::new();
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        if line.starts_with("```") {
            match block.take() {
                Some(done) => blocks.push(done),
                None => block = Some(line.to_owned() + "\n"),
            }
        } else if let Some(block) = &mut block {
            *block += line;
            *block += "\n";
        } else if line.starts_with('#') {
            headings.push(line.chars().take_while(|c| *c == '#').count());
        }
    }
    assert!(block.is_none(), "a block of code that does not end");
    (headings, blocks)
}

#[test]
fn the_two_readmes_have_the_same_parts() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).expect("a README");
    let (english, chinese) = (skeleton(&read("README.md")), skeleton(&read("README.zh-CN.md")));
    assert_eq!(english.0, chinese.0, "headings");
    assert_eq!(english.1, chinese.1, "blocks of code");
    assert!(!english.1.is_empty());
}

#[test]
fn what_a_person_runs_is_executable() {
    use std::os::unix::fs::PermissionsExt as _;
    for script in [
        "scripts/agents.sh",
        "scripts/install.sh",
        "scripts/run.sh",
        "scripts/with-postgres.sh",
        "scripts/web.sh",
        "tests/lab/cloud",
        ".ci/run",
    ] {
        let mode =
            std::fs::metadata(root().join(script)).unwrap_or_else(|err| panic!("{script}: {err}")).permissions().mode();
        assert!(mode & 0o111 != 0, "{script} is not executable");
    }
}
