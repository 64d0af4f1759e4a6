//! Rows that are known when the query is planned: `VALUES`, `SELECT` without `FROM`. A bounded source with one split,
//! whose position is the number of rows that were read.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::edges::lookup::{FullCacheOptions, LookupCache, LookupTable};
use crate::edges::{ScanRequest, Source, SourceEvent, SourceReader, SplitState, project};
use crate::error::{Error, Result};
use crate::stream::bytes::slices;
use crate::stream::{BATCH_BYTES, BATCH_ROWS, ChangeBatch};

/// Constant rows.
#[derive(Debug)]
pub struct ValuesSource {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl ValuesSource {
    /// A source of these batches.
    pub fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        ValuesSource { schema, batches }
    }
}

#[async_trait]
impl Source for ValuesSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn lookup(&self) -> Option<LookupTable> {
        Some(LookupTable { cache: LookupCache::Full(FullCacheOptions::default()), points: None })
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let mut done = 0;
        for state in restored.iter().flatten() {
            done = state.position.parse::<usize>().map_err(|_| {
                Error::data(format!("the snapshot holds a position of '{}' that is no number", state.split))
            })?;
        }
        let batches = self
            .batches
            .iter()
            .map(|b| project(b, scan.projection.as_deref()))
            .collect::<Result<Vec<_>>>()?;
        let batch_rows = if scan.batch_rows == 0 { BATCH_ROWS } else { scan.batch_rows };
        Ok((0..parallelism)
            .map(|subtask| -> Box<dyn SourceReader> {
                // All rows in the first reader: their order is part of the meaning of aggregates such as LAST_VALUE.
                let batches = if subtask == 0 { batches.clone() } else { Vec::new() };
                Box::new(ValuesReader { batches, next: done, batch_rows })
            })
            .collect())
    }
}

struct ValuesReader {
    batches: Vec<RecordBatch>,
    /// Rows read.
    next: usize,
    batch_rows: usize,
}

#[async_trait]
impl SourceReader for ValuesReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        let mut first = 0;
        for rows in &self.batches {
            let offset = self.next - first;
            if offset < rows.num_rows() {
                let rows = rows.slice(offset, self.batch_rows.min(rows.num_rows() - offset));
                let rows = slices(rows.clone(), BATCH_BYTES).into_iter().next().unwrap_or(rows);
                self.next += rows.num_rows();
                return Ok(SourceEvent::Batch { split: 0, batch: ChangeBatch::insert_only(rows) });
            }
            first += rows.num_rows();
        }
        Ok(SourceEvent::End)
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        if self.batches.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![SplitState { split: "values".to_owned(), position: self.next.to_string() }])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};

    use super::*;

    #[tokio::test]
    async fn rows_go_on_where_a_snapshot_left_them() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, false)]));
        let batch = |range: std::ops::Range<i32>| {
            let column = Arc::new(Int32Array::from_iter_values(range));
            RecordBatch::try_new(schema.clone(), vec![column]).unwrap()
        };
        let source = ValuesSource::new(schema.clone(), vec![batch(0..5), batch(5..5), batch(5..7)]);
        for batch_rows in [0, 1, 2, 3, 100] {
            let (mut rows, mut states) = (Vec::new(), None);
            // One batch, then the next one at another parallelism.
            for leg in 0.. {
                let scan = ScanRequest { batch_rows, ..ScanRequest::default() };
                let mut readers = source.readers(scan, 1 + leg % 3, states.take()).await.unwrap();
                let event = readers[0].next().await.unwrap();
                for other in &mut readers[1..] {
                    assert!(matches!(other.next().await.unwrap(), SourceEvent::End));
                }
                states = Some(readers.iter().flat_map(|r| r.snapshot().unwrap()).collect());
                let SourceEvent::Batch { batch, .. } = event else { break };
                rows.extend(batch.rows.column(0).as_primitive::<Int32Type>().values().to_vec());
            }
            assert_eq!(rows, (0..7).collect::<Vec<_>>(), "batches of {batch_rows}");
        }
        let bad = SplitState { split: "values".into(), position: "x".into() };
        assert!(source.readers(ScanRequest::default(), 1, Some(vec![bad])).await.is_err());
    }
}
