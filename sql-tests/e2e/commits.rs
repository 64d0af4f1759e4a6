//! When rows can be seen: jobs without an end commit as they run.

use std::thread;
use std::time::{Duration, Instant};

use super::support::Place;

/// A job without an end into a folder of files.
fn job(place: &Place) -> String {
    format!(
        "CREATE TABLE ticks (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '50');\n\
         CREATE TABLE files (a BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n\
         INSERT INTO files SELECT a FROM ticks;\n",
        place.path("out")
    )
}

#[test]
fn a_job_without_an_end_commits_unless_told_not_to() {
    let (by_default, off) = (Place::new(), Place::new());
    let committing = by_default.start(&job(&by_default), &[]);
    let quiet = off.start(&job(&off), &["-s", "execution.checkpointing.interval=0"]);
    let begin = Instant::now();
    committing.until("file", |_, _| !by_default.visible_files("out").is_empty());
    assert!(begin.elapsed() > Duration::from_secs(5), "committed after {:?}", begin.elapsed());
    // Well after the other has committed.
    thread::sleep(Duration::from_secs(3));
    assert!(off.visible_files("out").is_empty());
    for running in [committing, quiet] {
        running.signal("INT");
        running.finish(Duration::from_secs(60)).ok();
    }
    assert_eq!(off.visible_files("out").len(), 1);
}

/// Ends after hours, and is read as a stream because its rows are throttled.
#[test]
fn rows_of_a_throttled_table_are_seen_as_they_come() {
    let place = Place::new();
    let table = "CREATE TABLE ticks (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '5', 'number-of-rows' = '100000', \
                 'fields.a.kind' = 'sequence', 'fields.a.start' = '1', 'fields.a.end' = '100000');\n";
    let running = place.start(&format!("{table}SELECT COUNT(*) AS n FROM ticks;\n"), &["--format", "json"]);
    running.until("count of 3", |stdout, _| stdout.contains("\"n\":3}"));
    running.signal("INT");
    assert_eq!(running.finish(Duration::from_secs(60)).code, Some(130));
    // A table that is there within a second is not, and batch mode can be asked for.
    let fast = table.replace("'5'", "'1000000'");
    let count = "SELECT COUNT(*) AS n FROM ticks;\n";
    let ran = place.run(&format!("{fast}{count}"), &["--format", "json"]).ok();
    assert_eq!(ran.stdout, "{\"n\":100000}\n");
    let slower = table.replace("'5'", "'60000'");
    let mode = ["--format", "json", "-s", "execution.runtime-mode=batch"];
    assert_eq!(place.run(&format!("{slower}{count}"), &mode).ok().stdout, "{\"n\":100000}\n");
}
