//! What lies in `deploy/` is read by the tools that read such files, and the roles do what they say.

use std::path::PathBuf;
use std::process::{Command, Output};

use db::Db;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use domain::calendar::Zone;
use domain::scope::TenantMode;
use tenants::{NewTenant, Tenants, TokenKey};
use testkit::LoneServers;

const UNITS: [&str; 2] = ["tollgate-serve.service", "tollgate-worker.service"];

fn deploy(file: &str) -> PathBuf {
    testkit::checkout().join("deploy").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(deploy(file)).unwrap()
}

/// What a program answers; `None`, and a word about it, where this machine does not have it.
fn output_of(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("not checked with {program}: {error}");
            None
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn connect(url: &str) -> AsyncPgConnection {
    AsyncPgConnection::establish(url).await.unwrap()
}

async fn count(connection: &mut AsyncPgConnection, sql: &str) -> i64 {
    #[derive(diesel::QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        count: i64,
    }
    diesel::sql_query(sql).get_result::<Count>(connection).await.unwrap().count
}

async fn expect_refusal(connection: &mut AsyncPgConnection, sql: &str, words: &str) {
    let error = connection.batch_execute(sql).await.expect_err(sql).to_string();
    assert!(error.contains(words), "{sql}: {error}");
}

/// The same database for another role.
fn url_as(url: &str, role: &str) -> String {
    format!("postgres://{role}:deploy@{}", url.rsplit_once('@').unwrap().1)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_are_enough_to_migrate_and_to_work_and_for_nothing_else() {
    let lone = LoneServers::start("deploy").await;
    let mut admin = connect(&lone.servers().postgres_url("postgres")).await;
    for statement in ["drop database tollgate", "drop role tollgate_app"] {
        admin.batch_execute(statement).await.unwrap();
    }
    // Below the head, one by one as psql does: a database is not made in a transaction.
    for statement in read("roles.sql").split("\n\n").skip(1) {
        admin.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    for role in ["tollgate", "tollgate_owner"] {
        admin.batch_execute(&format!("alter role {role} password 'deploy'")).await.unwrap();
    }
    let url = lone.servers().postgres_url("tollgate");
    db::migrate(&url_as(&url, "tollgate_owner")).await.unwrap();

    // The application works behind both walls.
    let options = db::Options {
        url: url_as(&url, "tollgate"),
        connections_max: 2,
        deadline: std::time::Duration::from_secs(10),
    };
    let db = Db::new(options).unwrap();
    let tenants = Tenants::new(db.clone(), TokenKey::from_pem(&TokenKey::generate().unwrap()).unwrap());
    let mut ids = Vec::new();
    for name in ["A", "B"] {
        let new = NewTenant {
            name: name.to_owned(),
            mode: TenantMode::Test,
            zone: Zone::UTC,
            policies: Default::default(),
        };
        ids.push(tenants.create(new).await.unwrap());
    }
    let seen =
        db.transaction(ids[0], async |tx| Ok(count(tx, "select count(*) from tenants").await)).await.unwrap();
    assert_eq!(seen, 1, "another tenant's row is seen");

    // What it logs in as may do nothing by itself, and little as the application.
    let mut app = connect(&url_as(&url, "tollgate")).await;
    expect_refusal(&mut app, "select from tenants", "permission denied").await;
    app.batch_execute("set role tollgate_app").await.unwrap();
    assert_eq!(count(&mut app, "select count(*) from tenants").await, 0, "seen without a tenant");
    for (sql, words) in [
        ("update transfers set credits = 1", "permission denied"),
        ("delete from transfers", "permission denied"),
        ("truncate transfers", "permission denied"),
        ("alter table transfers disable trigger append_only_rows", "must be owner"),
        ("alter table tenants disable row level security", "must be owner"),
        ("create table mine ()", "permission denied"),
        ("create temporary table mine ()", "permission denied"),
        ("set role tollgate_owner", "permission denied"),
        ("create role mine", "permission denied"),
    ] {
        expect_refusal(&mut app, sql, words).await;
    }

    let mut admin = connect(&url).await;
    for (sql, expected) in [
        (
            "select count(*) from pg_shdepend where deptype = 'o' \
             and refobjid in ('tollgate'::regrole, 'tollgate_app'::regrole)",
            0,
        ),
        (
            "select count(*) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace \
             and relowner <> 'tollgate_owner'::regrole",
            0,
        ),
        (
            "select count(*) from pg_roles where rolname in ('tollgate', 'tollgate_app', 'tollgate_owner') \
             and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)",
            0,
        ),
        ("select count(*) from pg_auth_members where member = 'tollgate'::regrole", 1),
    ] {
        assert_eq!(count(&mut admin, sql).await, expected, "{sql}");
    }
    drop((db, tenants, app, admin));
}

#[test]
fn systemd_understands_the_units_and_finds_them_hardened() {
    let dir = std::env::temp_dir().join(format!("tollgate-units-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for unit in UNITS {
        let text_here = read(unit).replace("/usr/bin/tollgate", env!("CARGO_BIN_EXE_tollgate"));
        std::fs::write(dir.join(unit), text_here).unwrap();
    }
    for unit in UNITS.map(|unit| dir.join(unit)) {
        let unit = unit.to_str().unwrap();
        let verify = ["verify", "--man=no", "--recursive-errors=no", unit];
        let security = ["security", "--offline=true", "--no-pager", "--threshold=20", unit];
        for args in [&verify[..], &security[..]] {
            let Some(output) = output_of("systemd-analyze", args) else { continue };
            assert!(output.status.success(), "{}", text(&output));
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_example_names_settings_that_the_binary_knows_and_all_that_it_needs() {
    let help = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate")).args([command, "--help"]).output().unwrap();
        text(&output)
    };
    let example = read("tollgate.env.example");
    let settings: Vec<(&str, &str)> = example
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once('=').unwrap())
        .collect();
    let serve = help("serve");
    for (name, value) in &settings {
        assert!(!value.is_empty() && !value.contains([' ', '"', '\'', '#']), "{name}={value}");
        assert!(*name == "RUST_LOG" || serve.contains(&format!("[env: {name}")), "{name} is not known");
    }
    for help in [serve, help("worker")] {
        for setting in help.split("[env: ").skip(1) {
            let name = setting.split(['=', ']']).next().unwrap();
            // One that has a default may stand there as a comment.
            let is_optional = example.contains(&format!("\n#{name}="));
            assert!(is_optional || settings.iter().any(|(known, _)| *known == name), "{name} is missing");
        }
    }
}

#[test]
fn the_commands_in_the_example_make_secrets_that_are_taken() {
    let key = output_of("openssl", &["genpkey", "-algorithm", "ed25519"]);
    if let Some(output) = key {
        assert!(TokenKey::from_pem(&text(&output)).is_ok(), "{}", text(&output));
    }
    if let Some(output) = output_of("openssl", &["rand", "32"]) {
        assert_eq!(output.stdout.len(), 32);
    }
    let example = read("tollgate.env.example");
    for command in ["openssl genpkey -algorithm ed25519 -out ", "openssl rand -out /etc/tollgate/secret 32"] {
        assert!(example.contains(command), "{command}");
    }
}
