//! Kafka by another client than tidelake's connector: topics, a producer, a reader of committed records.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::row;

/// A cluster.
pub(crate) struct Broker {
    servers: String,
}

/// A record: key and value.
pub(crate) type Record = (Option<String>, Option<String>);

impl Broker {
    pub(crate) fn new(servers: &str) -> Self {
        Broker { servers: servers.to_owned() }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    /// Creates topics.
    pub(crate) fn create(&self, topics: &[String], partitions: i32) {
        let admin: AdminClient<_> = self.config().create().unwrap();
        let new = topics.iter().map(|t| NewTopic::new(t, partitions, TopicReplication::Fixed(1)));
        let new: Vec<NewTopic<'_>> = new.collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for created in runtime.block_on(admin.create_topics(&new, &AdminOptions::new())).unwrap() {
            created.unwrap();
        }
    }

    fn admin<T, F: Future<Output = T>>(&self, ask: impl FnOnce(AdminClient<DefaultClientContext>) -> F) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(ask(self.config().create().unwrap()))
    }

    /// Deletes a topic, and waits until it is gone.
    pub(crate) fn delete(&self, topic: &str) {
        self.admin(async |admin| {
            admin.delete_topics(&[topic], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        });
        let consumer: BaseConsumer = self.config().create().unwrap();
        for _ in 0..100 {
            let all = consumer.fetch_metadata(None, Duration::from_secs(10)).unwrap();
            if !all.topics().iter().any(|t| t.name() == topic) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{topic} is still there");
    }

    /// Makes a topic have so many partitions.
    pub(crate) fn partitions(&self, topic: &str, count: usize) {
        self.admin(async |admin| {
            let new = NewPartitions::new(topic, count);
            admin.create_partitions([&new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        });
    }

    /// Deletes the records of a partition that are before an offset, as retention does.
    pub(crate) fn forget(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
        self.admin(async |admin| {
            admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
        });
    }

    /// Writes a record.
    pub(crate) fn put(&self, topic: &str, partition: i32, value: &str) {
        let producer: BaseProducer = self.config().create().unwrap();
        let record: BaseRecord<'_, str, str> = BaseRecord::to(topic).payload(value).partition(partition);
        assert!(producer.send(record).is_ok());
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    /// Writes rows, about 1,500 a second, until it is told to stop; every third one is clicked on.
    pub(crate) fn produce(&self, run: &str, step: i64, stop: &AtomicBool, written: &AtomicI64) {
        let mut config = self.config();
        config.set("enable.idempotence", "true").set("linger.ms", "5");
        let producer: BaseProducer = config.create().unwrap();
        let (input, clicks) = (format!("{run}-in"), format!("{run}-clicks"));
        let send = |topic: &str, id: i64, text: &str| {
            let mut record: BaseRecord<'_, str, str> =
                BaseRecord::to(topic).payload(text).partition((id % 4) as i32);
            while let Err((e, back)) = producer.send(record) {
                assert!(matches!(e, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{e}");
                producer.poll(Duration::from_millis(10));
                record = back;
            }
        };
        let mut id = 0;
        while !stop.load(Ordering::SeqCst) {
            for _ in 0..30 {
                let (k, v, clicked) = row(id);
                let time = chrono::DateTime::from_timestamp_millis(id * step).unwrap().naive_utc();
                let time = time.format("%Y-%m-%d %H:%M:%S%.3f");
                send(&input, id, &format!(r#"{{"id":{id},"k":{k},"v":{v},"ts":"{time}"}}"#));
                if clicked {
                    send(&clicks, id, &format!(r#"{{"id":{id}}}"#));
                }
                id += 1;
            }
            producer.poll(Duration::ZERO);
            std::thread::sleep(Duration::from_millis(20));
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        written.store(id, Ordering::SeqCst);
    }

    /// All committed records of a topic.
    pub(crate) fn read(&self, topic: &str) -> Vec<Record> {
        let mut config = self.config();
        config.set("group.id", "checker").set("isolation.level", "read_committed");
        config.set("enable.partition.eof", "true").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
        let partitions = metadata.topics()[0].partitions().len();
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(topic, partition as i32, Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        let (mut records, mut ended, begin) = (Vec::new(), 0, Instant::now());
        let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8(b.to_vec()).unwrap());
        while ended < partitions {
            assert!(begin.elapsed() < Duration::from_secs(60), "{topic} cannot be read to its end");
            match consumer.poll(Duration::from_millis(500)) {
                Some(Ok(record)) => records.push((text(record.key()), text(record.payload()))),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(e)) => panic!("{topic}: {e}"),
                None => {}
            }
        }
        records
    }

    /// Number of committed records of a topic.
    pub(crate) fn count(&self, topic: &str) -> i64 {
        self.read(topic).len() as i64
    }
}
