//! The sink: rows to records.
//!
//! ```text
//!  batch ─► value encoder ┐
//!        ─► key encoder   ┼─► partition ─► producer (one per writer) ─► acknowledged by flush() and prepare()
//!        ─► headers, time ┘
//! ```
//!
//! An `upsert-kafka` table takes `+I`, `+U` as values and `-D` as records without one. With `sink.buffer-flush.*` changes
//! are collected, and only the last of every key is written.
//!
//! At least once: `prepare` returns when the broker has acknowledged everything written before it, and the producer is
//! idempotent, so that retries neither repeat nor reorder records. Readers see records at once, and a job that goes on
//! from a checkpoint writes again what it had written since. With `sink.delivery-guarantee` = `exactly-once` records are
//! written in transactions (`transactions`): readers of committed records see those of a checkpoint with it, and once.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono_tz::Tz;

use super::metadata::{self, Key};
use super::options::{Connector, TableOptions};
use super::source::connect;
use super::transactions::{Transactions, marker_topic};
use super::writer::{Layout, open};
use uuid::Uuid;

use crate::catalog::ResolvedTable;
use crate::edges::{
    Committable, ConnectorEnv, NoCommit, OpenedSink, Sink, SinkChangelog, SinkCommitter, SinkContext,
    SinkIdentity, SourceChangelog, WriteMode,
};
use crate::error::{Error, Result, ResultExt};
use crate::stream::Epoch;

/// A Kafka table to write to.
#[derive(Debug)]
pub(super) struct KafkaSink {
    options: Arc<TableOptions>,
    schema: SchemaRef,
    primary_key: Option<Vec<usize>>,
    layout: Layout,
    time_zone: Tz,
    batch: bool,
}

impl KafkaSink {
    /// Checks the table; connects to nothing.
    pub(super) fn new(table: &ResolvedTable, connector: Connector, env: &ConnectorEnv) -> Result<Self> {
        let options = TableOptions::parse(table, connector, env)?;
        let schema = table.sink_schema();
        let place = |name: &str| schema.index_of(name).map_err(Error::from);
        let physical = |columns: &[usize]| -> Result<Vec<usize>> {
            columns.iter().map(|c| place(table.physical.field(*c).name())).collect()
        };
        let mut layout = Layout {
            value: physical(&options.value.columns)?,
            key: options.key.as_ref().map(|k| physical(&k.columns)).transpose()?.unwrap_or_default(),
            ..Layout::default()
        };
        let one_topic = options.topics.single().is_some();
        for column in table.metadata.iter().filter(|m| !m.read_only) {
            let at = Some(place(column.field.name())?);
            match metadata::key_of(&options.table, column, true, !one_topic)? {
                Key::Topic => layout.topic = at,
                Key::Headers => layout.headers = at,
                _ => layout.timestamp = at,
            }
        }
        if !one_topic && layout.topic.is_none() {
            return Err(Error::validation(format!(
                "table {}: a sink with several topics or a pattern needs the metadata column 'topic' to choose one",
                options.table
            ))
            .hint("declare `topic` STRING NOT NULL METADATA, or name one topic"));
        }
        let primary_key = table.sink_primary_key();
        let (options, time_zone, batch) = (Arc::new(options), env.time_zone, env.batch);
        Ok(KafkaSink { options, schema, primary_key, layout, time_zone, batch })
    }

    /// Names the transactions of a job.
    fn prefix(&self, identity: &SinkIdentity) -> String {
        let given = self.options.transactional_id_prefix.clone();
        given.unwrap_or_else(|| format!("tidelake-{}", identity.job))
    }

    /// Names the transactions of this run, and the job that may ask for them later.
    fn transactional_id(&self, context: &SinkContext) -> Result<Option<(String, Option<Uuid>)>> {
        match &context.identity {
            _ if !self.options.exactly_once => Ok(None),
            Some(identity) => Ok(Some((self.prefix(identity), Some(identity.lineage)))),
            // All of a batch is one transaction, and nothing goes on from it.
            None if self.batch => Ok(Some((format!("tidelake-{}", Uuid::new_v4()), None))),
            None => Err(Error::validation(format!(
                "table {}: 'sink.delivery-guarantee' = 'exactly-once' needs checkpoints that outlive the job",
                self.options.table
            ))
            .hint("SET 'execution.checkpointing.dir' = a folder or s3://…")),
        }
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn changelog(&self) -> SinkChangelog {
        match self.options.connector {
            Connector::Upsert => SinkChangelog::Upsert,
            Connector::Log if self.options.value.format.changelog() == SourceChangelog::AppendOnly => {
                SinkChangelog::AppendOnly
            }
            Connector::Log => SinkChangelog::All,
        }
    }

    fn always_upserts(&self) -> bool {
        self.options.connector == Connector::Upsert
    }

    fn primary_key(&self) -> Option<Vec<usize>> {
        self.primary_key.clone()
    }

    fn holds_back(&self) -> bool {
        self.options.exactly_once
    }

    fn decision(&self, identity: &SinkIdentity) -> Option<String> {
        let named = || format!("{} of Kafka at {}", self.prefix(identity), self.options.properties.servers);
        self.options.exactly_once.then(named)
    }

    async fn is_committed(&self, identity: &SinkIdentity, epoch: Epoch) -> Result<bool> {
        let (options, prefix, lineage) = (Arc::clone(&self.options), self.prefix(identity), identity.lineage);
        let ask = move || Transactions::committed(&options, &connect(&options)?, &prefix, lineage);
        Ok(tokio::task::spawn_blocking(ask).await??.is_some_and(|newest| newest >= epoch.0))
    }

    async fn open(&self, context: &SinkContext) -> Result<OpenedSink> {
        let (mode, parallelism) = (context.mode, context.parallelism);
        let table = self.options.table.clone();
        if mode == WriteMode::Overwrite {
            return Err(Error::unsupported(format!("INSERT OVERWRITE into the Kafka table {table}"))
                .hint("records of a topic cannot be replaced; use INSERT INTO"));
        }
        let (options, layout, time_zone) = (Arc::clone(&self.options), self.layout.clone(), self.time_zone);
        let id = self.transactional_id(context)?;
        let (shared, epoch) = (context.shared.clone(), context.epoch.0 + 1);
        let opening = move || {
            let transactions = match id {
                None => None,
                Some((prefix, lineage)) => {
                    let servers = connect(&options)?;
                    let name = format!("transactions {prefix} {servers}");
                    let transactions =
                        shared.get(&name, || Transactions::open(&options, &servers, &prefix, lineage))?;
                    marker_topic(&options).into_iter().for_each(|topic| transactions.add_topic(topic));
                    Some(transactions)
                }
            };
            let writers = open(&options, &layout, time_zone, parallelism, transactions.as_ref(), epoch)?;
            let committer: Box<dyn SinkCommitter> = match transactions {
                None => Box::new(NoCommit),
                Some(transactions) => Box::new(KafkaCommitter { transactions }),
            };
            Ok::<_, Error>(OpenedSink { writers, committer })
        };
        tokio::task::spawn_blocking(opening).await?.context(|| format!("table {table}"))
    }
}

/// Commits the transactions of an epoch: the first table of a job commits those of all.
struct KafkaCommitter {
    transactions: Arc<Transactions>,
}

#[async_trait]
impl SinkCommitter for KafkaCommitter {
    async fn commit(&mut self, epoch: Epoch, _committables: Vec<Committable>) -> Result<()> {
        let transactions = Arc::clone(&self.transactions);
        tokio::task::spawn_blocking(move || transactions.commit(epoch.0)).await?
    }

    /// A transaction that was not committed is over, and one that was needs nothing.
    async fn recover(&mut self, _epoch: Epoch, _committables: Vec<Committable>) -> Result<()> {
        Ok(())
    }

    async fn abort(&mut self, _tried: Option<Epoch>, _committables: Vec<Committable>) {
        let transactions = Arc::clone(&self.transactions);
        tokio::task::spawn_blocking(move || transactions.abort()).await.ok();
    }
}
