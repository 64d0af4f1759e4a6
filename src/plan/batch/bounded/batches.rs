//! Small batches joined and large ones cut, by rows and by bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::wrap::Wrap;
use super::{guarded, sendable, sliced, with_batch_rows};
use crate::error::Result;
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::{batch_bytes, slices};

/// Batches of the usual size.
#[derive(Debug, Clone)]
pub(super) struct Batches;

impl Wrap for Batches {
    const NAME: &'static str = "BatchesExec";

    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let rows = context.session_config().batch_size();
        let batches = guarded(input.execute(partition, context)?);
        Ok(sendable(input.as_ref(), joined(batches, input.schema(), rows)))
    }
}

/// The input runs with another number of rows in a batch.
#[derive(Debug, Clone)]
pub(super) struct BatchRows(pub(super) usize);

impl Wrap for BatchRows {
    const NAME: &'static str = "BatchRowsExec";

    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        input.execute(partition, with_batch_rows(&context, self.0))
    }
}

/// Batches that are small in bytes.
#[derive(Debug, Clone)]
pub(super) struct Sliced;

impl Wrap for Sliced {
    const NAME: &'static str = "SlicedExec";

    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let batches = guarded(input.execute(partition, context)?);
        Ok(sendable(input.as_ref(), sliced(batches)))
    }
}

/// Small batches joined to `rows` rows, or fewer where they are large in bytes; in their order.
pub(super) fn joined(
    input: BoxStream<'static, Result<RecordBatch>>,
    schema: SchemaRef,
    rows: usize,
) -> BoxStream<'static, Result<RecordBatch>> {
    let joiner =
        Joiner { schema, target: rows, waiting: Vec::new(), rows: 0, bytes: 0, ready: VecDeque::new() };
    futures::stream::try_unfold((input, joiner, false), |(mut input, mut joiner, mut ended)| async move {
        loop {
            if let Some(batch) = joiner.ready.pop_front() {
                return Ok(Some((batch, (input, joiner, ended))));
            }
            if ended {
                return Ok(None);
            }
            match input.next().await.transpose()? {
                Some(batch) => joiner.push(batch)?,
                None => {
                    ended = true;
                    joiner.flush()?;
                }
            }
        }
    })
    .boxed()
}

struct Joiner {
    schema: SchemaRef,
    target: usize,
    waiting: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    ready: VecDeque<RecordBatch>,
}

impl Joiner {
    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        for batch in slices(batch, BATCH_BYTES) {
            let (rows, bytes) = (batch.num_rows(), batch_bytes(&batch));
            if rows == 0 {
                continue;
            }
            if self.rows + rows > self.target || self.bytes + bytes > BATCH_BYTES {
                self.flush()?;
            }
            // Not worth being copied.
            if self.waiting.is_empty() && (rows > self.target / 2 || bytes > BATCH_BYTES / 2) {
                self.ready.push_back(batch);
                continue;
            }
            self.waiting.push(batch);
            self.rows += rows;
            self.bytes += bytes;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match self.waiting.as_slice() {
            [] => return Ok(()),
            [one] => self.ready.push_back(one.clone()),
            several => self.ready.push_back(concat_batches(&self.schema, several)?),
        }
        self.waiting.clear();
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}
