//! `VAR_POP`, `VAR_SAMP`, `STDDEV_POP`, `STDDEV_SAMP` in the argument's type: computed in DOUBLE, then cut.
//!
//! State per group: count, mean and the sum of squared deviations (Welford, which also runs backwards; merged by Chan's
//! formula). Streaming has the same.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::{first, for_each_valid};
use crate::error::{Error, Result};
use crate::functions::cast::{Mode, cast_array};

/// Which of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
}

/// Count, mean and sum of squared deviations of some values.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moments {
    pub(crate) count: i64,
    pub(crate) mean: f64,
    pub(crate) m2: f64,
}

impl Moments {
    /// Adds a value, or takes it back with the sign −1.
    #[inline]
    pub(crate) fn add(&mut self, x: f64, sign: i64) {
        self.count += sign;
        if self.count == 0 {
            *self = Moments::default();
            return;
        }
        // Forwards: mean += d/n, m2 += d·(x − mean). Backwards the same with the signs turned.
        let delta = x - self.mean;
        self.mean += delta * sign as f64 / self.count as f64;
        self.m2 += sign as f64 * delta * (x - self.mean);
    }

    fn merge(&mut self, other: Moments) {
        if other.count == 0 {
            return;
        }
        let n = self.count + other.count;
        let delta = other.mean - self.mean;
        self.m2 += other.m2 + delta * delta * self.count as f64 * other.count as f64 / n as f64;
        self.mean += delta * other.count as f64 / n as f64;
        self.count = n;
    }

    /// NULL where there are too few values.
    pub(crate) fn result(self, form: Form) -> Option<f64> {
        let n = match form {
            Form::VarPop | Form::StddevPop => self.count,
            Form::VarSamp | Form::StddevSamp => self.count - 1,
        };
        if n <= 0 {
            return None;
        }
        // Taking values back can leave a tiny negative rest. NaN stays NaN: `max` would swallow it.
        let variance = if self.m2 < 0.0 { 0.0 } else { self.m2 / n as f64 };
        Some(if matches!(form, Form::StddevPop | Form::StddevSamp) { variance.sqrt() } else { variance })
    }
}

/// Between numbers the zone plays no part.
const MODE: Mode = Mode { lenient: true, zone: Tz::UTC };

/// Results in the aggregate's type: integers are cut towards zero.
pub(crate) fn cut(results: Float64Array, out: &DataType) -> Result<ArrayRef> {
    let a: ArrayRef = Arc::new(results);
    cast_array(&a, out, MODE)
}

/// The argument as DOUBLE.
pub(crate) fn doubles(a: &ArrayRef) -> Result<Float64Array> {
    let a = cast_array(a, &DataType::Float64, MODE)?;
    Ok(a.as_primitive::<Float64Type>().clone())
}

fn read_state(states: &[ArrayRef]) -> DfResult<(Int64Array, Float64Array, Float64Array)> {
    let [count, mean, m2] = states else {
        return Err(Error::internal("a variance has three state columns").into());
    };
    Ok((
        count.as_primitive::<Int64Type>().clone(),
        mean.as_primitive::<Float64Type>().clone(),
        m2.as_primitive::<Float64Type>().clone(),
    ))
}

#[derive(Debug)]
pub(super) struct VarianceGroups {
    form: Form,
    out: DataType,
    groups: Vec<Moments>,
}

impl VarianceGroups {
    pub(super) fn new(form: Form, out: DataType) -> Self {
        VarianceGroups { form, out, groups: Vec::new() }
    }
}

impl GroupsAccumulator for VarianceGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        let a = doubles(first(values)?)?;
        self.groups.resize(total, Moments::default());
        let groups = self.groups.as_mut_slice();
        for_each_valid(group_indices, a.nulls(), filter, |g, row| groups[g].add(a.values()[row], 1));
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        let (count, mean, m2) = read_state(values)?;
        self.groups.resize(total, Moments::default());
        let groups = self.groups.as_mut_slice();
        for_each_valid(group_indices, count.nulls(), filter, |g, row| {
            groups[g].merge(Moments { count: count.value(row), mean: mean.value(row), m2: m2.value(row) });
        });
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let form = self.form;
        let results = emit.take_needed(&mut self.groups).into_iter().map(|m| m.result(form)).collect();
        Ok(cut(results, &self.out)?)
    }

    fn state(&mut self, emit: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let groups = emit.take_needed(&mut self.groups);
        Ok(vec![
            Arc::new(groups.iter().map(|m| Some(m.count)).collect::<Int64Array>()),
            Arc::new(groups.iter().map(|m| Some(m.mean)).collect::<Float64Array>()),
            Arc::new(groups.iter().map(|m| Some(m.m2)).collect::<Float64Array>()),
        ])
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Moments>()
    }
}

pub(super) fn accumulator(form: Form, out: &DataType) -> Box<dyn Accumulator> {
    Box::new(VarianceOne { form, out: out.clone(), moments: Moments::default() })
}

#[derive(Debug)]
struct VarianceOne {
    form: Form,
    out: DataType,
    moments: Moments,
}

impl Accumulator for VarianceOne {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        doubles(first(values)?)?.iter().flatten().for_each(|x| self.moments.add(x, 1));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        doubles(first(values)?)?.iter().flatten().for_each(|x| self.moments.add(x, -1));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let (count, mean, m2) = read_state(states)?;
        for i in 0..count.len() {
            self.moments.merge(Moments { count: count.value(i), mean: mean.value(i), m2: m2.value(i) });
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let a = cut(Float64Array::from(vec![self.moments.result(self.form)]), &self.out)?;
        ScalarValue::try_from_array(&a, 0)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let m = self.moments;
        Ok(vec![
            ScalarValue::Int64(Some(m.count)),
            ScalarValue::Float64(Some(m.mean)),
            ScalarValue::Float64(Some(m.m2)),
        ])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
