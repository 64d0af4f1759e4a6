//! A job that is killed again and again, on real services.
//!
//! ```text
//!  producer that goes on writing ─► topic `in`, `clicks` (4 partitions)
//!      ─► one statement set ─┬─► topic `copy`    rows as they are, exactly once
//!                            ├─► topic `joined`  in JOIN clicks, exactly once
//!                            ├─► topic `sums`    updating aggregate, by key
//!                            ├─► Iceberg `copies`  rows as they are ─► topic `again`  as they are committed
//!                            └─► Iceberg `windows`  windowed aggregate
//!  kill -9 at random moments and at every failpoint, at another parallelism each time, now and then with little memory
//!  ─► the producer ends, the job catches up and is stopped ─► readers that are not tidelake count
//! ```
//!
//! `TIDELAKE_CRASH_KILLS` sets the number of kills (otherwise as many as fit into two minutes), `TIDELAKE_CRASH_SEED` the
//! seed.

mod check;
pub(crate) mod services;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::e2e::support::{Place, Running, service, tidelake, unique};
use services::Broker;

/// Places in the order in which a checkpoint comes by them.
const FAILPOINTS: &[&str] = &[
    "job-taken",
    "transactions-fenced",
    "sink-opened",
    "sink-recovered",
    "barrier-passed",
    "sink-prepared",
    "state-written",
    "manifest-written",
    "transaction-acknowledged",
    "transaction-marked",
    "transaction-committed",
    "iceberg-committing",
    "iceberg-snapshot-written",
    "iceberg-committed",
    "sink-committed",
    "checkpoint-complete",
    "manifest-removed",
    "collected",
];

/// Milliseconds between the event times of neighbouring rows.
const STEP: i64 = 2;

pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A row: its key, its value, and whether somebody clicked on it.
pub(crate) fn row(id: i64) -> (i64, i64, bool) {
    (id * 7919 % 13, id * 31 % 101, id % 3 == 0)
}

/// The script of the job.
fn script(place: &Place, broker: &str, catalog: &str, run: &str) -> String {
    let kafka = |topic: &str, more: &str| {
        format!(
            "'topic' = '{run}-{topic}', 'properties.bootstrap.servers' = '{broker}', 'properties.group.id' = '{run}', {more}"
        )
    };
    let log =
        |topic: &str, more: &str| kafka(topic, &format!("'connector' = 'kafka', 'format' = 'json', {more}"));
    format!(
        "SET 'execution.checkpointing.dir' = '{dir}';
         SET 'execution.checkpointing.interval' = '100 ms';
         SET 'restart-strategy.exponential-delay.initial-backoff' = '100 ms';
         SET 'pipeline.name' = '{run}';
         CREATE TABLE input (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
           WITH ({input});
         CREATE TABLE clicks (id BIGINT) WITH ({clicks});
         CREATE TABLE copied (id BIGINT, k BIGINT, v BIGINT) WITH ({copied});
         CREATE TABLE joined (id BIGINT, v BIGINT) WITH ({joined});
         CREATE TABLE sums (k BIGINT, n BIGINT, s BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ({sums});
         CREATE CATALOG lake WITH ('type' = 'iceberg', 'catalog-type' = 'rest', 'uri' = '{catalog}');
         CREATE DATABASE IF NOT EXISTS lake.{run};
         CREATE TABLE IF NOT EXISTS lake.{run}.copies (id BIGINT, k BIGINT, v BIGINT);
         CREATE TABLE again (id BIGINT) WITH ({again});
         CREATE TABLE IF NOT EXISTS lake.{run}.windows (w TIMESTAMP(3), k BIGINT, n BIGINT, s BIGINT);
         EXECUTE STATEMENT SET BEGIN
           INSERT INTO copied SELECT id, k, v FROM input;
           INSERT INTO joined SELECT i.id, i.v FROM input AS i JOIN clicks AS c ON i.id = c.id;
           INSERT INTO sums SELECT k, COUNT(*), SUM(v) FROM input GROUP BY k;
           INSERT INTO lake.{run}.copies SELECT id, k, v FROM input;
           INSERT INTO again SELECT id FROM lake.{run}.copies /*+ OPTIONS('streaming' = 'true',
             'monitor-interval' = '50 ms', 'starting-strategy' = 'INCREMENTAL_FROM_EARLIEST_SNAPSHOT') */;
           INSERT INTO lake.{run}.windows SELECT window_start, k, COUNT(*), SUM(v)
             FROM TUMBLE(TABLE input, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY window_start, window_end, k;
         END;",
        dir = place.path("checkpoints"),
        input = log("in", "'scan.startup.mode' = 'earliest-offset'"),
        clicks = log("clicks", "'scan.startup.mode' = 'earliest-offset'"),
        copied = log("copy", "'sink.delivery-guarantee' = 'exactly-once'"),
        joined = log("joined", "'sink.delivery-guarantee' = 'exactly-once'"),
        again = log("again", "'sink.delivery-guarantee' = 'exactly-once'"),
        sums = kafka("sums", "'connector' = 'upsert-kafka', 'key.format' = 'json', 'value.format' = 'json'"),
    )
}

fn start(script: &str, parallelism: u64, memory: bool, failpoint: Option<&str>) -> Running {
    let mut command = tidelake();
    command.args(["run", script, "-s", &format!("parallelism.default={parallelism}")]);
    if memory {
        command.args(["--memory", "60mb"]);
    }
    if let Some(place) = failpoint {
        command.env("TIDELAKE_FAILPOINT", place);
    }
    command.stdin(Stdio::null());
    Running::start(command)
}

#[test]
fn killed_again_and_again_nothing_is_lost_and_nothing_comes_twice() {
    let Some(broker) = service("TIDELAKE_TEST_KAFKA", "no job is killed on real services") else { return };
    let Some(catalog) = service("TIDELAKE_TEST_REST_CATALOG", "no job is killed on real services") else {
        return;
    };
    let Some(tools) = service("TIDELAKE_TEST_TOOLS", "no job is killed: nobody else could read its tables")
    else {
        return;
    };
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seed = number("TIDELAKE_CRASH_SEED").unwrap_or(1);
    let kills = number("TIDELAKE_CRASH_KILLS");
    let budget = Duration::from_secs(if kills.is_some() { 1 << 30 } else { 120 });
    let kills = kills.unwrap_or(u64::MAX);

    let (place, run, mut dice) = (Place::new(), format!("crash_{}", unique()), Dice(seed));
    let script = place.write("job.sql", script(&place, &broker, &catalog, &run));
    let broker = Arc::new(Broker::new(&broker));
    broker.create(&["in", "clicks", "copy", "joined", "again", "sums"].map(|t| format!("{run}-{t}")), 4);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let producer = {
        let (broker, run, stop, written) = (broker.clone(), run.clone(), stop.clone(), written.clone());
        thread::spawn(move || broker.produce(&run, STEP, &stop, &written))
    };

    let begin = Instant::now();
    let (mut done, mut at_failpoints, mut restarts_inside) = (0, 0, 0);
    while done < kills && begin.elapsed() < budget {
        let parallelism = [1, 2, 4][dice.roll(3) as usize];
        let memory = dice.roll(8) == 0;
        let failpoint = (dice.roll(2) == 0).then(|| {
            let place = FAILPOINTS[(done as usize / 2 + dice.roll(2) as usize) % FAILPOINTS.len()];
            format!("{place}:{}", 1 + dice.roll(3))
        });
        let mut job = start(&script, parallelism, memory, failpoint.as_deref());
        let life = Duration::from_millis(100 + dice.roll(2_400));
        // A place that is not come by is a kill at a random moment.
        let patience = if failpoint.is_some() { Duration::from_secs(4) } else { life };
        let died = job.dies_within(patience);
        restarts_inside += usize::from(job.so_far().1.contains("starts again"));
        if !died {
            job.signal("KILL");
        }
        at_failpoints += u64::from(died);
        let ran = job.finish(Duration::from_secs(30));
        assert!(ran.code.is_none(), "it ended by itself: {:?}\n{}", ran.code, ran.stderr);
        done += 1;
    }
    stop.store(true, Ordering::SeqCst);
    producer.join().unwrap();
    let rows = written.load(Ordering::SeqCst);

    // The last process catches up and is stopped.
    let job = start(&script, 2, false, None);
    let caught_up = Instant::now();
    while ["copy", "again"].iter().any(|t| broker.count(&format!("{run}-{t}")) < rows) {
        assert!(caught_up.elapsed() < Duration::from_secs(60), "it does not catch up\n{}", job.so_far().1);
        thread::sleep(Duration::from_millis(200));
    }
    // Windows and joins may be behind.
    thread::sleep(Duration::from_secs(2));
    job.signal("TERM");
    let ran = job.finish(Duration::from_secs(60)).ok();
    assert!(ran.stderr.contains("goes on from checkpoint"), "{}", ran.stderr);

    let seconds = begin.elapsed().as_secs();
    let report = check::all(&broker, &catalog, &tools, &run, rows, STEP);
    eprintln!(
        "note: seed {seed}: {done} kills ({at_failpoints} at failpoints) in {seconds} s, {restarts_inside} restarts inside, {rows} rows: {report}"
    );
}
