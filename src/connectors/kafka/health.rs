//! Which brokers a client cannot reach, told once per outage.
//!
//! ```text
//!  error events  host:port/id: Connect to … failed: Connection refused ─► away since …
//!  statistics    state of every broker, every 2 s ─► told after a moment, over when it is up again
//! ```
//!
//! librdkafka tries again and again by itself, with an error event each time, and has none for success: that is seen in
//! its statistics alone. They also show a broker that takes requests and does not answer. A client that nobody polls
//! between its calls has no statistics, and knows by its calls.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::offsets::TopicPartition;
use super::properties::mask;
use crate::edges::Notices;

/// What `statistics.interval.ms` is for clients that are polled all the time.
pub(super) const STATISTICS_MS: &str = "2000";
/// Shorter outages are not worth a word.
const BRIEF: Duration = Duration::from_millis(1500);
/// A broker answers a fetch of its own accord when it has waited this long (`fetch.wait.max.ms`, by default half a
/// second); one that is silent for longer than this beyond it does not answer.
const SILENCE: Duration = Duration::from_secs(5);

/// A broker that is not reached.
#[derive(Debug)]
struct Away {
    since: Instant,
    /// The wall clock then.
    at: String,
    reason: String,
    /// Who has been told.
    told: Option<Notices>,
}

/// What one client knows of its brokers.
#[derive(Debug)]
pub(super) struct Health {
    /// Of those that use the client. The first of them hears of outages: it is one process that has them.
    listeners: Mutex<Vec<Notices>>,
    secrets: Vec<String>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By `host:port`.
    away: BTreeMap<String, Away>,
    /// Partitions that are read and have no leader, or one that is away, by topic.
    unreadable: BTreeMap<String, BTreeSet<i32>>,
    /// A broker has gone since that was looked at: any of them may be its.
    in_doubt: bool,
}

/// The part of librdkafka's statistics that matters here.
#[derive(Debug, Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
}

#[derive(Debug, Deserialize)]
struct Topic {
    partitions: HashMap<String, Partition>,
}

#[derive(Debug, Deserialize)]
struct Partition {
    leader: i32,
    /// The client reads it.
    desired: bool,
}

#[derive(Debug, Deserialize)]
struct Broker {
    nodeid: i32,
    nodename: String,
    source: String,
    state: String,
    /// Requests without a response yet.
    #[serde(default)]
    waitresp_cnt: i64,
    /// Microseconds since something was received, -1 before the first time.
    #[serde(default)]
    rxidle: i64,
}

impl Health {
    /// Of a client that nobody uses yet.
    pub(super) fn new(secrets: &[String]) -> Self {
        Health { listeners: Mutex::default(), secrets: secrets.to_vec(), seen: Mutex::default() }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Notices>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody uses the client from now on.
    pub(super) fn listen(&self, notices: &Notices) {
        self.listeners().push(notices.clone());
    }

    /// Somebody uses it no more. What it was told and is not over is told to the next.
    pub(super) fn leave(&self, notices: &Notices) {
        let mut seen = self.seen();
        let mut listeners = self.listeners();
        if let Some(at) = listeners.iter().position(|n| n.is(notices)) {
            listeners.remove(at);
        }
        if listeners.iter().any(|n| n.is(notices)) {
            return;
        }
        for (address, lost) in &mut seen.away {
            if let Some(told) = lost.told.take_if(|told| told.is(notices)) {
                told.ends(&key(address), None);
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection error: `host:port/id: Connect to … failed: Connection refused (after 0ms in state CONNECT)`.
    pub(super) fn failed(&self, event: &str) {
        let Some((broker, text)) = event.split_once(": ") else { return };
        // Connections end for many reasons, also for being idle. Not to get another one is an outage.
        if !["Connect", "Failed to resolve"].iter().any(|begin| text.starts_with(begin)) {
            return;
        }
        let broker = broker.split_once("://").map_or(broker, |(_, rest)| rest);
        let (address, id) = broker.split_once('/').unwrap_or((broker, ""));
        let reason = text.split_once(" failed: ").map_or(text, |(_, reason)| reason);
        let reason = reason.split(" (after ").next().unwrap_or(reason);
        let mut seen = self.seen();
        // Until the next statistics: a broker that the cluster has named may lead something, an address to begin with
        // need not.
        seen.in_doubt |= id.parse::<i32>().is_ok() && !seen.away.contains_key(address);
        self.lost(&mut seen, address, reason, Duration::ZERO);
    }

    fn lost(&self, seen: &mut Seen, address: &str, reason: &str, for_long: Duration) {
        seen.away.entry(address.to_owned()).or_insert_with(|| Away {
            since: Instant::now().checked_sub(for_long).unwrap_or_else(Instant::now),
            at: (chrono::Local::now() - for_long).format("%Y-%m-%d %H:%M:%S").to_string(),
            reason: mask(&self.secrets, reason),
            told: None,
        });
    }

    /// The state of all brokers, from time to time; gives whether one of them answers.
    pub(super) fn statistics(&self, json: &[u8], fetch_wait: Duration) -> bool {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(json) else { return false };
        let mut seen = self.seen();
        let mut answers = false;
        let brokers = || {
            let real = |b: &&Broker| matches!(b.source.as_str(), "learned" | "configured");
            statistics.brokers.values().filter(real)
        };
        for broker in brokers().filter(|b| b.state == "UP") {
            let silence = Duration::from_micros(u64::try_from(broker.rxidle).unwrap_or(0));
            if broker.waitresp_cnt > 0 && silence > SILENCE + fetch_wait {
                self.lost(&mut seen, &broker.nodename, "it takes requests and does not answer", silence);
                continue;
            }
            answers = true;
            if let Some(back) = seen.away.remove(&broker.nodename) {
                Self::over(&broker.nodename, &back);
            }
        }
        let away: Vec<i32> =
            brokers().filter(|b| seen.away.contains_key(&b.nodename)).map(|b| b.nodeid).collect();
        let is_unreadable = |p: &Partition| p.desired && (p.leader < 0 || away.contains(&p.leader));
        let of_topic = |(name, topic): (&String, &Topic)| {
            let all = topic.partitions.iter().filter(|(_, p)| is_unreadable(p));
            let all: BTreeSet<i32> = all.filter_map(|(id, _)| id.parse().ok()).collect();
            (!all.is_empty()).then(|| (name.clone(), all))
        };
        seen.unreadable = statistics.topics.iter().filter_map(of_topic).collect();
        seen.in_doubt = false;
        self.tell(&mut seen, BRIEF);
        answers
    }

    /// A call has found no broker at all.
    pub(super) fn no_answer(&self) {
        self.tell(&mut self.seen(), Duration::ZERO);
    }

    /// A call was answered.
    pub(super) fn answer(&self) {
        for (address, back) in std::mem::take(&mut self.seen().away) {
            Self::over(&address, &back);
        }
    }

    fn tell(&self, seen: &mut Seen, after: Duration) {
        let Some(listener) = self.listeners().first().cloned() else { return };
        let untold = |a: &Away| a.told.is_none() && a.since.elapsed() >= after;
        for (address, lost) in seen.away.iter_mut().filter(|(_, a)| untold(a)) {
            lost.told = Some(listener.clone());
            listener.begins(&key(address), || {
                format!(
                    "Kafka: broker {address} cannot be reached since {}: {}; trying again until it can",
                    lost.at, lost.reason
                )
            });
        }
    }

    fn over(address: &str, back: &Away) {
        if let Some(told) = &back.told {
            let seconds = back.since.elapsed().as_secs().max(1);
            let text = format!("Kafka: broker {address} is reached again, after {seconds} s");
            told.ends(&key(address), Some(text));
        }
    }

    /// Whether there may be records of these partitions that cannot be read, nor counted. What befalls the partitions of others
    /// that share the client is none of theirs.
    pub(super) fn is_unreadable<'a>(&self, mut of: impl Iterator<Item = &'a TopicPartition>) -> bool {
        let seen = self.seen();
        let has = |at: &TopicPartition| {
            seen.unreadable.get(&*at.topic).is_some_and(|all| all.contains(&at.partition))
        };
        seen.in_doubt || of.any(has)
    }

    /// Nobody will look whether the brokers are back.
    fn forget(&self) {
        for (address, lost) in std::mem::take(&mut self.seen().away) {
            if let Some(told) = lost.told {
                told.ends(&key(&address), None);
            }
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.forget();
    }
}

fn key(address: &str) -> String {
    format!("kafka {address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(state: &str, waiting: i64, silent: i64) -> Vec<u8> {
        statistics_of(state, waiting, silent, 2)
    }

    fn statistics_of(state: &str, waiting: i64, silent: i64, leader: i32) -> Vec<u8> {
        format!(
            r#"{{"name":"x","brokers":{{"h:1/2":{{"nodeid":2,"nodename":"h:1","source":"learned","state":"{state}","waitresp_cnt":{waiting},"rxidle":{silent}}},
                "g":{{"nodeid":-1,"nodename":"h:1","source":"logical","state":"UP"}}}},
                "topics":{{"t":{{"topic":"t","partitions":{{"0":{{"leader":{leader},"desired":true}},"-1":{{"leader":-1,"desired":false}}}}}}}}}}"#
        )
        .into_bytes()
    }

    fn is_unreadable(health: &Health, partition: i32) -> bool {
        health.is_unreadable(std::iter::once(&TopicPartition { topic: "t".into(), partition }))
    }

    const REFUSED: &str =
        "sasl_ssl://h:1/2: Connect to ipv4#1.2.3.4:1 failed: hunter2 refused (after 0ms in state CONNECT)";

    #[test]
    fn an_outage_is_told_once_and_its_end_as_well() {
        let notices = Notices::default();
        let health = Health::new(&["hunter2".to_owned()]);
        health.listen(&notices);
        health.failed("h:1/2: Disconnected (after 600000ms in state UP)");
        assert!(!is_unreadable(&health, 0));
        health.failed(REFUSED);
        assert!(is_unreadable(&health, 0));
        health.statistics(&statistics("TRY_CONNECT", 0, -1), Duration::ZERO);
        assert!(notices.take().is_empty(), "too soon");
        std::thread::sleep(BRIEF);
        for _ in 0..3 {
            health.failed(REFUSED);
            health.statistics(&statistics("INIT", 0, -1), Duration::ZERO);
        }
        let told = notices.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("Kafka: broker h:1 cannot be reached since 2"), "{told:?}");
        assert!(told[0].contains(": ****** refused; "), "{told:?}");
        assert!(is_unreadable(&health, 0));
        health.statistics(&statistics_of("INIT", 0, -1, 3), Duration::ZERO);
        assert!(!is_unreadable(&health, 0), "another broker leads the partition");
        health.statistics(&statistics_of("INIT", 0, -1, -1), Duration::ZERO);
        assert!(is_unreadable(&health, 0), "no broker does");
        assert!(!is_unreadable(&health, 1), "that is not the matter of another partition");
        health.statistics(&statistics("UP", 1, 10), Duration::ZERO);
        assert_eq!(notices.take(), ["Kafka: broker h:1 is reached again, after 1 s"]);
        assert!(!is_unreadable(&health, 0));
    }

    #[test]
    fn a_broker_that_only_listens_is_unreadable() {
        let notices = Notices::default();
        let health = Health::new(&[]);
        health.listen(&notices);
        let wait = Duration::from_secs(20);
        health.statistics(&statistics("UP", 1, 6_000_000), wait);
        assert!(!is_unreadable(&health, 0), "it may wait for records as long as it was told to");
        health.statistics(&statistics("UP", 0, 60_000_000), wait);
        assert!(!is_unreadable(&health, 0), "nobody asks for anything");
        health.statistics(&statistics("UP", 1, 26_000_000), wait);
        assert!(is_unreadable(&health, 0) && notices.take()[0].contains("does not answer"));
        health.statistics(&statistics("UP", 1, 100), wait);
        assert_eq!(notices.take(), ["Kafka: broker h:1 is reached again, after 26 s"]);
    }

    #[test]
    fn a_client_without_statistics_tells_by_its_calls() {
        let notices = Notices::default();
        let health = Health::new(&[]);
        health.listen(&notices);
        health.failed("no.host:9092/bootstrap: Failed to resolve 'no.host:9092': Name or service not known (after 3ms in state CONNECT)");
        assert!(!is_unreadable(&health, 0), "it need not lead anything");
        health.no_answer();
        health.no_answer();
        let told = notices.take();
        assert!(
            told.len() == 1 && told[0].contains("broker no.host:9092 ") && told[0].contains("not known; "),
            "{told:?}"
        );
        drop(health);
        assert!(notices.take().is_empty());
    }

    #[test]
    fn one_of_those_that_share_a_client_hears_of_its_outage() {
        let (first, second) = (Notices::default(), Notices::default());
        let health = Health::new(&[]);
        for user in [&first, &second, &first] {
            health.listen(user);
        }
        health.failed(REFUSED);
        health.no_answer();
        assert_eq!((first.take().len(), second.take().len()), (1, 0));
        health.leave(&first);
        health.no_answer();
        assert_eq!((first.take().len(), second.take().len()), (0, 0), "it is still there");
        health.leave(&first);
        health.no_answer();
        assert_eq!((first.take().len(), second.take().len()), (0, 1));
        health.answer();
        assert!(first.take().is_empty() && second.take()[0].contains("is reached again"));
        health.leave(&second);
        health.failed(REFUSED);
        health.no_answer();
        assert!(second.take().is_empty(), "nobody is there to hear");
    }
}
