//! Looking rows up: one query for the keys of a batch.
//!
//! ```text
//!  SELECT k1, k2, c … FROM t WHERE (k1, k2) IN ((1, 'a'), …)   ─► rows, with the key that each belongs to
//! ```
//!
//! Which key a row belongs to is decided here: what only the database takes for equal (another case, spaces at the end) is not.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;

use super::client::Pool;
use super::config::JdbcTable;
use super::values::Literals;
use crate::edges::lookup::{LookupRequest, LookupRows, LookupSource, PointLookups};
use crate::error::Result;
use crate::state::GroupDirectory;
use crate::state::directory::NO_SLOT;

/// Keys of one query.
const MOST_KEYS: usize = 1000;

/// A table that can be asked for keys.
#[derive(Debug)]
pub(super) struct JdbcLookups {
    table: Arc<JdbcTable>,
    schema: SchemaRef,
}

impl JdbcLookups {
    pub(super) fn new(table: Arc<JdbcTable>, schema: SchemaRef) -> Self {
        JdbcLookups { table, schema }
    }
}

impl PointLookups for JdbcLookups {
    fn open(&self, request: LookupRequest) -> Result<Arc<dyn LookupSource>> {
        let dialect = self.table.address.dialect;
        let keys = request.keys.len();
        // Keys come first, whether they are wanted or not.
        let read: Vec<usize> = request.keys.iter().chain(&request.projection).copied().collect();
        let schema = self.schema.project(&read)?;
        let fields = schema.fields().iter().enumerate();
        // A row has no NULL where it is equal to something.
        let fields: Vec<_> =
            fields.map(|(i, f)| f.as_ref().clone().with_nullable(i < keys || f.is_nullable())).collect();
        let names: Vec<String> = fields.iter().map(|f| dialect.column(f.name())).collect();
        let compared = names.get(..keys).unwrap_or_default().join(", ");
        let compared = if keys == 1 { compared } else { format!("({compared})") };
        Ok(Arc::new(JdbcLookup {
            pool: Pool::new(self.table.address.clone()),
            table: self.table.clone(),
            select: format!("SELECT {} FROM {} WHERE {compared} IN (", names.join(", "), self.table.table),
            key_types: fields.iter().take(keys).map(|f| f.data_type().clone()).collect(),
            wanted: (keys..read.len()).collect(),
            schema: Arc::new(Schema::new(fields)),
        }))
    }
}

struct JdbcLookup {
    pool: Pool,
    table: Arc<JdbcTable>,
    select: String,
    key_types: Vec<DataType>,
    /// Columns of the answer behind the keys.
    wanted: Vec<usize>,
    /// Of the answer.
    schema: SchemaRef,
}

impl fmt::Debug for JdbcLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JdbcLookup").field("table", &self.table.name).finish_non_exhaustive()
    }
}

impl JdbcLookup {
    async fn ask(&self, keys: &RecordBatch) -> Result<RecordBatch> {
        let mut sql = self.select.clone();
        let literals = Literals::new(keys.columns(), self.table.address.dialect)?;
        for row in 0..keys.num_rows() {
            if row > 0 {
                sql.push_str(", ");
            }
            if keys.num_columns() == 1 {
                literals.write(0, row, &mut sql)?;
            } else {
                literals.write_row(row, &mut sql)?;
            }
        }
        sql.push(')');
        let cells = self.pool.query(&sql, self.schema.fields().len(), self.table.lookup_retries).await?;
        cells.finish(&self.schema, self.table.address.dialect)
    }
}

#[async_trait]
impl LookupSource for JdbcLookup {
    async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows> {
        let mut parts = Vec::new();
        for begin in (0..keys.num_rows()).step_by(MOST_KEYS) {
            let part = keys.slice(begin, MOST_KEYS.min(keys.num_rows() - begin));
            parts.push(self.ask(&part).await?);
        }
        let rows = concat_batches(&self.schema, &parts)?;
        let mut directory = GroupDirectory::new(&self.key_types)?;
        let (mut slots, mut of) = (Vec::new(), Vec::new());
        // The keys are distinct: each gets its number as its slot.
        directory.intern(keys.columns(), keys.num_rows(), &mut slots)?;
        let found: Vec<ArrayRef> = rows.columns().iter().take(self.key_types.len()).cloned().collect();
        directory.lookup(&found, rows.num_rows(), &mut of)?;
        let mut key_of = vec![NO_SLOT; directory.capacity()];
        for (key, slot) in slots.iter().enumerate() {
            if let Some(key_of) = key_of.get_mut(*slot as usize) {
                *key_of = key as u32;
            }
        }
        let of: Vec<u32> =
            of.iter().map(|slot| key_of.get(*slot as usize).copied().unwrap_or(NO_SLOT)).collect();
        let rows = rows.project(&self.wanted)?;
        if !of.contains(&NO_SLOT) {
            return LookupRows::of_keys(rows, &of, keys.num_rows());
        }
        let kept: Vec<u32> = (0..of.len() as u32).filter(|i| of.get(*i as usize) != Some(&NO_SLOT)).collect();
        let rows = take_record_batch(&rows, &UInt32Array::from(kept))?;
        let of: Vec<u32> = of.into_iter().filter(|key| *key != NO_SLOT).collect();
        LookupRows::of_keys(rows, &of, keys.num_rows())
    }
}
