//! Random changelogs against a model that keeps every row.

use std::collections::BTreeMap;

use super::*;

pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

pub(super) type Groups = BTreeMap<&'static str, Vec<Option<i64>>>;

pub(super) fn show(v: Option<i64>) -> String {
    v.map_or("null".to_owned(), |v| v.to_string())
}

/// A script, and the groups at its end.
pub(super) fn script(dice: &mut Dice, retracts: bool) -> (String, Groups) {
    let mut groups = Groups::new();
    let mut lines = Vec::new();
    let parallelisms = ["", "x1", "x2", "x4"];
    for step in 0..80 {
        for _ in 0..dice.roll(8) {
            let key = ["null", "a", "b", "c", "d"][dice.roll(5) as usize];
            let values = groups.entry(key).or_default();
            if retracts && !values.is_empty() && dice.roll(2) == 0 {
                let value = values.swap_remove(dice.roll(values.len() as u64) as usize);
                lines.push(format!("-D {key} {}", show(value)));
                if values.is_empty() && dice.roll(2) == 0 {
                    lines.push(format!("-D {key} 1"));
                }
            } else {
                let value = (dice.roll(4) > 0).then(|| dice.roll(12) as i64 - 4);
                values.push(value);
                lines.push(format!("+I {key} {}", show(value)));
            }
        }
        lines.push(String::new());
        if dice.roll(4) == 0 {
            lines.push(format!("| {step} {}", parallelisms[dice.roll(4) as usize]));
        }
    }
    lines.push(".".to_owned());
    groups.retain(|_, values| !values.is_empty());
    (lines.join("\n"), groups)
}

pub(super) fn expected(groups: &Groups) -> Vec<String> {
    let mut lines: Vec<String> = groups
        .iter()
        .map(|(key, values)| {
            let known: Vec<i64> = values.iter().flatten().copied().collect();
            let sum: i64 = known.iter().sum();
            let some = |v: i64| (!known.is_empty()).then_some(v);
            let mut distinct = known.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let low = distinct.iter().filter(|v| **v < 2).count() as i64;
            let few: Vec<i64> = known.iter().copied().filter(|v| *v < 2).collect();
            let columns = [
                Some(values.len() as i64),
                Some(known.len() as i64),
                some(sum),
                some(sum.checked_div(known.len() as i64).unwrap_or(0)),
                known.iter().min().copied(),
                known.iter().max().copied(),
                Some(distinct.len() as i64),
                Some(low),
                some(distinct.iter().sum()),
                few.iter().max().copied(),
            ];
            let columns: Vec<String> = columns.into_iter().map(show).collect();
            format!("{key} {}", columns.join(" "))
        })
        .collect();
    lines.sort();
    lines
}

fn full() -> GroupAggregateConfig {
    let s = ints();
    let mut calls = basic().aggregates;
    calls.push(distinct(&s, f::count::count_udaf(), "v"));
    calls.push(below(distinct(&s, f::count::count_udaf(), "v"), &s, 2));
    calls.push(distinct(&s, f::sum::sum_udaf(), "v"));
    calls.push(below(on(&s, f::min_max::max_udaf(), "v"), &s, 2));
    config(&s, &["k"], calls)
}

#[test]
fn final_rows_match_the_model() {
    for seed in 0..10 {
        for bundle_rows in [None, Some(1), Some(3), Some(100_000)] {
            for retracts in [false, true] {
                let mut c = full();
                c.input_retracts = retracts;
                c.bundle_rows = bundle_rows;
                let (script, groups) = script(&mut Dice(seed), retracts);
                let mut h = harness(c);
                let output = h.run(&script);
                // `materialize` also checks that only rows that were sent are taken back.
                assert_eq!(
                    materialize(&output),
                    expected(&groups),
                    "seed {seed} bundle {bundle_rows:?} retracts {retracts}\n{script}\n--- got\n{output}"
                );
            }
        }
    }
}

#[test]
fn row_by_row_is_the_same_in_any_batching() {
    for seed in 50..56 {
        let mut c = full();
        c.input_retracts = true;
        c.bundle_rows = Some(1);
        let (script, _) = script(&mut Dice(seed), true);
        let rows: Vec<&str> = script.lines().filter(|l| l.starts_with(['+', '-'])).collect();
        let one_batch = harness(c.clone()).run(&rows.join("\n"));
        let one_row_a_batch = harness(c).run(&rows.join("\n\n"));
        assert_eq!(one_batch, one_row_a_batch, "seed {seed}");
    }
}
