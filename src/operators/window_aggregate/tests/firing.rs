//! When windows fire, and what is kept until then: against windows that are written down one by one. Unlike `model`, this
//! one takes nothing from [`WindowSpec`] but its parameters.

use std::collections::BTreeMap;

use super::model::Dice;
use super::*;

struct Row {
    time: i64,
    key: &'static str,
    value: i64,
}

/// Start and end of every window that holds `time`.
fn windows(window: &WindowSpec, time: i64) -> Vec<(i64, i64)> {
    let (distance, lengths): (i64, Vec<i64>) = match window.kind {
        WindowKind::Tumble { size } => (size, vec![size]),
        WindowKind::Hop { size, slide } => (slide, vec![size]),
        WindowKind::Cumulate { size, step } => (size, (1..=size / step).map(|n| n * step).collect()),
        other => panic!("{other:?}"),
    };
    // Around the row there is a start at every distance from the offset; far more of them than can hold it.
    let near = (time - window.offset) / distance;
    let reach = lengths.iter().max().unwrap() / distance + 2;
    let starts = (near - reach..=near + 2).map(|n| window.offset + n * distance);
    let all = starts.flat_map(|start| lengths.iter().map(move |length| (start, start + length)));
    all.filter(|(start, end)| (*start..*end).contains(&time)).collect()
}

/// Windows that have rows and have not fired: `(end, start)` and key → values.
type Open = BTreeMap<(i64, i64, &'static str), Vec<i64>>;

fn show(((end, start, key), values): (&(i64, i64, &'static str), &Vec<i64>)) -> String {
    let time = |t: i64| {
        let naive = chrono::DateTime::from_timestamp_millis(t).unwrap().naive_utc();
        naive.format("%Y-%m-%dT%H:%M:%S").to_string().trim_start_matches("1970-01-01T").to_owned()
    };
    let greatest = values.iter().filter(|v| **v < 100).max().map_or("null".to_owned(), i64::to_string);
    format!(
        "+I {} {} {key} {} {} {greatest}",
        time(*start),
        time(*end),
        values.len(),
        values.iter().sum::<i64>()
    )
}

fn line(row: &Row) -> String {
    let naive = chrono::DateTime::from_timestamp_millis(row.time).unwrap().naive_utc();
    format!("+I {} {} {}", naive.format("%Y-%m-%dT%H:%M:%S"), row.key, row.value)
}

fn rows_of(output: &str) -> Vec<&str> {
    output.lines().filter(|l| l.starts_with('+')).collect()
}

/// The end of the window of a row that came out.
fn end_of(row: &str) -> i64 {
    crate::operators::harness::parse_time(row.split(' ').nth(2).unwrap())
}

fn check(seed: u64, kind: WindowKind, offset: i64) {
    let dice = &mut Dice(seed);
    let mut config = config(kind);
    config.window.offset = offset;
    config.window.validate().unwrap();
    config.window.validate_slices().unwrap();
    let mut h = harness(config.clone());
    let window = config.window;
    let (mut open, mut late, mut watermark, mut now) = (Open::new(), 0, i64::MIN, -30 * MINUTE);
    // Times of rows that were not late.
    let (mut kept, mut subtasks): (Vec<i64>, u64) = (Vec::new(), 1);
    for step in 0..60 {
        let about = format!("seed {seed}, {kind:?}, offset {offset}, step {step}, watermark {watermark}");
        let rows: Vec<Row> = (0..dice.roll(8))
            .map(|_| Row {
                // Mostly near, some far behind.
                time: now + dice.roll(20) as i64 * MINUTE - [10, 10, 10, 60][dice.roll(4) as usize] * MINUTE,
                key: ["a", "b", "c"][dice.roll(3) as usize],
                value: dice.roll(200) as i64 - 50,
            })
            .collect();
        for row in &rows {
            let all = windows(&window, row.time);
            let open_ones = all.iter().filter(|(_, end)| watermark == i64::MIN || end - 1 > watermark);
            let mut is_late = true;
            for (start, end) in open_ones {
                open.entry((*end, *start, row.key)).or_default().push(row.value);
                is_late = false;
            }
            late += u64::from(is_late);
            if !is_late {
                kept.push(row.time);
            }
        }
        let script: Vec<String> = rows.iter().map(line).collect();
        assert!(rows_of(&h.run(&script.join("\n"))).is_empty(), "{about}: windows fire on watermarks");
        assert_eq!(h.metrics().late_rows_dropped, late, "{about}");
        if dice.roll(5) == 0 {
            subtasks = 1 + dice.roll(4);
            h.run(&format!("| {step} x{subtasks}"));
            // Fresh subtasks count from zero.
            late = 0;
        }
        if dice.roll(2) == 0 {
            now += dice.roll(8) as i64 * MINUTE;
            watermark = watermark.max(now - 5 * MINUTE - dice.roll(2) as i64);
            let still = open.split_off(&(watermark + 2, i64::MIN, ""));
            let fired = std::mem::replace(&mut open, still);
            let out = h.run(&format!("~ {watermark}"));
            let mut got = rows_of(&out);
            let ends: Vec<i64> = got.iter().map(|row| end_of(row)).collect();
            assert!(ends.is_sorted() || subtasks > 1, "{about}: {got:?}");
            got.sort_unstable();
            let mut expected: Vec<String> = fired.iter().map(show).collect();
            expected.sort_unstable();
            assert_eq!(got, expected, "{about}");
            // What no window needs any more is gone.
            kept.retain(|t| windows(&window, *t).iter().any(|(_, end)| end - 1 > watermark));
            assert!(h.metrics().state_entries <= kept.len() as u64, "{about}: {:?}", h.metrics());
            assert_eq!(h.metrics().state_entries == 0, kept.is_empty(), "{about}");
        }
    }
    let out = h.run(".");
    assert_eq!(rows_of(&out).len(), open.len());
    assert_eq!(h.metrics().state_entries, 0);
}

#[test]
fn windows_fire_when_the_watermark_reaches_their_last_millisecond_and_are_gone() {
    let kinds = [
        WindowKind::Tumble { size: 10 * MINUTE },
        WindowKind::Hop { size: 12 * MINUTE, slide: 4 * MINUTE },
        WindowKind::Hop { size: 40 * MINUTE, slide: 2 * MINUTE },
        WindowKind::Cumulate { size: 15 * MINUTE, step: 3 * MINUTE },
    ];
    for seed in 0..6 {
        for kind in kinds {
            for offset in [0, 3 * MINUTE, -MINUTE] {
                check(seed, kind, offset);
            }
        }
    }
}
