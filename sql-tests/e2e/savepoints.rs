//! Savepoints: taken of jobs that run and that do not, started from, read.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::e2e::support::{Place, Ran, Running, finish, service, tidelake, unique};

/// A folder that is watched, counted by key and copied to files.
fn script(place: &Place, dir: &str, settings: &str, statement: &str) -> String {
    format!(
        "SET 'execution.runtime-mode' = 'streaming';
         SET 'execution.checkpointing.dir' = '{dir}';
         SET 'execution.checkpointing.interval' = '100 ms';
         SET 'pipeline.name' = 'counts';
         {settings}
         CREATE TABLE g (id BIGINT, ts AS TO_TIMESTAMP_LTZ(id, 3), WATERMARK FOR ts AS ts) WITH (
           'connector' = 'filesystem', 'path' = '{}', 'format' = 'json', 'source.monitor-interval' = '50 ms');
         CREATE TABLE f (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         CREATE TABLE p (k BIGINT, n BIGINT) WITH ('connector' = 'print');
         CREATE TABLE w (s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'w');
         {statement}",
        place.path("in"),
        place.path("out")
    )
}

const COUNTS: &str = "EXECUTE STATEMENT SET BEGIN
    INSERT INTO f SELECT id FROM g;
    INSERT INTO p SELECT id % 7, COUNT(*) FROM g GROUP BY id % 7;
    INSERT INTO w SELECT window_start, COUNT(*) FROM TUMBLE(TABLE g, DESCRIPTOR(ts), INTERVAL '1' HOUR)
      GROUP BY window_start, window_end;
    END;";

fn add_rows(place: &Place, file: u64) {
    let lines: String = (file * 100..file * 100 + 100).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    place.write(&format!("in/{file}.json"), lines);
}

/// How often each number is in the files that readers see.
fn numbers(place: &Place) -> BTreeMap<i64, usize> {
    let mut all = BTreeMap::new();
    for file in place.visible_files("out") {
        for line in fs::read_to_string(file).unwrap().lines() {
            let id = serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64().unwrap();
            *all.entry(id).or_default() += 1;
        }
    }
    all
}

fn until_rows(place: &Place, job: &Running, rows: usize) {
    job.until("rows", |_, _| numbers(place).len() >= rows);
}

fn savepoint(args: &[&str]) -> Ran {
    let mut command = tidelake();
    command.arg("savepoint").args(args);
    finish(command, Duration::from_secs(60))
}

fn end(job: Running) -> Ran {
    job.finish(Duration::from_secs(60))
}

/// The last count of every key that a run has printed.
fn counts(ran: &Ran) -> BTreeMap<i64, i64> {
    let mut counts = BTreeMap::new();
    for line in ran.stdout.lines().filter(|l| !l.starts_with('w')) {
        let (kind, row) = line.split_once('[').unwrap();
        if kind.ends_with("+I") || kind.ends_with("+U") {
            let row = row.trim_end_matches(']').split(", ").map(|n| n.parse().unwrap());
            let row: Vec<i64> = row.collect();
            counts.insert(row[0], row[1]);
        }
    }
    counts
}

fn expected(rows: i64) -> BTreeMap<i64, i64> {
    (0..7).map(|k| (k, (0..rows).filter(|id| id % 7 == k).count() as i64)).collect()
}

/// A job is stopped with a savepoint, and another goes on from it at another parallelism, also after it was killed.
fn stopped_and_started(dir: &str, to: &str, options: &[&str]) {
    let place = Place::new();
    add_rows(&place, 0);
    let job = place.start(&script(&place, dir, "", COUNTS), options);
    until_rows(&place, &job, 100);
    let made = savepoint(&[&["create", dir, "--to", to, "--stop"], options].concat()).ok();
    let path = made.stdout.trim().to_owned();
    assert!(path.starts_with(&format!("{to}/savepoint-counts-")), "{path}");
    let ran = end(job).ok();
    assert!(ran.stderr.contains(&format!(": {path}")), "{}", ran.stderr);
    // The job goes on by itself and reads more; whoever starts from the savepoint reads that again, and nothing else.
    add_rows(&place, 1);
    let job = place.start(&script(&place, dir, "", COUNTS), options);
    until_rows(&place, &job, 200);
    job.signal("TERM");
    end(job).ok();
    let settings =
        format!("SET 'execution.state-recovery.path' = '{path}'; SET 'parallelism.default' = '3';");
    let sql = script(&place, dir, &settings, COUNTS);
    let job = place.start(&sql, options);
    add_rows(&place, 2);
    until_rows(&place, &job, 300);
    job.signal("KILL");
    end(job);
    // Its own checkpoints are newer than the savepoint that it began with.
    add_rows(&place, 3);
    let job = place.start(&sql, options);
    until_rows(&place, &job, 400);
    job.signal("TERM");
    let ran = end(job).ok();
    assert!(ran.stderr.contains("job 'counts' goes on from checkpoint"), "{}", ran.stderr);
    let twice = |id: i64| if (100..200).contains(&id) { 2 } else { 1 };
    assert_eq!(numbers(&place), (0..400).map(|id| (id, twice(id))).collect());
    // Whatever was printed before, the keys of the last file are counted to the end.
    assert_eq!(counts(&ran), expected(400));
    let listed = savepoint(&[&["list", to, "--format", "json"], options].concat()).ok().rows();
    assert_eq!((listed.len(), &listed[0]["savepoint"]), (1, &path.clone().into()), "{listed:?}");
    savepoint(&[&["drop", &path], options].concat()).ok();
    assert!(savepoint(&[&["list", to, "--format", "json"], options].concat()).ok().rows().is_empty());
    // The job does not need it any more, another one does.
    let job = place.start(&sql, options);
    add_rows(&place, 4);
    until_rows(&place, &job, 500);
    job.signal("TERM");
    end(job).ok();
    let other = sql.replace("'counts'", "'other'");
    place.run(&other, options).fails_with(&["there is no savepoint in", "tidelake savepoint list"]);
}

#[test]
fn a_job_starts_from_a_savepoint() {
    let place = Place::new();
    stopped_and_started(&place.path("checkpoints"), &place.path("savepoints"), &[]);
}

#[test]
fn a_job_starts_from_a_savepoint_in_a_bucket() {
    let Some(s3) = service("TIDELAKE_TEST_S3", "no savepoints are kept in a bucket") else { return };
    let set = [format!("s3.endpoint={s3}"), "s3.access-key=a".to_owned(), "s3.secret-key=b".to_owned()];
    let mut options = vec!["-s", "s3.path-style-access=true"];
    set.iter().for_each(|s| options.extend(["-s", s]));
    let (dir, to) = (format!("s3://lake/jobs-{}", unique()), format!("s3://lake/savepoints-{}", unique()));
    stopped_and_started(&dir, &to, &options);
}

#[test]
fn a_savepoint_can_be_copied_and_read() {
    let place = Place::new();
    let (dir, to) = (place.path("checkpoints"), place.path("savepoints"));
    add_rows(&place, 0);
    let job = place.start(&script(&place, &dir, "", COUNTS), &[]);
    until_rows(&place, &job, 100);
    // Of a job that runs, and goes on.
    let path = savepoint(&["create", &dir, "--job", "counts", "--to", &to]).ok().stdout.trim().to_owned();
    add_rows(&place, 1);
    until_rows(&place, &job, 200);
    job.signal("KILL");
    end(job);
    // Of one that does not run any more.
    let later = savepoint(&["create", &dir, "--to", &to]).ok();
    assert!(later.stderr.contains("the job does not run; its newest checkpoint"), "{}", later.stderr);
    savepoint(&["create", &dir, "--to", &to, "--stop"]).fails_with(&["the job does not run"]);
    savepoint(&["create", &dir]).fails_with(&["name a folder with --to"]);
    savepoint(&["create", &to, "--job", "other"]).fails_with(&["there is no job 'other'"]);
    let copied = place.path("elsewhere");
    fs::rename(&path, &copied).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let shown = savepoint(&["inspect", &copied]).ok().stdout;
    for part in
        ["job         counts", "0.json", "groupaggregate", "table groups: 7 rows", "watermark 1970-01-01"]
    {
        assert!(shown.to_lowercase().contains(part), "{part} in {shown}");
    }
    // Columns of state have the types of SQL.
    let tables: Vec<&str> = shown.lines().filter(|line| line.starts_with("  table ")).collect();
    assert!(tables.iter().any(|line| line.contains(" BIGINT")), "{shown}");
    assert!(!tables.iter().any(|line| line.contains(" Int64")), "{shown}");
    let read = |operator: &str, table: &str, select: &str| {
        place.run(
            &format!(
                "CREATE TABLE s (k BIGINT, n BIGINT) WITH ('connector' = 'savepoint', 'path' = '{copied}',
                   'operator' = '{operator}', 'table' = '{table}');
                 SELECT {select} FROM s;"
            ),
            &["--format", "json"],
        )
    };
    let rows = read("groupaggregate", "groups", "COUNT(*) AS c, SUM(n) AS s").ok().rows();
    assert_eq!((rows[0]["c"].as_i64(), rows[0]["s"].as_i64()), (Some(7), Some(100)), "{rows:?}");
    read("join", "groups", "*").fails_with(&["no operator with state is called 'join'", "GroupAggregate "]);
    read("groupaggregate", "x", "*").fails_with(&["no table 'x'", "there are: groups"]);
    // Started from without a folder for checkpoints of its own.
    let sql = script(&place, "", &format!("SET 'execution.state-recovery.path' = '{copied}';"), COUNTS);
    let job = place.start(&sql, &[]);
    job.until("rows", |_, _| numbers(&place).values().sum::<usize>() >= 300);
    job.signal("TERM");
    let ran = end(job).ok();
    assert!(ran.stderr.contains("the job starts from savepoint"), "{}", ran.stderr);
    assert_eq!(counts(&ran), expected(200));
}

#[test]
fn state_that_nobody_claims_is_refused_or_left() {
    let place = Place::new();
    let (dir, to) = (place.path("checkpoints"), place.path("savepoints"));
    add_rows(&place, 0);
    let job = place.start(&script(&place, &dir, "", COUNTS), &[]);
    until_rows(&place, &job, 100);
    let path = savepoint(&["create", &dir, "--to", &to, "--stop"]).ok().stdout.trim().to_owned();
    end(job).ok();
    let less = "EXECUTE STATEMENT SET BEGIN INSERT INTO f SELECT id FROM g;
        INSERT INTO w SELECT window_start, COUNT(*) FROM TUMBLE(TABLE g, DESCRIPTOR(ts), INTERVAL '1' HOUR)
        GROUP BY window_start, window_end; END;";
    let from = format!("SET 'execution.state-recovery.path' = '{path}';");
    let changed = script(&place, &dir, &from, less);
    place.run(&changed, &[]).fails_with(&[
        "is of another plan, which has GroupAggregate",
        "execution.state-recovery.ignore-unclaimed-state",
    ]);
    let own = format!("SET 'execution.state-recovery.path' = '{dir}/counts';");
    place.run(&script(&place, &dir, &own, COUNTS), &[]).fails_with(&["start from its own checkpoint"]);
    // What was refused has changed nothing.
    let job = place.start(&script(&place, &dir, "", COUNTS), &[]);
    job.until("its checkpoint", |_, stderr| stderr.contains("job 'counts' goes on from checkpoint"));
    job.signal("TERM");
    end(job).ok();
    let ignoring = format!("{from} SET 'execution.state-recovery.ignore-unclaimed-state' = 'true';");
    add_rows(&place, 1);
    let job = place.start(&script(&place, &dir, &ignoring, less), &[]);
    until_rows(&place, &job, 200);
    job.signal("TERM");
    let ran = end(job).ok();
    assert!(ran.stderr.contains("is left behind: GroupAggregate"), "{}", ran.stderr);
    assert_eq!(numbers(&place).values().sum::<usize>(), 200);
}

#[test]
fn a_drained_job_closes_its_windows() {
    let place = Place::new();
    let (dir, to) = (place.path("checkpoints"), place.path("savepoints"));
    add_rows(&place, 0);
    let job = place.start(&script(&place, &dir, "", COUNTS), &[]);
    until_rows(&place, &job, 100);
    // A job is not ended for what cannot be done.
    savepoint(&["create", &dir, "--drain"]).fails_with(&["nobody has said where the savepoint goes"]);
    place.write("file", "");
    savepoint(&["create", &dir, "--stop", "--to", &place.path("file")])
        .fails_with(&["probe-", "File exists"]);
    savepoint(&["create", &dir, "--stop", "--timeout", "0s"]).fails_with(&["has not answered within 0ns"]);
    add_rows(&place, 1);
    until_rows(&place, &job, 200);
    job.signal("TERM");
    end(job).ok();
    let settings = format!("SET 'execution.checkpointing.savepoint-dir' = '{to}';");
    let job = place.start(&script(&place, &dir, &settings, COUNTS), &[]);
    add_rows(&place, 2);
    until_rows(&place, &job, 300);
    let path = savepoint(&["create", &dir, "--drain"]).ok().stdout.trim().to_owned();
    assert!(path.starts_with(&to), "{path}");
    let ran = end(job).ok();
    let windows: Vec<&str> = ran.stdout.lines().filter(|l| l.starts_with('w')).collect();
    assert!(windows.len() == 1 && windows[0].ends_with(", 300]"), "{windows:?}");
    assert_eq!(counts(&ran), expected(300));
    let from = format!("SET 'execution.state-recovery.path' = '{path}';");
    place.run(&script(&place, &dir, &from, COUNTS), &[]).fails_with(&["its job was drained for it"]);
    let shown = savepoint(&["inspect", &path]).ok().stdout;
    assert!(shown.contains("drained") && shown.contains("table groups: 7 rows"), "{shown}");
}
