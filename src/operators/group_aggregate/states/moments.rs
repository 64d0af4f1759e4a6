//! VAR_POP, VAR_SAMP, STDDEV_POP, STDDEV_SAMP by Welford's method, which also runs backwards.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type};

use super::{GroupedState, Rows, column, gather};
use crate::error::{Error, Result};
use crate::functions::cast::{Mode, cast_array};

/// Casts as batch does; between numbers the zone plays no part.
const MODE: Mode = Mode { lenient: true, zone: chrono_tz::Tz::UTC };

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
}

pub(super) fn build(arg: &DataType, out: &DataType, moment: Moment) -> Option<Box<dyn GroupedState>> {
    use DataType as D;
    let number = |t: &D| {
        matches!(t, D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::Float32 | D::Float64 | D::Decimal128(..))
    };
    if number(arg) && number(out) {
        Some(Box::new(MomentState { moment, out: out.clone(), states: Vec::new() }))
    } else {
        None
    }
}

#[derive(Clone, Copy, Default)]
struct Welford {
    count: i64,
    mean: f64,
    m2: f64,
}

struct MomentState {
    moment: Moment,
    /// The type of the result: Flink gives the argument's, integers cut towards zero.
    out: DataType,
    states: Vec<Welford>,
}

impl MomentState {
    fn result(&self, s: &Welford) -> Option<f64> {
        let divisor = match self.moment {
            Moment::VarPop | Moment::StddevPop => s.count,
            Moment::VarSamp | Moment::StddevSamp => s.count - 1,
        };
        if divisor <= 0 {
            return None;
        }
        // Taking values back can leave a tiny negative rest.
        let variance = s.m2.max(0.0) / divisor as f64;
        // NaN stays NaN: `max` above would have swallowed it.
        let variance = if s.m2.is_nan() { f64::NAN } else { variance };
        Some(match self.moment {
            Moment::VarPop | Moment::VarSamp => variance,
            Moment::StddevPop | Moment::StddevSamp => variance.sqrt(),
        })
    }
}

impl GroupedState for MomentState {
    fn resize(&mut self, slots: usize) {
        self.states.resize(slots, Welford::default());
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        let [arg] = args else { return Err(Error::internal("a variance takes one number")) };
        let arg = cast_array(arg, &DataType::Float64, MODE)?;
        let (values, states) = (arg.as_primitive::<Float64Type>().values(), &mut self.states);
        rows.each(arg.nulls(), |row, slot, sign| {
            let (s, x) = (&mut states[slot], values[row]);
            s.count += sign;
            if s.count == 0 {
                *s = Welford::default();
                return;
            }
            // Forwards: mean += d/n, m2 += d·(x − mean). Backwards the same with the signs turned.
            let delta = x - s.mean;
            s.mean += delta * sign as f64 / s.count as f64;
            s.m2 += sign as f64 * delta * (x - s.mean);
        });
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let values: Float64Array = slots.iter().map(|s| self.result(&self.states[*s as usize])).collect();
        cast_array(&(Arc::new(values) as ArrayRef), &self.out, MODE)
    }

    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|s| self.states[*s as usize] = Welford::default());
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let states = gather(&self.states, slots);
        Ok(vec![
            Arc::new(states.iter().map(|s| s.count).collect::<Int64Array>()),
            Arc::new(Float64Array::from_iter_values(states.iter().map(|s| s.mean))),
            Arc::new(Float64Array::from_iter_values(states.iter().map(|s| s.m2))),
        ])
    }

    fn read(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let count: &Int64Array = column(columns, 0)?;
        let (mean, m2): (&Float64Array, &Float64Array) = (column(columns, 1)?, column(columns, 2)?);
        for (i, s) in slots.iter().enumerate() {
            self.states[*s as usize] =
                Welford { count: count.value(i), mean: mean.value(i), m2: m2.value(i) };
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<Welford>()
    }
}
