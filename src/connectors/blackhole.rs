//! `'connector' = 'blackhole'`: takes every row of every kind and forgets it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::catalog::ResolvedTable;
use crate::connectors::synthetic::refuse_metadata;
use crate::connectors::{ConnectorFactory, not_a};
use crate::edges::{
    Committable, ConnectorEnv, NoCommit, OpenedSink, Sink, SinkChangelog, SinkContext, SinkWriter, Source,
};
use crate::error::Result;
use crate::options::Options;
use crate::stream::{ChangeBatch, Epoch};

/// Makes `blackhole` sinks.
#[derive(Debug, Default)]
pub struct BlackholeFactory;

impl ConnectorFactory for BlackholeFactory {
    fn identifier(&self) -> &'static str {
        "blackhole"
    }

    fn source(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        Err(not_a("source", table, "blackhole"))
    }

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        refuse_metadata(table, "blackhole")?;
        Options::new(&table.def.path, "blackhole", &table.options).finish()?;
        Ok(Arc::new(BlackholeSink { schema: table.sink_schema(), primary_key: table.sink_primary_key() }))
    }
}

#[derive(Debug)]
struct BlackholeSink {
    schema: SchemaRef,
    primary_key: Option<Vec<usize>>,
}

#[async_trait]
impl Sink for BlackholeSink {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn changelog(&self) -> SinkChangelog {
        SinkChangelog::Upsert
    }

    fn primary_key(&self) -> Option<Vec<usize>> {
        self.primary_key.clone()
    }

    async fn open(&self, context: &SinkContext) -> Result<OpenedSink> {
        let writers =
            (0..context.parallelism).map(|_| Box::new(BlackholeWriter) as Box<dyn SinkWriter>).collect();
        Ok(OpenedSink { writers, committer: Box::new(NoCommit) })
    }
}

struct BlackholeWriter;

#[async_trait]
impl SinkWriter for BlackholeWriter {
    async fn write(&mut self, _batch: ChangeBatch) -> Result<()> {
        Ok(())
    }

    async fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Committable>> {
        Ok(None)
    }
}
