//! Clients of a cluster that the readers of a process share.
//!
//! ```text
//!  worker (one per subtask and table) ─► Lease: its partitions ─┐
//!  worker                             ─► Lease ─────────────────┼─► SharedConsumer ─► one librdkafka client
//!  worker                             ─► Lease ─────────────────┘        ▲
//!                                              thread: callbacks, outages ┘
//! ```
//!
//! A client costs a handful of threads, sockets and megabytes whatever it reads, so that a thousand tables with one each
//! would be a process of ten thousand threads. Every partition has a queue of its own in the client, and whoever leases it
//! takes records from there alone. Two readers of the same partition get different clients, as one client reads a
//! partition once.
//!
//! What a client may hold before it is taken is bounded for each partition. The first partitions of a process get
//! large queues and later ones smaller ones ([`ROOMS`]), so that the sum stays bounded and a job of few partitions is as
//! fast as with a client of its own.
//!
//! State: the clients, by what they were made with, for as long as something is leased. The thread of a client is the last
//! to hold it, because closing it blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;

use super::client::Context;
use super::embedded::name_of;
use super::health::STATISTICS_MS;
use super::offsets::{FALLBACK_GROUP, TopicPartition};
use super::options::TableOptions;
use crate::edges::Notices;
use crate::error::{Error, Result};

/// How long the thread of a client waits for an event.
const WAIT: Duration = Duration::from_millis(100);

/// How much clients hold ready: so many partitions, each with a share of what a reader may hold.
pub(super) struct Room {
    /// How many partitions such a client takes.
    partitions: usize,
    /// Which part of the queue of one reader each of them has.
    pub(super) part: u64,
}

/// For few partitions, for some more, for any number.
pub(super) const ROOMS: [Room; 3] = [
    Room { partitions: 4, part: 1 },
    Room { partitions: 32, part: 16 },
    Room { partitions: usize::MAX, part: 1024 },
];

/// A client with its thread.
pub(super) struct SharedConsumer {
    consumer: Arc<BaseConsumer<Context>>,
    /// All that its configuration says.
    key: String,
    room: usize,
    claimed: Mutex<BTreeSet<TopicPartition>>,
    /// Set with `failure`: workers look at it all the time.
    has_failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// What ends all that a client is read for.
#[derive(Debug, Clone)]
enum Failure {
    Client(KafkaError),
    /// No broker for so many seconds.
    Outage(u64, KafkaError),
    /// What should not happen.
    Internal(String),
}

static CLIENTS: LazyLock<Mutex<Vec<Weak<SharedConsumer>>>> = LazyLock::new(Mutex::default);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many partitions the clients have whose configuration says so.
#[cfg(test)]
pub(super) fn clients_with(text: &str) -> Vec<usize> {
    let clients = locked(&CLIENTS);
    let of = clients.iter().filter_map(Weak::upgrade).filter(|c| c.key.contains(text));
    of.map(|c| locked(&c.claimed).len()).collect()
}

/// Partitions of a client, for one reader. They are free for others when it is dropped.
pub(super) struct Lease {
    client: Arc<SharedConsumer>,
    claimed: Vec<TopicPartition>,
    notices: Notices,
}

impl Lease {
    /// For the partitions that a reader begins with. Subtasks do not share with each other: a client fetches from a
    /// broker one answer at a time. Does not connect yet.
    pub(super) fn take(
        options: &TableOptions,
        servers: &str,
        subtask: usize,
        partitions: &[TopicPartition],
    ) -> Result<Lease> {
        let base = options.properties.consumer(servers, FALLBACK_GROUP);
        let key = format!("{subtask} {} {:?}", options.debug, options.properties.outage_timeout());
        let key = format!("{key} {}", fingerprint(&base));
        let mut clients = locked(&CLIENTS);
        clients.retain(|c| c.strong_count() > 0);
        for (room, Room { partitions: most, .. }) in ROOMS.iter().enumerate() {
            let mut others = 0;
            for client in clients.iter().filter_map(Weak::upgrade).filter(|c| c.key == key && c.room == room)
            {
                if client.has_failed.load(Ordering::Acquire) {
                    continue;
                }
                others += locked(&client.claimed).len();
                if others + partitions.len() <= *most && client.claim(partitions) {
                    return Ok(Lease::of(client, partitions, &options.notices));
                }
            }
            // The bound holds for all clients of a kind.
            if others + partitions.len() <= *most {
                let mut config = base.clone();
                // They are a kilobyte for each partition.
                let statistics = if room + 1 < ROOMS.len() { STATISTICS_MS } else { "10000" };
                config.set("statistics.interval.ms", statistics);
                options.properties.narrow(&mut config, room);
                if name_of(&options.properties.servers).is_some() {
                    // The embedded broker answers an empty fetch only when the wait is over, even if records arrive.
                    config.set("fetch.wait.max.ms", "10");
                } else {
                    options.properties.wait(&mut config, room);
                }
                let client = SharedConsumer::open(options, servers, &config, key, room)?;
                clients.push(Arc::downgrade(&client));
                client.claim(partitions);
                return Ok(Lease::of(client, partitions, &options.notices));
            }
        }
        Err(Error::internal("a client without room"))
    }

    fn of(client: Arc<SharedConsumer>, partitions: &[TopicPartition], notices: &Notices) -> Lease {
        client.consumer.context().health().listen(notices);
        Lease { client, claimed: partitions.to_vec(), notices: notices.clone() }
    }

    /// Whether there may be records of its partitions that cannot be read, nor counted.
    pub(super) fn is_unreadable(&self) -> bool {
        self.client.consumer.context().health().is_unreadable(self.claimed.iter())
    }

    /// Makes further partitions its own; false if another reader has one of them, or the client no room for them.
    pub(super) fn extend(&mut self, partitions: &[TopicPartition]) -> bool {
        let have = locked(&self.client.claimed).len();
        let most = ROOMS.get(self.client.room).map_or(0, |room| room.partitions);
        let free = have + partitions.len() <= most && self.client.claim(partitions);
        if free {
            self.claimed.extend_from_slice(partitions);
        }
        free
    }

    /// The client, to be held for longer.
    pub(super) fn client(&self) -> Arc<SharedConsumer> {
        Arc::clone(&self.client)
    }

    /// The client.
    pub(super) fn consumer(&self) -> &Arc<BaseConsumer<Context>> {
        &self.client.consumer
    }

    /// What has happened to the whole client, if it has to end.
    ///
    /// # Errors
    /// That.
    pub(super) fn check(&self) -> Result<()> {
        if !self.client.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let context = self.client.consumer.context();
        match locked(&self.client.failure).clone() {
            None => Ok(()),
            Some(Failure::Client(e)) => Err(context.error("", &e)),
            Some(Failure::Outage(seconds, e)) => {
                Err(context.error("", &e).context(format!("no broker for {seconds} s")))
            }
            Some(Failure::Internal(text)) => Err(Error::internal(text)),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut claimed = locked(&self.client.claimed);
        for at in &self.claimed {
            claimed.remove(at);
        }
        drop(claimed);
        self.client.consumer.context().health().leave(&self.notices);
    }
}

/// All that a configuration says, in an order.
pub(super) fn fingerprint(config: &ClientConfig) -> String {
    let all: BTreeMap<_, _> = config.config_map().into_iter().collect();
    format!("{all:?}")
}

impl SharedConsumer {
    /// The client of librdkafka.
    pub(super) fn consumer(&self) -> &Arc<BaseConsumer<Context>> {
        &self.consumer
    }

    fn open(
        options: &TableOptions,
        servers: &str,
        config: &ClientConfig,
        key: String,
        room: usize,
    ) -> Result<Arc<SharedConsumer>> {
        let context = Context::shared(servers, options);
        let consumer: BaseConsumer<Context> =
            config.create_with_context(context).map_err(|e| options.properties.refused(&options.table, e))?;
        let client = Arc::new(SharedConsumer {
            consumer: Arc::new(consumer),
            key,
            room,
            claimed: Mutex::default(),
            has_failed: AtomicBool::new(false),
            failure: Mutex::default(),
        });
        let (consumer, watched) = (Arc::clone(&client.consumer), Arc::downgrade(&client));
        let outage = options.properties.outage_timeout();
        std::thread::Builder::new().name("kafka-events".to_owned()).spawn(move || {
            serve(&consumer, &watched, outage);
            // Who else has it still, a task perhaps, must not be the one to close it.
            drop(watched);
            while Arc::strong_count(&consumer) > 1 {
                std::thread::sleep(Duration::from_millis(10));
            }
        })?;
        Ok(client)
    }

    /// Marks partitions as read by somebody; false if one of them is already.
    fn claim(&self, partitions: &[TopicPartition]) -> bool {
        let mut claimed = locked(&self.claimed);
        let free = !partitions.iter().any(|at| claimed.contains(at));
        if free {
            claimed.extend(partitions.iter().cloned());
        }
        free
    }

    fn fail(&self, failure: Failure) {
        locked(&self.failure).get_or_insert(failure);
        self.has_failed.store(true, Ordering::Release);
    }
}

/// Serves the callbacks of a client until nobody reads with it any more. Records never come this way, and errors of
/// partitions come where their records do.
fn serve(consumer: &BaseConsumer<Context>, watched: &Weak<SharedConsumer>, outage: Duration) {
    loop {
        let event = consumer.poll(WAIT);
        let Some(client) = watched.upgrade() else { return };
        match event {
            None => {}
            Some(Ok(message)) => client.fail(Failure::Internal(format!(
                "a record of topic {} partition {} came unasked",
                message.topic(),
                message.partition()
            ))),
            Some(Err(e)) => {
                let is_fatal = matches!(e, KafkaError::MessageConsumptionFatal(_));
                if is_fatal || consumer.context().refusal().is_some() {
                    client.fail(Failure::Client(e));
                }
            }
        }
        // All brokers gone for too long is an error; a single one is librdkafka's business.
        let Some(since) = consumer.context().all_down_since() else { continue };
        if since.elapsed() >= outage && !client.has_failed.load(Ordering::Acquire) {
            let topic = locked(&client.claimed).first().map(|at| Arc::clone(&at.topic));
            match consumer.fetch_metadata(topic.as_deref(), Duration::from_secs(2)) {
                Ok(_) => consumer.context().mark_up(),
                Err(e) => client.fail(Failure::Outage(since.elapsed().as_secs(), e)),
            }
        }
    }
}
