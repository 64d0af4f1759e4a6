//! Sends what an operator has collected in batches of the usual size.

use crate::runtime::operator::Output;
use crate::stream::{BATCH_ROWS, ChangeBatch, RowKind};

/// Sends a batch in pieces of [`BATCH_ROWS`]; halves of an update stay together.
pub(crate) fn emit_in_slices(batch: &ChangeBatch, out: &mut Output) {
    let mut from = 0;
    while from < batch.num_rows() {
        let mut to = (from + BATCH_ROWS).min(batch.num_rows());
        if to < batch.num_rows() && batch.kind(to - 1) == RowKind::UpdateBefore {
            to += 1;
        }
        out.emit(batch.slice(from, to - from));
        from = to;
    }
}
