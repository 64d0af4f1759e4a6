//! Ctrl-C and SIGTERM: a job without an end ends well by them, any other statement is not done.

use std::thread;
use std::time::Duration;

use super::support::{Place, Ran, Running};

/// A source that takes hours to its end, or has none, and a folder of files.
fn tables(place: &Place, bounded: bool) -> String {
    let rows = if bounded { ", 'number-of-rows' = '1000000'" } else { "" };
    format!(
        "CREATE TABLE slow (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '50'{rows});\n\
         CREATE TABLE files (a BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n\
         SELECT 'begun';\n",
        place.path("out")
    )
}

/// Sends the signal a second after the statement has begun.
fn interrupt(running: Running, signal: &str) -> Ran {
    running.until("first result", |stdout, _| stdout.contains("begun"));
    thread::sleep(Duration::from_secs(1));
    running.signal(signal);
    running.finish(Duration::from_secs(60))
}

#[test]
fn a_bounded_insert_that_is_interrupted_is_no_success_and_commits_nothing() {
    for mode in ["batch", "streaming"] {
        for (signal, code) in [("INT", 130), ("TERM", 143)] {
            let place = Place::new();
            let sql = format!(
                "{}INSERT INTO files SELECT a FROM slow;\nSELECT 'after';\n\nSELECT 'later';\n",
                tables(&place, true)
            );
            let mode = format!("execution.runtime-mode={mode}");
            let ran = interrupt(place.start(&sql, &["-s", &mode, "--format", "json"]), signal);
            assert_eq!(ran.code, Some(code), "{mode} {signal}: {ran:?}");
            assert!(!ran.stdout.contains("after"), "{mode} {signal}: {ran:?}");
            assert!(ran.stderr.contains("INSERT was stopped before its end"), "{mode} {signal}: {ran:?}");
            assert!(ran.stderr.contains("nothing of it is committed"), "{mode} {signal}: {ran:?}");
            assert!(ran.stderr.contains("not run: 2 statements, from "), "{mode} {signal}: {ran:?}");
            assert!(ran.stderr.contains("script.sql:5 on"), "{mode} {signal}: {ran:?}");
            let left = place.visible_files("out");
            assert!(left.is_empty(), "{mode} {signal} left {left:?}");
        }
    }
}

#[test]
fn a_bounded_query_that_is_interrupted_is_no_success() {
    let rows = "SELECT a FROM slow";
    // Only of a result whose rows are updated nothing is printed before its end.
    let updated = "SELECT a, COUNT(*) FROM slow GROUP BY a";
    for (args, query, prints) in [
        (&["-s", "execution.runtime-mode=batch"][..], rows, true),
        (&["-s", "execution.runtime-mode=streaming"], rows, true),
        (&["-s", "execution.runtime-mode=streaming", "--result-mode", "final"], rows, true),
        (&["-s", "execution.runtime-mode=streaming", "--result-mode", "final"], updated, false),
    ] {
        let place = Place::new();
        let sql = format!("{}{query};\nSELECT 'after';\n", tables(&place, true));
        let ran = interrupt(place.start(&sql, &[args, &["--format", "csv"]].concat()), "INT");
        assert_eq!(ran.code, Some(130), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("SELECT was stopped before its end"), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("not run: 1 statement"), "{args:?}: {ran:?}");
        let printed = ran.stdout.lines().skip(2).count();
        assert_eq!(printed > 1, prints, "{args:?} {query}: {ran:?}");
    }
}

#[test]
fn a_statement_set_keeps_what_it_had_committed() {
    let place = Place::new();
    let sql = format!(
        "CREATE TABLE first (a BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n\
         {}EXECUTE STATEMENT SET BEGIN INSERT INTO first VALUES (1); INSERT INTO files SELECT a FROM slow; END;\n",
        place.path("first"),
        tables(&place, true)
    );
    let running = place.start(&sql, &["-s", "execution.runtime-mode=batch", "--format", "json"]);
    let ran = interrupt(running, "TERM");
    assert_eq!(ran.code, Some(143), "{ran:?}");
    assert!(ran.stderr.contains("what its first commit holds stays"), "{ran:?}");
    assert_eq!((place.visible_files("first").len(), place.visible_files("out").len()), (1, 0), "{ran:?}");
}

#[test]
fn a_job_without_an_end_commits_and_tells_what_it_leaves_out() {
    for signal in ["INT", "TERM"] {
        let place = Place::new();
        let sql =
            format!("{}INSERT INTO files SELECT a FROM slow;\nSELECT 'after';\n", tables(&place, false));
        let ran = interrupt(place.start(&sql, &["--format", "json"]), signal).ok();
        assert!(!ran.stdout.contains("after"), "{signal}: {ran:?}");
        assert!(ran.stderr.contains("not run: 1 statement, "), "{signal}: {ran:?}");
        assert!(ran.stderr.contains("script.sql:5"), "{signal}: {ran:?}");
        assert_eq!(place.visible_files("out").len(), 1, "{signal}: {ran:?}");
        let last = format!("{}INSERT INTO files SELECT a FROM slow;\n", tables(&place, false));
        let ran = interrupt(place.start(&last, &["--format", "json"]), signal).ok();
        assert!(!ran.stderr.contains("not run"), "{signal}: {ran:?}");
    }
}
