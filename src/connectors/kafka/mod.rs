//! Kafka topics as tables, through librdkafka.
//!
//! ```text
//!  options.rs, parts.rs, properties.rs    what the table says, checked before anything connects
//!  source.rs ─► bounds.rs ─► offsets.rs   partitions, where to begin and end, discovery of new ones
//!            ─► reader.rs ─► worker.rs ─► rows.rs ─► metadata.rs    records → batches, one task per subtask
//!  shared.rs                              the clients that readers of a process share
//!  sink.rs   ─► writer.rs ─► partitioner.rs    batches → records, acknowledged at flush and checkpoint
//!  embedded.rs                            the broker inside the process
//!  client.rs, native.rs                   callbacks, errors, the corners of librdkafka
//!  health.rs                              which brokers cannot be reached
//! ```
//!
//! `kafka` reads and writes records as rows, or as changes with a format of change messages. `upsert-kafka` sees a topic as
//! a table: a record sets the row of its key, one without a value deletes it. The key is the PRIMARY KEY and comes from the
//! record's key, also where the value repeats it.
//!
//! Options are Flink's. Own ones: `'properties.bootstrap.servers' = 'embedded'` (or `embedded:NAME`) with
//! `embedded.partitions`, the number of partitions a topic of the embedded broker is made with (1).
//!
//! Where it differs from Flink on purpose: offsets that Kafka has deleted are an error and never jumped over, whatever
//! `auto.offset.reset` says (that decides only where a group without offsets begins); `default.api.timeout.ms` is
//! 10 s for the first contact and 30 s for an outage in mid-run.

mod bounds;
mod client;
mod embedded;
mod health;
mod metadata;
mod native;
mod offsets;
mod options;
mod partitioner;
mod parts;
mod properties;
mod reader;
mod rows;
mod shared;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod transactions;
mod worker;
mod writer;

use std::sync::Arc;

pub use embedded::{Embedded, embedded};

use self::options::Connector;
use super::{ConnectorEnv, ConnectorFactory, Sink, Source};
use crate::catalog::ResolvedTable;
use crate::error::Result;

/// The topics that the options of a table of records mean, sorted. Blocks.
///
/// # Errors
/// Validation for bad options; External if the cluster does not answer.
pub fn topics(table: &ResolvedTable, env: &ConnectorEnv) -> Result<Vec<String>> {
    source::KafkaSource::new(table, Connector::Log, env)?.topics()
}

/// Creates the topics that the options of a table name, as far as they are not there, with the partitions and replicas that
/// the cluster gives new ones. Blocks.
///
/// # Errors
/// Validation for bad options; External if the cluster does not answer or refuses.
pub fn ensure_topics(table: &ResolvedTable, env: &ConnectorEnv) -> Result<()> {
    source::KafkaSource::new(table, Connector::Log, env)?.ensure_topics()
}

/// Where the partitions of the topics of a table end by now: topic, partition, the offset of the next record. Blocks.
///
/// # Errors
/// As [`topics`].
pub fn ends(table: &ResolvedTable, env: &ConnectorEnv) -> Result<Vec<(String, i32, i64)>> {
    source::KafkaSource::new(table, Connector::Log, env)?.ends()
}

/// Where they begin: the offset of the oldest record. Blocks.
///
/// # Errors
/// As [`topics`].
pub fn beginnings(table: &ResolvedTable, env: &ConnectorEnv) -> Result<Vec<(String, i32, i64)>> {
    source::KafkaSource::new(table, Connector::Log, env)?.beginnings()
}

/// How many records have come to the topics of a table since a time, in milliseconds since 1970, and to how many partitions.
/// Transaction markers and records that compaction has removed count as well. Blocks.
///
/// # Errors
/// As [`topics`].
pub fn come_since(table: &ResolvedTable, env: &ConnectorEnv, millis: i64) -> Result<(u64, usize)> {
    source::KafkaSource::new(table, Connector::Log, env)?.come_since(millis)
}

/// `'connector' = 'kafka'`.
#[derive(Debug, Default, Clone, Copy)]
pub struct KafkaFactory;

impl ConnectorFactory for KafkaFactory {
    fn identifier(&self) -> &'static str {
        "kafka"
    }

    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source::KafkaSource::new(table, Connector::Log, env)?))
    }

    fn sink(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::KafkaSink::new(table, Connector::Log, env)?))
    }
}

/// `'connector' = 'upsert-kafka'`.
#[derive(Debug, Default, Clone, Copy)]
pub struct UpsertKafkaFactory;

impl ConnectorFactory for UpsertKafkaFactory {
    fn identifier(&self) -> &'static str {
        "upsert-kafka"
    }

    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source::KafkaSource::new(table, Connector::Upsert, env)?))
    }

    fn sink(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::KafkaSink::new(table, Connector::Upsert, env)?))
    }
}
