//! A new snapshot: which files come, which go, and the manifests that say so.
//!
//! ```text
//!  Edits ─► manifests of the files that come ───────────────────────────────────────────┐
//!  head ──► its manifests: those without a file that goes ─► as they are ─► small merged ┼─► manifest list ─► Snapshot
//!                          those with one ─► written again: EXISTING, DELETED ───────────┘
//! ```
//!
//! Rules of the format that matter here: files that come have no sequence number (they inherit the snapshot's), files that stay
//! keep theirs; a manifest holds files of one partition spec; manifests are merged when there are
//! `commit.manifest.min-count-to-merge` of a kind, up to `commit.manifest.target-size-bytes`. Tables with row ids (version 3)
//! only get files: a row id is inherited through the manifest, which therefore may not be written again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{
    DataContentType, DataFile, FormatVersion, MAIN_BRANCH, Manifest, ManifestContentType, ManifestEntryRef,
    ManifestFile, ManifestListWriter, ManifestStatus, ManifestWriter, ManifestWriterBuilder, Operation,
    Snapshot, SnapshotReference, SnapshotRetention, SnapshotSummaryCollector, Summary, TableMetadata,
};
use iceberg::table::Table;
use iceberg::{Error, ErrorKind, Result, TableRequirement, TableUpdate};
use uuid::Uuid;

use super::backend::Update;

/// Manifests that are read at the same time.
const PARALLEL_READS: usize = 8;
const MERGE_FROM: usize = 100;
const MANIFEST_SIZE: u64 = 8 << 20;

/// What a snapshot changes.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Data files that come, of the default partition spec.
    pub added: Vec<DataFile>,
    /// Delete files that come, with their partition spec.
    pub deletes: Vec<(i32, DataFile)>,
    /// Paths of data and delete files that go.
    pub removed: HashSet<String>,
    /// The rows stay the same: files are only rewritten.
    pub is_rewrite: bool,
    /// Said in the summary of the snapshot.
    pub summary: HashMap<String, String>,
}

impl Edits {
    fn operation(&self, takes_data: bool) -> Operation {
        let takes = takes_data || !self.deletes.is_empty();
        match (self.is_rewrite, takes, self.added.is_empty()) {
            (true, ..) => Operation::Replace,
            (false, false, _) => Operation::Append,
            (false, true, true) => Operation::Delete,
            (false, true, false) => Operation::Overwrite,
        }
    }
}

/// A snapshot that is written, and not in the table yet.
#[derive(Debug)]
pub(super) struct Produced {
    /// What makes it the head of the table.
    pub update: Update,
    /// Its id.
    pub snapshot: i64,
    /// The manifests and the list that were written for it.
    pub written: Vec<String>,
}

/// Writes a snapshot on top of the head of `table`. `metadata` is what the table will be otherwise (with the columns that come
/// in the same commit).
///
/// # Errors
/// `CatalogCommitConflicts` if a file that goes is not in the table; those of the storage.
pub(super) async fn produce(table: &Table, metadata: &TableMetadata, edits: Edits) -> Result<Produced> {
    let mut producer = Producer {
        table,
        metadata,
        snapshot: new_snapshot_id(metadata),
        run: Uuid::now_v7(),
        written: Vec::new(),
        summary: SnapshotSummaryCollector::default(),
    };
    let written = producer.produce(edits).await;
    match written {
        Ok(update) => Ok(Produced { update, snapshot: producer.snapshot, written: producer.written }),
        Err(e) => {
            discard(table, &producer.written).await;
            Err(e)
        }
    }
}

/// Deletes files that nothing names. Best effort.
pub(super) async fn discard(table: &Table, files: &[String]) {
    for file in files {
        let _ = table.file_io().delete(file).await;
    }
}

/// Whether the table holds one of the files.
///
/// # Errors
/// Those of the storage.
pub(super) async fn holds_any(table: &Table, paths: &HashSet<&str>) -> Result<bool> {
    let manifests = manifests(table).await?;
    let data = manifests.into_iter().filter(|m| m.content == ManifestContentType::Data).collect();
    let mut read = load(table, data);
    while let Some((_, manifest)) = read.try_next().await? {
        if manifest.entries().iter().any(|e| e.is_alive() && paths.contains(e.file_path())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The manifests of the head of a table.
///
/// # Errors
/// Those of the storage.
pub(super) async fn manifests(table: &Table) -> Result<Vec<ManifestFile>> {
    match table.metadata().current_snapshot() {
        Some(head) => Ok(table.manifest_list_reader(head).load().await?.entries().to_vec()),
        None => Ok(Vec::new()),
    }
}

/// Reads manifests, in their order.
pub(super) fn load(
    table: &Table,
    manifests: Vec<ManifestFile>,
) -> impl futures::Stream<Item = Result<(ManifestFile, Manifest)>> + Unpin + use<> {
    let io = table.file_io().clone();
    let read = move |file: ManifestFile| {
        let io = io.clone();
        async move { file.load_manifest(&io).await.map(|manifest| (file, manifest)) }
    };
    Box::pin(futures::stream::iter(manifests).map(read).buffered(PARALLEL_READS))
}

fn new_snapshot_id(metadata: &TableMetadata) -> i64 {
    loop {
        let (a, b) = Uuid::new_v4().as_u64_pair();
        // 63 bits: ids are not negative.
        let id = ((a ^ b) >> 1).cast_signed();
        if metadata.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::DataInvalid, why)
}

struct Producer<'a> {
    table: &'a Table,
    metadata: &'a TableMetadata,
    snapshot: i64,
    /// Part of file names.
    run: Uuid,
    written: Vec<String>,
    summary: SnapshotSummaryCollector,
}

impl Producer<'_> {
    async fn produce(&mut self, edits: Edits) -> Result<Update> {
        let has_row_ids = self.metadata.format_version() == FormatVersion::V3;
        if has_row_ids && !(edits.removed.is_empty() && edits.deletes.is_empty()) {
            return Err(Error::new(
                ErrorKind::FeatureUnsupported,
                "rows of a table of format version 3 can be added, and not be changed or taken away",
            ));
        }
        let head = manifests(self.table).await?;
        let (mut all, takes_data) = self.without(head, &edits.removed).await?;
        if !has_row_ids {
            all = self.merged(all).await?;
        }
        let operation = edits.operation(takes_data);
        let spec = self.metadata.default_partition_spec_id();
        let mut come: BTreeMap<(i32, bool), Vec<DataFile>> = BTreeMap::new();
        for file in edits.added {
            come.entry((spec, false)).or_default().push(file);
        }
        for (spec, file) in edits.deletes {
            come.entry((spec, true)).or_default().push(file);
        }
        for ((spec, are_deletes), files) in come {
            all.push(self.manifest_of(spec, are_deletes, files).await?);
        }
        self.finish(all, operation, edits.summary).await
    }

    /// The manifests without the files that go, and whether data files are among those.
    async fn without(
        &mut self,
        head: Vec<ManifestFile>,
        removed: &HashSet<String>,
    ) -> Result<(Vec<ManifestFile>, bool)> {
        // A manifest that only tells of files that went tells it of the snapshot that it came with.
        let live = head.into_iter().filter(|m| m.has_added_files() || m.has_existing_files()).collect();
        if removed.is_empty() {
            return Ok((live, false));
        }
        let (mut all, mut found, mut takes_data) = (Vec::new(), 0, false);
        let mut read = load(self.table, live);
        while let Some((file, manifest)) = read.try_next().await? {
            let goes = |e: &ManifestEntryRef| e.is_alive() && removed.contains(e.file_path());
            if !manifest.entries().iter().any(goes) {
                all.push(file);
                continue;
            }
            let mut writer = self.writer(file.partition_spec_id, file.content)?;
            for entry in manifest.entries().iter().filter(|e| e.is_alive()) {
                if goes(entry) {
                    found += 1;
                    takes_data |= entry.content_type() == DataContentType::Data;
                    self.count(file.partition_spec_id, entry.data_file(), false)?;
                    let sequence = entry.sequence_number().unwrap_or(0);
                    writer.add_delete_file(
                        entry.data_file().clone(),
                        sequence,
                        entry.file_sequence_number,
                    )?;
                } else {
                    stays(&mut writer, entry)?;
                }
            }
            all.push(writer.write_manifest_file().await?);
        }
        if found < removed.len() {
            return Err(Error::new(
                ErrorKind::CatalogCommitConflicts,
                format!(
                    "{} of the files to be replaced are not in the table any more",
                    removed.len() - found
                ),
            ));
        }
        Ok((all, takes_data))
    }

    /// Few big manifests instead of many small ones, so that reading a table does not grow with the number of its commits.
    async fn merged(&mut self, all: Vec<ManifestFile>) -> Result<Vec<ManifestFile>> {
        let property = |key: &str| self.metadata.properties().get(key).map(String::as_str);
        let least =
            property("commit.manifest.min-count-to-merge").and_then(|v| v.parse().ok()).unwrap_or(MERGE_FROM);
        let size = property("commit.manifest.target-size-bytes")
            .and_then(|v| v.parse().ok())
            .unwrap_or(MANIFEST_SIZE);
        if property("commit.manifest-merge.enabled").is_some_and(|v| v.eq_ignore_ascii_case("false")) {
            return Ok(all);
        }
        let mut kinds: BTreeMap<(i32, bool), Vec<ManifestFile>> = BTreeMap::new();
        for file in all {
            let kind = (file.partition_spec_id, file.content == ManifestContentType::Deletes);
            kinds.entry(kind).or_default().push(file);
        }
        let mut kept = Vec::new();
        for ((spec, _), files) in kinds {
            if files.len() < least.max(2) {
                kept.extend(files);
                continue;
            }
            for group in groups(files, size) {
                match group.as_slice() {
                    [] => {}
                    [_] => kept.extend(group),
                    [first, ..] => {
                        let mut writer = self.writer(spec, first.content)?;
                        let mut read = load(self.table, group);
                        while let Some((_, manifest)) = read.try_next().await? {
                            let live = manifest.entries().iter().filter(|e| e.is_alive());
                            live.into_iter().try_for_each(|entry| stays(&mut writer, entry))?;
                        }
                        kept.push(writer.write_manifest_file().await?);
                    }
                }
            }
        }
        Ok(kept)
    }

    /// A manifest of files that come.
    async fn manifest_of(
        &mut self,
        spec: i32,
        are_deletes: bool,
        files: Vec<DataFile>,
    ) -> Result<ManifestFile> {
        let content = if are_deletes { ManifestContentType::Deletes } else { ManifestContentType::Data };
        let mut writer = self.writer(spec, content)?;
        for file in files {
            self.count(spec, &file, true)?;
            // No sequence number: that of the snapshot, which is only known when it is in the table.
            writer.add_file(file, -1)?;
        }
        writer.write_manifest_file().await
    }

    fn count(&mut self, spec: i32, file: &DataFile, comes: bool) -> Result<()> {
        let schema = Arc::clone(self.metadata.current_schema());
        let spec =
            self.metadata.partition_spec_by_id(spec).ok_or_else(|| invalid("an unknown partition spec"))?;
        if comes {
            self.summary.add_file(file, schema, Arc::clone(spec));
        } else {
            self.summary.remove_file(file, schema, Arc::clone(spec));
        }
        Ok(())
    }

    fn path(&mut self, name: &str) -> String {
        let folder = match self.metadata.properties().get("write.metadata.path") {
            Some(path) => path.trim_end_matches('/').to_owned(),
            None => format!("{}/metadata", self.metadata.location().trim_end_matches('/')),
        };
        let path = format!("{folder}/{name}.avro");
        self.written.push(path.clone());
        path
    }

    fn writer(&mut self, spec: i32, content: ManifestContentType) -> Result<ManifestWriter> {
        let path = self.path(&format!("{}-m{}", self.run, self.written.len()));
        let spec =
            self.metadata.partition_spec_by_id(spec).ok_or_else(|| invalid("an unknown partition spec"))?;
        let builder = ManifestWriterBuilder::new(
            self.table.file_io().new_output(path)?,
            Some(self.snapshot),
            Arc::clone(self.metadata.current_schema()),
            spec.as_ref().clone(),
        );
        Ok(match (self.metadata.format_version(), content) {
            (FormatVersion::V1, ManifestContentType::Data) => builder.build_v1(),
            (FormatVersion::V1, ManifestContentType::Deletes) => {
                return Err(Error::new(
                    ErrorKind::FeatureUnsupported,
                    "a table of format version 1 has no delete files; its version 2 has",
                ));
            }
            (FormatVersion::V2, ManifestContentType::Data) => builder.build_v2_data(),
            (FormatVersion::V2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
            (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
            (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
        })
    }

    /// The list of the manifests, the snapshot, and what makes it the head.
    async fn finish(
        &mut self,
        manifests: Vec<ManifestFile>,
        operation: Operation,
        told: HashMap<String, String>,
    ) -> Result<Update> {
        let metadata = self.metadata;
        let (parent, sequence) = (metadata.current_snapshot_id(), metadata.next_sequence_number());
        let list = self.path(&format!("snap-{}-0-{}", self.snapshot, self.run));
        let output = self.table.file_io().new_output(list.clone())?.writer().await?;
        let first_row = metadata.next_row_id();
        let mut writer = match metadata.format_version() {
            FormatVersion::V1 => ManifestListWriter::v1(output, self.snapshot, parent),
            FormatVersion::V2 => ManifestListWriter::v2(output, self.snapshot, parent, sequence),
            FormatVersion::V3 => {
                ManifestListWriter::v3(output, self.snapshot, parent, sequence, Some(first_row))
            }
        };
        writer.add_manifests(manifests.into_iter())?;
        let next_row = writer.next_row_id();
        writer.close().await?;
        // What was counted wins over what a user says.
        let mut properties = told;
        properties.extend(self.summary.build());
        totals(&mut properties, metadata.current_snapshot().map(|s| s.summary()));
        let last = metadata.last_updated_ms();
        let snapshot = Snapshot::builder()
            .with_manifest_list(list)
            .with_snapshot_id(self.snapshot)
            .with_parent_snapshot_id(parent)
            .with_sequence_number(sequence)
            .with_summary(Summary { operation, additional_properties: properties })
            .with_schema_id(metadata.current_schema_id())
            // Clocks of several machines differ; those of snapshots do not go back.
            .with_timestamp_ms(chrono::Utc::now().timestamp_millis().max(last));
        let snapshot = match next_row {
            Some(next) => snapshot.with_row_range(first_row, next.saturating_sub(first_row)).build(),
            None => snapshot.build(),
        };
        let retention = SnapshotRetention::branch(None, None, None);
        Ok(Update {
            requirements: vec![
                TableRequirement::UuidMatch { uuid: metadata.uuid() },
                TableRequirement::RefSnapshotIdMatch { r#ref: MAIN_BRANCH.to_owned(), snapshot_id: parent },
            ],
            changes: vec![
                TableUpdate::AddSnapshot { snapshot },
                TableUpdate::SetSnapshotRef {
                    ref_name: MAIN_BRANCH.to_owned(),
                    reference: SnapshotReference::new(self.snapshot, retention),
                },
            ],
        })
    }
}

/// A file that stays keeps where it comes from.
fn stays(writer: &mut ManifestWriter, entry: &ManifestEntryRef) -> Result<()> {
    debug_assert_ne!(entry.status(), ManifestStatus::Deleted);
    let (Some(snapshot), Some(sequence)) = (entry.snapshot_id(), entry.sequence_number()) else {
        return Err(invalid(format!("the manifest entry of {} has no snapshot", entry.file_path())));
    };
    let file_sequence = entry.file_sequence_number.or(Some(sequence));
    writer.add_existing_file(entry.data_file().clone(), snapshot, sequence, file_sequence)
}

/// Neighbours, together up to `size` bytes.
fn groups(files: Vec<ManifestFile>, size: u64) -> Vec<Vec<ManifestFile>> {
    let mut groups: Vec<Vec<ManifestFile>> = Vec::new();
    let mut filled = u64::MAX;
    for file in files {
        let length = file.manifest_length.unsigned_abs();
        match groups.last_mut() {
            Some(group) if filled.saturating_add(length) <= size => {
                filled += length;
                group.push(file);
            }
            _ => {
                filled = length;
                groups.push(vec![file]);
            }
        }
    }
    groups
}

/// `total-x` = `total-x` of the parent + `added-x` − `removed-x`, where the parent tells it.
fn totals(properties: &mut HashMap<String, String>, parent: Option<&Summary>) {
    const SUMS: &[(&str, &str, &str)] = &[
        ("total-data-files", "added-data-files", "deleted-data-files"),
        ("total-delete-files", "added-delete-files", "removed-delete-files"),
        ("total-records", "added-records", "deleted-records"),
        ("total-files-size", "added-files-size", "removed-files-size"),
        ("total-position-deletes", "added-position-deletes", "removed-position-deletes"),
        ("total-equality-deletes", "added-equality-deletes", "removed-equality-deletes"),
    ];
    for (total, added, removed) in SUMS {
        let before = match parent {
            None => Some(0),
            Some(s) => s.additional_properties.get(*total).and_then(|v| v.parse::<u64>().ok()),
        };
        let number = |key: &str| properties.get(key).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        let after = before.map(|n| n.saturating_add(number(added)).saturating_sub(number(removed)));
        match after {
            Some(n) => properties.insert((*total).to_owned(), n.to_string()),
            None => properties.remove(*total),
        };
    }
}
