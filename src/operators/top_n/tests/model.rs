//! Random changelogs against a model that sorts all rows.

use std::collections::BTreeMap;

use super::*;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Rows of each partition in the order of their arrival: name, value.
type Partitions = BTreeMap<&'static str, Vec<(String, Option<i64>)>>;

fn show(v: Option<i64>) -> String {
    v.map_or("null".to_owned(), |v| v.to_string())
}

fn script(dice: &mut Dice, retracts: bool) -> (String, Partitions) {
    let mut partitions = Partitions::new();
    let mut lines = Vec::new();
    for step in 0..60 {
        for _ in 0..dice.roll(12) {
            let key = ["null", "a", "b", "c"][dice.roll(4) as usize];
            let rows = partitions.entry(key).or_default();
            if retracts && !rows.is_empty() && dice.roll(5) < 2 {
                let (name, value) = rows[dice.roll(rows.len() as u64) as usize].clone();
                // The first of equal rows goes.
                let at = rows.iter().position(|r| *r == (name.clone(), value)).unwrap();
                rows.remove(at);
                lines.push(format!("-D {key} {name} {}", show(value)));
            } else {
                let value = (dice.roll(6) > 0).then(|| dice.roll(9) as i64 - 4);
                let name = format!("n{}", dice.roll(3));
                lines.push(format!("+I {key} {name} {}", show(value)));
                rows.push((name, value));
            }
        }
        lines.push(String::new());
        if dice.roll(4) == 0 {
            lines.push(format!("| {step} {}", ["", "x1", "x2", "x4"][dice.roll(4) as usize]));
        }
    }
    lines.push(".".to_owned());
    (lines.join("\n"), partitions)
}

fn expected(partitions: &Partitions, config: &TopNConfig, end: usize) -> Vec<String> {
    let descending = config.order[0].options.descending;
    let mut lines = Vec::new();
    for (key, rows) in partitions {
        let mut rows = rows.clone();
        // NULLs are low.
        rows.sort_by(|a, b| if descending { b.1.cmp(&a.1) } else { a.1.cmp(&b.1) });
        for (i, (name, value)) in rows.iter().enumerate().take(end).skip(config.start as usize - 1) {
            let rank = if config.output.len() == 4 { format!(" {}", i + 1) } else { String::new() };
            lines.push(format!("{key} {name} {}{rank}", show(*value)));
        }
    }
    lines.sort();
    lines
}

#[test]
fn final_rows_match_the_model() {
    for seed in 0..8 {
        for (start, end, with_rank) in [
            (1, 1, false),
            (1, 1, true),
            (1, 3, false),
            (1, 3, true),
            (2, 5, false),
            (2, 2, true),
            (1, 50, true),
        ] {
            for bundle_rows in [None, Some(1), Some(5)] {
                for retracts in [false, true] {
                    let mut c = config(start, end, with_rank);
                    (c.bundle_rows, c.input_retracts) = (bundle_rows, retracts);
                    c.order[0] = by(2, seed % 2 == 0);
                    let (script, partitions) = script(&mut Dice(seed), retracts);
                    let expected = expected(&partitions, &c, end as usize);
                    let output = harness(c).run(&script);
                    // `materialize` also checks that only rows that were sent are taken back.
                    assert_eq!(
                        materialize(&output),
                        expected,
                        "seed {seed} {start}..={end} rank {with_rank} bundle {bundle_rows:?} retracts {retracts}\n{script}\n--- got\n{output}"
                    );
                }
            }
        }
    }
}

#[test]
fn updates_by_rank_need_no_old_rows() {
    for seed in 20..24 {
        for retracts in [false, true] {
            let mut c = config(1, 3, true);
            (c.emit_update_before, c.input_retracts) = (false, retracts);
            let (script, partitions) = script(&mut Dice(seed), retracts);
            let expected = expected(&partitions, &c, 3);
            let output = harness(c).run(&script);
            let mut table: BTreeMap<String, String> = BTreeMap::new();
            for line in output.lines().filter(|l| l.starts_with(['+', '-'])) {
                let words: Vec<&str> = line.split(' ').collect();
                let key = format!("{} {}", words[1], words[4]);
                match words[0] {
                    "-D" => assert!(table.remove(&key).is_some(), "{line}\n{output}"),
                    "+I" | "+U" => {
                        table.insert(key, words[1..].join(" "));
                    }
                    _ => panic!("{line}"),
                }
            }
            let mut rows: Vec<String> = table.into_values().collect();
            rows.sort();
            assert_eq!(rows, expected, "seed {seed} retracts {retracts}");
        }
    }
}

#[test]
fn row_by_row_is_the_same_in_any_batching() {
    for seed in 40..44 {
        for retracts in [false, true] {
            let mut c = row_by_row(config(1, 3, seed % 2 == 0));
            c.input_retracts = retracts;
            let (script, _) = script(&mut Dice(seed), retracts);
            let rows: Vec<&str> = script.lines().filter(|l| l.starts_with(['+', '-'])).collect();
            let one_batch = harness(c.clone()).run(&rows.join("\n"));
            let one_row_a_batch = harness(c).run(&rows.join("\n\n"));
            assert_eq!(one_batch, one_row_a_batch, "seed {seed}");
        }
    }
}
