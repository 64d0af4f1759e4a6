//! UPDATE and DELETE by where rows are stored, INSERT OVERWRITE and TRUNCATE by whole files.
//!
//! ```text
//!  head of the table ─► source: columns ++ $file, $row ─► (WHERE, SET) ─► sink: places that rows leave, new rows
//!                                                                            └► one snapshot: delete files + data files
//!  files of an INSERT OVERWRITE ─► overwrite: the files of their partitions go
//! ```
//!
//! Isolation of UPDATE and DELETE is Iceberg's `snapshot`: others may append meanwhile, and their rows are not looked at. If they
//! have changed or taken rows away, the statement fails and nothing of it is done. A file that loses all its rows goes as a whole.
//! INSERT OVERWRITE and TRUNCATE replace what is there when they commit, also rows that others have appended meanwhile.

mod overwrite;
mod places;
mod sink;
mod source;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use iceberg::TableIdent;
use iceberg::spec::FormatVersion;

use self::sink::RowChangeSink;
use self::source::PlacedSource;
use super::commit::Landed;
use super::connection::Connection;
use super::lake::Lake;
use super::scan::Scan;
use crate::catalog::ResolvedTable;
use crate::edges::{Notices, RowChanges};
use crate::error::{Error, Result};

pub(super) use overwrite::{OverwriteCommitter, truncate};

/// The data file of a row, and its number there, from 0.
pub(super) fn place_fields() -> Vec<FieldRef> {
    vec![
        Arc::new(Field::new("$file", DataType::Utf8, false)),
        Arc::new(Field::new("$row", DataType::Int64, false)),
    ]
}

/// The ends of an UPDATE or, without `updates`, of a DELETE.
///
/// # Errors
/// Unsupported for tables whose rows cannot be taken away; External.
pub(super) async fn row_changes(
    connection: &Connection,
    ident: &TableIdent,
    table: &ResolvedTable,
    updates: bool,
    notices: &Notices,
) -> Result<RowChanges> {
    let lake = connection.open().await?;
    let shown = lake.shown(ident);
    let found = lake.load(ident).await?;
    can_take_rows(&lake, ident, found.metadata().format_version())?;
    let base = found.metadata().current_snapshot_id();
    let scan = Scan::at(found, shown, base, table.scan_schema())?;
    let places = place_fields();
    let sink =
        RowChangeSink::new(lake, ident.clone(), base, updates.then(|| table.sink_schema()), notices.clone());
    Ok(RowChanges { source: Arc::new(PlacedSource::new(scan)), places, sink: Arc::new(sink) })
}

/// Whether rows can be taken away by delete files.
fn can_take_rows(lake: &Lake, ident: &TableIdent, version: FormatVersion) -> Result<()> {
    match version {
        FormatVersion::V2 => Ok(()),
        version => Err(Error::unsupported(format!(
            "{}: rows of a table of format version {} cannot be changed or taken away",
            lake.shown(ident),
            version as u8
        ))
        .hint("create the table with 'format-version' = '2'")),
    }
}

/// The failure of a commit that others came before.
fn overtaken(shown: &str, landed: Landed) -> Result<()> {
    match landed {
        Landed::Committed => Ok(()),
        Landed::Diverged => Err(Error::external(format!(
            "{shown}: rows were changed or taken away by somebody else while the statement ran"
        ))
        .hint("nothing of it was done; run it again")),
    }
}
