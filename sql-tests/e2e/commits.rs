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
