//! Batch scan of a table whose connector reads changes: the rows that are left when all changes are applied.
//!
//! ```text
//!  reader ─► +I -U +U -D ─┬─ by row: how often each row is there ─────────► rows, as often as they are
//!                         └─ by key: the last row of each PRIMARY KEY ────► rows
//! ```
//!
//! By key is for sources of upserts and for `table.exec.source.cdc-events-duplicate`. Flink refuses to read such tables in
//! batch mode. A row that is taken away more often than it came is not there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::EmissionType;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};

use crate::edges::scan_exec::{Scan, ScanExec, column_names};
use crate::edges::{ScanRequest, Source, SourceEvent};
use crate::error::{Error, Result};
use crate::runtime::job::JobMetrics;
use crate::state::GroupDirectory;
use crate::stream::bytes::{cut, row_bytes};
use crate::stream::{BATCH_BYTES, BATCH_ROWS, ChangeBatch};

/// Reads a bounded source of changes.
pub struct NetRowsScan {
    name: String,
    source: Arc<dyn Source>,
    scan: ScanRequest,
    /// Columns of what is read that are the key, and how many columns are wanted of it.
    key: Option<Vec<usize>>,
    schema: SchemaRef,
    metrics: Arc<JobMetrics>,
}

impl NetRowsScan {
    /// The plan of a scan of the columns `scan.projection`; rows are told apart by the source's columns `key`, or as a whole.
    ///
    /// # Errors
    /// If the projection is out of range.
    pub fn plan(
        name: String,
        source: Arc<dyn Source>,
        mut scan: ScanRequest,
        key: Option<&[usize]>,
        metrics: Arc<JobMetrics>,
    ) -> Result<ScanExec<Self>> {
        let mut read =
            scan.projection.clone().unwrap_or_else(|| (0..source.schema().fields().len()).collect());
        let schema = Arc::new(Schema::project(&source.schema(), &read)?);
        // The key is read in any case, behind what is wanted.
        let key = key.map(|key| {
            key.iter()
                .map(|k| {
                    read.iter().position(|c| c == k).unwrap_or_else(|| {
                        read.push(*k);
                        read.len() - 1
                    })
                })
                .collect()
        });
        scan.projection = Some(read);
        // A limit counts rows, not changes.
        scan.limit = None;
        let read = NetRowsScan { name, source, scan, key, schema: schema.clone(), metrics };
        Ok(ScanExec::new(read, schema, 1, EmissionType::Final))
    }
}

impl fmt::Debug for NetRowsScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetRowsScan").field("table", &self.name).finish_non_exhaustive()
    }
}

impl Scan for NetRowsScan {
    const NAME: &'static str = "NetRowsExec";

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.key.is_some() { "key" } else { "row" };
        write!(f, "table={}, columns=[{}], by={by}", self.name, column_names(&self.schema))
    }

    fn open(
        &self,
        _partition: usize,
        _context: &TaskContext,
    ) -> DfResult<BoxStream<'static, DfResult<RecordBatch>>> {
        let (name, source, scan) = (self.name.clone(), self.source.clone(), self.scan.clone());
        let (key, metrics, schema) = (self.key.clone(), self.metrics.clone(), self.schema.clone());
        let batches = async move {
            let rows = net_rows(&*source, scan, key, schema, &metrics).await;
            let rows = rows.map_err(|e| DataFusionError::from(e.context(name)))?;
            Ok::<_, DataFusionError>(futures::stream::iter(rows.map(|batch| Ok(batch?))))
        };
        Ok(futures::stream::once(batches).try_flatten().boxed())
    }
}

async fn net_rows(
    source: &dyn Source,
    scan: ScanRequest,
    key: Option<Vec<usize>>,
    schema: SchemaRef,
    metrics: &JobMetrics,
) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send + use<>> {
    let read = Arc::new(Schema::project(&source.schema(), scan.projection.as_deref().unwrap_or_default())?);
    let mut net = Net::new(&read, key)?;
    let mut readers = source.readers(scan, 1, None).await?;
    for reader in &mut readers {
        loop {
            match reader.next().await? {
                SourceEvent::Batch { batch, .. } => {
                    metrics.rows_in.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    net.apply(batch)?;
                }
                SourceEvent::SplitsStarted(_)
                | SourceEvent::Dropped { .. }
                | SourceEvent::SplitFinished(_) => {}
                SourceEvent::End => break,
            }
        }
    }
    net.finish(&schema)
}

/// Changes being applied.
struct Net {
    directory: GroupDirectory,
    /// Key columns; all columns without a key.
    key: Option<Vec<usize>>,
    /// By slot: how often the row is there, or 1 if the key has a row.
    counts: Vec<i64>,
    /// By slot: batch and row where it stands.
    places: Vec<(usize, usize)>,
    batches: Vec<RecordBatch>,
    slots: Vec<u32>,
}

impl Net {
    fn new(schema: &Schema, key: Option<Vec<usize>>) -> Result<Self> {
        let types: Vec<_> = match &key {
            Some(key) => key.iter().map(|k| schema.field(*k).data_type().clone()).collect(),
            None => schema.fields().iter().map(|f| f.data_type().clone()).collect(),
        };
        let directory = GroupDirectory::new(&types).map_err(|e| {
            e.hint("declare a PRIMARY KEY and SET 'table.exec.source.cdc-events-duplicate' = 'true', or leave such columns out")
        })?;
        Ok(Net {
            directory,
            key,
            counts: Vec::new(),
            places: Vec::new(),
            batches: Vec::new(),
            slots: Vec::new(),
        })
    }

    fn apply(&mut self, batch: ChangeBatch) -> Result<()> {
        let rows = batch.num_rows();
        let columns = match &self.key {
            Some(key) => batch.rows.project(key)?.columns().to_vec(),
            None => batch.rows.columns().to_vec(),
        };
        self.directory.intern(&columns, rows, &mut self.slots)?;
        self.counts.resize(self.directory.capacity(), 0);
        self.places.resize(self.directory.capacity(), (0, 0));
        let number = self.batches.len();
        for (i, slot) in self.slots.iter().enumerate() {
            let (Some(count), Some(place)) =
                (self.counts.get_mut(*slot as usize), self.places.get_mut(*slot as usize))
            else {
                return Err(Error::internal("a slot without state"));
            };
            let retraction = batch.kind(i).is_retraction();
            *count = match (&self.key, retraction) {
                (None, false) => *count + 1,
                (None, true) => *count - 1,
                (Some(_), false) => 1,
                (Some(_), true) => 0,
            };
            if !retraction {
                *place = (number, i);
            }
        }
        self.batches.push(batch.rows);
        Ok(())
    }

    /// The rows that are left, of the wanted columns, in the order in which they first came; each batch is made when it is
    /// its turn.
    fn finish(self, schema: &SchemaRef) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send + use<>> {
        let mut places = Vec::new();
        for (count, place) in self.counts.iter().zip(&self.places) {
            places.extend((0..*count).map(|_| *place));
        }
        let wanted: Vec<usize> = (0..schema.fields().len()).collect();
        let batches =
            self.batches.iter().map(|b| Ok(b.project(&wanted)?)).collect::<Result<Vec<RecordBatch>>>()?;
        let bytes: Vec<Vec<usize>> = batches.iter().map(|b| row_bytes(b.columns(), b.num_rows())).collect();
        let width = |(batch, row): &(usize, usize)| {
            bytes.get(*batch).and_then(|b| b.get(*row)).copied().unwrap_or(0).max(BATCH_BYTES / BATCH_ROWS)
        };
        let widths: Vec<usize> = places.iter().map(width).collect();
        let schema = Arc::clone(schema);
        Ok(cut(&widths, BATCH_BYTES, |_| false).into_iter().map(move |run| {
            let places = places.get(run).unwrap_or_default();
            if schema.fields().is_empty() {
                let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
                return Ok(RecordBatch::try_new_with_options(schema.clone(), Vec::new(), &options)?);
            }
            let batches: Vec<&RecordBatch> = batches.iter().collect();
            Ok(interleave_record_batch(&batches, places)?)
        }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, StringArray};
    use arrow::datatypes::{DataType, Field};

    use super::*;
    use crate::stream::RowKinds;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int32, true),
            Field::new("name", DataType::Utf8, true),
        ]))
    }

    fn batch(rows: &[(u8, i32, Option<&str>)]) -> ChangeBatch {
        let ids = rows.iter().map(|r| r.1).collect::<Int32Array>();
        let names = rows.iter().map(|r| r.2).collect::<StringArray>();
        let columns = RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(names)]).unwrap();
        ChangeBatch::with_kinds(columns, RowKinds::new(rows.iter().map(|r| r.0).collect()))
    }

    fn left(key: Option<Vec<usize>>, batches: &[&[(u8, i32, Option<&str>)]]) -> Vec<String> {
        let mut net = Net::new(&schema(), key).unwrap();
        batches.iter().for_each(|rows| net.apply(batch(rows)).unwrap());
        let out = net.finish(&schema()).unwrap().collect::<Result<Vec<_>>>().unwrap();
        out.iter()
            .flat_map(|b| {
                let ids = b.column(0).as_any().downcast_ref::<Int32Array>().unwrap();
                let names = b.column(1).as_any().downcast_ref::<StringArray>().unwrap();
                ids.iter()
                    .zip(names)
                    .map(|(i, n)| format!("{}{}", i.unwrap(), n.unwrap_or("-")))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn by_row_counts() {
        let first: &[_] = &[(0, 1, Some("a")), (0, 1, Some("a")), (0, 2, None), (3, 9, Some("x"))];
        let second: &[_] = &[(1, 1, Some("a")), (2, 1, Some("b")), (3, 2, None)];
        assert_eq!(left(None, &[first, second]), ["1a", "1b"]);
        // Taken away before it came.
        assert_eq!(left(None, &[&[(3, 1, Some("a"))], &[(0, 1, Some("a"))]]), Vec::<String>::new());
    }

    #[test]
    fn by_key_the_last_row_counts() {
        let first: &[_] = &[(0, 1, Some("a")), (0, 2, Some("b")), (0, 3, Some("c"))];
        // A deletion has nothing but the key.
        let second: &[_] =
            &[(0, 1, Some("d")), (3, 2, None), (3, 4, None), (1, 3, Some("c")), (2, 3, Some("e"))];
        assert_eq!(left(Some(vec![0]), &[first, second]), ["1d", "3e"]);
    }

    #[test]
    fn no_columns_are_a_number_of_rows() {
        let mut net = Net::new(&schema(), Some(vec![0])).unwrap();
        net.apply(batch(&[(0, 1, None), (0, 2, None), (3, 1, None)])).unwrap();
        let out = net.finish(&Arc::new(Schema::empty())).unwrap().collect::<Result<Vec<_>>>().unwrap();
        assert_eq!(out[0].num_rows(), 1);
    }
}
