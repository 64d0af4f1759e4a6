//! Random OVER by a row time: ROWS and RANGE, bounded and not, several at once, over rows and over changes. Where rows
//! share a time, only what does not ask for an order among them.

use super::query::{Generator, Rel};
use super::random::Random;
use super::tables::{Table, Ty};
use super::timed::{Needs, is_key, named, names_of, rel};

impl Generator<'_> {
    pub(super) fn over(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::ORDER)?;
        Some(self.over_of(&table, true))
    }

    pub(super) fn over_with_ties(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::NOTHING)?;
        Some(self.over_of(&table, false))
    }

    /// The row time goes on: OVER of OVER.
    pub(super) fn over_twice(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::ORDER)?;
        let time = table.time();
        let (types, names) = (table.types(), names_of("o", &table));
        let r = &mut *self.random;
        let (window, (first, ty)) = (window(&types, &names, &time, true, r), call(&types, &names, true, r));
        let inner = format!(
            "SELECT {first} OVER ({window}) AS c0, o.c0 AS k, o.{time} AS t FROM {} AS o",
            table.name
        );
        let outer = match r.below(3) {
            0 => "ORDER BY x.t".to_owned(),
            1 => "PARTITION BY x.k ORDER BY x.t ROWS BETWEEN 1 PRECEDING AND CURRENT ROW".to_owned(),
            _ => "PARTITION BY x.k ORDER BY x.t RANGE BETWEEN INTERVAL '4' SECOND PRECEDING AND CURRENT ROW"
                .to_owned(),
        };
        let text =
            format!("SELECT x.c0 AS c0, x.k AS c1, COUNT(x.c0) OVER ({outer}) AS c2 FROM ({inner}) AS x");
        Some(rel(text, vec![ty, types[0], Ty::Big]))
    }

    fn over_of(&mut self, table: &Table, ordered: bool) -> Rel {
        let (types, names, time) = (table.types(), names_of("o", table), table.time());
        let r = &mut *self.random;
        let (mut items, mut out) = (names.clone(), types.clone());
        // One window for all of them, as Flink wants, or each its own.
        let shared = r.one_in(2).then(|| window(&types, &names, &time, ordered, r));
        for _ in 0..1 + r.below(4) {
            let (mut sql, mut ty) = call(&types, &names, ordered, r);
            let mut over = match &shared {
                Some(window) => window.clone(),
                None => window(&types, &names, &time, ordered, r),
            };
            if shared.is_none() && r.one_in(4) {
                // No frame goes with these.
                over = over
                    .split(" ROWS ")
                    .next()
                    .unwrap_or_default()
                    .split(" RANGE ")
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                (sql, ty) = if ordered && r.one_in(2) {
                    let column = r.below(types.len());
                    (format!("LAG({}, {})", names[column], 1 + r.below(2)), types[column])
                } else {
                    let functions: &[&str] =
                        if ordered { &["ROW_NUMBER", "RANK", "DENSE_RANK"] } else { &["RANK", "DENSE_RANK"] };
                    (format!("{}()", r.pick(functions)), Ty::Big)
                };
            }
            items.push(format!("{sql} OVER ({over})"));
            out.push(ty);
        }
        rel(format!("SELECT {} FROM {} AS o", named(&items), table.name), out)
    }
}

/// Partition, order and frame.
fn window(types: &[Ty], names: &[String], time: &str, ordered: bool, r: &mut Random) -> String {
    let keys: Vec<usize> = (0..types.len()).filter(|i| is_key(types[*i])).collect();
    let partition = match r.below(5) {
        0 => String::new(),
        1 => format!("PARTITION BY {}, {} ", names[*r.pick(&keys)], names[*r.pick(&keys)]),
        _ => format!("PARTITION BY {} ", names[*r.pick(&keys)]),
    };
    let frame = match r.below(if ordered { 10 } else { 5 }) {
        0 => "",
        1 => " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
        2 => " RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW",
        3 => " RANGE BETWEEN INTERVAL '20' SECOND PRECEDING AND CURRENT ROW",
        4 => " RANGE BETWEEN INTERVAL '0' SECOND PRECEDING AND CURRENT ROW",
        5 => " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
        6 => " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
        7 => " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
        8 => " ROWS CURRENT ROW",
        _ => " ROWS 5 PRECEDING",
    };
    format!("{partition}ORDER BY o.{time}{frame}")
}

/// A call that a frame goes with.
fn call(types: &[Ty], names: &[String], ordered: bool, r: &mut Random) -> (String, Ty) {
    let column = r.below(types.len());
    let (ty, name) = (types[column], &names[column]);
    let sorted = !matches!(ty, Ty::Arr | Ty::Bool);
    match r.below(12) {
        1 => (format!("COUNT({name})"), Ty::Big),
        2 | 3 if ty == Ty::Int => (format!("SUM({name})"), Ty::Int),
        4 if sorted => (format!("MIN({name})"), ty),
        5 if sorted => (format!("MAX({name})"), ty),
        6 if ordered => (format!("FIRST_VALUE({name})"), ty),
        7 if ordered => (format!("LAST_VALUE({name})"), ty),
        8 if ty == Ty::Int => (format!("AVG({name})"), Ty::Int),
        9 => (format!("COUNT(DISTINCT {name})"), Ty::Big),
        10 if ty == Ty::Int => (format!("SUM(DISTINCT {name})"), Ty::Int),
        11 => (format!("COUNT({name}) FILTER (WHERE {name} IS NOT NULL)"), Ty::Big),
        _ => ("COUNT(*)".to_owned(), Ty::Big),
    }
}
