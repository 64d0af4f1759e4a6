//! Small files and files with deleted rows become few big ones.
//!
//! ```text
//!  head ─► per partition: files below ¾ of the target size, files with deletes ─► groups of about the target size
//!  group ─► rows that live ─► data files ─► one commit: the new ones for the old ones, and for the delete files that
//!                                           named nothing else
//! ```
//!
//! No row changes, and the snapshot says so (`replace`). Rows keep the order of their files, unless the table has one. If another process has taken rows
//! of a file away while it was being rewritten, the group is given up and found again; rows that were added meanwhile do
//! not disturb it. Jobs of this process wait for their turn.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::TryStreamExt;
use iceberg::scan::FileScanTask;
use iceberg::spec::{DataContentType, DataFile, FormatVersion, PrimitiveType, TableMetadata, Type};
use iceberg::table::Table;
use uuid::Uuid;

use super::super::commit::{Change, Content, Landed, Target, data_files};
use super::super::deletes::position_paths;
use super::super::mark::{Mark, ancestry};
use super::super::prepared::Prepared;
use super::super::produce::{Edits, discard, load, manifests};
use super::super::scan::{Scan, all_columns};
use super::super::sink::{WriteOptions, writer_properties};
use super::super::turns::turn;
use super::super::types::to_logical;
use super::super::writer::{IcebergWriter, WriteSetup};
use super::{Maintained, Maintenance};
use crate::edges::SinkWriter;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::stream::{ChangeBatch, Epoch};

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8192;
/// How often a table is looked at anew without getting on.
const ROUNDS: usize = 3;
/// How long commits of rows wait at a time, to the end of a group.
const TURN: Duration = Duration::from_secs(2);
/// Bytes of rows that are put in order together, where the table has one.
const RUN: usize = 256 << 20;
/// Target sizes that are rewritten in one commit.
const GROUP: u64 = 2;

/// A partition, by the text of its values.
type Partition = (i32, String);

/// Files that become one or few.
struct Group {
    tasks: Vec<FileScanTask>,
}

/// Puts files together.
///
/// # Errors
/// External; Unsupported for what cannot be read.
pub(super) async fn compact(target: &Target, what: &Maintenance, done: &mut Maintained) -> Result<()> {
    let mut in_vain = 0;
    while in_vain < ROUNDS {
        let turn = turn(&target.lake, &target.ident).await;
        let began = Instant::now();
        let table = target.lake.load(&target.ident).await?;
        if let Some(why) = refused(&table) {
            done.skipped.push(format!("its files stay as they are: {why}"));
            return Ok(());
        }
        let groups = groups(target, &table, what).await?;
        if groups.is_empty() {
            return Ok(());
        }
        if what.dry_run {
            let files = groups.iter().flat_map(|g| &g.tasks);
            done.compacted_bytes += files.clone().map(|t| t.file_size_in_bytes).sum::<u64>();
            done.compacted.0 += files.count();
            return Ok(());
        }
        let mut saved = 0;
        for group in &groups {
            saved += rewrite(target, &table, group, what, done).await?;
            if began.elapsed() > TURN {
                break;
            }
        }
        in_vain = if saved == 0 { in_vain + 1 } else { 0 };
        drop(turn);
        // Those who wait go first.
        tokio::task::yield_now().await;
    }
    done.skipped.push("files whose rows are taken away by others all the time".to_owned());
    Ok(())
}

/// Why the files of a table are not rewritten.
fn refused(table: &Table) -> Option<&'static str> {
    let metadata = table.metadata();
    if metadata.format_version() == FormatVersion::V3 {
        return Some("rows of format version 3 have ids that would be lost");
    }
    let has_time = |ty: &Type| matches!(ty, Type::Primitive(PrimitiveType::Time));
    fn any(ty: &Type, is: &dyn Fn(&Type) -> bool) -> bool {
        is(ty)
            || match ty {
                Type::Struct(s) => s.fields().iter().any(|f| any(&f.field_type, is)),
                Type::List(l) => any(&l.element_field.field_type, is),
                Type::Map(m) => any(&m.key_field.field_type, is) || any(&m.value_field.field_type, is),
                Type::Primitive(_) => false,
            }
    }
    let fields = metadata.current_schema().as_struct().fields();
    fields
        .iter()
        .any(|f| any(&f.field_type, &has_time))
        .then_some("they may hold microseconds of a TIME, which SQL does not have")
}

fn scan(target: &Target, table: &Table) -> Result<Arc<Scan>> {
    let metadata = table.metadata();
    let fields = metadata.current_schema().as_struct().fields();
    let fields = fields.iter().map(|f| Ok(to_logical(f)?.to_field(&f.name))).collect::<Result<Vec<_>>>()?;
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    Scan::at(table.clone(), target.lake.shown(&target.ident), metadata.current_snapshot_id(), schema)
}

/// The files that are worth it.
async fn groups(target: &Target, table: &Table, what: &Maintenance) -> Result<Vec<Group>> {
    let size = target_size(table, what)?;
    let mut partitions: HashMap<String, Partition> = HashMap::new();
    let external = |e: iceberg::Error| target.lake.error("its manifests", &e);
    let mut read = load(table, manifests(table).await.map_err(external)?);
    while let Some((file, manifest)) = read.try_next().await.map_err(external)? {
        for entry in manifest.entries().iter().filter(|e| e.is_alive()) {
            if entry.content_type() == DataContentType::Data {
                let partition = (file.partition_spec_id, format!("{:?}", entry.data_file().partition()));
                partitions.insert(entry.file_path().to_owned(), partition);
            }
        }
    }
    let mut candidates: BTreeMap<Partition, Vec<FileScanTask>> = BTreeMap::new();
    for task in scan(target, table)?.plan(&[]).await? {
        let is_small = task.file_size_in_bytes < size / 4 * 3;
        if let Some(partition) = partitions.get(&task.data_file_path)
            && (is_small || !task.deletes.is_empty())
        {
            candidates.entry(partition.clone()).or_default().push(task);
        }
    }
    let mut groups = Vec::new();
    for tasks in candidates.into_values() {
        let mut filled = u64::MAX;
        let mut of_partition: Vec<Group> = Vec::new();
        for task in tasks {
            let bytes = task.file_size_in_bytes;
            match of_partition.last_mut() {
                Some(group) if filled.saturating_add(bytes) <= size.saturating_mul(GROUP) => {
                    filled += bytes;
                    group.tasks.push(task);
                }
                _ => {
                    filled = bytes;
                    of_partition.push(Group { tasks: vec![task] });
                }
            }
        }
        groups.extend(of_partition.into_iter().filter(|g| is_worth_it(g, what)));
    }
    Ok(groups)
}

/// Enough small files, or deletes that every reader has to apply.
fn is_worth_it(group: &Group, what: &Maintenance) -> bool {
    let deletes: HashSet<&str> =
        group.tasks.iter().flat_map(|t| t.deletes.iter().map(|d| d.file_path.as_str())).collect();
    group.tasks.len() >= what.min_input_files.max(2) || deletes.len() >= what.min_input_files.max(1)
}

fn target_size(table: &Table, what: &Maintenance) -> Result<u64> {
    match what.target_file_size {
        Some(bytes) => Ok(bytes),
        None => Ok(writer_properties(&WriteOptions::default(), table.metadata().properties())?.1 as u64),
    }
}

/// Rewrites a group; gives how many files there are less.
async fn rewrite(
    target: &Target,
    table: &Table,
    group: &Group,
    what: &Maintenance,
    done: &mut Maintained,
) -> Result<usize> {
    let metadata = table.metadata();
    let (properties, size) = writer_properties(&WriteOptions::default(), metadata.properties())?;
    let columns = metadata.current_schema().as_struct().fields().len();
    let setup = Arc::new(WriteSetup {
        lake: Arc::clone(&target.lake),
        table: table.clone(),
        pipeline: Uuid::now_v7(),
        run: Uuid::now_v7(),
        properties,
        target_file_size: what.target_file_size.map_or(size, |s| usize::try_from(s).unwrap_or(size)),
        mapping: (0..columns).map(Some).collect(),
    });
    let mut writer = IcebergWriter::new(setup, 0)?.sorted_in_runs(RUN);
    let written = write(target, table, group, &mut writer).await;
    let prepared = match written {
        Ok(prepared) => prepared,
        Err(e) => {
            writer.abort().await;
            return Err(e);
        }
    };
    failpoint("compaction-written");
    let (inputs, outputs) = (group.tasks.len(), prepared.as_ref().map_or(0, |p| p.paths.len()));
    let bytes: u64 = group.tasks.iter().map(|t| t.file_size_in_bytes).sum();
    let shown = target.lake.shown(&target.ident);
    let mark = Mark { pipeline: Uuid::now_v7(), epoch: 1, table: metadata.uuid(), continues: None };
    let change = Change {
        what: "compaction".to_owned(),
        judge: &mark,
        summary: mark.summary(),
        properties: HashMap::new(),
        evolution: None,
        recovered: false,
    };
    let mut content = Rewritten::new(shown, table, group, prepared.into_iter().collect()).await?;
    let deletes = content.deletes.len();
    let landed = target.commit(&change, &mut content).await;
    failpoint("compaction-committed");
    match landed? {
        Landed::Committed => {
            done.compacted = (done.compacted.0 + inputs, done.compacted.1 + outputs);
            done.compacted_bytes += bytes;
            Ok((inputs + deletes).saturating_sub(outputs))
        }
        Landed::Diverged => {
            let paths: Vec<String> = content.files.iter().flat_map(|p| p.paths.clone()).collect();
            discard(table, &paths).await;
            Ok(0)
        }
    }
}

/// The rows of the group that live, into files.
async fn write(
    target: &Target,
    table: &Table,
    group: &Group,
    writer: &mut IcebergWriter,
) -> Result<Option<Prepared>> {
    let scan = scan(target, table)?;
    let columns = all_columns(scan.schema());
    for task in &group.tasks {
        let mut rows = scan.read(task.clone(), &columns, BATCH_ROWS, None);
        while let Some(batch) = rows.try_next().await? {
            writer.write(ChangeBatch::insert_only(batch)).await?;
        }
    }
    let prepared = writer.prepare(Epoch(0)).await?;
    prepared.map(|bytes| Prepared::from_bytes(&bytes)).transpose()
}

/// New files for old ones.
struct Rewritten {
    shown: String,
    /// The head that the rows were read from.
    base: i64,
    /// Data files that go.
    inputs: HashSet<String>,
    /// Delete files that named nothing else.
    deletes: HashSet<String>,
    files: Vec<Prepared>,
}

impl Rewritten {
    async fn new(shown: String, table: &Table, group: &Group, files: Vec<Prepared>) -> Result<Self> {
        let inputs: HashSet<String> = group.tasks.iter().map(|t| t.data_file_path.clone()).collect();
        let mut deletes = HashSet::new();
        for delete in group.tasks.iter().flat_map(|t| &t.deletes) {
            if delete.file_type == DataContentType::PositionDeletes && !deletes.contains(&delete.file_path) {
                let named = position_paths(table, &delete.file_path).await?;
                if named.iter().all(|path| inputs.contains(path)) {
                    deletes.insert(delete.file_path.clone());
                }
            }
        }
        let base = table
            .metadata()
            .current_snapshot_id()
            .ok_or_else(|| Error::internal("files without a snapshot"))?;
        Ok(Rewritten { shown, base, inputs, deletes, files })
    }

    /// Whether nobody has taken rows of the inputs away since they were read.
    async fn still_holds(&self, table: &Table) -> Result<bool> {
        let external = |e: iceberg::Error| Error::external(format!("{}: {}", self.shown, e.message()));
        let mut since = HashSet::new();
        let mut found = false;
        for snapshot in ancestry(table.metadata()) {
            if snapshot.snapshot_id() == self.base {
                found = true;
                break;
            }
            since.insert(snapshot.snapshot_id());
        }
        if !found {
            // Rolled back.
            return Ok(false);
        }
        if since.is_empty() {
            return Ok(true);
        }
        let mut live = HashSet::new();
        let mut read = load(table, manifests(table).await.map_err(external)?);
        while let Some((_, manifest)) = read.try_next().await.map_err(external)? {
            for entry in manifest.entries().iter().filter(|e| e.is_alive()) {
                let is_new = entry.snapshot_id().is_some_and(|id| since.contains(&id));
                match entry.content_type() {
                    DataContentType::Data => {
                        live.insert(entry.file_path().to_owned());
                    }
                    DataContentType::PositionDeletes if is_new => {
                        let named = position_paths(table, entry.file_path()).await?;
                        if named.iter().any(|path| self.inputs.contains(path)) {
                            return Ok(false);
                        }
                    }
                    // Which rows they take is only known by reading them.
                    DataContentType::EqualityDeletes if is_new => return Ok(false),
                    _ => {}
                }
            }
        }
        Ok(self.inputs.iter().all(|path| live.contains(path)))
    }
}

#[async_trait]
impl Content for Rewritten {
    async fn edits(&mut self, table: &Table, metadata: &TableMetadata) -> Result<Option<Edits>> {
        if !self.still_holds(table).await? {
            return Ok(None);
        }
        let added: Vec<DataFile> = data_files(&self.shown, &self.files, metadata)?;
        let removed = self.inputs.union(&self.deletes).cloned().collect();
        Ok(Some(Edits { added, removed, is_rewrite: true, ..Edits::default() }))
    }
}
