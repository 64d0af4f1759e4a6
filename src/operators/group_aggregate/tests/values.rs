//! Aggregates that keep their values, against a model that keeps every row in order of arrival.

use super::model::{Dice, show};
use super::*;
use std::collections::BTreeMap;

fn flink(schema: &SchemaRef, name: &str, args: Vec<Arc<dyn PhysicalExpr>>, distinct: bool) -> AggregateCall {
    let udaf = crate::functions::aggregate_functions().into_iter().find(|f| f.name() == name);
    let builder = AggregateExprBuilder::new(udaf.unwrap(), args).schema(schema.clone()).alias("x");
    AggregateCall::new(Arc::new(builder.with_distinct(distinct).build().unwrap()), None)
}

fn calls() -> GroupAggregateConfig {
    let s = ints();
    let v = || col("v", &s).unwrap();
    let percentile = {
        let mut call = flink(&s, "avg", vec![v()], false);
        call.name = "percentile".to_owned();
        call.args = vec![v(), lit(0.5_f64)];
        call.return_field = Arc::new(Field::new("x", DataType::Float64, true));
        call
    };
    config(
        &s,
        &["k"],
        vec![
            flink(&s, "array_agg", vec![v()], false),
            flink(&s, "array_agg", vec![v()], true),
            flink(&s, "first_value", vec![v()], false),
            flink(&s, "last_value", vec![v()], false),
            flink(&s, "collect", vec![v()], false),
            percentile,
        ],
    )
}

type Groups = BTreeMap<&'static str, Vec<Option<i64>>>;

fn script(dice: &mut Dice, retracts: bool) -> (String, Groups) {
    let mut groups = Groups::new();
    let mut lines = Vec::new();
    for step in 0..60 {
        for _ in 0..dice.roll(8) {
            let key = ["null", "a", "b", "c"][dice.roll(4) as usize];
            let values = groups.entry(key).or_default();
            if retracts && !values.is_empty() && dice.roll(2) == 0 {
                let value = values[dice.roll(values.len() as u64) as usize];
                let first = values.iter().position(|v| *v == value).unwrap();
                values.remove(first);
                lines.push(format!("-D {key} {}", show(value)));
            } else {
                let value = (dice.roll(4) > 0).then(|| dice.roll(5) as i64 - 2);
                values.push(value);
                lines.push(format!("+I {key} {}", show(value)));
            }
        }
        lines.push(String::new());
        if dice.roll(4) == 0 {
            lines.push(format!("| {step} {}", ["", "x1", "x2", "x4"][dice.roll(4) as usize]));
        }
    }
    groups.retain(|_, values| !values.is_empty());
    (lines.join("\n"), groups)
}

fn list(values: &[Option<i64>]) -> String {
    let text = format!("[{}]", values.iter().map(|v| show(*v)).collect::<Vec<_>>().join(", "));
    if text.contains(' ') { format!("'{text}'") } else { text }
}

fn expected(groups: &Groups, distinct: bool) -> Vec<String> {
    let row = |(key, values): (&&str, &Vec<Option<i64>>)| {
        let known: Vec<i64> = values.iter().flatten().copied().collect();
        let mut sorted = known.clone();
        sorted.sort_unstable();
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        known.iter().for_each(|v| *counts.entry(*v).or_default() += 1);
        let counts: Vec<String> = counts.iter().map(|(v, n)| format!("{v}: {n}")).collect();
        let counts = if counts.is_empty() { "{}".to_owned() } else { format!("'{{{}}}'", counts.join(", ")) };
        let middle =
            sorted.len().checked_sub(1).map(|n| (sorted[n / 2] + sorted[n.div_ceil(2)]) as f64 / 2.0);
        let middle = middle.map_or("null".to_owned(), |m| format!("{m:?}"));
        let mut once = Vec::new();
        for v in values {
            if !once.contains(v) {
                once.push(*v);
            }
        }
        let once = if distinct { list(&once) } else { String::new() };
        let (first, last) = (show(known.first().copied()), show(known.last().copied()));
        format!("{key} {} {once} {first} {last} {counts} {middle}", list(values))
    };
    let mut rows: Vec<String> = groups.iter().map(row).collect();
    rows.sort();
    rows
}

#[test]
fn values_match_the_model() {
    for seed in 0..12 {
        for bundle_rows in [None, Some(1), Some(7)] {
            for retracts in [false, true] {
                let mut c = calls();
                if retracts {
                    // After retractions the order of distinct values depends on which occurrence is gone.
                    c.aggregates.remove(1);
                    c = config(&ints(), &["k"], c.aggregates);
                }
                c.input_retracts = retracts;
                c.bundle_rows = bundle_rows;
                let (script, groups) = script(&mut Dice(seed), retracts);
                let output = harness(c).run(&format!("{script}\n."));
                let tidy = |rows: Vec<String>| -> Vec<String> {
                    rows.iter().map(|r| r.replace("  ", " ")).collect()
                };
                assert_eq!(
                    tidy(materialize(&output)),
                    tidy(expected(&groups, !retracts)),
                    "seed {seed} bundle {bundle_rows:?} retracts {retracts}\n{script}\n--- got\n{output}"
                );
            }
        }
    }
}

#[test]
fn texts() {
    let s = schema(&[("k", DataType::Utf8), ("v", DataType::Utf8)]);
    let v = || col("v", &s).unwrap();
    let calls = vec![
        flink(&s, "listagg", vec![v()], false),
        flink(&s, "listagg", vec![v(), lit("; ")], true),
        flink(&s, "json_arrayagg", vec![v()], false),
        flink(&s, "__json_arrayagg_null", vec![v()], false),
    ];
    let mut c = config(&s, &["k"], calls);
    c.input_retracts = true;
    check(
        &mut harness(c),
        "+I a x
         +I a null
         +I a y
         +I a x

         -D a x
         | 1 x2
         -D a null
         -D a y

         -D a x",
        "+I a x,y,x 'x; y' [x,y,x] [x,null,y,x]
         -U a x,y,x 'x; y' [x,y,x] [x,null,y,x]
         +U a y,x 'x; y' [y,x] [null,y,x]
         | 1 x2
         -U a y,x 'x; y' [y,x] [null,y,x]
         +U a x x [x] [x]
         -D a x x [x] [x]",
    );
}

#[test]
fn a_value_taken_back_too_early_is_owed() {
    let s = ints();
    let v = || col("v", &s).unwrap();
    let mut c = config(&s, &["k"], vec![flink(&s, "array_agg", vec![v()], false)]);
    c.input_retracts = true;
    check(
        &mut harness(c),
        "+I a 1
         +I a 3
         -D a 2

         | 1 x4
         +I a 2
         +I a 4",
        "+I a '[1, 3]'
         | 1 x4
         -U a '[1, 3]'
         +U a '[1, 3, 4]'",
    );
}

#[test]
fn objects_have_each_key_once() {
    let s = schema(&[("k", DataType::Utf8), ("v", DataType::Utf8)]);
    let args = || vec![col("k", &s).unwrap(), col("v", &s).unwrap()];
    let c = |name: &str| {
        let mut c = config(&s, &[], vec![flink(&s, name, args(), false)]);
        c.input_retracts = true;
        c
    };
    check(
        &mut harness(c("json_objectagg")),
        "+I b 1
         +I a null

         -U b 1
         +U b 2",
        "+I {\"a\":null,\"b\":1}
         -U {\"a\":null,\"b\":1}
         +U {\"a\":null,\"b\":2}",
    );
    check(&mut harness(c("__json_objectagg_absent")), "+I b 1\n+I a null", "+I {\"b\":1}");
    assert!(failure(&mut harness(c("json_objectagg")), "+I b 1\n+I b 2").contains("'b'"));
    assert!(failure(&mut harness(c("json_objectagg")), "+I null 1").contains("NULL"));
}

#[test]
fn a_single_value() {
    let s = ints();
    let c = config(&s, &[], vec![flink(&s, "single_value", vec![col("v", &s).unwrap()], false)]);
    check(&mut harness(c.clone()), "+I a 1", "+I 1");
    assert!(failure(&mut harness(c), "+I a 1\n+I a null").contains("more than one"));
}
