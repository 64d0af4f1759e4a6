//! Random scripts against a model that looks at every row for every window.

use std::collections::BTreeMap;

use datafusion::functions_aggregate::count::count_udaf;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;

use super::*;

/// A small generator of numbers, the same on every machine.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct Row {
    time: i64,
    key: Option<&'static str>,
    value: Option<i64>,
    /// Watermark when it came.
    watermark: i64,
    /// Watermark when it was taken back.
    gone: Option<i64>,
}

/// A script with times around zero, some of them late, and the rows as the model sees them. `retracts`: some are taken back.
fn script(dice: &mut Dice, retracts: bool) -> (String, Vec<Row>) {
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    let (mut watermark, mut now) = (i64::MIN, -30 * MINUTE);
    let parallelisms = ["x1", "x2", "x4", "x3"];
    for step in 0..60 {
        for _ in 0..dice.roll(6) {
            let time = now + dice.roll(20) as i64 * MINUTE - 10 * MINUTE;
            let key = [Some("a"), Some("b"), Some("c"), None][dice.roll(4) as usize];
            let value = (dice.roll(5) > 0).then(|| dice.roll(200) as i64 - 50);
            rows.push(Row { time, key, value, watermark, gone: None });
            lines.extend(rows.last().map(|row| format!("+I {}", shown(row))));
        }
        if retracts && !rows.is_empty() && dice.roll(2) == 0 {
            let at = rows.len() - 1 - dice.roll(rows.len().min(20) as u64) as usize;
            let row = &mut rows[at];
            if row.gone.is_none() {
                row.gone = Some(watermark);
                lines.push(format!("-D {}", shown(row)));
            }
        }
        lines.push(String::new());
        if dice.roll(2) == 0 {
            now += dice.roll(8) as i64 * MINUTE;
            watermark = watermark.max(now - 5 * MINUTE);
            lines.push(format!("~ {watermark}"));
        }
        if dice.roll(3) == 0 {
            lines.push(format!("| {step} {}", parallelisms[dice.roll(4) as usize]));
        }
    }
    lines.push(".".to_owned());
    (lines.join("\n"), rows)
}

fn shown(row: &Row) -> String {
    let naive = chrono::DateTime::from_timestamp_millis(row.time).unwrap().naive_utc();
    let text = row.value.map_or("null".to_owned(), |v| v.to_string());
    format!("{} {} {text}", naive.format("%Y-%m-%dT%H:%M:%S"), row.key.unwrap_or("null"))
}

/// All windows with rows, printed as the operator prints them, sorted.
fn expected(window: &WindowSpec, rows: &[Row], distinct: bool) -> Vec<String> {
    type Group = Vec<Option<i64>>;
    let mut windows: BTreeMap<(i64, Option<&str>), Group> = BTreeMap::new();
    for row in rows {
        let slice = window.slice_end(row.time);
        let mut end = slice;
        while end <= window.last_window_end(slice) {
            let is_open = |watermark: i64| watermark == i64::MIN || end - 1 > watermark;
            // What is taken back before the window fired was never there, what is later stays in it.
            if is_open(row.watermark) && !row.gone.is_some_and(is_open) {
                assert!(window.window_start(end) <= row.time && row.time < end);
                windows.entry((end, row.key)).or_default().push(row.value);
            }
            end += window.slice_width();
        }
    }
    let time = |t: i64| {
        let naive = chrono::DateTime::from_timestamp_millis(t).unwrap().naive_utc();
        naive.format("%Y-%m-%dT%H:%M:%S").to_string().trim_start_matches("1970-01-01T").to_owned()
    };
    let show = |v: Option<i64>| v.map_or("null".to_owned(), |v| v.to_string());
    let mut lines: Vec<String> = windows
        .iter()
        .map(|((end, key), values)| {
            let known: Vec<i64> = values.iter().flatten().copied().collect();
            let mut line = format!(
                "+I {} {} {} {} {} {}",
                time(window.window_start(*end)),
                time(*end),
                key.unwrap_or("null"),
                values.len(),
                show((!known.is_empty()).then(|| known.iter().sum())),
                show(known.iter().filter(|v| **v < 100).max().copied()),
            );
            if distinct {
                let mut known = known;
                known.sort_unstable();
                known.dedup();
                line.push_str(&format!(" {}", known.len()));
            }
            line
        })
        .collect();
    lines.sort();
    lines
}

fn rows_of(output: &str) -> Vec<String> {
    let mut rows: Vec<String> = output.lines().filter(|l| l.starts_with('+')).map(str::to_owned).collect();
    rows.sort();
    rows
}

fn kinds() -> [(WindowKind, i64); 4] {
    [
        (WindowKind::Tumble { size: 10 * MINUTE }, 3 * MINUTE),
        (WindowKind::Hop { size: 12 * MINUTE, slide: 4 * MINUTE }, -MINUTE),
        (WindowKind::Hop { size: 30 * MINUTE, slide: MINUTE }, 0),
        (WindowKind::Cumulate { size: 15 * MINUTE, step: 3 * MINUTE }, 7 * MINUTE),
    ]
}

/// An operator in memory, and for some seeds one whose state rests on disk: that is slow.
fn both(rests: bool, config: &WindowAggregateConfig) -> Vec<OperatorHarness> {
    let resting = rests.then(|| harness(config.clone()).resting());
    std::iter::once(harness(config.clone())).chain(resting).collect()
}

#[test]
fn slices_match_the_model() {
    for seed in 0..12 {
        for (kind, offset) in kinds() {
            let mut c = config(kind);
            c.window.offset = offset;
            let (script, rows) = script(&mut Dice(seed), false);
            let late: Vec<u64> = both(seed < 2, &c)
                .into_iter()
                .map(|mut h| {
                    let expected = expected(&c.window, &rows, false);
                    assert_eq!(rows_of(&h.run(&script)), expected, "seed {seed} {kind:?}\n{script}");
                    assert_eq!(h.metrics().state_entries, 0);
                    h.metrics().late_rows_dropped
                })
                .collect();
            // Those of instances before a barrier are counted by nobody here.
            assert_eq!(late.first(), late.last(), "seed {seed} {kind:?}\n{script}");
        }
    }
}

#[test]
fn two_phases_match_the_model() {
    for seed in 100..108 {
        for (kind, offset) in kinds() {
            let mut c = config(kind);
            c.window.offset = offset;
            let (script, rows) = script(&mut Dice(seed), false);
            let (mut local, mut global) = (c.clone(), c.clone());
            (local.phase, global.phase) = (WindowPhase::Local, WindowPhase::Global);
            let partials = harness(local).run(&script);
            for mut h in both(seed < 102, &global) {
                let output = h.run(&format!("{partials}\n."));
                let expected = expected(&c.window, &rows, false);
                assert_eq!(rows_of(&output), expected, "seed {seed} {kind:?}\n{script}");
            }
        }
    }
}

#[test]
fn distinct_and_updating_windows_match_the_model() {
    for seed in 200..206 {
        for (kind, offset) in kinds() {
            for (updating, distinct) in [(false, true), (true, true), (true, false)] {
                let mut c = config(kind);
                c.window.offset = offset;
                c.input_retracts = updating;
                let (script, rows) = script(&mut Dice(seed), updating);
                if !distinct {
                    for mut h in both(seed < 201, &c) {
                        let output = h.run(&script);
                        let expected = expected(&c.window, &rows, false);
                        assert_eq!(rows_of(&output), expected, "seed {seed} {kind:?}\n{script}");
                    }
                    continue;
                }
                let expr = AggregateExprBuilder::new(count_udaf(), vec![col("v", &input()).unwrap()])
                    .schema(input())
                    .alias("d")
                    .distinct()
                    .build();
                c.aggregates.push(AggregateCall::new(Arc::new(expr.unwrap()), None));
                c.output.push(WindowOutput::Aggregate(3));
                set_output(&mut c);
                let expected = expected(&c.window, &rows, true);
                for mut h in both(seed < 201, &c) {
                    let output = h.run(&script);
                    assert_eq!(rows_of(&output), expected, "seed {seed} {kind:?} {updating}\n{script}");
                }
            }
        }
    }
}
