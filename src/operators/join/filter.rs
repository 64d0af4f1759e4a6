//! The residual condition of a join over candidates: rows of a batch beside stored rows of the other side.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{prep_null_mask_filter, take};

use super::config::{JoinFilter, JoinSide};
use super::rows::RowStore;
use crate::error::{Error, Result};

/// Whether the condition holds, candidate by candidate: row `rows[i]` of a batch that came in at `side`, with the bytes of
/// its widest row, beside row `ids[i]` of a store that holds the columns `stored` of the other side. FALSE where it is NULL.
pub(in crate::operators) fn holds(
    filter: &JoinFilter,
    side: JoinSide,
    (batch, widest): (&RecordBatch, usize),
    (store, stored): (&RowStore, &[usize]),
    rows: &[u32],
    ids: &[u32],
) -> Result<Vec<bool>> {
    let mut all = Vec::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(all);
    }
    for run in store.pair_runs(batch, widest, rows, ids, |_| false) {
        let mask = mask(filter, side, batch, (store, stored), &rows[run.clone()], &ids[run])?;
        all.extend(mask.values().iter());
    }
    Ok(all)
}

fn mask(
    filter: &JoinFilter,
    side: JoinSide,
    batch: &RecordBatch,
    (store, stored): (&RowStore, &[usize]),
    rows: &[u32],
    ids: &[u32],
) -> Result<BooleanArray> {
    let wanted: Vec<usize> = filter
        .columns
        .iter()
        .filter(|(of, _)| *of != side)
        .filter_map(|(_, c)| stored.iter().position(|s| s == c))
        .collect();
    let mut gathered = store.gather(&wanted, ids)?.into_iter();
    let own = UInt32Array::from(rows.to_vec());
    let columns = filter
        .columns
        .iter()
        .map(|(of, c)| {
            if *of == side {
                Ok(take(batch.column(*c), &own, None)?)
            } else {
                gathered.next().ok_or_else(|| Error::internal("a column of a join condition is not stored"))
            }
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
    let candidates = RecordBatch::try_new_with_options(filter.schema.clone(), columns, &options)?;
    let holds = filter.condition.evaluate(&candidates)?.into_array(ids.len())?;
    let holds = holds
        .as_boolean_opt()
        .ok_or_else(|| Error::internal(format!("the condition {} is not boolean", filter.condition)))?;
    Ok(if holds.null_count() > 0 { prep_null_mask_filter(holds) } else { holds.clone() })
}
