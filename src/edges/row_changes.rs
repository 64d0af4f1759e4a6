//! UPDATE and DELETE: rows of a table change by where they are stored.
//!
//! ```text
//!  RowChanges::source ─► all columns ++ place of each row ─► WHERE, SET ─► place ++ new values ─► RowChanges::sink
//! ```

use std::sync::Arc;

use arrow::datatypes::FieldRef;

use super::{Sink, Source};

/// The two ends of one statement. They belong together: the sink takes places that this source has given.
#[derive(Debug)]
pub struct RowChanges {
    /// The table as it is when the statement begins: the columns of its scan schema, then `places`.
    pub source: Arc<dyn Source>,
    /// Columns that say where a row is stored. Their names can be none of the table's.
    pub places: Vec<FieldRef>,
    /// Takes `places`, then, if rows get new values, all columns of the table's sink schema.
    pub sink: Arc<dyn Sink>,
}
