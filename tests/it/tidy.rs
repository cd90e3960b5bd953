//! The map cannot lie: what `crates/README.md` says of imports is what the code does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn crates() -> PathBuf {
    testkit::checkout().join("crates")
}

/// Crate to the crates of ours that it may import, from the table in `crates/README.md`.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let readme = std::fs::read_to_string(crates().join("README.md")).unwrap();
    let mut allowed = BTreeMap::new();
    for line in readme.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').to_owned();
        let imports = cells[3].split(", ").filter(|import| import.starts_with('`'));
        allowed.insert(name, imports.map(|import| import.trim_matches('`').to_owned()).collect());
    }
    allowed
}

/// Crate to the crates of ours in its `[dependencies]`.
fn actual() -> BTreeMap<String, BTreeSet<String>> {
    let mut actual = BTreeMap::new();
    for entry in std::fs::read_dir(crates()).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.is_dir() {
            continue;
        }
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap();
        let ours = dependencies.lines().filter_map(|line| line.split_once(" = { path = \"../"));
        let ours = ours.map(|(_, rest)| rest.split('"').next().unwrap().to_owned()).collect();
        actual.insert(dir.file_name().unwrap().to_str().unwrap().to_owned(), ours);
    }
    actual
}

fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

#[test]
fn every_crate_imports_what_the_table_allows_and_the_table_lists_every_crate() {
    let (allowed, actual) = (allowed(), actual());
    assert_eq!(allowed.keys().collect::<Vec<_>>(), actual.keys().collect::<Vec<_>>());
    for (name, imports) in &actual {
        assert_eq!(imports, &allowed[name], "{name}: its Cargo.toml against crates/README.md");
    }
}

#[test]
fn no_test_is_left_unrun() {
    for name in actual().keys() {
        let manifest = std::fs::read_to_string(crates().join(name).join("Cargo.toml")).unwrap();
        let library_is_untested = manifest.split("\n\n").any(|section| {
            section.starts_with("[lib]") && section.lines().any(|line| line == "test = false")
        });
        if !library_is_untested {
            continue;
        }
        for (path, text) in sources(&crates().join(name).join("src")) {
            assert!(!text.contains("#[cfg(test)]"), "{} is never run", path.display());
        }
    }
}

#[test]
fn sql_lives_in_store_files_only() {
    for (path, text) in sources(&crates()) {
        let name = path.to_str().unwrap();
        let is_store = name.ends_with("/store.rs") || name.contains("/store/");
        // `db` sets its transactions up, `dev` makes its database, and tests look behind the scenes.
        let is_exempt = ["/db/", "/tests/", "/testkit/", "/dev.rs"].iter().any(|part| name.contains(part));
        if is_store || is_exempt {
            continue;
        }
        for sign in
            ["sql_query(", "diesel::insert_into", "diesel::update", "diesel::delete", "batch_execute("]
        {
            assert!(!text.contains(sign), "{name} has {sign}");
        }
    }
}

#[test]
fn domain_cannot_do_anything_but_decide() {
    let manifest = std::fs::read_to_string(crates().join("domain/Cargo.toml")).unwrap();
    for heavy in ["tokio", "diesel", "redis", "reqwest", "actix", "getrandom", "\"clock\""] {
        assert!(
            !manifest.contains(&format!("\n{heavy}")) && !manifest.contains(&format!("[{heavy}]")),
            "{heavy}"
        );
    }
    for (path, text) in sources(&crates().join("domain/src")) {
        for sign in
            ["async fn", "Utc::now", "SystemTime", "Instant::now", "std::fs", "std::net", "f64", "f32"]
        {
            assert!(!text.contains(sign), "{} has {sign}", path.display());
        }
    }
}

#[test]
fn the_reference_model_is_written_apart_from_the_rules_that_it_checks() {
    let dir = crates().join("domain/src");
    let mut files = sources(&dir.join("model"));
    files.push((dir.join("model.rs"), std::fs::read_to_string(dir.join("model.rs")).unwrap()));
    for (path, text) in files {
        // Its own tests may compare it with the rules.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for line in code.lines().filter(|line| line.contains("crate::")) {
            let is_a_name = line.trim() == "use crate::grant::GrantSource;";
            assert!(is_a_name, "{} imports from its crate: {line}", path.display());
        }
    }
}

#[test]
fn the_environment_is_read_in_one_place() {
    for (path, text) in sources(&crates()) {
        let name = path.to_str().unwrap();
        let may = ["server/src/config.rs", "/testkit/", "/tests/", "/private_servers/"];
        if !may.iter().any(|part| name.contains(part)) {
            assert!(!text.contains("env::var"), "{name} reads the environment");
        }
    }
}

#[test]
fn the_top_level_holds_what_the_readme_says_and_nothing_else() {
    let tracked = std::process::Command::new("git")
        .args(["ls-files"])
        .current_dir(testkit::checkout())
        .output()
        .unwrap();
    let listing = String::from_utf8(tracked.stdout).unwrap();
    let top: BTreeSet<&str> = listing.lines().map(|line| line.split('/').next().unwrap()).collect();
    let shown: Vec<&str> = top.into_iter().filter(|name| !name.starts_with('.')).collect();
    assert_eq!(
        shown,
        [
            "Cargo.lock",
            "Cargo.toml",
            "README.md",
            "crates",
            "deploy",
            "justfile",
            "migrations",
            "openapi",
            "tests"
        ]
    );
}
