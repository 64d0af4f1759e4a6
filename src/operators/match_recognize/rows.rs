//! What definitions read of a row, computed when the row comes, a batch at a time.
//!
//! ```text
//!  batch ─► conditions on the row alone ─► bits, by id                     price > 10
//!       └─► values that are compared    ─► 64 or 128 bits each, by id      price, in price < LAST(a.price, 1)
//! ```
//!
//! A row of which a value cannot be computed counts as an error only once a search looks at it.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::functions::room::{evaluate, in_parts};
use crate::state::RowStore;
use crate::state::ordinal::{is_ordinal, to_ordinals};

/// Expressions over a row.
#[derive(Debug, Clone, Default)]
pub struct RowValues {
    /// Conditions.
    pub facts: Vec<Arc<dyn PhysicalExpr>>,
    /// Values that are compared with those of other rows, of types that [`is_comparable`] holds for.
    pub operands: Vec<Arc<dyn PhysicalExpr>>,
}

/// Whether values of a type are compared without computing anything.
pub fn is_comparable(ty: &DataType) -> bool {
    is_ordinal(ty) || matches!(ty, DataType::Decimal128(..))
}

enum Values {
    Ordinals(Vec<i64>),
    Decimals(Vec<i128>),
}

struct Operand {
    values: Values,
    /// By id; absent while no value was NULL.
    valid: Option<Vec<bool>>,
}

/// The values of rows, by id.
pub(super) struct ComputedRows {
    exprs: RowValues,
    schema: SchemaRef,
    /// Words of bits of a row.
    words: usize,
    /// One more than the greatest id there ever was.
    capacity: usize,
    bits: Vec<u64>,
    operands: Vec<Operand>,
    /// Expression, facts before operands, and id of what could not be computed.
    broken: HashSet<(u32, u32)>,
    scratch: Vec<i64>,
}

impl ComputedRows {
    /// For rows of `schema`.
    pub(super) fn new(exprs: RowValues, schema: SchemaRef) -> Result<Self> {
        let operands = exprs
            .operands
            .iter()
            .map(|e| {
                let values = match e.data_type(&schema)? {
                    DataType::Decimal128(..) => Values::Decimals(Vec::new()),
                    ty if is_ordinal(&ty) => Values::Ordinals(Vec::new()),
                    ty => return Err(Error::internal(format!("values of type {ty} to be compared"))),
                };
                Ok(Operand { values, valid: None })
            })
            .collect::<Result<_>>()?;
        Ok(ComputedRows {
            words: exprs.facts.len().div_ceil(64),
            exprs,
            schema,
            capacity: 0,
            bits: Vec::new(),
            operands,
            broken: HashSet::new(),
            scratch: Vec::new(),
        })
    }

    /// Computes the values of the rows `picked` of a batch, which are stored under `ids`.
    pub(super) fn put(&mut self, rows: &RecordBatch, picked: &[u32], ids: &[u32]) -> Result<()> {
        let Some(greatest) = ids.iter().max() else { return Ok(()) };
        self.capacity = self.capacity.max(*greatest as usize + 1);
        let capacity = self.capacity;
        if self.bits.len() < capacity * self.words {
            self.bits.resize(capacity * self.words, 0);
        }
        if !self.broken.is_empty() {
            let again: HashSet<u32> = ids.iter().copied().collect();
            self.broken.retain(|(_, id)| !again.contains(id));
        }
        for f in 0..self.exprs.facts.len() {
            let column = self.compute(f, rows, picked, ids)?;
            let mask = column.as_boolean_opt().ok_or_else(|| {
                Error::internal(format!("the condition {} is not boolean", self.exprs.facts[f]))
            })?;
            let (word, bit) = (f / 64, 1u64 << (f % 64));
            for (row, id) in picked.iter().zip(ids) {
                let row = *row as usize;
                let at = &mut self.bits[*id as usize * self.words + word];
                if mask.is_valid(row) && mask.value(row) { *at |= bit } else { *at &= !bit }
            }
        }
        for o in 0..self.operands.len() {
            let column = self.compute(self.exprs.facts.len() + o, rows, picked, ids)?;
            let operand = &mut self.operands[o];
            match &mut operand.values {
                Values::Ordinals(values) => {
                    to_ordinals(&column, &mut self.scratch)?;
                    if values.len() < capacity {
                        values.resize(capacity, 0);
                    }
                    picked
                        .iter()
                        .zip(ids)
                        .for_each(|(row, id)| values[*id as usize] = self.scratch[*row as usize]);
                }
                Values::Decimals(values) => {
                    let from = column
                        .as_primitive_opt::<Decimal128Type>()
                        .ok_or_else(|| Error::internal("a decimal that is none"))?
                        .values();
                    if values.len() < capacity {
                        values.resize(capacity, 0);
                    }
                    picked.iter().zip(ids).for_each(|(row, id)| values[*id as usize] = from[*row as usize]);
                }
            }
            let nulls = column.logical_nulls().filter(|n| n.null_count() > 0);
            if nulls.is_some() || operand.valid.is_some() {
                let valid = operand.valid.get_or_insert_default();
                if valid.len() < capacity {
                    valid.resize(capacity, true);
                }
                for (row, id) in picked.iter().zip(ids) {
                    valid[*id as usize] = nulls.as_ref().is_none_or(|n| n.is_valid(*row as usize));
                }
            }
        }
        Ok(())
    }

    fn expr(&self, number: usize) -> &Arc<dyn PhysicalExpr> {
        let facts = self.exprs.facts.len();
        if number < facts { &self.exprs.facts[number] } else { &self.exprs.operands[number - facts] }
    }

    /// An expression over a batch; row by row where it fails, NULL for the rows that it fails for.
    fn compute(
        &mut self,
        number: usize,
        rows: &RecordBatch,
        picked: &[u32],
        ids: &[u32],
    ) -> Result<ArrayRef> {
        let expr = Arc::clone(self.expr(number));
        let whole = in_parts(rows.num_rows(), |part| evaluate(&expr, &rows.slice(part.start, part.len())))
            .and_then(|parts| joined(&parts));
        if let Ok(whole) = whole {
            return Ok(whole);
        }
        let null = arrow::array::new_null_array(&expr.data_type(&self.schema)?, 1);
        let mut parts = vec![null.clone(); rows.num_rows()];
        for (row, id) in picked.iter().zip(ids) {
            match evaluate(&expr, &rows.slice(*row as usize, 1)) {
                Ok(value) => parts[*row as usize] = value,
                Err(_) => drop(self.broken.insert((number as u32, *id))),
            }
        }
        joined(&parts)
    }

    /// Fails as the expression did for the row, if it did.
    #[cold]
    fn fail(&self, number: usize, id: u32, rows: &RowStore) -> Result<()> {
        if self.broken.contains(&(number as u32, id)) {
            let row = RecordBatch::try_new(Arc::clone(&self.schema), rows.gather(&[id])?)?;
            evaluate(self.expr(number), &row)?;
        }
        Ok(())
    }

    /// Whether a condition is true of a row.
    #[inline]
    pub(super) fn holds(&self, fact: usize, id: u32, rows: &RowStore) -> Result<bool> {
        if !self.broken.is_empty() {
            self.fail(fact, id, rows)?;
        }
        Ok(self.bits[id as usize * self.words + fact / 64] & (1u64 << (fact % 64)) != 0)
    }

    /// How two values compare; `None` if one is NULL.
    #[inline]
    pub(super) fn compare(
        &self,
        left: (usize, u32),
        right: (usize, u32),
        rows: &RowStore,
    ) -> Result<Option<std::cmp::Ordering>> {
        if !self.broken.is_empty() {
            self.fail(self.exprs.facts.len() + left.0, left.1, rows)?;
            self.fail(self.exprs.facts.len() + right.0, right.1, rows)?;
        }
        let (l, r) = (&self.operands[left.0], &self.operands[right.0]);
        let (at, with) = (left.1 as usize, right.1 as usize);
        if !l.valid.as_ref().is_none_or(|v| v[at]) || !r.valid.as_ref().is_none_or(|v| v[with]) {
            return Ok(None);
        }
        Ok(match (&l.values, &r.values) {
            (Values::Ordinals(l), Values::Ordinals(r)) => Some(l[at].cmp(&r[with])),
            (Values::Decimals(l), Values::Decimals(r)) => Some(l[at].cmp(&r[with])),
            _ => return Err(Error::internal("values of different types compared")),
        })
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let operands = self.operands.iter().map(|o| {
            let values = match &o.values {
                Values::Ordinals(v) => v.capacity() * 8,
                Values::Decimals(v) => v.capacity() * 16,
            };
            values + o.valid.as_ref().map_or(0, Vec::capacity)
        });
        self.bits.capacity() * 8 + operands.sum::<usize>()
    }
}

fn joined(parts: &[ArrayRef]) -> Result<ArrayRef> {
    match parts {
        [one] => Ok(Arc::clone(one)),
        parts => Ok(arrow::compute::concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?),
    }
}
