//! Lookups: the rows of a table that belong to keys, asked for while a stream of keys goes by.
//!
//! ```text
//!  keys of a batch ─► LookupSource ─► LookupRows: batches, and for each key where its rows are in them
//!                        │
//!                        ├ a connector that is asked key by key (jdbc), behind a cache or not
//!                        └ a bounded source, read whole into memory (`runtime::lookup`)
//! ```

mod options;
pub mod turn;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;

pub use options::{FullCacheOptions, LookupCache, PartialCacheOptions, lookup_option_keys};

use crate::error::Result;
use crate::stream::bytes::widest_row;

/// What a table says of lookups.
#[derive(Debug, Clone)]
pub struct LookupTable {
    /// `lookup.cache`.
    pub cache: LookupCache,
    /// Who can be asked for the rows of keys; without it the table is always read whole.
    pub points: Option<Arc<dyn PointLookups>>,
}

/// Which columns are compared and which are wanted, as indices into the schema of the table's source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupRequest {
    /// Columns that are equal to the keys, in the order of the key columns.
    pub keys: Vec<usize>,
    /// Columns of the rows; may be empty.
    pub projection: Vec<usize>,
}

/// A table that can be asked for the rows of keys.
pub trait PointLookups: Send + Sync + Debug {
    /// Makes what is asked. Nothing is connected to yet.
    ///
    /// # Errors
    /// Unsupported for columns that cannot be compared.
    fn open(&self, request: LookupRequest) -> Result<Arc<dyn LookupSource>>;
}

/// Gives the rows of keys.
#[async_trait]
pub trait LookupSource: Send + Sync + Debug {
    /// The rows of some keys: distinct ones, without NULL.
    ///
    /// # Errors
    /// External when the other end fails.
    async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows>;
}

/// Where the rows of a key are: next to each other in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// Which batch.
    pub batch: u32,
    /// Its first row of the key.
    pub first: u32,
    /// How many there are.
    pub rows: u32,
}

/// Rows that were looked up.
#[derive(Debug, Clone)]
pub struct LookupBatch {
    /// The rows.
    pub rows: RecordBatch,
    /// Bytes of the widest of them: many may be beside one.
    pub widest: usize,
}

impl From<RecordBatch> for LookupBatch {
    fn from(rows: RecordBatch) -> Self {
        LookupBatch { widest: widest_row(rows.columns(), rows.num_rows()), rows }
    }
}

/// The rows of some keys.
#[derive(Debug, Clone)]
pub struct LookupRows {
    /// All rows; may hold others as well.
    pub batches: Arc<[LookupBatch]>,
    /// By key.
    pub found: Vec<Found>,
}

impl LookupRows {
    /// No row for any of so many keys.
    pub fn none(keys: usize) -> Self {
        LookupRows { batches: Arc::new([]), found: vec![Found::default(); keys] }
    }

    /// From rows with the key that each belongs to, in any order; the rows of a key keep theirs.
    ///
    /// # Errors
    /// From Arrow.
    pub fn of_keys(rows: RecordBatch, of: &[u32], keys: usize) -> Result<Self> {
        let mut found = vec![Found::default(); keys];
        for key in of {
            if let Some(found) = found.get_mut(*key as usize) {
                found.rows += 1;
            }
        }
        let mut first = 0;
        for found in &mut found {
            found.first = first;
            first += found.rows;
        }
        let rows = if of.is_sorted() {
            rows
        } else {
            let mut order: Vec<u32> = (0..of.len() as u32).collect();
            order.sort_by_key(|row| of.get(*row as usize).copied().unwrap_or(u32::MAX));
            arrow::compute::take_record_batch(&rows, &arrow::array::UInt32Array::from(order))?
        };
        Ok(LookupRows { batches: Arc::new([rows.into()]), found })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};

    use super::*;

    #[test]
    fn rows_are_brought_together_by_their_keys() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, false)]));
        let rows =
            RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![10, 20, 30, 40]))]).unwrap();
        let rows = LookupRows::of_keys(rows, &[2, 0, 2, 0], 3).unwrap();
        let of = |key: usize| -> Vec<i32> {
            let Found { batch, first, rows: n } = rows.found[key];
            let column = rows.batches[batch as usize].rows.column(0).slice(first as usize, n as usize);
            column.as_primitive::<Int32Type>().values().to_vec()
        };
        assert_eq!([of(0), of(1), of(2)], [vec![20, 40], vec![], vec![10, 30]]);
        assert_eq!(LookupRows::none(2).found, [Found::default(); 2]);
    }
}
