//! Lookups in a faker table: every key has one row, made up when it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;

use crate::edges::lookup::{Found, LookupBatch, LookupRequest, LookupRows, LookupSource, PointLookups};
use crate::error::{Error, Result};

use super::Rows;

/// Makes rows for keys.
#[derive(Debug)]
pub(super) struct FakerLookups {
    pub rows: Arc<Rows>,
    pub schema: SchemaRef,
    pub seed: u64,
}

impl PointLookups for FakerLookups {
    fn open(&self, request: LookupRequest) -> Result<Arc<dyn LookupSource>> {
        // A column that is asked for is the one of the key if it is compared.
        let columns: Vec<(usize, Option<usize>)> = request
            .projection
            .iter()
            .map(|column| (*column, request.keys.iter().position(|key| key == column)))
            .collect();
        Ok(Arc::new(FakerLookup {
            rows: self.rows.clone(),
            schema: Arc::new(self.schema.project(&request.projection)?),
            columns,
            seed: self.seed,
            asked: AtomicU64::new(0),
        }))
    }
}

#[derive(Debug)]
struct FakerLookup {
    rows: Arc<Rows>,
    schema: Arc<Schema>,
    /// Column of the table, and of the key that it is equal to.
    columns: Vec<(usize, Option<usize>)>,
    seed: u64,
    /// Keys asked for so far: a key that is asked for again has another row.
    asked: AtomicU64,
}

#[async_trait]
impl LookupSource for FakerLookup {
    async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows> {
        let asked = keys.num_rows() as u64;
        let first = self.asked.fetch_add(asked, Ordering::Relaxed);
        let now = self.rows.clock.now();
        let columns = self.columns.iter().map(|(column, key)| match key {
            Some(key) => {
                keys.columns().get(*key).cloned().ok_or_else(|| Error::internal("faker: no such key"))
            }
            None => match self.rows.fields.get(*column) {
                Some(field) => field.generate(self.seed, first..first + asked, now),
                None => Err(Error::internal("faker: no such column")),
            },
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(keys.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let found = (0..keys.num_rows() as u32).map(|first| Found { batch: 0, first, rows: 1 }).collect();
        Ok(LookupRows { batches: Arc::new([LookupBatch::from(rows)]), found })
    }
}
