//! All groups of an operator: the key directory, the row count of each group and the states of every call.
//!
//! ```text
//!  keys ─► directory ─► slots ─┬─► rows[slot] ± 1                       (also COUNT(*))
//!                              ├─► states                               one per call without DISTINCT
//!                              └─► distinct sets ─► counts, transitions ─► states of SUM(DISTINCT …) and the like
//! ```
//!
//! A group whose row count is zero does not exist; its states are clean. Calls that need the same state share it.
//!
//! | snapshot table | columns |
//! |---|---|
//! | `groups` | keys, row count, time of the last change if groups expire, the columns of every state |
//! | `state_i` | keys, value, count: states with several rows per group |
//! | `distinct_i` | keys, values, a count per filter |

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt8Array, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;

use super::AggregateCall;
use super::exprs::{Evaluated, ExprSet};
use super::planner::{self, DistinctEntry, Plan, Source, StateEntry};
use super::states::{Entries, Rows};
use crate::error::{Error, Result, ResultExt};
use crate::functions::room::in_parts;
use crate::operators::keyed_rows::PART_ROWS;
use crate::state::GroupDirectory;
use crate::state::directory::Written;
use crate::state::key::key_groups;
use crate::stream::BATCH_BYTES;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

const GROUPS: &str = "groups";

/// Name of the column with the time of the last change.
const CHANGED: &str = "changed";

/// See the module.
pub(crate) struct AggregateTable {
    exprs: ExprSet,
    keys: Vec<usize>,
    /// Groups by key.
    pub(crate) directory: GroupDirectory,
    /// Rows in each group.
    pub(crate) rows: Vec<i64>,
    /// When each group was last changed, if groups expire.
    pub(super) changed: Option<Vec<i64>>,
    pub(super) states: Vec<StateEntry>,
    pub(super) distincts: Vec<DistinctEntry>,
    pub(super) results: Vec<Source>,
    /// Whether a state holds texts or collections.
    is_wide: bool,
}

impl AggregateTable {
    /// For groups by `keys` (and columns of the types `more_keys` beside them) over `input`.
    pub(crate) fn new(
        input: &SchemaRef,
        keys: &[Arc<dyn PhysicalExpr>],
        more_keys: &[DataType],
        calls: &[AggregateCall],
        retracts: bool,
    ) -> Result<Self> {
        let mut exprs = ExprSet::default();
        let key_types = keys.iter().map(|k| Ok(k.data_type(input)?)).collect::<Result<Vec<_>>>()?;
        let keys = keys.iter().map(|k| exprs.add(k)).collect();
        let directory = GroupDirectory::new(&[key_types, more_keys.to_vec()].concat())?;
        let Plan { exprs, states, distincts, results } = planner::plan(exprs, input, calls, retracts)?;
        let is_wide = calls
            .iter()
            .any(|c| *c.return_type() != DataType::Boolean && c.return_type().primitive_width().is_none());
        Ok(AggregateTable {
            exprs,
            keys,
            directory,
            rows: Vec::new(),
            changed: None,
            states,
            distincts,
            results,
            is_wide,
        })
    }

    /// Evaluates keys, arguments and filters of a batch.
    pub(crate) fn evaluate_exprs(&self, rows: &RecordBatch) -> Result<Evaluated> {
        self.exprs.evaluate(rows)
    }

    /// Columns by expression that [`AggregateTable::evaluate_exprs`] gave before.
    pub(crate) fn evaluated(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<Evaluated> {
        self.exprs.evaluated(columns, rows)
    }

    /// Types of the columns of [`AggregateTable::evaluate_exprs`].
    pub(crate) fn evaluated_types(&self, input: &SchemaRef) -> Result<Vec<DataType>> {
        self.exprs.types(input)
    }

    /// The key columns of a batch.
    pub(crate) fn key_columns(&self, batch: &Evaluated) -> Vec<ArrayRef> {
        batch.pick(&self.keys)
    }

    /// Makes room for all slots that the directory has given out.
    pub(crate) fn grow(&mut self) {
        self.grow_to(self.directory.capacity());
    }

    /// Makes room for so many slots.
    pub(super) fn grow_to(&mut self, slots: usize) {
        if slots <= self.rows.len() {
            return;
        }
        self.rows.resize(slots, 0);
        if let Some(changed) = &mut self.changed {
            changed.resize(slots, 0);
        }
        self.states.iter_mut().for_each(|s| s.state.resize(slots));
        self.distincts.iter_mut().for_each(|d| d.set.resize(slots));
    }

    /// Takes the rows of a batch into the states; row counts are the caller's.
    pub(crate) fn update(&mut self, batch: &Evaluated, slots: &[u32], signs: Option<&[i8]>) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        for entry in self.states.iter_mut().filter(|s| s.distinct.is_none()) {
            let filter = entry.filter.and_then(|f| batch.masks[f].as_ref());
            let rows = Rows { slots, signs, filter };
            entry.state.update(&rows, &batch.pick(&entry.args)).context(|| entry.name.clone())?;
        }
        for (i, entry) in self.distincts.iter_mut().enumerate() {
            let filters: Vec<_> =
                entry.filters.iter().map(|f| f.and_then(|f| batch.masks[f].as_ref())).collect();
            let transitions = entry.set.update(slots, signs, &batch.pick(&entry.args), &filters)?;
            for (filter, transition) in transitions.into_iter().enumerate() {
                if transition.rows.is_empty() {
                    continue;
                }
                let indices = UInt32Array::from(transition.rows);
                for state in self.states.iter_mut().filter(|s| s.distinct == Some((i, filter))) {
                    let args = state
                        .args
                        .iter()
                        .map(|a| Ok(take(&batch.columns[*a], &indices, None)?))
                        .collect::<Result<Vec<_>>>()?;
                    let signs = signs.is_some().then_some(transition.signs.as_slice());
                    let rows = Rows { slots: &transition.slots, signs, filter: None };
                    state.state.update(&rows, &args).context(|| state.name.clone())?;
                }
            }
        }
        Ok(())
    }

    /// Columns of partial results (keys, row count, states), `None` if some state cannot be merged.
    pub(super) fn partial_schema(&self) -> Result<Option<SchemaRef>> {
        if !self.distincts.is_empty() || self.states.iter().any(|s| !s.state.merges()) {
            return Ok(None);
        }
        let mut types = self.directory.types().to_vec();
        types.push(DataType::Int64);
        types.extend(self.partials(&[])?.iter().map(|c| c.data_type().clone()));
        let fields: Vec<Field> =
            types.into_iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t, true)).collect();
        Ok(Some(Arc::new(Schema::new(fields))))
    }

    /// The columns of all states for slots.
    pub(super) fn partials(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for entry in &self.states {
            columns.extend(entry.state.write(slots)?);
        }
        Ok(columns)
    }

    /// Inverse of [`AggregateTable::partials`], added to what the slots have; a slot may come several times.
    pub(super) fn merge(&mut self, slots: &[u32], mut columns: &[ArrayRef]) -> Result<()> {
        for entry in &mut self.states {
            let width = entry.state.write(&[])?.len();
            let (own, rest) = columns.split_at_checked(width).ok_or_else(broken)?;
            entry.state.merge(slots, own)?;
            columns = rest;
        }
        Ok(())
    }

    /// Results of all calls for slots.
    pub(crate) fn evaluate(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.results
            .iter()
            .map(|r| {
                Ok(match *r {
                    Source::RowCount => {
                        Arc::new(slots.iter().map(|s| self.rows[*s as usize]).collect::<Int64Array>())
                            as ArrayRef
                    }
                    Source::Distinct(set, filter) => self.distincts[set].set.evaluate(filter, slots),
                    Source::State(i) => {
                        let entry = &self.states[i];
                        entry.state.evaluate(slots).context(|| entry.name.clone())?
                    }
                })
            })
            .collect()
    }

    /// Whether every added row changes some result of its group.
    pub(crate) fn counts_rows(&self) -> bool {
        self.results.iter().any(|r| matches!(r, Source::RowCount))
    }

    /// Cleans the states of groups; their keys stay.
    pub(crate) fn clear(&mut self, slots: &[u32]) {
        if slots.is_empty() {
            return;
        }
        self.clear_states(slots);
        self.distincts.iter_mut().for_each(|d| d.set.clear(slots));
    }

    /// As [`AggregateTable::clear`], but distinct values stay.
    pub(crate) fn clear_states(&mut self, slots: &[u32]) {
        self.states.iter_mut().for_each(|s| s.state.clear(slots));
    }

    /// Writes all groups, or those that have changed.
    pub(crate) fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        let written = self.directory.to_write(writer.mode())?;
        let key: Vec<usize> = (0..self.directory.types().len()).collect();
        let key = (key.as_slice(), self.keys.len());
        self.directory.void(writer, GROUPS, key, &written, |_| true)?;
        for run in self.directory.cut(&written.slots, self.groups_of_a_part(PART_ROWS)) {
            let slots = &written.slots[run];
            for (rows, groups) in in_parts(slots.len(), |part| self.groups(&slots[part]))? {
                writer.increment(GROUPS, rows, groups, key.0)?;
            }
        }
        for (i, entry) in self.states.iter().enumerate() {
            // What has a row per group stands there.
            if entry.state.write(&[])?.is_empty() {
                self.write_entries(
                    writer,
                    &format!("state_{i}"),
                    key,
                    entry.state.write_entries()?,
                    &written,
                )?;
            }
        }
        for (i, entry) in self.distincts.iter().enumerate() {
            self.write_entries(writer, &format!("distinct_{i}"), key, entry.set.write_entries()?, &written)?;
        }
        Ok(())
    }

    /// Writes entries of the groups to be written.
    fn write_entries(
        &self,
        writer: &mut SnapshotWriter,
        table: &str,
        key: (&[usize], usize),
        entries: Vec<Entries>,
        written: &Written,
    ) -> Result<()> {
        let mut wanted = vec![!written.is_changes; self.rows.len()];
        if written.is_changes {
            written.slots.iter().for_each(|slot| wanted[*slot as usize] = true);
        }
        let mut has_rows = vec![false; self.rows.len()];
        for Entries { slots, columns } in entries {
            let mask: BooleanArray = slots.iter().map(|slot| Some(wanted[*slot as usize])).collect();
            let (slots, columns) = if mask.true_count() == slots.len() {
                (slots, columns)
            } else {
                let columns = columns.iter().map(|c| filter(c, &mask)).collect::<Result<Vec<_>, _>>()?;
                (slots.into_iter().filter(|slot| wanted[*slot as usize]).collect(), columns)
            };
            slots.iter().for_each(|slot| has_rows[*slot as usize] = true);
            // The key of a group comes as often as it has entries.
            for part in self.directory.cut(&slots, PART_ROWS) {
                let slots = &slots[part.clone()];
                let mut all = self.directory.keys(slots)?;
                all.extend(columns.iter().map(|c| c.slice(part.start, part.len())));
                writer.increment(table, named(all, None)?, self.key_groups(slots)?, key.0)?;
            }
        }
        self.directory.void(writer, table, key, written, |slot| has_rows[slot as usize])
    }

    /// Rows of groups in snapshots, with their key groups.
    fn groups(&self, slots: &[u32]) -> Result<(RecordBatch, UInt8Array)> {
        let rows: Int64Array = slots.iter().map(|s| self.rows[*s as usize]).collect();
        let mut columns = self.directory.keys(slots)?;
        columns.push(Arc::new(rows));
        let mut stamped = None;
        if let Some(changed) = &self.changed {
            stamped = Some(columns.len());
            columns.push(Arc::new(slots.iter().map(|s| changed[*s as usize]).collect::<Int64Array>()));
        }
        columns.extend(self.partials(slots)?);
        Ok((named(columns, stamped)?, self.key_groups(slots)?))
    }

    /// Groups whose states or results make a batch, `most` at most, going by the average.
    pub(crate) fn groups_of_a_part(&self, most: usize) -> usize {
        if !self.is_wide {
            return most;
        }
        let states: usize = self.states.iter().map(|s| s.state.size()).sum();
        let average = states / self.len().max(1);
        most.min(BATCH_BYTES / average.max(1)).max(1)
    }

    /// Key groups by the keys that the exchange hashes.
    fn key_groups(&self, slots: &[u32]) -> Result<UInt8Array> {
        if self.keys.len() == self.directory.types().len() {
            return Ok(self.directory.key_groups(slots));
        }
        let keys = self.directory.keys(slots)?;
        key_groups(&keys[..self.keys.len()], slots.len())
    }

    /// Loads the groups of the reader's key groups.
    pub(crate) fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        let mut slots = Vec::new();
        for batch in reader.table(GROUPS)? {
            let columns = self.intern_restored(&batch, &mut slots)?;
            let Some((rows, mut columns)) = columns.split_first() else { return Err(broken()) };
            let rows: &Int64Array = rows.as_any().downcast_ref().ok_or_else(broken)?;
            slots.iter().zip(rows.values()).for_each(|(s, n)| self.rows[*s as usize] = *n);
            let after_rows = self.directory.types().len() + 1;
            if batch.schema().fields().get(after_rows).is_some_and(|f| f.name() == CHANGED)
                && let Some((times, rest)) = columns.split_first()
            {
                columns = rest;
                let times: &Int64Array = times.as_any().downcast_ref().ok_or_else(broken)?;
                if let Some(changed) = &mut self.changed {
                    slots.iter().zip(times.values()).for_each(|(s, t)| changed[*s as usize] = *t);
                }
            }
            for entry in &mut self.states {
                let width = entry.state.write(&[])?.len();
                let (own, rest) = columns.split_at_checked(width).ok_or_else(broken)?;
                entry.state.read(&slots, own)?;
                columns = rest;
            }
        }
        for i in 0..self.states.len() {
            for batch in reader.table(&format!("state_{i}"))? {
                let columns = self.intern_restored(&batch, &mut slots)?;
                self.states[i].state.read_entries(&Entries { slots: slots.clone(), columns })?;
            }
        }
        for i in 0..self.distincts.len() {
            for batch in reader.table(&format!("distinct_{i}"))? {
                let columns = self.intern_restored(&batch, &mut slots)?;
                self.distincts[i].set.read_entries(&Entries { slots: slots.clone(), columns })?;
            }
        }
        Ok(())
    }

    /// Slots of a state batch's keys; gives its other columns.
    fn intern_restored(&mut self, batch: &RecordBatch, slots: &mut Vec<u32>) -> Result<Vec<ArrayRef>> {
        let types = self.directory.types();
        let (keys, columns) = batch.columns().split_at_checked(types.len()).ok_or_else(broken)?;
        if keys.iter().zip(types).any(|(k, t)| k.data_type() != t) {
            return Err(broken());
        }
        let columns = columns.to_vec();
        self.directory.intern(keys, batch.num_rows(), slots)?;
        self.grow();
        Ok(columns)
    }

    /// Live groups.
    pub(crate) fn len(&self) -> usize {
        self.directory.len()
    }

    /// Groups and distinct values.
    pub(crate) fn entries(&self) -> usize {
        self.len() + self.distincts.iter().map(|d| d.set.len()).sum::<usize>()
    }

    /// Bytes held.
    pub(crate) fn size(&self) -> usize {
        self.directory.size()
            + self.rows.capacity() * 8
            + self.changed.as_ref().map_or(0, |c| c.capacity() * 8)
            + self.states.iter().map(|s| s.state.size()).sum::<usize>()
            + self.distincts.iter().map(|d| d.set.size()).sum::<usize>()
    }
}

fn broken() -> Error {
    Error::internal("the state of an aggregate has other columns than it should")
}

/// State columns, named by position but for the times of the last change at `stamped`.
fn named(columns: Vec<ArrayRef>, stamped: Option<usize>) -> Result<RecordBatch> {
    let name = |i: usize| if Some(i) == stamped { CHANGED.to_owned() } else { format!("c{i}") };
    let fields: Vec<Field> =
        columns.iter().enumerate().map(|(i, c)| Field::new(name(i), c.data_type().clone(), true)).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
