//! `RAND` and `RAND_INTEGER`: java.util.Random.
//!
//! A call with a literal seed draws one value a row, from the beginning of the seed's sequence on; a seed that is a column
//! gives the first value of each. Calls of a query with the same seed have the same value in the same row, as in Flink:
//! of one batch, the first of them that a thread evaluates draws and the others repeat. Generators of their own would
//! drift apart, since the tasks of a job evaluate the same call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use datafusion::logical_expr::{ScalarUDF, Volatility};

use crate::error::{Error, Result};
use crate::functions::udf::{Builtin, Call, Col, Ret, build_prims};

/// The generators of one query.
#[derive(Debug, Clone, Default)]
pub struct Randoms(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    calls: usize,
    /// By seed, and whether integers are drawn.
    sequences: HashMap<(i32, bool), Sequence>,
}

#[derive(Debug)]
struct Sequence {
    next: JavaRandom,
    /// What each thread drew last.
    drawn: HashMap<ThreadId, Drawn>,
}

/// Values for one batch.
#[derive(Debug)]
struct Drawn {
    from: JavaRandom,
    rows: usize,
    by: Vec<usize>,
}

impl Sequence {
    /// Where the values of a batch begin, and whether they are new ones.
    fn begin(&mut self, call: usize, rows: usize) -> (JavaRandom, bool) {
        let thread = std::thread::current().id();
        if let Some(last) = self.drawn.get_mut(&thread)
            && last.rows == rows
            && !last.by.contains(&call)
        {
            last.by.push(call);
            return (last.from.clone(), false);
        }
        self.drawn.insert(thread, Drawn { from: self.next.clone(), rows, by: vec![call] });
        (self.next.clone(), true)
    }
}

impl Randoms {
    /// The function for one call of `name`; `None` for any other name.
    pub fn call(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let (name, forms, integer) = match name {
            "rand" => ("rand", "i?", false),
            "rand_integer" => ("rand_integer", "i i?", true),
            _ => return None,
        };
        let call = self.state().map_or(0, |mut state| {
            state.calls += 1;
            state.calls
        });
        let randoms = self.clone();
        #[allow(clippy::disallowed_methods, reason = "RAND without a seed is random by definition")]
        let own = Mutex::new(JavaRandom::new(uuid::Uuid::new_v4().as_u128() as i64));
        let ty = if integer { DataType::Int32 } else { DataType::Float64 };
        let f = Builtin::new(name, forms, Ret::Type(ty), move |c| {
            let seeded = c.len() > usize::from(integer);
            if !seeded {
                let mut generator = own.lock().map_err(|_| broken())?;
                return draw(c, integer, None, &mut generator);
            }
            let seeds = c.prim::<Int32Type>(0)?;
            let Some(seed) = seeds.get(0).filter(|_| c.is_constant(0)) else {
                return draw(c, integer, Some(&seeds), &mut JavaRandom::new(0));
            };
            let mut state = randoms.state()?;
            let sequence = state.sequences.entry((seed, integer)).or_insert_with(|| Sequence {
                next: JavaRandom::new(i64::from(seed)),
                drawn: HashMap::new(),
            });
            let (mut generator, new) = sequence.begin(call, c.rows);
            let out = draw(c, integer, None, &mut generator)?;
            if new {
                sequence.next = generator;
            }
            Ok(out)
        });
        Some(f.volatility(Volatility::Volatile).build())
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        self.0.lock().map_err(|_| broken())
    }
}

fn broken() -> Error {
    Error::internal("a random generator failed")
}

/// A value a row from `generator`, which begins anew in every row where there are `seeds`.
fn draw(
    c: &Call<'_>,
    integer: bool,
    seeds: Option<&Col<'_, Int32Array>>,
    generator: &mut JavaRandom,
) -> Result<ArrayRef> {
    let begin = |generator: &mut JavaRandom, row: usize| match seeds.map(|s| s.get(row)) {
        Some(None) => false,
        Some(Some(seed)) => {
            *generator = JavaRandom::new(i64::from(seed));
            true
        }
        None => true,
    };
    if !integer {
        return build_prims::<Float64Type>(c.rows, |i| Ok(begin(generator, i).then(|| generator.double())));
    }
    let bounds = c.prim::<Int32Type>(c.len() - 1)?;
    build_prims::<Int32Type>(c.rows, |i| match bounds.get(i) {
        None => Ok(None),
        Some(bound) if bound > 0 => Ok(begin(generator, i).then(|| generator.below(bound))),
        Some(bound) => Err(Error::data(format!("RAND_INTEGER: the bound must be positive, not {bound}"))),
    })
}

/// java.util.Random.
#[derive(Debug, Clone)]
struct JavaRandom(u64);

impl JavaRandom {
    const MASK: u64 = (1 << 48) - 1;

    fn new(seed: i64) -> Self {
        JavaRandom((seed as u64 ^ 0x5_DEEC_E66D) & Self::MASK)
    }

    fn next(&mut self, bits: u32) -> i32 {
        self.0 = self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & Self::MASK;
        (self.0 >> (48 - bits)) as i32
    }

    fn double(&mut self) -> f64 {
        let high = (i64::from(self.next(26)) & ((1 << 26) - 1)) << 27;
        let low = i64::from(self.next(27)) & ((1 << 27) - 1);
        (high + low) as f64 / (1i64 << 53) as f64
    }

    fn below(&mut self, bound: i32) -> i32 {
        if bound & (bound - 1) == 0 {
            return ((i64::from(bound) * i64::from(self.next(31))) >> 31) as i32;
        }
        loop {
            let bits = self.next(31);
            let value = bits % bound;
            if bits.wrapping_sub(value).wrapping_add(bound - 1) >= 0 {
                return value;
            }
        }
    }
}
