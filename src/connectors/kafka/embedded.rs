//! The broker inside the process: librdkafka's mock cluster, for a first run and for tests without services.
//!
//! ```text
//!  'properties.bootstrap.servers' = 'embedded' ─► Embedded (one per name and process) ─► thread that owns the cluster
//!        sink ─ reserve(topic, partition, bytes) ─► ledger: refuses before the broker would drop anything
//! ```
//!
//! What it is not: it keeps everything in memory, forgets it with the process, keeps at most 5 MiB (and 100,000
//! batches) per partition and silently drops the oldest batches beyond. That silence is the reason for the ledger:
//! every byte tidelake writes is counted beforehand, generously, and a write past the limit is an error. It also
//! cannot look offsets up by time; `offsets.rs` scans instead.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};

use rdkafka::mocking::MockCluster;

use crate::error::{Error, Result};

/// What the mock cluster keeps per partition, less a reserve for what is estimated.
const PARTITION_BYTES: u64 = 5 * 1024 * 1024 - 128 * 1024;
/// Batches it keeps per partition, less the same reserve.
const PARTITION_BATCHES: u64 = 98_000;

/// A broker inside the process.
#[derive(Debug)]
pub struct Embedded {
    servers: String,
    commands: Mutex<mpsc::Sender<Create>>,
    ledger: Mutex<BTreeMap<String, Vec<Used>>>,
}

/// What has been written to a partition.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    bytes: u64,
    batches: u64,
}

/// Asks the cluster's thread for a topic.
struct Create {
    topic: String,
    partitions: i32,
    reply: mpsc::Sender<Result<(), String>>,
}

/// The name of the embedded broker that `bootstrap.servers` stands for, if it is one.
pub(super) fn name_of(servers: &str) -> Option<&str> {
    match servers.split_once(':') {
        None if servers.eq_ignore_ascii_case("embedded") => Some(""),
        Some((word, name)) if word.eq_ignore_ascii_case("embedded") => Some(name),
        _ => None,
    }
}

/// The embedded broker of that name; `""` is the one plain `embedded` means. Started when first asked for, it lives
/// as long as the process.
///
/// # Errors
/// External if it cannot listen on a loopback port.
pub fn embedded(name: &str) -> Result<Arc<Embedded>> {
    static BROKERS: OnceLock<Mutex<BTreeMap<String, Arc<Embedded>>>> = OnceLock::new();
    let mut brokers = BROKERS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = brokers.get(name) {
        return Ok(Arc::clone(found));
    }
    let started = Arc::new(Embedded::start()?);
    brokers.insert(name.to_owned(), Arc::clone(&started));
    Ok(started)
}

impl Embedded {
    fn start() -> Result<Self> {
        let (commands, inbox) = mpsc::channel::<Create>();
        let (ready, started) = mpsc::channel();
        // The cluster's handle cannot leave the thread that made it.
        std::thread::Builder::new().name("embedded-kafka".to_owned()).spawn(move || {
            let cluster = match MockCluster::new(1) {
                Ok(cluster) => cluster,
                Err(e) => {
                    let _ = ready.send(Err(e.to_string()));
                    return;
                }
            };
            let _ = ready.send(Ok(cluster.bootstrap_servers()));
            for Create { topic, partitions, reply } in inbox {
                let _ = reply.send(cluster.create_topic(&topic, partitions, 1).map_err(|e| e.to_string()));
            }
        })?;
        let servers = started
            .recv()
            .unwrap_or_else(|_| Err("its thread ended".to_owned()))
            .map_err(|e| Error::external(format!("the embedded Kafka broker cannot start: {e}")))?;
        Ok(Embedded { servers, commands: Mutex::new(commands), ledger: Mutex::default() })
    }

    /// Where clients connect to, e.g. `127.0.0.1:40123`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.servers
    }

    /// Number of partitions of a topic created here.
    pub fn partitions(&self, topic: &str) -> Option<usize> {
        self.ledger().get(topic).map(Vec::len)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<Used>>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a topic unless it is there; `partitions` defaults to 1.
    ///
    /// # Errors
    /// Validation if it is there with another number of partitions than asked for.
    pub fn ensure_topic(&self, topic: &str, partitions: Option<u32>) -> Result<()> {
        let mut ledger = self.ledger();
        if let Some(existing) = ledger.get(topic) {
            return match partitions {
                Some(n) if n as usize != existing.len() => Err(Error::validation(format!(
                    "topic {topic} of the embedded broker has {} partitions, not {n}",
                    existing.len()
                ))
                .hint("give the same 'embedded.partitions' wherever the topic is used, or leave it out")),
                _ => Ok(()),
            };
        }
        let wanted = partitions.unwrap_or(1);
        let count = i32::try_from(wanted)
            .ok()
            .filter(|n| (1..=1024).contains(n))
            .ok_or_else(|| Error::validation("'embedded.partitions' must be between 1 and 1024"))?;
        let (reply, done) = mpsc::channel();
        let create = Create { topic: topic.to_owned(), partitions: count, reply };
        let sent = self.commands.lock().unwrap_or_else(PoisonError::into_inner).send(create);
        sent.ok()
            .and_then(|()| done.recv().ok())
            .unwrap_or_else(|| Err("it has stopped".to_owned()))
            .map_err(|e| Error::external(format!("the embedded broker cannot create topic {topic}: {e}")))?;
        ledger.insert(topic.to_owned(), vec![Used::default(); wanted as usize]);
        Ok(())
    }

    /// Counts what is about to be written to a partition.
    ///
    /// # Errors
    /// External if the broker would begin to drop older records.
    pub fn reserve(&self, topic: &str, partition: usize, bytes: u64, batches: u64) -> Result<()> {
        let mut ledger = self.ledger();
        let Some(used) = ledger.get_mut(topic).and_then(|t| t.get_mut(partition)) else {
            return Err(Error::internal(format!(
                "the embedded broker has no partition {partition} of {topic}"
            )));
        };
        if used.bytes + bytes > PARTITION_BYTES || used.batches + batches > PARTITION_BATCHES {
            return Err(Error::external(format!(
                "topic {topic} partition {partition}: the embedded broker is full: it keeps 5 MB a partition and would drop older records"
            ))
            .hint("write to a real Kafka ('properties.bootstrap.servers' = 'host:9092'), or spread the topic over more partitions ('embedded.partitions')"));
        }
        used.bytes += bytes;
        used.batches += batches;
        Ok(())
    }
}
