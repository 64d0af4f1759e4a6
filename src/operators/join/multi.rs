//! Inner joins of three or more inputs on one key, as one operator.
//!
//! ```text
//!  input 0 ══ key ══► ┐
//!  input 1 ══ key ══► ├ slot of the key ─► per input: chain of rows        a row meets every combination of the others' rows
//!  input 2 ══ key ══► ┘
//! ```
//!
//! As a chain of joins of two, all but the last would keep their joined rows once more, as the state of the next one: most of
//! the memory, and of the copying, of such a query.
//!
//! | state | key → value | dropped |
//! |---|---|---|
//! | directory | join key → slot, shared by all inputs | never |
//! | side | slot → chain of rows: the columns that come out | never |
//!
//! Input: rows that stay as they are. Output: rows. A row whose key is NULL matches nothing and is not stored. Watermarks
//! pass. A batch that matches a lot is handed out in parts ([`Progress::More`]); barriers come between batches. The end needs
//! nothing.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};

use super::probe::{OUTPUT_ROWS, most_pairs};
use super::rows::NO_ROW;
use super::side::{Action, Applied, Layout, SideState};
use super::snapshot::{read_sides, write_sides};
use crate::error::{Error, Result};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::GroupDirectory;
use crate::stream::bytes::{cut, row_bytes, widest_row};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_BYTES, ChangeBatch};

/// An input; its number is its port.
#[derive(Debug, Clone)]
pub struct MultiJoinInput {
    /// Its columns.
    pub schema: SchemaRef,
    /// Columns of the key, in the order of the other inputs'.
    pub keys: Vec<usize>,
}

/// What the planner hands to a join of several inputs.
#[derive(Debug, Clone)]
pub struct MultiJoinConfig {
    /// Two or more.
    pub inputs: Vec<MultiJoinInput>,
    /// Output columns: input and column.
    pub output: Vec<(usize, usize)>,
    /// Their schema.
    pub output_schema: SchemaRef,
}

impl MultiJoinConfig {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// Internal, naming what does not fit.
    pub fn validate(&self) -> Result<()> {
        let broken = |what: &str| Err(Error::internal(format!("multi join: {what}")));
        let types = |input: &MultiJoinInput| -> Vec<DataType> {
            input.keys.iter().map(|k| input.schema.field(*k).data_type().clone()).collect()
        };
        let Some(first) = self.inputs.first().map(types) else { return broken("no input") };
        if first.is_empty() || self.inputs.iter().any(|input| types(input) != first) {
            return broken("the inputs have different keys");
        }
        let column = |&(input, column): &(usize, usize)| {
            self.inputs.get(input).and_then(|i| i.schema.fields().get(column)).map(|f| f.data_type())
        };
        let fields = self.output_schema.fields();
        if self.output.len() != fields.len()
            || self.output.iter().zip(fields).any(|(c, f)| column(c) != Some(f.data_type()))
        {
            return broken("output layout and output schema differ");
        }
        Ok(())
    }
}

/// The operator; see the module.
pub struct MultiJoinOperator {
    config: MultiJoinConfig,
    directory: GroupDirectory,
    sides: Vec<SideState>,
    /// For each input, the columns that are stored.
    stored: Vec<Vec<usize>>,
    /// Tables of the snapshot.
    tables: Vec<String>,
    work: Option<Work>,
    /// Allocations of the last batch.
    spare: (Vec<u32>, Applied),
}

impl std::fmt::Debug for MultiJoinOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MultiJoinOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A batch under way.
struct Work {
    port: usize,
    rows: RecordBatch,
    slots: Vec<u32>,
    applied: Applied,
    /// Next row.
    row: usize,
    /// Ports of the other inputs, and the row of each that comes next in the combination at hand; empty between rows.
    others: Vec<usize>,
    cursor: Vec<u32>,
    /// Bytes of the widest combination.
    widest: usize,
    /// Combinations that are handed out at once.
    most: usize,
    /// What has gathered: rows of the batch, and rows of each other input.
    own: Vec<u32>,
    ids: Vec<Vec<u32>>,
}

impl MultiJoinOperator {
    /// An instance.
    ///
    /// # Errors
    /// What [`MultiJoinConfig::validate`] finds; unsupported for key types that cannot be keys.
    pub fn new(config: MultiJoinConfig) -> Result<Self> {
        config.validate()?;
        let mut key_types = Vec::new();
        if let Some(first) = config.inputs.first() {
            key_types.extend(first.keys.iter().map(|k| first.schema.field(*k).data_type().clone()));
        }
        let mut stored: Vec<Vec<usize>> = vec![Vec::new(); config.inputs.len()];
        for (input, column) in &config.output {
            if !stored[*input].contains(column) {
                stored[*input].push(*column);
            }
        }
        let side = |(input, columns): (&MultiJoinInput, &Vec<usize>)| {
            let types = columns.iter().map(|c| input.schema.field(*c).data_type().clone()).collect();
            SideState::new(Layout::AppendOnly, types, &[], false, None)
        };
        Ok(MultiJoinOperator {
            directory: GroupDirectory::new(&key_types)?,
            sides: config.inputs.iter().zip(&stored).map(side).collect(),
            tables: (0..config.inputs.len()).map(|i| format!("input{i}")).collect(),
            stored,
            config,
            work: None,
            spare: (Vec::new(), Applied::default()),
        })
    }

    fn begin_batch(&mut self, port: usize, batch: ChangeBatch) -> Result<()> {
        let Some(input) = self.config.inputs.get(port) else {
            return Err(Error::internal("MultiJoin: no such input"));
        };
        if batch.kinds.is_some() {
            return Err(Error::internal("MultiJoin: updates in append-only input"));
        }
        let n = batch.num_rows();
        let (mut slots, mut applied) = std::mem::take(&mut self.spare);
        let keys: Vec<ArrayRef> = input.keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        self.directory.intern(&keys, n, &mut slots)?;
        self.sides.iter_mut().for_each(|s| s.grow_slots(self.directory.capacity()));
        applied.actions.clear();
        applied.actions.resize(n, Action::Probe);
        let mut unused = Vec::new();
        for nulls in keys.iter().filter_map(|key| key.logical_nulls()).filter(|nulls| nulls.null_count() > 0)
        {
            for row in (0..n).filter(|row| nulls.is_null(*row)) {
                applied.actions[row] = Action::NoMatch;
                unused.push(slots[row]);
            }
        }
        let stored: Vec<ArrayRef> = self.stored[port].iter().map(|c| batch.rows.column(*c).clone()).collect();
        self.sides[port].apply(&stored, &slots, None, &mut applied)?;
        unused.sort_unstable();
        unused.dedup();
        self.directory.remove(&unused);
        let others: Vec<usize> = (0..self.sides.len()).filter(|i| *i != port).collect();
        let widest = others
            .iter()
            .map(|i| self.sides[*i].store.widest())
            .fold(widest_row(batch.rows.columns(), n), usize::saturating_add);
        self.work = Some(Work {
            port,
            rows: batch.rows,
            slots,
            applied,
            row: 0,
            cursor: Vec::with_capacity(others.len()),
            ids: vec![Vec::new(); others.len()],
            others,
            widest,
            most: most_pairs(widest),
            own: Vec::new(),
        });
        Ok(())
    }

    /// Goes on with the batch under way.
    fn advance(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut work) = self.work.take() else { return Ok(Progress::Done) };
        while work.row < work.slots.len() {
            let row = work.row;
            let slot = work.slots[row] as usize;
            if work.cursor.is_empty() {
                let matches = work.applied.actions[row] == Action::Probe
                    && work.others.iter().all(|i| self.sides[*i].heads[slot] != NO_ROW);
                if !matches {
                    work.row += 1;
                    continue;
                }
                work.cursor.extend(work.others.iter().map(|i| self.sides[*i].heads[slot]));
            }
            loop {
                work.own.push(row as u32);
                work.ids.iter_mut().zip(&work.cursor).for_each(|(ids, id)| ids.push(*id));
                let goes_on = self.step(&mut work, slot);
                let is_full = work.own.len() >= work.most;
                if is_full {
                    self.hand_out_combinations(&mut work, out)?;
                }
                if !goes_on {
                    work.cursor.clear();
                    work.row += 1;
                }
                if is_full && out.is_full(OUTPUT_ROWS) {
                    self.work = Some(work);
                    return Ok(Progress::More);
                }
                if !goes_on {
                    break;
                }
            }
        }
        self.hand_out_combinations(&mut work, out)?;
        self.spare = (work.slots, work.applied);
        self.sides[work.port].maintain()?;
        Ok(Progress::Done)
    }

    /// Moves on to the next combination of the other inputs' rows, the last input first; false behind the last one.
    fn step(&self, work: &mut Work, slot: usize) -> bool {
        for (at, id) in work.cursor.iter_mut().enumerate().rev() {
            let side = &self.sides[work.others[at]];
            *id = side.next[*id as usize];
            if *id != NO_ROW {
                return true;
            }
            *id = side.heads[slot];
        }
        false
    }

    /// Hands out what has gathered.
    fn hand_out_combinations(&self, work: &mut Work, out: &mut Output) -> Result<()> {
        let n = work.own.len();
        if n == 0 {
            return Ok(());
        }
        let runs: Vec<Range<usize>> = if work.widest.saturating_mul(n) <= BATCH_BYTES {
            std::iter::once(0..n).collect()
        } else {
            let own = row_bytes(work.rows.columns(), work.rows.num_rows());
            let mut widths: Vec<usize> = work.own.iter().map(|row| own[*row as usize]).collect();
            for (ids, input) in work.ids.iter().zip(&work.others) {
                let store = &self.sides[*input].store;
                widths.iter_mut().zip(ids).for_each(|(width, id)| *width += store.row_bytes(*id));
            }
            cut(&widths, BATCH_BYTES, |_| false)
        };
        for run in runs {
            out.emit(self.batch(work, run)?);
        }
        work.own.clear();
        work.ids.iter_mut().for_each(Vec::clear);
        Ok(())
    }

    fn batch(&self, work: &Work, run: Range<usize>) -> Result<ChangeBatch> {
        let (n, own) = (run.len(), &work.own[run.clone()]);
        let as_it_is = n == work.rows.num_rows() && own.iter().enumerate().all(|(i, row)| i == *row as usize);
        let own = UInt32Array::from(own.to_vec());
        let mut gathered: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.sides.len()];
        for (ids, input) in work.ids.iter().zip(&work.others) {
            let all: Vec<usize> = (0..self.stored[*input].len()).collect();
            gathered[*input] = self.sides[*input].store.gather(&all, &ids[run.clone()])?;
        }
        let column = |&(input, column): &(usize, usize)| -> Result<ArrayRef> {
            if input == work.port {
                let column = work.rows.column(column);
                return Ok(if as_it_is { Arc::clone(column) } else { take(column, &own, None)? });
            }
            let at = self.stored[input].iter().position(|c| *c == column);
            let column = at.and_then(|at| gathered[input].get(at));
            column.cloned().ok_or_else(|| Error::internal("a join does not store a column that it gives"))
        };
        let columns = self.config.output.iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(n));
        let schema = Arc::clone(&self.config.output_schema);
        Ok(ChangeBatch::insert_only(RecordBatch::try_new_with_options(schema, columns, &options)?))
    }
}

impl Operator for MultiJoinOperator {
    fn name(&self) -> &'static str {
        "MultiJoin"
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        self.begin_batch(port, batch)?;
        self.advance(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.advance(out)
    }

    fn spillable(&self) -> Spillable {
        Spillable::Timeless
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        if self.work.is_some() {
            return Err(Error::internal("a barrier reached a join within a batch"));
        }
        write_sides(&mut self.directory, &mut self.sides, &self.tables, writer)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        read_sides(&mut self.directory, &mut self.sides, &self.tables, None, reader)
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            state_entries: self.sides.iter().map(|s| s.entries() as u64).sum(),
            state_bytes: (self.directory.size() + self.sides.iter().map(SideState::size).sum::<usize>())
                as u64,
            ..OperatorMetrics::default()
        }
    }
}
