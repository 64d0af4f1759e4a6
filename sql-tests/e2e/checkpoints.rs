//! Jobs whose checkpoints are kept: killed, stopped, started twice, changed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::e2e::support::{Place, Running, finish, root, service, tidelake, unique};

const ROWS: usize = 6_000;

/// A job of some seconds from a generator into files.
fn script(place: &Place, dir: &str) -> String {
    script_of(place, dir, "INSERT INTO f SELECT id FROM g;")
}

fn script_of(place: &Place, dir: &str, statement: &str) -> String {
    format!(
        "SET 'execution.runtime-mode' = 'streaming';
         SET 'execution.checkpointing.dir' = '{dir}';
         SET 'execution.checkpointing.interval' = '100 ms';
         SET 'pipeline.name' = 'rows';
         CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '2000',
           'number-of-rows' = '{ROWS}', 'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '{ROWS}');
         CREATE TABLE f (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         CREATE TABLE b (id BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
         {statement}",
        place.path("out")
    )
}

/// The numbers in the files that readers see, sorted.
fn numbers(place: &Place) -> Vec<i64> {
    let mut all = Vec::new();
    for file in place.visible_files("out") {
        for line in fs::read_to_string(file).unwrap().lines() {
            all.push(serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64().unwrap());
        }
    }
    all.sort_unstable();
    all
}

/// Waits until a commit is seen.
fn until_committed(place: &Place, job: &Running) {
    job.until("committed file", |_, _| !place.visible_files("out").is_empty());
}

fn end(job: Running) -> crate::e2e::support::Ran {
    job.finish(Duration::from_secs(60))
}

/// Kills the job twice and lets it end: each row is there once.
fn killed_twice(dir: &str, options: &[&str]) {
    let place = Place::new();
    let sql = script(&place, dir);
    for life in 0..2 {
        let job = place.start(&sql, options);
        until_committed(&place, &job);
        std::thread::sleep(Duration::from_millis(300 + life * 250));
        job.signal("KILL");
        assert_eq!(end(job).code, None);
    }
    let before = numbers(&place).len();
    assert!(before > 0 && before < ROWS, "{before}");
    let ran = place.run(&sql, options).ok();
    assert!(ran.stderr.contains("job 'rows' goes on from checkpoint"), "{}", ran.stderr);
    assert_eq!(numbers(&place), (1..=ROWS as i64).collect::<Vec<_>>());
    let left =
        fs::read_dir(place.path("out")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with('.')).count(), 0, "staged files of dead runs are left");
    // It has ended: what comes next is a new job, whose rows are others.
    let ran = place.run(&sql, options).ok();
    assert!(!ran.stderr.contains("goes on"), "{}", ran.stderr);
    assert_eq!(numbers(&place).len(), 2 * ROWS);
}

#[test]
fn a_killed_job_goes_on() {
    let place = Place::new();
    killed_twice(&place.path("checkpoints"), &[]);
}

#[test]
fn a_killed_job_goes_on_from_a_bucket() {
    let Some(s3) = service("TIDELAKE_TEST_S3", "no checkpoints are kept in a bucket") else { return };
    let set = [format!("s3.endpoint={s3}"), "s3.access-key=a".to_owned(), "s3.secret-key=b".to_owned()];
    let mut options = vec!["-s", "s3.path-style-access=true"];
    set.iter().for_each(|s| options.extend(["-s", s]));
    killed_twice(&format!("s3://lake/checkpoints-{}", unique()), &options);
}

#[test]
fn a_job_has_one_process() {
    let place = Place::new();
    let dir = place.path("checkpoints");
    let sql = script(&place, &dir);
    let job = place.start(&sql, &[]);
    until_committed(&place, &job);
    place.run(&sql, &[]).fails_with(&["the job 'rows' is running already: process", "stop that process"]);
    let mut list = tidelake();
    list.args(["checkpoint", "list", &dir, "--format", "json"]);
    let listed = finish(list, Duration::from_secs(20)).ok();
    let rows = listed.rows();
    assert!(
        !rows.is_empty() && rows[0]["job"] == "rows" && rows[0]["checkpoint"].as_i64() > Some(0),
        "{rows:?}"
    );
    end(job).ok();
    assert_eq!(numbers(&place).len(), ROWS);
}

#[test]
fn a_changed_query_is_refused_until_it_begins_anew() {
    let place = Place::new();
    let dir = place.path("checkpoints");
    let both = |key: &str| {
        let statement = format!(
            "EXECUTE STATEMENT SET BEGIN INSERT INTO f SELECT id FROM g;
             INSERT INTO b SELECT {key}, COUNT(*) FROM g GROUP BY {key}; END;"
        );
        script_of(&place, &dir, &statement)
    };
    let job = place.start(&both("id"), &[]);
    until_committed(&place, &job);
    job.signal("KILL");
    end(job);
    let changed = both("id + 0");
    place.run(&changed, &[]).fails_with(&[
        "of job 'rows' is of another plan, which has groupaggregate",
        "the plan of the checkpoint:",
        "the plan now:",
        "--fresh",
    ]);
    let ran = place.run(&changed, &["--fresh"]).ok();
    assert!(ran.stderr.contains("job 'rows' begins anew; checkpoint"), "{}", ran.stderr);
}

#[test]
fn a_stopped_job_goes_on() {
    let place = Place::new();
    let sql = format!(
        "SET 'execution.checkpointing.dir' = '{}';
         SET 'execution.checkpointing.interval' = '100 ms';
         CREATE TABLE g (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json',
           'source.monitor-interval' = '50 ms');
         CREATE TABLE f (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         INSERT INTO f SELECT id FROM g;",
        place.path("checkpoints"),
        place.path("in"),
        place.path("out")
    );
    for life in 0..3 {
        let lines: String = (life * 100..life * 100 + 100).map(|id| format!("{{\"id\":{id}}}\n")).collect();
        place.write(&format!("in/{life}.json"), lines);
        let job = place.start(&sql, &[]);
        let expected = life as usize * 100 + 100;
        job.until("rows of the new file", |_, _| numbers(&place).len() >= expected);
        job.signal("TERM");
        let ran = end(job).ok();
        assert_eq!(
            ran.stderr.contains("job 'insert-into_f' goes on from checkpoint"),
            life > 0,
            "{}",
            ran.stderr
        );
        assert_eq!(numbers(&place), (0..expected as i64).collect::<Vec<_>>());
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            fs::copy(&entry, &to).unwrap();
        }
    }
}

/// A checkpoint that was written once, by the first version of the format, and has to be understood for ever.
#[test]
fn a_golden_checkpoint_is_gone_on_from() {
    let golden = root().join("data/checkpoints/version-1");
    let place = Place::new();
    copy(&golden.join("jobs"), Path::new(&place.path("jobs")));
    let sql = fs::read_to_string(golden.join("job.sql")).unwrap().replace("$DIR", &place.path("jobs"));
    let ran = place.run(&sql, &[]).ok();
    assert!(ran.stderr.contains("job 'golden' goes on from checkpoint"), "{}", ran.stderr);
    // The last row of every key, whatever came before: numbers 1 to 4000 modulo 7, and in hundreds.
    let mut last = std::collections::BTreeMap::new();
    for line in ran.stdout.lines() {
        let (sink, row) = line.split_once("> ").unwrap();
        let (kind, row) = row.split_once('[').unwrap();
        let row: Vec<i64> = row.trim_end_matches(']').split(", ").map(|n| n.parse().unwrap()).collect();
        if kind != "-U" && kind != "-D" {
            last.insert((sink.to_owned(), row[0]), row);
        }
    }
    for k in 0..7 {
        let of_k: Vec<i64> = (1..=4000).filter(|n| n % 7 == k).collect();
        let (n, sum) = (of_k.len() as i64, of_k.iter().sum());
        let sums = [k, n, sum, of_k[0], of_k[of_k.len() - 1], n];
        assert_eq!(last.get(&("sums".to_owned(), k)).unwrap(), &sums);
        let top = [k, of_k[of_k.len() - 1]];
        assert_eq!(last.get(&("newest".to_owned(), k)).unwrap(), &top);
    }
    // Matches are found once, and those of before the checkpoint have been.
    let joined: Vec<i64> = last.keys().filter(|(sink, _)| sink == "joined").map(|(_, id)| *id).collect();
    assert_eq!(joined, (joined[0]..=4000).filter(|n| n % 7 == 0).collect::<Vec<_>>());
    assert_eq!(ran.stdout.lines().filter(|l| l.starts_with("joined")).count(), joined.len());
}
