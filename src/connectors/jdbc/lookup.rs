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
use arrow::compute::{cast, concat_batches, take_record_batch};
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
            wanted: (keys..read.len()).collect(),
            schema: Arc::new(Schema::new(fields)),
        }))
    }
}

struct JdbcLookup {
    pool: Pool,
    table: Arc<JdbcTable>,
    select: String,
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
        // A FLOAT in full: its shortest text is another number where it is compared as a DOUBLE, as it is in both databases.
        let full = |column: &ArrayRef| match column.data_type() {
            DataType::Float32 => Ok(cast(column, &DataType::Float64)?),
            _ => Ok(column.clone()),
        };
        let columns = keys.columns().iter().map(full).collect::<Result<Vec<_>>>()?;
        let literals = Literals::new(&columns, self.table.address.dialect)?;
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
        let (mut parts, mut of) = (Vec::new(), Vec::new());
        for begin in (0..keys.num_rows()).step_by(MOST_KEYS) {
            let part = keys.slice(begin, MOST_KEYS.min(keys.num_rows() - begin));
            let (rows, of_part) = matched(&part, &self.ask(&part).await?)?;
            parts.push(rows.project(&self.wanted)?);
            of.extend(of_part.into_iter().map(|key| key + begin as u32));
        }
        let rows = concat_batches(&Arc::new(self.schema.project(&self.wanted)?), &parts)?;
        LookupRows::of_keys(rows, &of, keys.num_rows())
    }
}

/// The rows of an answer that belong to one of the keys that were asked for, and to which. Keys of another query are not
/// looked for: where the database takes them for equal to one of these, it answers their rows to both.
fn matched(keys: &RecordBatch, rows: &RecordBatch) -> Result<(RecordBatch, Vec<u32>)> {
    let types: Vec<DataType> = keys.columns().iter().map(|c| c.data_type().clone()).collect();
    let mut directory = GroupDirectory::new(&types)?;
    let (mut slots, mut of) = (Vec::new(), Vec::new());
    // The keys are distinct: each gets its number as its slot.
    directory.intern(keys.columns(), keys.num_rows(), &mut slots)?;
    let found: Vec<ArrayRef> = rows.columns().iter().take(types.len()).cloned().collect();
    directory.lookup(&found, rows.num_rows(), &mut of)?;
    let mut key_of = vec![NO_SLOT; directory.capacity()];
    for (key, slot) in slots.iter().enumerate() {
        if let Some(key_of) = key_of.get_mut(*slot as usize) {
            *key_of = key as u32;
        }
    }
    let of: Vec<u32> = of.iter().map(|slot| key_of.get(*slot as usize).copied().unwrap_or(NO_SLOT)).collect();
    if !of.contains(&NO_SLOT) {
        return Ok((rows.clone(), of));
    }
    let kept: Vec<u32> = (0..of.len() as u32).filter(|i| of.get(*i as usize) != Some(&NO_SLOT)).collect();
    let rows = take_record_batch(rows, &UInt32Array::from(kept))?;
    Ok((rows, of.into_iter().filter(|key| *key != NO_SLOT).collect()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int32Array, StringArray};
    use arrow::datatypes::{Field, Int32Type};

    use super::*;

    #[test]
    fn rows_belong_to_keys_of_their_own_query() {
        let key = |names: Vec<&str>| -> ArrayRef { Arc::new(StringArray::from(names)) };
        let schema = |fields: Vec<Field>| Arc::new(Schema::new(fields));
        let k = Field::new("k", DataType::Utf8, false);
        // 'A' and 'c' belong to another query: a collation without case gives the rows of 'A' to that of 'a', too.
        let keys = RecordBatch::try_new(schema(vec![k.clone()]), vec![key(vec!["b", "a"])]).unwrap();
        let rows = RecordBatch::try_new(
            schema(vec![k, Field::new("v", DataType::Int32, false)]),
            vec![key(vec!["a", "A", "b", "a"]), Arc::new(Int32Array::from(vec![1, 2, 3, 4]))],
        )
        .unwrap();
        let (rows, of) = matched(&keys, &rows).unwrap();
        assert_eq!(rows.column(1).as_primitive::<Int32Type>().values(), &[1, 3, 4]);
        assert_eq!(of, [1, 0, 1]);
    }
}
