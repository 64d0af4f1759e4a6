//! Jobs whose checkpoints are kept, and what they stand on fails for a while: they wait and go on, and every row is there
//! once.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::support::{Place, Ran, Running, service, unique};
use crate::crash::services::Broker;

const ROWS: usize = 8_000;

/// Eight seconds of rows into `sink`.
fn script(place: &Place, dir: &str, tables: &str, sink: &str) -> String {
    format!(
        "SET 'execution.runtime-mode' = 'streaming';
         SET 'execution.checkpointing.dir' = '{dir}';
         SET 'execution.checkpointing.interval' = '200 ms';
         SET 'restart-strategy.exponential-delay.initial-backoff' = '200 ms';
         SET 'restart-strategy.exponential-delay.max-backoff' = '1 s';
         SET 'pipeline.name' = 'rows';
         CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000',
           'number-of-rows' = '{ROWS}', 'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '{ROWS}');
         CREATE TABLE f (id BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         {tables}
         INSERT INTO {sink};",
        place.path("out")
    )
}

/// Whether every number is there once.
fn each_once(mut numbers: Vec<i64>) {
    numbers.sort_unstable();
    let twice = numbers.windows(2).filter(|w| w[0] == w[1]).count();
    assert_eq!((numbers.len(), twice), (ROWS, 0));
}

fn in_files(place: &Place) -> Vec<i64> {
    let files = place.visible_files("out");
    let text = |file: &PathBuf| std::fs::read_to_string(file).unwrap();
    let lines: String = files.iter().map(text).collect();
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64().unwrap();
    lines.lines().map(id).collect()
}

/// Lets a job run for a second, fail for some, and end.
fn over(job: Running, fail: impl FnOnce(&Running), mend: impl FnOnce()) -> Ran {
    thread::sleep(Duration::from_secs(1));
    fail(&job);
    thread::sleep(Duration::from_secs(4));
    mend();
    let ran = job.finish(Duration::from_secs(120)).ok();
    // A small job stays small, however long it waits.
    assert!(ran.peak_memory.is_none_or(|bytes| bytes < 400 << 20), "{:?}", ran.peak_memory);
    ran
}

/// Between a job and a service: can be cut, and be slow.
struct Wire {
    address: String,
    state: Arc<WireState>,
}

#[derive(Default)]
struct WireState {
    /// Milliseconds that everything takes; the highest number for a wire that is cut.
    delay: AtomicU64,
    ends: Mutex<Vec<TcpStream>>,
}

const CUT: u64 = u64::MAX;

impl Wire {
    /// To `host:port`.
    fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, target) = (Arc::new(WireState::default()), target.to_owned());
        let shared = state.clone();
        thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                if shared.delay.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let mut ends = shared.ends.lock().unwrap();
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        let mut buffer = [0; 64 << 10];
                        while let Ok(n @ 1..) = from.read(&mut buffer) {
                            let delay = shared.delay.load(Ordering::SeqCst);
                            if delay == CUT {
                                break;
                            }
                            thread::sleep(Duration::from_millis(delay));
                            if to.write_all(&buffer[..n]).is_err() {
                                break;
                            }
                        }
                        to.shutdown(Shutdown::Both).ok();
                        from.shutdown(Shutdown::Both).ok();
                    });
                }
                ends.extend([near, far]);
            }
        });
        Wire { address, state }
    }

    fn takes(&self, milliseconds: u64) {
        self.state.delay.store(milliseconds, Ordering::SeqCst);
    }

    fn cut(&self) {
        self.takes(CUT);
        for end in self.state.ends.lock().unwrap().drain(..) {
            end.shutdown(Shutdown::Both).ok();
        }
    }
}

#[test]
fn a_catalog_that_is_away_is_waited_for() {
    let Some(uri) = service("TIDELAKE_TEST_REST_CATALOG", "no catalog goes away") else { return };
    let (place, database) = (Place::new(), format!("away_{}", unique()));
    let wire = Wire::to(uri.trim_start_matches("http://").trim_end_matches('/'));
    let lake = |uri: &str| {
        format!(
            "CREATE CATALOG lake WITH ('type' = 'iceberg', 'catalog-type' = 'rest', 'uri' = '{uri}');
             CREATE DATABASE IF NOT EXISTS lake.{database};
             CREATE TABLE IF NOT EXISTS lake.{database}.t (id BIGINT);"
        )
    };
    let sink = format!("lake.{database}.t SELECT id FROM g");
    let sql = script(&place, &place.path("chk"), &lake(&format!("http://{}", wire.address)), &sink);
    let ran = over(place.start(&sql, &[]), |_| wire.cut(), || wire.takes(0));
    assert!(
        ran.stderr.contains("cannot commit: ") && ran.stderr.contains("; trying again"),
        "{}",
        ran.stderr
    );
    let read = format!("{} SELECT id FROM lake.{database}.t;", lake(&uri));
    let rows = place.run(&read, &["--format", "json", "-s", "execution.runtime-mode=batch"]).ok().rows();
    each_once(rows.iter().map(|r| r["id"].as_i64().unwrap()).collect());
}

#[test]
fn a_store_that_is_away_or_slow_is_waited_for() {
    let Some(s3) = service("TIDELAKE_TEST_S3", "no store goes away") else { return };
    for is_slow in [false, true] {
        let place = Place::new();
        let wire = Wire::to(s3.trim_start_matches("http://").trim_end_matches('/'));
        let endpoint = format!("s3.endpoint=http://{}", wire.address);
        let mut options = vec!["-s", "s3.path-style-access=true", "-s", &endpoint];
        options.extend(["-s", "s3.access-key=a", "-s", "s3.secret-key=b"]);
        let dir = format!("s3://lake/away-{}", unique());
        let sql = script(&place, &dir, "", "f SELECT id, id * 2 FROM g");
        let job = place.start(&sql, &options);
        let fail = |_: &Running| if is_slow { wire.takes(400) } else { wire.cut() };
        let ran = over(job, fail, || wire.takes(0));
        assert!(!is_slow || !ran.stderr.contains("starts again"), "{}", ran.stderr);
        each_once(in_files(&place));
    }
}

/// A Kafka of its own.
struct OwnKafka {
    tool: PathBuf,
    port: String,
}

impl OwnKafka {
    fn tool(&self, command: &str) -> Command {
        let mut c = Command::new(&self.tool);
        c.args([command, "-p", &self.port]).stderr(Stdio::null());
        c
    }

    fn run(&self, command: &str) -> String {
        let out = self.tool(command).output().unwrap();
        assert!(out.status.success(), "kafka {command}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        self.tool("wipe").stdout(Stdio::null()).status().ok();
    }
}

#[test]
fn a_broker_that_is_killed_and_comes_back_is_waited_for() {
    let Some(tools) = service("TIDELAKE_TEST_TOOLS", "no broker is killed") else { return };
    let tool = Path::new(&tools).join("kafka");
    if !tool.exists() {
        return;
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let kafka = OwnKafka { tool, port: free.to_string() };
    let servers = kafka.run("start");
    let (place, broker) = (Place::new(), Broker::new(&servers));
    broker.create(&["t".to_owned()], 2);
    let table = format!(
        "CREATE TABLE t (id BIGINT) WITH ('connector' = 'kafka', 'topic' = 't', 'format' = 'json',
           'properties.bootstrap.servers' = '{servers}', 'sink.delivery-guarantee' = 'exactly-once');"
    );
    let job = place.start(&script(&place, &place.path("chk"), &table, "t SELECT id FROM g"), &[]);
    let fail = |job: &Running| {
        kafka.run("kill");
        job.until("notice", |_, stderr| stderr.contains("cannot be reached since 2"));
    };
    let ran = over(job, fail, || {
        kafka.run("up");
    });
    assert!(ran.stderr.contains("is reached again"), "{}", ran.stderr);
    let id = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["id"].as_i64().unwrap();
    each_once(broker.read("t").iter().map(|r| id(r.1.as_ref().unwrap())).collect());
}

/// A disk of its own, in memory.
struct Disk(PathBuf);

impl Disk {
    /// `None` if this user may not mount one.
    fn new(place: &Place, bytes: usize) -> Option<Self> {
        let path = PathBuf::from(place.path("disk"));
        std::fs::create_dir_all(&path).unwrap();
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Disk(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_disk_that_is_full_is_waited_for() {
    let place = Place::new();
    let Some(disk) = Disk::new(&place, 4 << 20) else {
        writeln!(std::io::stderr(), "note: no disk can be mounted: none is full").ok();
        return;
    };
    let dir = disk.0.join("chk");
    let sql = script(&place, dir.to_str().unwrap(), "", "f SELECT id, id * 2 FROM g");
    let filler = disk.0.join("filler");
    let fail = |job: &Running| {
        // To the last byte.
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
        job.until("failure", |_, stderr| stderr.contains("the disk is full"));
    };
    let ran = over(place.start(&sql, &[]), fail, || std::fs::remove_file(&filler).unwrap());
    assert!(ran.stderr.contains("starts again from its last checkpoint"), "{}", ran.stderr);
    each_once(in_files(&place));
}
