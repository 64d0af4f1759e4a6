//! The sink of a query: hands its rows to whoever reads them, in this process.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::edges::{Committable, NoCommit, OpenedSink, Sink, SinkChangelog, SinkContext, SinkWriter};
use crate::error::{Error, Result};
use crate::stream::{ChangeBatch, Epoch};

/// Sends batches into a channel.
#[derive(Debug)]
pub struct CollectSink {
    schema: SchemaRef,
    rows: mpsc::Sender<ChangeBatch>,
}

impl CollectSink {
    /// A sink for rows of `schema` into `rows`.
    pub fn new(schema: SchemaRef, rows: mpsc::Sender<ChangeBatch>) -> Self {
        CollectSink { schema, rows }
    }
}

#[async_trait]
impl Sink for CollectSink {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn changelog(&self) -> SinkChangelog {
        SinkChangelog::All
    }

    fn holds_back(&self) -> bool {
        false
    }

    async fn open(&self, context: &SinkContext) -> Result<OpenedSink> {
        let writers = (0..context.parallelism)
            .map(|_| Box::new(CollectWriter { rows: self.rows.clone() }) as Box<dyn SinkWriter>)
            .collect();
        Ok(OpenedSink { writers, committer: Box::new(NoCommit) })
    }
}

struct CollectWriter {
    rows: mpsc::Sender<ChangeBatch>,
}

#[async_trait]
impl SinkWriter for CollectWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        // The reader has gone: nobody wants the rest.
        self.rows.send(batch).await.map_err(|_| Error::cancelled())
    }

    async fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Committable>> {
        Ok(None)
    }
}
