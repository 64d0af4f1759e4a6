//! The keys of the rows of a file, read back from its key columns.
//!
//! ```text
//!  file ─► key columns only ─► deletes ─► Key (16 bytes) of each row that lives, with its row number
//! ```

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};
use futures::{StreamExt, TryStreamExt};
use iceberg::scan::FileScanTask;
use iceberg::spec::Schema;
use iceberg::table::Table;
use xxhash_rust::xxh3::xxh3_128;

use super::super::deletes::{self, DeleteFiles};
use crate::connectors::conform::conform;
use crate::error::{Error, Result};

/// What stands for a key: the key itself where it is one whole number, else 128 bits of its hash. (With 10⁹ keys two of them
/// meet with a probability below 10⁻²⁰.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u64, u64);

/// The key columns of a table.
#[derive(Debug)]
pub(in super::super) struct KeyColumns {
    ids: Vec<i32>,
    types: Vec<DataType>,
    /// `None` for one whole number.
    converter: Option<RowConverter>,
}

impl KeyColumns {
    /// The identifier fields of a schema; `None` if it has none.
    ///
    /// # Errors
    /// Unsupported for types that cannot be compared.
    pub fn of(schema: &Schema) -> Result<Option<Self>> {
        let mut ids: Vec<i32> = schema.identifier_field_ids().collect();
        ids.sort_unstable();
        if ids.is_empty() {
            return Ok(None);
        }
        let types = ids
            .iter()
            .map(|id| {
                let field =
                    schema.field_by_id(*id).ok_or_else(|| Error::internal("a key column that is none"))?;
                iceberg::arrow::type_to_arrow_type(&field.field_type)
                    .map_err(|e| Error::unsupported(format!("key column `{}`: {}", field.name, e.message())))
            })
            .collect::<Result<Vec<_>>>()?;
        let converter = match types.as_slice() {
            [DataType::Int32 | DataType::Int64 | DataType::Date32] => None,
            _ => Some(RowConverter::new(types.iter().cloned().map(SortField::new).collect())?),
        };
        Ok(Some(KeyColumns { ids, types, converter }))
    }

    /// Whether they are read in the same way: the same columns, of the same types.
    pub(super) fn reads_as(&self, other: &KeyColumns) -> bool {
        (&self.ids, &self.types) == (&other.ids, &other.types)
    }

    /// Their field ids, ascending.
    pub fn ids(&self) -> &[i32] {
        &self.ids
    }

    /// Key columns in the types that the table has them in.
    ///
    /// # Errors
    /// Data if they are of other types.
    pub(super) fn conform(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        columns.iter().zip(&self.types).map(|(c, ty)| conform(c, ty)).collect()
    }

    /// The keys of rows, given their key columns in the order of [`KeyColumns::ids`].
    ///
    /// # Errors
    /// Data if the columns are of other types.
    pub(super) fn keys(&self, columns: &[ArrayRef]) -> Result<Vec<Key>> {
        let columns = self.conform(columns)?;
        match (&self.converter, columns.as_slice()) {
            (None, [column]) => {
                let numbers = cast(column, &DataType::Int64)?;
                let numbers = numbers.as_primitive::<Int64Type>();
                let key = |i: usize| match numbers.is_valid(i) {
                    true => Key(numbers.value(i).cast_unsigned(), 0),
                    false => Key(0, 1),
                };
                Ok((0..numbers.len()).map(key).collect())
            }
            (Some(converter), columns) => {
                let rows = converter.convert_columns(columns)?;
                let key = |row: arrow::row::Row<'_>| {
                    let hash = xxh3_128(row.as_ref());
                    Key((hash >> 64) as u64, hash as u64)
                };
                Ok(rows.iter().map(key).collect())
            }
            _ => Err(Error::internal("key columns without a converter")),
        }
    }

    /// Reads the keys of the rows of a file that live, each with its row number.
    ///
    /// # Errors
    /// External, Data.
    pub(super) async fn read(
        &self,
        table: &Table,
        mut task: FileScanTask,
        delete_files: &DeleteFiles,
        mut each: impl FnMut(u64, Key) -> Result<()>,
    ) -> Result<()> {
        let culprit = task.data_file_path.clone();
        let external = |e: iceberg::Error| Error::external(format!("{culprit}: {}", e.message()));
        let mut ids = self.ids.clone();
        let mut deletions = None;
        if !task.deletes.is_empty() {
            deletions = Some(delete_files.load(table, &task).await?);
            for id in deletes::key_ids(&task) {
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            task.deletes.clear();
        }
        task.predicate = None;
        task.project_field_ids.clone_from(&ids);
        let mut batches = table
            .reader_builder()
            .with_data_file_concurrency_limit(1)
            .build()
            .read(futures::stream::once(async { Ok(task) }).boxed())
            .map_err(external)?
            .stream();
        let mut row = 0_u64;
        while let Some(batch) = batches.try_next().await.map_err(external)? {
            let columns: Vec<ArrayRef> = batch.columns().iter().take(self.ids.len()).cloned().collect();
            let keys = self.keys(&columns)?;
            let keep = match &mut deletions {
                Some(d) => {
                    let column = |id: i32| {
                        ids.iter().position(|i| *i == id).and_then(|i| batch.columns().get(i)).cloned()
                    };
                    Some(d.keep(&batch, &column)?)
                }
                None => None,
            };
            for (i, key) in keys.into_iter().enumerate() {
                if keep.as_ref().is_none_or(|k| k.value(i)) {
                    each(row, key)?;
                }
                row += 1;
            }
        }
        Ok(())
    }
}
