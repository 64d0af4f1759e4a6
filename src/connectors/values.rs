//! Rows that are known when the query is planned: `VALUES`, `SELECT` without `FROM`. A bounded source with one split.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::connectors::{ScanRequest, Source, SourceEvent, SourceReader, SplitState, project};
use crate::error::Result;
use crate::runtime::ChangeBatch;

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

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let done: usize =
            restored.iter().flatten().filter_map(|s| s.position.parse::<usize>().ok()).max().unwrap_or(0);
        let batches = self
            .batches
            .iter()
            .map(|b| project(b, scan.projection.as_deref()))
            .collect::<Result<Vec<_>>>()?;
        Ok((0..parallelism)
            .map(|subtask| -> Box<dyn SourceReader> {
                // All rows in the first reader: their order is part of the meaning of aggregates such as LAST_VALUE.
                let (batches, next) = if subtask == 0 { (batches.clone(), done) } else { (Vec::new(), 0) };
                Box::new(ValuesReader { batches, next })
            })
            .collect())
    }
}

struct ValuesReader {
    batches: Vec<RecordBatch>,
    next: usize,
}

#[async_trait]
impl SourceReader for ValuesReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        let Some(rows) = self.batches.get(self.next) else { return Ok(SourceEvent::End) };
        self.next += 1;
        Ok(SourceEvent::Batch { split: 0, batch: ChangeBatch::insert_only(rows.clone()) })
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        if self.batches.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![SplitState { split: "values".to_owned(), position: self.next.to_string() }])
    }
}
