//! Rows that replace each other by key, and rows that are taken away: merge-on-read with position deletes.
//!
//! ```text
//!  changes ══ key ══► UpsertWriter ─► data files + deleted keys ─┐ (per epoch)
//!                                                                ▼
//!  KeyIndex: key → (file, row) ◄── add, remove ── Upsert ─► data files + position delete files: one snapshot
//!      └ read from the table once, and again when others have changed it
//! ```
//!
//! Which row a change replaces is looked up when its epoch is committed, against exactly the head that the commit requires: a
//! compaction that comes in between moves rows, and the places are found anew. Equality deletes are never written: every
//! reader would pay for them at every read.
//!
//! The index lives in the memory of the process that commits, 25 bytes a key and the room that a hash table keeps free (as much again at most), and is made from the key columns
//! of the table when the first changes come.

mod index;
mod keys;
pub(super) mod position_deletes;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use iceberg::spec::{DataContentType, DataFile, TableMetadata};
use iceberg::table::Table;

use super::commit::{Content, data_files};
use super::prepared::Prepared;
use super::produce::Edits;
use crate::error::{Result, ResultExt};

pub(super) use index::{KeyIndex, Left};
pub(super) use keys::KeyColumns;
pub(super) use writer::UpsertWriter;

/// Changes by key.
pub(super) struct Upsert<'a> {
    /// The table in messages.
    pub shown: &'a str,
    /// Where the rows of the table are.
    pub index: &'a mut KeyIndex,
    /// What the writers have prepared.
    pub files: &'a [Prepared],
    /// Delete files of the edits that were asked for last.
    pub deletes: Vec<String>,
}

#[async_trait]
impl Content for Upsert<'_> {
    async fn edits(&mut self, table: &Table, metadata: &TableMetadata) -> Result<Option<Edits>> {
        let index = &mut *self.index;
        index.roll_back();
        index.sync(table).await.context(|| self.shown.to_owned())?;
        let added = data_files(self.shown, self.files, metadata)?;
        let rounds = self
            .files
            .iter()
            .flat_map(|p| p.rounds.iter().copied().chain(std::iter::repeat(0)).take(p.paths.len()));
        let mut order: Vec<(u32, &DataFile)> = rounds.zip(&added).collect();
        order.sort_by_key(|(round, _)| *round);
        let (schema, spec) = (Arc::clone(metadata.current_schema()), metadata.default_partition_spec_id());
        let mut applied = async || {
            for (_, file) in &order {
                index.add(table, &schema, file, spec).await?;
            }
            for keys in self.files.iter().filter_map(|p| p.deleted.as_ref()) {
                index.remove(table, &schema, &keys.path, keys.bytes).await?;
            }
            position_deletes::write(table, metadata, &index.left()).await
        };
        match applied().await {
            Ok(deletes) => {
                debug_assert!(
                    deletes.iter().all(|(_, f)| f.content_type() == DataContentType::PositionDeletes)
                );
                self.deletes = deletes.iter().map(|(_, f)| f.file_path().to_owned()).collect();
                Ok(Some(Edits { added, deletes, ..Edits::default() }))
            }
            Err(e) => {
                self.index.roll_back();
                Err(e.context(self.shown.to_owned()))
            }
        }
    }

    fn settled(&mut self, snapshot: Option<i64>) {
        match snapshot {
            Some(snapshot) => self.index.committed(snapshot, std::mem::take(&mut self.deletes)),
            None => self.index.roll_back(),
        }
    }
}
