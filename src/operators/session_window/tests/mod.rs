//! Session windows, by scripts; `merging` has them against a list of sessions.

mod merging;

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{col, lit};
use datafusion::physical_plan::PhysicalExpr;

use super::*;
use crate::operators::group_aggregate::AggregateCall;
use crate::operators::harness::{OperatorHarness, check, materialize};
use crate::operators::window_aggregate::{
    WindowAggregateConfig, WindowKind, WindowOutput, WindowPhase, WindowSpec,
};

const GAP: i64 = 10_000;

fn time(zone: Option<&str>) -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into))
}

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", time(None), true),
        Field::new("k", DataType::Utf8, true),
        Field::new("v", DataType::Int64, true),
    ]))
}

fn sessions() -> WindowSpec {
    WindowSpec { kind: WindowKind::Session { gap: GAP }, offset: 0, zone: None }
}

fn call(udaf: Arc<AggregateUDF>, arg: Arc<dyn PhysicalExpr>) -> AggregateCall {
    let name = udaf.name().to_owned();
    let expr = AggregateExprBuilder::new(udaf, vec![arg]).schema(input()).alias(name).build().unwrap();
    AggregateCall::new(Arc::new(expr), None)
}

/// COUNT(*), SUM(v), MIN(v), MAX(v) by key and session.
fn aggregate(by_proctime: bool) -> WindowAggregateConfig {
    let schema = if by_proctime {
        let mut fields: Vec<_> = input().fields().iter().cloned().collect();
        fields[0] = Arc::new(Field::new("ts", time(Some("UTC")), true));
        Arc::new(Schema::new(fields))
    } else {
        input()
    };
    let v = || col("v", &schema).unwrap();
    let aggregates = vec![
        call(count_udaf(), lit(1_i64)),
        call(sum_udaf(), v()),
        call(min_udaf(), v()),
        call(max_udaf(), v()),
    ];
    let output_schema = Schema::new(vec![
        Field::new("start", time(None), false),
        Field::new("end", time(None), false),
        Field::new("k", DataType::Utf8, true),
        Field::new("n", DataType::Int64, false),
        Field::new("sum", DataType::Int64, true),
        Field::new("min", DataType::Int64, true),
        Field::new("max", DataType::Int64, true),
    ]);
    WindowAggregateConfig {
        input_schema: schema.clone(),
        output_schema: Arc::new(output_schema),
        output: vec![
            WindowOutput::Start,
            WindowOutput::End,
            WindowOutput::Key(0),
            WindowOutput::Aggregate(0),
            WindowOutput::Aggregate(1),
            WindowOutput::Aggregate(2),
            WindowOutput::Aggregate(3),
        ],
        window: WindowSpec { zone: by_proctime.then_some(chrono_tz::UTC), ..sessions() },
        time_column: 0,
        keys: vec![col("k", &schema).unwrap()],
        aggregates,
        phase: WindowPhase::Single,
        input_retracts: false,
        by_proctime,
    }
}

fn aggregates(by_proctime: bool) -> OperatorHarness {
    let config = aggregate(by_proctime);
    OperatorHarness::new(config.input_schema.clone(), &[1], move |_| {
        Ok(Box::new(SessionAggregateOperator::new(config.clone())?))
    })
}

fn rows(partition: Vec<usize>, by_proctime: bool) -> OperatorHarness {
    let input = aggregate(by_proctime).input_schema;
    let mut fields: Vec<_> = input.fields().iter().cloned().collect();
    let zone = by_proctime.then_some("UTC");
    for (name, ty) in [("window_start", time(None)), ("window_end", time(None)), ("window_time", time(zone))]
    {
        fields.push(Arc::new(Field::new(name, ty, false)));
    }
    let config = SessionWindowConfig {
        input_schema: input.clone(),
        output_schema: Arc::new(Schema::new(fields)),
        window: WindowSpec { zone: by_proctime.then_some(chrono_tz::UTC), ..sessions() },
        time_column: 0,
        partition: partition.clone(),
        by_proctime,
    };
    OperatorHarness::new(input, &partition, move |_| {
        Ok(Box::new(SessionWindowOperator::new(config.clone())?))
    })
}

#[test]
fn rows_of_a_key_without_a_gap_are_a_session() {
    check(
        &mut aggregates(false),
        "+I 00:00:00 a 1
         +I 00:00:10 a 2
         +I 00:00:04 b 5
         +I 00:00:21 a 3
         ~ 00:00:19
         ~ 00:00:30
         .",
        "+I 00:00:04 00:00:14 b 1 5 5 5
         ~ 00:00:19
         +I 00:00:00 00:00:20 a 2 3 1 2
         ~ 00:00:30
         +I 00:00:21 00:00:31 a 1 3 3 3",
    );
}

#[test]
fn a_row_between_two_sessions_makes_one_of_them() {
    check(
        &mut aggregates(false),
        "+I 00:00:00 a 1
         +I 00:00:20 a 2
         +I 00:00:40 a 4
         +I 00:00:20 b 9

         +I 00:00:10 a 8

         +I 00:00:30 a 16
         .",
        "+I 00:00:20 00:00:30 b 1 9 9 9
         +I 00:00:00 00:00:50 a 5 31 1 16",
    );
}

#[test]
fn a_late_row_counts_where_a_session_is_open() {
    let mut harness = aggregates(false);
    check(
        &mut harness,
        "+I 00:00:12 a 1
         ~ 00:00:15
         +I 00:00:03 a 2
         +I 00:00:03 b 4
         +I 00:00:01 a 8
         +I null a 16
         .",
        "~ 00:00:15
         +I 00:00:01 00:00:22 a 3 11 1 8",
    );
    // At 1 s: alone it would have ended at 11 s, but it is near the row at 3 s, which is near the one at 12 s. Of b none is.
    assert_eq!(harness.metrics().late_rows_dropped, 1);
    assert_eq!(harness.metrics().null_times_dropped, 1);
    assert_eq!(harness.metrics().state_entries, 0);
}

#[test]
fn pieces_of_sessions_survive_restores() {
    for parallelism in [1, 2, 4] {
        let mut harness = aggregates(false);
        let script = format!(
            "+I 00:00:00 a 1
             +I 00:00:20 a 2
             +I 00:00:20 b 9
             | 1 x{parallelism}
             +I 00:00:10 a 4
             +I 00:00:32 b 3
             | 2 x3
             +I 00:00:30 a 8
             ~ 00:00:35
             | 3 x1
             +I 00:00:09 b 1
             +I 00:00:38 a 16
             ."
        );
        let out = harness.run(&script);
        let mut rows: Vec<&str> = out.lines().filter(|l| l.starts_with('+')).collect();
        rows.sort_unstable();
        let expected = [
            "+I 00:00:00 00:00:48 a 5 31 1 16",
            "+I 00:00:20 00:00:30 b 1 9 9 9",
            "+I 00:00:32 00:00:42 b 1 3 3 3",
        ];
        assert_eq!(rows, expected, "{parallelism}:\n{out}");
        assert_eq!(harness.metrics().late_rows_dropped, 1);
    }
}

#[test]
fn rows_wait_for_the_end_of_their_session() {
    for parallelism in [1, 2, 4] {
        let mut harness = rows(vec![1], false);
        let script = format!(
            "+I 00:00:00 a 1
             +I 00:00:15 a 2
             +I 00:00:03 b 3
             | 1 x{parallelism}
             +I 00:00:08 a 4
             +I null a 5
             ~ 00:00:12
             | 2 x2
             +I 00:00:01 b 6
             ~ 00:00:24
             +I 00:00:26 a 7
             ."
        );
        let out = harness.run(&script);
        let mut rows: Vec<&str> = out.lines().filter(|l| l.starts_with('+')).collect();
        rows.sort_unstable();
        assert_eq!(
            rows,
            [
                "+I 00:00:00 a 1 00:00:00 00:00:25 00:00:24.999",
                "+I 00:00:01 b 6 00:00:01 00:00:13 00:00:12.999",
                "+I 00:00:03 b 3 00:00:01 00:00:13 00:00:12.999",
                "+I 00:00:08 a 4 00:00:00 00:00:25 00:00:24.999",
                "+I 00:00:15 a 2 00:00:00 00:00:25 00:00:24.999",
                "+I 00:00:26 a 7 00:00:26 00:00:36 00:00:35.999",
            ],
            "{parallelism}:\n{out}"
        );
    }
}

#[test]
fn without_keys_all_rows_are_of_one_partition() {
    check(
        &mut rows(vec![], false),
        "+I 00:00:00 a 1
         +I 00:00:09 b 2
         | 1 x1
         +I 00:00:30 a 3
         .",
        "| 1 x1
         +I 00:00:00 a 1 00:00:00 00:00:19 00:00:18.999
         +I 00:00:09 b 2 00:00:00 00:00:19 00:00:18.999
         +I 00:00:30 a 3 00:00:30 00:00:40 00:00:39.999",
    );
}

#[test]
fn by_processing_time_sessions_end_by_the_clock() {
    check(
        &mut aggregates(true),
        "@ 00:01:00
         +I null a 1
         +I null b 2
         @ 00:01:05
         +I null a 4
         ~ 00:30:00
         | 1 x2
         @ 00:01:09.999
         @ 00:01:14.998
         @ 00:01:14.999
         +I null a 8
         .",
        "~ 00:30:00
         | 1 x2
         +I 00:01:00 00:01:10 b 1 2 2 2
         +I 00:01:00 00:01:15 a 2 5 1 4",
    );
    check(
        &mut rows(vec![1], true),
        "@ 00:01:00
         +I null a 1
         @ 00:01:05
         +I null a 4
         | 1 x2
         @ 00:01:14.998
         @ 00:01:14.999
         +I null a 8
         .",
        "| 1 x2
         +I null a 1 00:01:00 00:01:15 00:01:14.999Z
         +I null a 4 00:01:00 00:01:15 00:01:14.999Z",
    );
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Sessions of rows by brute force: start, end, count, sum, least, greatest.
fn model(rows: &[(i64, u64, i64)]) -> Vec<String> {
    let mut by_key: BTreeMap<u64, Vec<(i64, i64)>> = BTreeMap::new();
    rows.iter().for_each(|(t, k, v)| by_key.entry(*k).or_default().push((*t, *v)));
    let mut out = Vec::new();
    for (key, mut rows) in by_key {
        rows.sort_unstable();
        for session in rows.chunk_by(|a, b| b.0 - a.0 <= GAP) {
            let (start, end) = (session[0].0, session[session.len() - 1].0 + GAP);
            let values = || session.iter().map(|r| r.1);
            out.push(format!(
                "{start} {end} {key} {} {} {} {}",
                session.len(),
                values().sum::<i64>(),
                values().min().unwrap(),
                values().max().unwrap()
            ));
        }
    }
    out.sort();
    out
}

#[test]
fn shuffled_and_delayed_rows_make_the_sessions_of_the_model() {
    for seed in 1..40 {
        let mut dice = Dice(seed * 7_919);
        let count = 40 + dice.roll(160);
        // Rows in the order of time, each as late as the watermark lets it be.
        let mut all: Vec<(i64, u64, i64)> = (0..count)
            .map(|_| (dice.roll(count * 1_500) as i64, dice.roll(4), dice.roll(100) as i64))
            .collect();
        all.sort_unstable();
        let delay = (1 + dice.roll(30_000)) as i64;
        let mut arrivals: Vec<(i64, usize)> =
            all.iter().enumerate().map(|(i, r)| (r.0 + dice.roll(delay as u64) as i64, i)).collect();
        arrivals.sort_unstable();
        let (mut script, mut greatest) = (String::new(), 0);
        for (n, (_, i)) in arrivals.iter().enumerate() {
            let (t, k, v) = all[*i];
            script.push_str(&format!("+I {t} {k} {v}\n"));
            greatest = greatest.max(t);
            match dice.roll(10) {
                0 => script.push('\n'),
                1 => script.push_str(&format!("~ {}\n", greatest - delay - 1)),
                2 => script.push_str(&format!("| {n} x{}\n", 1 + dice.roll(4))),
                _ => {}
            }
        }
        script.push_str(".\n");
        let script = script.lines().map(millis_as_time).collect::<Vec<_>>().join("\n");
        let resting = (seed < 4).then(|| aggregates(false).resting());
        for mut harness in std::iter::once(aggregates(false)).chain(resting) {
            let out = harness.run(&script);
            let mut found: Vec<String> =
                out.lines().filter(|l| l.starts_with('+')).map(with_millis).collect();
            found.sort();
            assert_eq!(found, model(&all), "seed {seed}\n{script}\n--- got\n{out}");
            assert_eq!(harness.metrics().late_rows_dropped, 0, "seed {seed}");
            assert_eq!(harness.metrics().state_entries, 0);
        }

        // Of the same rows, each with its session, the aggregates are those of the model, too.
        let mut harness = rows(vec![1], false);
        let out = harness.run(&script);
        if seed < 4 {
            assert_eq!(materialize(&rows(vec![1], false).resting().run(&script)), materialize(&out));
        }
        let mut sessions: BTreeMap<(String, String, String), Vec<i64>> = BTreeMap::new();
        for line in out.lines().filter(|l| l.starts_with('+')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let key = (words[4].to_owned(), words[5].to_owned(), words[2].to_owned());
            sessions.entry(key).or_default().push(words[3].parse().unwrap());
        }
        let mut found: Vec<String> = sessions
            .into_iter()
            .map(|((start, end, key), values)| {
                with_millis(&format!(
                    "+I {start} {end} {key} {} {} {} {}",
                    values.len(),
                    values.iter().sum::<i64>(),
                    values.iter().min().unwrap(),
                    values.iter().max().unwrap()
                ))
            })
            .collect();
        found.sort();
        assert_eq!(found, model(&all), "seed {seed}\n{script}\n--- got\n{out}");
    }
}

/// The time of a row as the language has it.
fn millis_as_time(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["+I", t, rest @ ..] => {
            let t: i64 = t.parse().unwrap();
            let (s, ms) = (t / 1000, t % 1000);
            format!("+I {:02}:{:02}:{:02}.{ms:03} {}", s / 3600, s / 60 % 60, s % 60, rest.join(" "))
        }
        _ => line.to_owned(),
    }
}

/// A row that came out, with its first two times in milliseconds.
fn with_millis(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let millis = |w: &str| crate::operators::harness::parse_time(w).to_string();
    let mut out = vec![millis(words[1]), millis(words[2])];
    out.extend(words[3..].iter().map(|w| (*w).to_owned()));
    out.join(" ")
}

#[test]
fn columns_of_windows_are_typed() {
    let [start, end, time]: [ArrayRef; 3] = window_columns(&sessions(), vec![0], vec![10_000]);
    assert_eq!(start.data_type(), end.data_type());
    assert_eq!(time.data_type(), &self::time(None));
}
