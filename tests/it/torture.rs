//! A short torture run: every kind of kill once, under load. `cargo run --release -p torture` has the long one.

use std::path::PathBuf;

#[tokio::test(flavor = "multi_thread")]
async fn six_kills_under_load_lose_and_double_nothing() {
    let dir = testkit::checkout().join(".tollgate").join(format!("torture-{}", std::process::id()));
    let seed = u64::from(std::process::id());
    let options = torture::Options {
        kills: 6,
        events: 5_000,
        clients: 64,
        seed,
        tollgate: Some(PathBuf::from(env!("CARGO_BIN_EXE_tollgate"))),
        dir,
        is_durable: false,
        waits_for_webhooks: false,
        progress: Box::new(|_, _| {}),
    };
    let report = torture::run(options).await.unwrap();
    assert_eq!(report.wrong(), Vec::<String>::new(), "{report}");
    assert!(report.unknown_outcomes() > 0, "it proved nothing: {report}");
    assert!(report.events_acknowledged() >= 5_000, "{report}");
    assert_eq!(report.kills(), 6);
    assert!(report.least_in_flight() >= 32, "{report}");
}
