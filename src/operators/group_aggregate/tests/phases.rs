//! Two phases give the rows of one; groups that expire.

use super::model::{Dice, expected, script};
use super::*;
use crate::operators::harness::{format_batch, parse_batch};

/// Aggregates whose partial results can be added up.
fn mergeable() -> GroupAggregateConfig {
    let s = ints();
    let calls = vec![
        star(&s),
        on(&s, f::count::count_udaf(), "v"),
        on(&s, f::sum::sum_udaf(), "v"),
        typed(&s, f::average::avg_udaf(), "v", DataType::Int64),
        below(on(&s, f::count::count_udaf(), "v"), &s, 2),
    ];
    config(&s, &["k"], calls)
}

/// Rows through `locals` first phases and one second, each row to the phase that its value chooses.
fn two_phases(config: &GroupAggregateConfig, script: &str, locals: usize) -> String {
    let mut firsts: Vec<LocalGroupAggregateOperator> =
        (0..locals).map(|_| LocalGroupAggregateOperator::new(config).unwrap()).collect();
    let global = GroupAggregateConfig { merges_partials: true, ..config.clone() };
    let mut second = GroupAggregateOperator::new(global, KeyGroupRange::ALL).unwrap();
    let mut text = Vec::new();
    let mut send = |out: &mut Output, text: &mut Vec<String>| {
        for partial in out.take() {
            let mut out = Output::new();
            let _ = second.process(0, partial, &mut out).unwrap();
            let _ = second.flush(&mut out).unwrap();
            out.take().iter().for_each(|b| text.extend(format_batch(b)));
        }
    };
    for batch in script.split("\n\n") {
        let rows: Vec<&str> = batch.lines().filter(|l| l.starts_with(['+', '-'])).collect();
        for (i, first) in firsts.iter_mut().enumerate() {
            let chosen = |r: &&&str| {
                r.split(' ').next_back().map_or(0, |v| v.len() + v.bytes().map(usize::from).sum::<usize>())
                    % locals
                    == i
            };
            let mine: Vec<&str> = rows.iter().filter(chosen).copied().collect();
            if mine.is_empty() {
                continue;
            }
            let mut out = Output::new();
            let _ = first.process(0, parse_batch(&config.input_schema, &mine), &mut out).unwrap();
            let _ = first.flush(&mut out).unwrap();
            send(&mut out, &mut text);
        }
    }
    text.join("\n")
}

#[test]
fn two_phases_match_one() {
    for seed in 100..110 {
        for retracts in [false, true] {
            let (script, groups) = script(&mut Dice(seed), retracts);
            // Rows that were never added have no place in a first phase, which cannot know that.
            let mut known: Vec<&str> = Vec::new();
            let rows: Vec<&str> = script
                .lines()
                .filter(|l| {
                    let row = l.get(2..).unwrap_or("");
                    match l.get(..2) {
                        Some("+I") => {
                            known.push(row);
                            true
                        }
                        Some("-D") => match known.iter().position(|k| *k == row) {
                            Some(at) => {
                                known.remove(at);
                                true
                            }
                            None => false,
                        },
                        _ => l.is_empty(),
                    }
                })
                .collect();
            let mut c = mergeable();
            c.input_retracts = retracts;
            let all = expected(&groups);
            let first_columns: Vec<String> =
                all.iter().map(|r| r.split(' ').take(5).collect::<Vec<_>>().join(" ")).collect();
            for locals in [1, 3] {
                let output = two_phases(&c, &rows.join("\n"), locals);
                let got: Vec<String> = materialize(&output)
                    .iter()
                    .map(|r| r.split(' ').take(5).collect::<Vec<_>>().join(" "))
                    .collect();
                assert_eq!(got, first_columns, "seed {seed} retracts {retracts} locals {locals}\n{output}");
            }
        }
    }
}

#[test]
fn extremes_merge_over_append_only_input() {
    let s = ints();
    let calls = vec![on(&s, f::min_max::min_udaf(), "v"), on(&s, f::min_max::max_udaf(), "v")];
    let mut c = config(&s, &["k"], calls);
    let out = two_phases(&c, "+I a 5\n+I a null\n+I b null\n\n+I a 3\n+I a 9\n\n+I b 1", 3);
    assert_eq!(materialize(&out), ["a 3 9", "b 1 1"]);
    c.input_retracts = true;
    assert!(LocalGroupAggregateOperator::schema(&c).unwrap().is_none());
}

#[test]
fn rows_pass_ungrouped_where_grouping_does_not_pay() {
    let s = ints();
    let c = config(&s, &["v"], vec![star(&s), on(&s, f::sum::sum_udaf(), "v")]);
    let batches: Vec<String> = (0..4)
        .map(|b| (0..9_000).map(|i| format!("+I a {}", b * 4_500 + i)).collect::<Vec<_>>().join("\n"))
        .collect();
    let mut first = LocalGroupAggregateOperator::new(&c).unwrap();
    let mut second = GroupAggregateOperator::new(
        GroupAggregateConfig { merges_partials: true, ..c.clone() },
        KeyGroupRange::ALL,
    )
    .unwrap();
    let mut rows = 0;
    for batch in &batches {
        let lines: Vec<&str> = batch.lines().collect();
        let mut out = Output::new();
        let _ = first.process(0, parse_batch(&s, &lines), &mut out).unwrap();
        let _ = first.flush(&mut out).unwrap();
        for partial in out.take() {
            let _ = second.process(0, partial, &mut out).unwrap();
        }
        for changes in out.take() {
            rows += (0..changes.num_rows())
                .map(|i| 1 - 2 * i64::from(changes.kind(i).is_retraction()))
                .sum::<i64>();
        }
    }
    assert_eq!(rows, 3 * 4_500 + 9_000);
    assert_eq!(second.metrics().state_entries, 3 * 4_500 + 9_000);
}

#[test]
fn groups_expire() {
    let mut c = basic();
    c.input_retracts = true;
    c.ttl_ms = Some(10_000);
    let mut h = harness(c);
    check(
        &mut h,
        "@ 00:00:01
         +I a 1
         +I b 1

         @ 00:00:08
         +I a 2

         | 1 x2
         @ 00:00:12
         +I a 3
         +I b 3

         @ 00:01:00
         -D a 3
         +I b 4",
        "+I a 1 1 1 1 1 1
         +I b 1 1 1 1 1 1
         -U a 1 1 1 1 1 1
         +U a 2 2 3 1 1 2
         | 1 x2
         +I b 1 1 3 3 3 3
         -U a 2 2 3 1 1 2
         +U a 3 3 6 2 1 3
         +I b 1 1 4 4 4 4",
    );
    assert_eq!(h.metrics().state_entries, 1);
}

/// A step of the clock is a twentieth of the time to live.
#[test]
fn a_group_lives_its_time_and_at_most_a_step_more() {
    let mut c = basic();
    c.input_retracts = true;
    c.ttl_ms = Some(10_000);
    for begun in [1, 499, 500, 501, 777, 1_400] {
        let mut h = harness(c.clone());
        h.run(&format!("@ {begun}\n+I a 1\n@ {}", begun + 9_999));
        assert_eq!(h.metrics().state_entries, 1, "changed at {begun}: too early");
        h.run(&format!("@ {}", begun + 10_500));
        assert_eq!(h.metrics().state_entries, 0, "changed at {begun}: too late");
    }
}
