//! Rows into Parquet data files, one open file per partition.
//!
//! ```text
//!  batch ─► conform to the table's schema ─► partition values (vectorized transforms) ─► groups of equal partitions
//!        ─► one rolling Parquet writer per partition ─► at a barrier: close all, hand the data files over
//! ```
//!
//! A file is begun when there is something worth it: an open Parquet writer has half a megabyte for each of its columns, and a process
//! may write a thousand tables. Rows of a table with a sort order are held longer, and written in runs that are in order.
//!
//! State: the rows that are held and the open files since the last barrier, and the paths of all files that nobody has taken over yet, which
//! [`SinkWriter::abort`] deletes. Nothing is visible to readers before the committer adds the files to a snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use async_trait::async_trait;
use iceberg::arrow::{PartitionValueCalculator, arrow_struct_to_literal, schema_to_arrow_schema};
use iceberg::spec::{DataFile, DataFileFormat, Literal, PartitionKey, PartitionSpecRef, Struct};
use iceberg::table::Table;
use iceberg::writer::base_writer::data_file_writer::{DataFileWriter, DataFileWriterBuilder};
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::location_generator::DefaultFileNameGenerator;
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::{CurrentFileStatus, IcebergWriter as _, IcebergWriterBuilder as _};
use parquet::file::properties::WriterProperties;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::lake::Lake;
use super::paths::{TrackedLocations, check_values};
use super::prepared::{DeletedKeys, Prepared};
use super::sort_order::Sorting;
use crate::connectors::conform::conform_batch;
use crate::edges::{Committable, SinkWriter};
use crate::error::{Error, Result, ResultExt};
use crate::stream::{ChangeBatch, Epoch};

/// Open files per writer. Above it the one unused for longest is closed, so that memory stays bounded when rows come
/// in no order over very many partitions.
const MAX_OPEN_FILES: usize = 200;
/// Bytes of rows that are held before a file is begun for them.
const HELD: usize = 256 << 10;
/// Files that are begun and ended at the same time, for rows that were held.
static FINISHING: Semaphore = Semaphore::const_new(16);
/// Bytes of rows that are put in order together.
const RUN: usize = 64 << 20;
/// Rows of a run that are written at a time.
const PART: usize = 8192;
/// Bytes of rows of all partitions that wait for their run to be full.
const MOST_HELD: usize = 256 << 20;

/// What all writers of a sink share.
pub(super) struct WriteSetup {
    pub lake: Arc<Lake>,
    pub table: Table,
    /// One per job and table: part of the commit marker.
    pub pipeline: Uuid,
    /// One per run: part of file names.
    pub run: Uuid,
    pub properties: WriterProperties,
    pub target_file_size: usize,
    /// For each column of the table the column of the incoming rows, `None` where rows have none (null is written).
    pub mapping: Vec<Option<usize>>,
}

type FileWriter = DataFileWriter<ParquetWriterBuilder, TrackedLocations, DefaultFileNameGenerator>;
type FileWriterBuilder =
    DataFileWriterBuilder<ParquetWriterBuilder, TrackedLocations, DefaultFileNameGenerator>;

struct OpenFile {
    /// Rows that are held.
    rows: Vec<RecordBatch>,
    bytes: usize,
    partition: PartitionKey,
    /// From the first rows on that are not held.
    writer: Option<FileWriter>,
    size: u64,
    last_used: u64,
}

/// Writes the rows of one subtask.
pub(super) struct IcebergWriter {
    setup: Arc<WriteSetup>,
    shown: String,
    schema: SchemaRef,
    builder: FileWriterBuilder,
    partitions: Option<Partitioner>,
    /// Rows are written in order, in runs of so many bytes.
    sorting: Option<(Sorting, usize)>,
    open: HashMap<Box<[u8]>, OpenFile>,
    closed: Vec<DataFile>,
    /// The rounds of the closed files, where rows replace each other by key.
    rounds: Vec<u32>,
    paths: TrackedLocations,
    clock: u64,
    bytes_done: u64,
}

impl IcebergWriter {
    /// The writer of subtask `subtask`.
    ///
    /// # Errors
    /// From the Iceberg crate.
    pub fn new(setup: Arc<WriteSetup>, subtask: usize) -> Result<Self> {
        let metadata = setup.table.metadata();
        let shown = setup.lake.shown(setup.table.identifier());
        let error = |e: &iceberg::Error| setup.lake.error(shown.clone(), e);
        let iceberg_schema = metadata.current_schema();
        let schema = Arc::new(schema_to_arrow_schema(iceberg_schema).map_err(|e| error(&e))?);
        let paths = TrackedLocations::new(metadata);
        let names = DefaultFileNameGenerator::new(
            format!("{subtask:05}"),
            Some(setup.run.to_string()),
            DataFileFormat::Parquet,
        );
        let parquet = ParquetWriterBuilder::new(setup.properties.clone(), Arc::clone(iceberg_schema));
        let rolling = RollingFileWriterBuilder::new(
            parquet,
            setup.target_file_size,
            setup.table.file_io().clone(),
            paths.clone(),
            names,
        );
        let spec = metadata.default_partition_spec();
        let partitions = if spec.is_unpartitioned() {
            None
        } else {
            Some(Partitioner::new(spec, &setup.table).context(|| shown.clone())?)
        };
        Ok(IcebergWriter {
            builder: DataFileWriterBuilder::new(rolling),
            shown,
            schema,
            partitions,
            sorting: None,
            open: HashMap::new(),
            closed: Vec::new(),
            rounds: Vec::new(),
            paths,
            clock: 0,
            bytes_done: 0,
            setup,
        })
    }

    /// Puts rows in the order of the table, if it has one. Not for those who have to know where in a file a row is.
    pub fn sorted(self) -> Self {
        self.sorted_in_runs(RUN)
    }

    /// The same, with so many bytes of rows put in order together.
    pub fn sorted_in_runs(mut self, bytes: usize) -> Self {
        self.sorting = Sorting::of(self.setup.table.metadata()).map(|sorting| (sorting, bytes));
        self
    }

    fn error(&self, e: &iceberg::Error) -> Error {
        self.setup.lake.error(self.shown.clone(), e)
    }

    fn partition_key(&self, values: Struct) -> PartitionKey {
        let metadata = self.setup.table.metadata();
        PartitionKey::new(
            metadata.default_partition_spec().as_ref().clone(),
            Arc::clone(metadata.current_schema()),
            values,
        )
    }

    async fn write_group(&mut self, group: Group) -> Result<()> {
        let Group { key, values, rows } = group;
        self.clock += 1;
        let clock = self.clock;
        if !self.open.contains_key(&key) {
            if self.open.len() >= MAX_OPEN_FILES {
                self.close_oldest().await?;
            }
            let partition = self.partition_key(values.take()?);
            check_values(partition.spec(), partition.schema(), partition.data())
                .context(|| self.shown.clone())?;
            let file =
                OpenFile { rows: Vec::new(), bytes: 0, partition, writer: None, size: 0, last_used: clock };
            self.open.insert(key.clone(), file);
        }
        let Some(file) = self.open.get_mut(&key) else {
            return Err(Error::internal("a partition without its file"));
        };
        file.last_used = clock;
        file.bytes += rows.get_array_memory_size();
        file.rows.push(rows);
        let is_full = match &self.sorting {
            Some((_, run)) => file.bytes >= *run,
            None => file.bytes >= HELD || file.writer.is_some(),
        };
        if is_full && let Some(mut file) = self.open.remove(&key) {
            self.write_held(&mut file).await?;
            self.open.insert(key, file);
        } else if self.sorting.is_some() && self.open.values().map(|f| f.bytes).sum::<usize>() > MOST_HELD {
            let largest = self.open.iter().max_by_key(|(_, f)| f.bytes).map(|(k, _)| k.clone());
            if let Some((key, mut file)) = largest.and_then(|k| self.open.remove_entry(&k)) {
                self.write_held(&mut file).await?;
                self.open.insert(key, file);
            }
        }
        Ok(())
    }

    /// Writes what is held into the file.
    async fn write_held(&mut self, file: &mut OpenFile) -> Result<()> {
        let held = std::mem::take(&mut file.rows);
        file.bytes = 0;
        if held.is_empty() {
            return Ok(());
        }
        let held = match &self.sorting {
            None => held,
            Some((sorting, _)) => {
                let rows =
                    sorting.sort(&concat_batches(&self.schema, &held)?).context(|| self.shown.clone())?;
                let starts = (0..rows.num_rows()).step_by(PART);
                starts.map(|at| rows.slice(at, PART.min(rows.num_rows() - at))).collect()
            }
        };
        let mut writer = match file.writer.take() {
            Some(writer) => writer,
            None => self.builder.build(Some(file.partition.clone())).await.map_err(|e| self.error(&e))?,
        };
        // Between two of them a file may be large enough.
        for rows in held {
            writer.write(rows).await.map_err(|e| self.error(&e))?;
        }
        // The crate panics when asked for the size of a writer that has not begun a file.
        file.size = writer.current_written_size() as u64;
        file.writer = Some(writer);
        Ok(())
    }

    /// What all writers share.
    pub fn setup(&self) -> &Arc<WriteSetup> {
        &self.setup
    }

    /// Where files go.
    pub fn paths(&self) -> &TrackedLocations {
        &self.paths
    }

    /// Ends a round of changes by key: what comes next may replace rows of what was written, and must be told from it.
    /// Without partitions the rows of a file tell it by their order.
    ///
    /// # Errors
    /// External.
    pub async fn end_round(&mut self, round: u32) -> Result<()> {
        if self.partitions.is_some() {
            self.close_all().await?;
        }
        self.rounds.resize(self.closed.len(), round);
        Ok(())
    }

    /// [`SinkWriter::prepare`] of changes by key.
    ///
    /// # Errors
    /// External.
    pub async fn prepare_changes(
        &mut self,
        epoch: Epoch,
        deleted: Option<DeletedKeys>,
    ) -> Result<Option<Committable>> {
        self.close_all().await?;
        if self.closed.is_empty() && deleted.is_none() {
            return Ok(None);
        }
        let last = self.rounds.last().map_or(0, |r| r + 1);
        let mut rounds = std::mem::take(&mut self.rounds);
        rounds.resize(self.closed.len(), last);
        let prepared = Prepared::new(&self.setup.table, self.setup.pipeline, epoch, &self.closed)
            .context(|| self.shown.clone())?;
        self.hand_over(&prepared.by_key(rounds, deleted))
    }

    fn hand_over(&mut self, prepared: &Prepared) -> Result<Option<Committable>> {
        let committable = prepared.to_bytes()?;
        // From here on the committer answers for the files.
        self.closed.clear();
        self.paths.take();
        Ok(Some(committable))
    }

    async fn close_all(&mut self) -> Result<()> {
        let open: Vec<OpenFile> = self.open.drain().map(|(_, f)| f).collect();
        for file in open {
            self.close(file).await?;
        }
        Ok(())
    }

    async fn close_oldest(&mut self) -> Result<()> {
        let oldest = self.open.iter().min_by_key(|(_, f)| f.last_used).map(|(k, _)| k.clone());
        if let Some(file) = oldest.and_then(|k| self.open.remove(&k)) {
            self.close(file).await?;
        }
        Ok(())
    }

    async fn close(&mut self, mut file: OpenFile) -> Result<()> {
        // Many tables may come to this at the same moment.
        let _turn = match file.writer {
            None => FINISHING.acquire().await.ok(),
            Some(_) => None,
        };
        self.write_held(&mut file).await?;
        let Some(mut writer) = file.writer else { return Ok(()) };
        let files = writer.close().await.map_err(|e| self.error(&e))?;
        self.bytes_done += files.iter().map(DataFile::file_size_in_bytes).sum::<u64>();
        self.closed.extend(files);
        Ok(())
    }
}

#[async_trait]
impl SinkWriter for IcebergWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        if batch.kinds.is_some() {
            return Err(Error::unsupported(format!("{}: updates and deletes cannot be written", self.shown))
                .hint("only INSERTs of append-only results are supported"));
        }
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let columns = self
            .setup
            .mapping
            .iter()
            .zip(self.schema.fields())
            .map(|(from, field)| match from.and_then(|i| batch.rows.columns().get(i)) {
                Some(c) => Arc::clone(c),
                None => new_null_array(field.data_type(), rows),
            })
            .collect::<Vec<ArrayRef>>();
        let rows = conform_batch(&columns, rows, &self.schema).context(|| self.shown.clone())?;
        let groups = match &mut self.partitions {
            None => vec![Group { key: Box::default(), values: Values::None, rows }],
            Some(p) => p.split(rows).context(|| self.shown.clone())?,
        };
        for group in groups {
            self.write_group(group).await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Committable>> {
        self.close_all().await?;
        if self.closed.is_empty() {
            return Ok(None);
        }
        let prepared = Prepared::new(&self.setup.table, self.setup.pipeline, epoch, &self.closed)
            .context(|| self.shown.clone())?;
        self.hand_over(&prepared)
    }

    async fn abort(&mut self) {
        self.open.clear();
        self.closed.clear();
        self.rounds.clear();
        for path in self.paths.take() {
            // Best effort: what stays is invisible to every reader, since no snapshot names it.
            let _ = self.setup.table.file_io().delete(path).await;
        }
    }

    fn bytes_written(&self) -> u64 {
        self.bytes_done + self.open.values().map(|f| f.size).sum::<u64>()
    }
}

/// Partition values of a group: made only when a file is opened for them.
enum Values {
    None,
    Row { values: ArrayRef, types: iceberg::spec::StructType },
}

impl Values {
    fn take(self) -> Result<Struct> {
        match self {
            Values::None => Ok(Struct::empty()),
            Values::Row { values, types } => {
                let literals = arrow_struct_to_literal(&values, &types)
                    .map_err(|e| Error::data(format!("partition value: {}", e.message())))?;
                match literals.into_iter().next() {
                    Some(Some(Literal::Struct(s))) => Ok(s),
                    _ => Err(Error::internal("a partition value that is not a struct")),
                }
            }
        }
    }
}

/// Rows of one partition.
struct Group {
    key: Box<[u8]>,
    values: Values,
    rows: RecordBatch,
}

/// Splits batches by partition. (The crate's own splitter makes a literal per row.)
struct Partitioner {
    calculator: PartitionValueCalculator,
    converter: RowConverter,
}

impl Partitioner {
    fn new(spec: &PartitionSpecRef, table: &Table) -> Result<Self> {
        let wrap = |e: iceberg::Error| Error::unsupported(e.message().to_owned());
        let schema = table.metadata().current_schema();
        let calculator = PartitionValueCalculator::try_new(spec, schema).map_err(wrap)?;
        let arrow::datatypes::DataType::Struct(fields) = calculator.partition_arrow_type() else {
            return Err(Error::internal("the partition type is not a struct"));
        };
        let converter =
            RowConverter::new(fields.iter().map(|f| SortField::new(f.data_type().clone())).collect())?;
        Ok(Partitioner { calculator, converter })
    }

    fn split(&mut self, batch: RecordBatch) -> Result<Vec<Group>> {
        let values = self
            .calculator
            .calculate(&batch)
            .map_err(|e| Error::data(format!("partition value: {}", e.message())))?;
        let encoded = self.converter.convert_columns(values.as_struct().columns())?;
        // Row numbers by partition; runs of equal partitions, the common case, cost one comparison a row.
        let mut by_key: HashMap<&[u8], usize> = HashMap::new();
        let mut groups: Vec<(&[u8], Vec<u32>)> = Vec::new();
        let mut last: Option<usize> = None;
        let keys: Vec<arrow::row::Row<'_>> = encoded.iter().collect();
        for (row, key) in (0u32..).zip(&keys) {
            let key: &[u8] = key.as_ref();
            let index = match last.filter(|i| groups.get(*i).is_some_and(|(k, _)| *k == key)) {
                Some(i) => i,
                None => *by_key.entry(key).or_insert_with(|| {
                    groups.push((key, Vec::new()));
                    groups.len() - 1
                }),
            };
            if let Some((_, rows)) = groups.get_mut(index) {
                rows.push(row);
            }
            last = Some(index);
        }
        let single = groups.len() == 1;
        groups
            .into_iter()
            .map(|(key, rows)| {
                let first = rows.first().copied().unwrap_or(0) as usize;
                let types = self.calculator.partition_type().clone();
                let values = Values::Row { values: values.slice(first, 1), types };
                let rows =
                    if single { batch.clone() } else { take_record_batch(&batch, &UInt32Array::from(rows))? };
                Ok(Group { key: key.into(), values, rows })
            })
            .collect()
    }
}
