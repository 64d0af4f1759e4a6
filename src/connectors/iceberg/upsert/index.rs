//! Where the row of each key is.
//!
//! ```text
//!  head of the table ─► sync ─► key → (file, row)      read from the key columns of its files, once; then from commit to commit
//!  files of a commit ─► add: the new place of each key ──┐
//!  deleted keys ──────► remove ──────────────────────────┴─► places that rows have left: position deletes
//! ```
//!
//! State: 25 bytes and some slack a key, the paths of the files, and what a commit under way has changed, to take it back if
//! the commit fails. Nothing of it is stored: the table says all of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::Schema;
use futures::TryStreamExt;
use hashbrown::HashMap as Map;
use hashbrown::hash_map::Entry;
use iceberg::spec::{DataContentType, DataFile, SchemaRef, Struct};
use iceberg::table::Table;

use super::super::deletes::DeleteFiles;
use super::super::mark::ancestry;
use super::super::produce::{load, manifests};
use super::super::scan::{Scan, whole_file};
use super::keys::{Key, KeyColumns};
use crate::error::{Error, Result, ResultExt};

/// A row of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    file: u32,
    row: u32,
}

/// A data file.
#[derive(Debug)]
struct IndexedFile {
    path: String,
    spec: i32,
    partition: Struct,
    /// It is in the table.
    is_live: bool,
}

/// Rows of a data file, by its path, that a commit takes away.
#[derive(Debug)]
pub(in super::super) struct Left<'a> {
    pub path: &'a str,
    pub spec: i32,
    pub partition: &'a Struct,
    /// Ascending.
    pub rows: Vec<u32>,
}

/// The index of one table.
#[derive(Debug)]
pub(in super::super) struct KeyIndex {
    shown: String,
    columns: KeyColumns,
    places: Map<Key, Place>,
    files: Vec<IndexedFile>,
    numbers: HashMap<String, u32>,
    /// Delete files that are accounted for.
    deletes: HashSet<String>,
    /// The snapshot that all this is of; `None` before anything was read.
    head: Option<Option<i64>>,
    /// What the commit under way has changed, in order.
    undo: Vec<(Key, Option<Place>)>,
    /// Places that the commit under way takes away.
    left: Vec<Place>,
    /// Files before the commit under way.
    files_before: usize,
}

impl KeyIndex {
    /// An empty one.
    pub fn new(shown: String, columns: KeyColumns) -> Self {
        KeyIndex {
            shown,
            columns,
            places: Map::new(),
            files: Vec::new(),
            numbers: HashMap::new(),
            deletes: HashSet::new(),
            head: None,
            undo: Vec::new(),
            left: Vec::new(),
            files_before: 0,
        }
    }

    /// Whether its keys are those of these columns. A column that has become wider gives other ones.
    pub fn is_of(&self, columns: &KeyColumns) -> bool {
        self.columns.reads_as(columns)
    }

    /// Brings it to the head of a table that others may have changed.
    ///
    /// # Errors
    /// External; Unsupported for files that cannot be read.
    pub async fn sync(&mut self, table: &Table) -> Result<()> {
        let head = table.metadata().current_snapshot_id();
        if self.head == Some(head) {
            return Ok(());
        }
        let shown = self.shown.clone();
        let external = |e: iceberg::Error| Error::external(format!("{shown}: {}", e.message()));
        let (mut data, mut deletes): (HashMap<String, (i32, Struct)>, HashSet<String>) = Default::default();
        let mut read = load(table, manifests(table).await.map_err(external)?);
        while let Some((file, manifest)) = read.try_next().await.map_err(external)? {
            for entry in manifest.entries().iter().filter(|e| e.is_alive()) {
                let path = entry.file_path().to_owned();
                match entry.content_type() {
                    DataContentType::Data => {
                        data.insert(path, (file.partition_spec_id, entry.data_file().partition().clone()));
                    }
                    _ => {
                        deletes.insert(path);
                    }
                }
            }
        }
        // After somebody else's deletes and after a rollback, which places are left is only known by reading.
        let continues = match self.head {
            None => false,
            Some(None) => true,
            Some(Some(known)) => ancestry(table.metadata()).any(|s| s.snapshot_id() == known),
        };
        if !continues || !deletes.is_subset(&self.deletes) {
            self.places.clear();
            self.files.clear();
            self.numbers.clear();
        }
        for file in &mut self.files {
            file.is_live = data.contains_key(&file.path);
        }
        data.retain(|path, _| !self.numbers.contains_key(path));
        let scan = Scan::at(table.clone(), shown.clone(), head, Arc::new(Schema::empty()))?;
        let delete_files = DeleteFiles::default();
        for mut task in scan.plan(&[]).await? {
            let Some((spec, partition)) = data.remove(&task.data_file_path) else { continue };
            task.schema = Arc::clone(table.metadata().current_schema());
            let number = self.number(&task.data_file_path, spec, partition)?;
            let places = &mut self.places;
            let each = |row, key| {
                places.insert(key, Place { file: number, row: small(row)? });
                Ok(())
            };
            self.columns.read(table, task, &delete_files, each).await.context(|| shown.clone())?;
        }
        self.deletes = deletes;
        self.head = Some(head);
        self.files_before = self.files.len();
        Ok(())
    }

    fn number(&mut self, path: &str, spec: i32, partition: Struct) -> Result<u32> {
        let number = u32::try_from(self.files.len()).map_err(|_| Error::internal("too many data files"))?;
        self.files.push(IndexedFile { path: path.to_owned(), spec, partition, is_live: true });
        self.numbers.insert(path.to_owned(), number);
        Ok(number)
    }

    fn is_live(&self, place: Place) -> bool {
        self.files.get(place.file as usize).is_some_and(|f| f.is_live)
    }

    /// Rows of the commit under way: each takes the place of the row of its key.
    ///
    /// # Errors
    /// External.
    pub(super) async fn add(
        &mut self,
        table: &Table,
        schema: &SchemaRef,
        file: &DataFile,
        spec: i32,
    ) -> Result<()> {
        let number = self.number(file.file_path(), spec, file.partition().clone())?;
        let task = whole_file(file.file_path(), file.file_size_in_bytes(), schema);
        let (places, undo, left, files) = (&mut self.places, &mut self.undo, &mut self.left, &self.files);
        let each = |row, key| {
            let place = Place { file: number, row: small(row)? };
            let before = places.insert(key, place);
            undo.push((key, before));
            left.extend(before.filter(|p| files.get(p.file as usize).is_some_and(|f| f.is_live)));
            Ok(())
        };
        self.columns.read(table, task, &DeleteFiles::default(), each).await
    }

    /// Keys that the commit under way deletes, from a file that holds them.
    ///
    /// # Errors
    /// External.
    pub(super) async fn remove(
        &mut self,
        table: &Table,
        schema: &SchemaRef,
        path: &str,
        bytes: u64,
    ) -> Result<()> {
        let (places, undo, mut gone) = (&mut self.places, &mut self.undo, Vec::new());
        let each = |_, key| {
            if let Entry::Occupied(entry) = places.entry(key) {
                let place = entry.remove();
                undo.push((key, Some(place)));
                gone.push(place);
            }
            Ok(())
        };
        self.columns.read(table, whole_file(path, bytes, schema), &DeleteFiles::default(), each).await?;
        gone.retain(|place| self.is_live(*place));
        self.left.extend(gone);
        Ok(())
    }

    /// What the commit under way takes away, by file, sorted by path.
    pub(super) fn left(&self) -> Vec<Left<'_>> {
        let mut by_file: HashMap<u32, Vec<u32>> = HashMap::new();
        for place in &self.left {
            by_file.entry(place.file).or_default().push(place.row);
        }
        let mut all: Vec<Left<'_>> = by_file
            .into_iter()
            .filter_map(|(number, mut rows)| {
                let file = self.files.get(number as usize)?;
                rows.sort_unstable();
                Some(Left { path: &file.path, spec: file.spec, partition: &file.partition, rows })
            })
            .collect();
        all.sort_by(|a, b| a.path.cmp(b.path));
        all
    }

    /// The commit under way is in the table, with these delete files, as this snapshot.
    pub(super) fn committed(&mut self, snapshot: i64, deletes: Vec<String>) {
        self.undo.clear();
        self.left.clear();
        self.deletes.extend(deletes);
        self.head = Some(Some(snapshot));
        self.files_before = self.files.len();
    }

    /// The commit under way is not in the table, as far as is known.
    pub(super) fn roll_back(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            match before {
                Some(place) => self.places.insert(key, place),
                None => self.places.remove(&key),
            };
        }
        for file in self.files.drain(self.files_before..) {
            self.numbers.remove(&file.path);
        }
        self.left.clear();
    }
}

fn small(row: u64) -> Result<u32> {
    u32::try_from(row).map_err(|_| Error::unsupported("a data file with more than 4 billion rows"))
}
