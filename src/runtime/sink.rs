//! Drives the writer of one subtask, the same way in both modes, and counts what it writes.
//!
//! ```text
//!  batches ─► write ─► flush … ─► prepare(epoch) ─► committable          failure ─► abort
//!                └─ rows and bytes ─► JobMetrics
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::edges::{Committable, SinkWriter};
use crate::error::Result;
use crate::runtime::job::JobMetrics;
use crate::stream::{Activity, ChangeBatch, Epoch, Timestamp};

/// A sink's writer with its counters.
pub struct SinkDriver {
    writer: Box<dyn SinkWriter>,
    metrics: Arc<JobMetrics>,
    /// Bytes that the metrics have seen.
    counted: u64,
}

impl SinkDriver {
    /// Drives `writer`.
    pub fn new(writer: Box<dyn SinkWriter>, metrics: Arc<JobMetrics>) -> Self {
        SinkDriver { writer, metrics, counted: 0 }
    }

    /// Takes rows.
    ///
    /// # Errors
    /// Of the writer.
    pub async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        self.metrics.rows_out.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.writer.write(batch).await?;
        self.count_bytes();
        Ok(())
    }

    /// No row will come for now.
    ///
    /// # Errors
    /// Of the writer.
    pub async fn flush(&mut self) -> Result<()> {
        self.writer.flush().await?;
        self.count_bytes();
        Ok(())
    }

    /// When there is something to flush again though no row comes.
    pub fn next_flush(&self) -> Option<Instant> {
        self.writer.next_flush()
    }

    /// No row before `watermark` comes any more.
    pub fn on_watermark(&mut self, watermark: Timestamp) {
        self.writer.on_watermark(watermark);
    }

    /// The input became idle, or active again.
    pub fn on_activity(&mut self, activity: Activity) {
        self.writer.on_activity(activity);
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// Of the writer.
    pub async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Committable>> {
        let committable = self.writer.prepare(epoch).await?;
        self.count_bytes();
        Ok(committable)
    }

    /// The job failed: removes what is half-visible.
    pub async fn abort(&mut self) {
        self.writer.abort().await;
    }

    fn count_bytes(&mut self) {
        let written = self.writer.bytes_written();
        self.metrics.bytes_out.fetch_add(written.saturating_sub(self.counted), Ordering::Relaxed);
        self.counted = written;
    }
}
