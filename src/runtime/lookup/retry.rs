//! The LOOKUP hint's `retry-predicate` = `lookup_miss`: a key without rows is asked for again, as its row may come late.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use async_trait::async_trait;

use super::partial::Merge;
use crate::edges::lookup::{LookupRows, LookupSource};
use crate::error::Result;

/// Asks again for what was not found.
#[derive(Debug)]
pub struct MissRetry {
    inner: Arc<dyn LookupSource>,
    delay: Duration,
    attempts: u32,
}

impl MissRetry {
    /// Asks up to `attempts` times more, `delay` after each other.
    pub fn new(inner: Arc<dyn LookupSource>, delay: Duration, attempts: u32) -> Self {
        MissRetry { inner, delay, attempts }
    }
}

#[async_trait]
impl LookupSource for MissRetry {
    async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows> {
        let first = self.inner.lookup(keys).await?;
        let mut missing: Vec<u32> = positions_without_rows(&first);
        if missing.is_empty() {
            return Ok(first);
        }
        let mut all = Merge::new(keys.num_rows());
        let every: Vec<u32> = (0..keys.num_rows() as u32).collect();
        all.add(&first, &every);
        for _ in 0..self.attempts {
            tokio::time::sleep(self.delay).await;
            let asked = take_record_batch(keys, &UInt32Array::from(missing.clone()))?;
            let answer = self.inner.lookup(&asked).await?;
            all.add(&answer, &missing);
            let still = positions_without_rows(&answer);
            missing = still.into_iter().map(|i| missing[i as usize]).collect();
            if missing.is_empty() {
                break;
            }
        }
        Ok(all.finish())
    }
}

fn positions_without_rows(answer: &LookupRows) -> Vec<u32> {
    let missing = answer.found.iter().enumerate().filter(|(_, found)| found.rows == 0);
    missing.map(|(i, _)| i as u32).collect()
}
