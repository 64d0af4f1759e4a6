//! A Kafka broker that goes away and comes back, and one that is not there.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::support::{Place, tidelake};

/// The embedded broker in a process of its own, which can be stopped and started.
struct Broker {
    process: Child,
    address: String,
}

impl Broker {
    fn start(topic: &str) -> Self {
        let mut c = tidelake();
        let mut process = c
            .args(["broker", "--topic", topic])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Broker { process, address: address.trim().to_owned() }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success(), "kill -s {name}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn table(address: &str) -> String {
    format!(
        "CREATE TABLE t (id INT) WITH ('connector' = 'kafka', 'topic' = 'events', 'properties.bootstrap.servers' = '{address}', \
         'properties.sasl.password' = 'hunter2', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');\n"
    )
}

#[test]
fn an_outage_is_told_once_and_so_is_its_end() {
    let broker = Broker::start("events");
    let place = Place::new();
    let sql = table(&broker.address);
    place.run(&format!("{sql}INSERT INTO t VALUES (1);\n"), &[]).ok();
    let running = place.start(&format!("{sql}SELECT id FROM t;\n"), &["--format", "json"]);
    running.until("first row", |stdout, _| stdout.contains("\"id\":1"));
    let (away, back) = (format!("broker {} cannot be reached since 2", broker.address), "is reached again");
    for times in 1..3 {
        broker.signal("STOP");
        running.until("outage", |_, stderr| stderr.matches(&away).count() == times);
        broker.signal("CONT");
        running.until("end of the outage", |_, stderr| stderr.matches(back).count() == times);
    }
    place.run(&format!("{sql}INSERT INTO t VALUES (2);\n"), &[]).ok();
    running.until("second row", |stdout, _| stdout.contains("\"id\":2"));
    running.signal("INT");
    let ran = running.finish(Duration::from_secs(60)).ok();
    assert_eq!((ran.stderr.matches(&away).count(), ran.stderr.matches(back).count()), (2, 2), "{ran:?}");
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
}

#[test]
fn a_broker_that_is_not_there_is_told_before_the_job_gives_up() {
    let place = Place::new();
    let running = place.start(&format!("{}SELECT * FROM t;\n", table("127.0.0.1:1")), &[]);
    running.until("notice", |_, stderr| stderr.contains("broker 127.0.0.1:1 cannot be reached since 2"));
    assert!(!running.so_far().1.contains("error: "), "{:?}", running.so_far());
    let ran = running.finish(Duration::from_secs(60));
    ran.fails_with(&["127.0.0.1:1", "Connection refused"]);
    assert_eq!(ran.stderr.matches("cannot be reached").count(), 1, "{ran:?}");
}
