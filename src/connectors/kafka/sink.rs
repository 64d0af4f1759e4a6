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
//! At least once within a run: `prepare` returns when the broker has acknowledged everything written before it, and the
//! producer is idempotent, so that retries neither repeat nor reorder records. Readers see records at once, not at a
//! checkpoint, and nothing durable is kept of one: a job started again has no state and begins at the offsets that its
//! sources are configured with, so it writes again whatever follows from rows that it reads again.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono_tz::Tz;

use super::metadata::{self, Key};
use super::options::{Connector, TableOptions};
use super::writer::{Layout, open};
use crate::catalog::ResolvedTable;
use crate::edges::{ConnectorEnv, NoCommit, OpenedSink, Sink, SinkChangelog, SourceChangelog, WriteMode};
use crate::error::{Error, Result, ResultExt};

/// A Kafka table to write to.
#[derive(Debug)]
pub(super) struct KafkaSink {
    options: Arc<TableOptions>,
    schema: SchemaRef,
    primary_key: Option<Vec<usize>>,
    layout: Layout,
    time_zone: Tz,
}

impl KafkaSink {
    /// Checks the table; connects to nothing.
    pub(super) fn new(table: &ResolvedTable, connector: Connector, env: &ConnectorEnv) -> Result<Self> {
        let options = TableOptions::parse(table, connector, &env.notices)?;
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
        Ok(KafkaSink { options: Arc::new(options), schema, primary_key, layout, time_zone: env.time_zone })
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
        false
    }

    async fn open(&self, mode: WriteMode, parallelism: usize) -> Result<OpenedSink> {
        let table = self.options.table.clone();
        if mode == WriteMode::Overwrite {
            return Err(Error::unsupported(format!("INSERT OVERWRITE into the Kafka table {table}"))
                .hint("records of a topic cannot be replaced; use INSERT INTO"));
        }
        let (options, layout, time_zone) = (Arc::clone(&self.options), self.layout.clone(), self.time_zone);
        let writers = tokio::task::spawn_blocking(move || open(&options, &layout, time_zone, parallelism))
            .await?
            .context(|| format!("table {table}"))?;
        Ok(OpenedSink { writers, committer: Box::new(NoCommit) })
    }
}
