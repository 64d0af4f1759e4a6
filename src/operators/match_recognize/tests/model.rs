//! Random patterns over random rows, out of order, restored at other parallelisms: as a matcher that tries everything.

use arrow::array::{BooleanArray, Int64Array, TimestampMillisecondArray};
use arrow::datatypes::{Field, Schema, TimeUnit};

use super::*;
use crate::operators::harness::format_batch;

#[derive(Debug, Clone)]
struct Row {
    key: i64,
    time: i64,
    number: i64,
    x: Option<i64>,
    facts: [bool; 3],
}

/// A small generator, so that a failure is found again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn pattern(random: &mut Random, depth: u64) -> Pattern {
    if depth == 0 {
        return Pattern::Variable(random.below(3) as u8);
    }
    match random.below(5) {
        0 => Pattern::Variable(random.below(3) as u8),
        1 => Pattern::Alternation((0..2 + random.below(2)).map(|_| pattern(random, depth - 1)).collect()),
        2 => Pattern::Concat((0..2 + random.below(2)).map(|_| pattern(random, depth - 1)).collect()),
        _ => {
            let from = random.below(3) as u32;
            let to = (random.below(2) == 0).then(|| from.max(1) + random.below(2) as u32);
            let inner = Box::new(pattern(random, depth - 1));
            Pattern::Repeat { inner, from, to, greedy: random.below(2) == 0 }
        }
    }
}

/// What the rows of a key can be.
struct Model<'a> {
    rows: &'a [Row],
    /// Conditions that look at other rows.
    far: bool,
    within: Option<i64>,
    /// What may still be tried.
    steps: std::cell::Cell<u32>,
}

impl Model<'_> {
    fn fits(&self, start: usize, variable: u8, path: &[u8]) -> bool {
        let Some(row) = self.rows.get(start + path.len()) else { return false };
        if self.within.is_some_and(|w| row.time - self.rows[start].time >= w) {
            return false;
        }
        let last_of = |v: u8| path.iter().rposition(|p| *p == v).map(|p| &self.rows[start + p]);
        let first_of = |v: u8| path.iter().position(|p| *p == v).map(|p| &self.rows[start + p]);
        match (variable, self.far) {
            // f1 OR x > LAST(a.x)
            (1, true) => {
                row.facts[1] || last_of(0).is_some_and(|l| row.x.zip(l.x).is_some_and(|(x, l)| x > l))
            }
            // x <= FIRST(b.x) AND (f2 OR x < LAST(c.x, 1))
            (2, true) => {
                first_of(1).is_some_and(|f| row.x.zip(f.x).is_some_and(|(x, f)| x <= f))
                    && (row.facts[2]
                        || last_of(2).is_some_and(|l| row.x.zip(l.x).is_some_and(|(x, l)| x < l)))
            }
            (v, _) => row.facts[v as usize],
        }
    }

    /// Tries everything in the order of preference until `then` is content.
    fn go(
        &self,
        start: usize,
        pattern: &Pattern,
        path: &mut Vec<u8>,
        then: &mut dyn FnMut(&mut Vec<u8>) -> bool,
    ) -> bool {
        let Some(left) = self.steps.get().checked_sub(1) else { return false };
        self.steps.set(left);
        match pattern {
            Pattern::Variable(v) => {
                if !self.fits(start, *v, path) {
                    return false;
                }
                path.push(*v);
                let found = then(path);
                if !found {
                    path.pop();
                }
                found
            }
            Pattern::Concat(parts) => self.all(start, parts, path, then),
            Pattern::Alternation(parts) => parts.iter().any(|p| self.go(start, p, path, then)),
            Pattern::Repeat { inner, from, to, greedy } => {
                self.turns(start, (inner, *from, *to, *greedy), 0, path, then)
            }
        }
    }

    fn all(
        &self,
        start: usize,
        parts: &[Pattern],
        path: &mut Vec<u8>,
        then: &mut dyn FnMut(&mut Vec<u8>) -> bool,
    ) -> bool {
        match parts.split_first() {
            None => then(path),
            Some((first, rest)) => self.go(start, first, path, &mut |path| self.all(start, rest, path, then)),
        }
    }

    fn turns(
        &self,
        start: usize,
        repeat: (&Pattern, u32, Option<u32>, bool),
        turn: u32,
        path: &mut Vec<u8>,
        then: &mut dyn FnMut(&mut Vec<u8>) -> bool,
    ) -> bool {
        let (inner, from, to, greedy) = repeat;
        let before = path.len();
        if turn < from {
            return self.go(start, inner, path, &mut |path| self.turns(start, repeat, turn + 1, path, then));
        }
        let may = to.is_none_or(|to| turn < to);
        if !greedy && then(path) {
            return true;
        }
        let more = may
            && self.go(start, inner, path, &mut |path| {
                // A turn without rows leads nowhere new.
                path.len() > before && self.turns(start, repeat, turn + 1, path, then)
            });
        more || (greedy && then(path))
    }

    /// Rows of matches: number of the row and its variable.
    fn matches(&self, pattern: &Pattern, after: AfterMatch) -> Option<Vec<(i64, u8)>> {
        let (mut found, mut start) = (Vec::new(), 0);
        while start < self.rows.len() {
            let mut path = Vec::new();
            if !self.go(start, pattern, &mut path, &mut |_| true) {
                start += 1;
                continue;
            }
            found.extend(path.iter().enumerate().map(|(i, v)| (self.rows[start + i].number, *v)));
            start += match after {
                AfterMatch::PastLastRow => path.len(),
                AfterMatch::ToNextRow => 1,
                AfterMatch::ToFirst(v) => path.iter().position(|p| *p == v).filter(|p| *p > 0)?,
                AfterMatch::ToLast(v) => path.iter().rposition(|p| *p == v).filter(|p| *p > 0)?,
            };
        }
        Some(found)
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("n", DataType::Int64, true),
        Field::new("x", DataType::Int64, true),
        Field::new("f0", DataType::Boolean, true),
        Field::new("f1", DataType::Boolean, true),
        Field::new("f2", DataType::Boolean, true),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let fact =
        |f: usize| -> ArrayRef { Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.facts[f])))) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.key))),
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.time))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.number))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.x))),
        fact(0),
        fact(1),
        fact(2),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn operator(pattern: &Pattern, far: bool, within: Option<i64>, after: AfterMatch) -> MatchRecognizeConfig {
    let defines = (0..3)
        .map(|v| {
            let fact = Condition::Fact(RowRef::Current, v, false);
            let compare = |c, row| Condition::Compare((RowRef::Current, 0), c, (row, 0));
            Some(match (v, far) {
                (1, true) => {
                    Condition::Any(vec![fact, compare(Comparison::Greater, RowRef::Last(Some(0), 0))])
                }
                (2, true) => Condition::All(vec![
                    compare(Comparison::LessOrEqual, RowRef::First(Some(1), 0)),
                    Condition::Any(vec![fact, compare(Comparison::Less, RowRef::Last(Some(2), 1))]),
                ]),
                _ => fact,
            })
        })
        .collect();
    let read = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("c", DataType::Utf8, true),
    ]));
    MatchRecognizeConfig {
        input: super::model::schema(),
        partition: vec![0],
        time: 1,
        then: Vec::new(),
        program: Program::new(pattern).unwrap(),
        least_rows: pattern.least_rows(),
        variables: ["a", "b", "c"].map(str::to_owned).to_vec(),
        defines,
        values: RowValues {
            facts: (0..3).map(|f| column(&format!("f{f}"), 4 + f)).collect(),
            operands: vec![column("x", 3)],
        },
        within,
        after,
        output: MatchOutput {
            all_rows: true,
            rows: vec![RowRef::Last(None, 0)],
            values: vec![(0, column("k", 0)), (0, column("n", 2))],
            aggregates: Vec::new(),
            classes: Some(["a", "b", "c"].map(str::to_owned).to_vec()),
            columns: vec![column("k", 0), column("n", 1), column("c", 2)],
            schema: Arc::clone(&read),
            read,
        },
        has_row_time: true,
        by_proctime: false,
    }
}

/// Rows of several keys, out of order by less than 40 ms, times repeating.
fn rows(random: &mut Random) -> Vec<Row> {
    let n = 20 + random.below(60) as i64;
    let keys = 1 + random.below(4);
    (0..n)
        .map(|number| Row {
            key: random.below(keys) as i64,
            time: number * 10 + random.below(40) as i64 / 5 * 5,
            number,
            x: Some(random.below(8) as i64).filter(|x| *x > 0 || random.below(2) == 0),
            facts: [random.below(3) > 0, random.below(2) > 0, random.below(2) > 0],
        })
        .collect()
}

/// What comes out where state rests on disk.
fn on_disk(config: &MatchRecognizeConfig, rows: &[Row]) -> Vec<String> {
    let config = config.clone();
    let mut resting = OperatorHarness::new(schema(), &[0], move |_| {
        Ok(Box::new(MatchRecognizeOperator::new(config.clone())?))
    })
    .resting();
    let mut text = Vec::new();
    for (i, chunk) in rows.chunks(5).enumerate() {
        resting.process(&ChangeBatch::insert_only(batch(chunk)), &mut text).unwrap();
        text.push(resting.run(&format!("~ {}", (chunk[chunk.len() - 1].number + 1) * 10 - 1)));
        if i % 4 == 3 {
            text.push(resting.run(&format!("| 1 x{}", 1 + i % 3)));
        }
    }
    text.push(resting.run("."));
    text.iter().flat_map(|t| t.lines()).filter(|l| l.starts_with('+')).map(str::to_owned).collect()
}

#[test]
fn any_pattern_over_any_rows() {
    let mut matched = 0;
    for seed in 0..800 {
        let random = &mut Random(seed);
        let depth = 1 + random.below(3);
        let pattern = pattern(random, depth);
        if pattern.least_rows() == 0 || Program::new(&pattern).unwrap().instructions.len() > 300 {
            continue;
        }
        let far = random.below(2) == 0;
        let within = (random.below(3) == 0).then(|| 30 + random.below(100) as i64);
        let after = match random.below(4) {
            0 => AfterMatch::ToNextRow,
            1 => AfterMatch::ToFirst(random.below(3) as u8),
            2 => AfterMatch::ToLast(random.below(3) as u8),
            _ => AfterMatch::PastLastRow,
        };
        let rows = rows(random);
        let mut ordered = rows.clone();
        ordered.sort_by_key(|r| (r.key, r.time));
        let (mut expected, mut too_long) = (Some(Vec::new()), false);
        for of_key in ordered.chunk_by(|a, b| a.key == b.key) {
            let model = Model { rows: of_key, far, within, steps: 20_000.into() };
            match (model.matches(&pattern, after), &mut expected) {
                (Some(found), Some(all)) => all.extend(found.into_iter().map(|m| (of_key[0].key, m))),
                _ => expected = None,
            }
            too_long |= model.steps.get() == 0;
        }
        if too_long {
            continue;
        }
        let about = format!("seed {seed}: {pattern:?}, {after:?}, far {far}, within {within:?}\n{ordered:?}");
        let config = operator(&pattern, far, within, after);
        let make = config.clone();
        let mut harness = OperatorHarness::new(super::model::schema(), &[0], move |_| {
            Ok(Box::new(MatchRecognizeOperator::new(make.clone())?))
        });
        let (mut text, mut came) = (Vec::new(), 0);
        let mut run = || -> Result<()> {
            for chunk in rows.chunks(1 + random.below(12) as usize) {
                harness.process(&ChangeBatch::insert_only(batch(chunk)), &mut text)?;
                came += chunk.len();
                // Nothing that comes is as old as that.
                let watermark = (chunk[chunk.len() - 1].number + 1) * 10 - 1;
                text.push(harness.try_run(&format!("~ {watermark}"))?);
                let metrics = harness.metrics();
                if let Some(within) = within {
                    // What begins with an older row is decided.
                    let young = rows[..came].iter().filter(|r| r.time + within - 1 > watermark).count();
                    assert!(metrics.state_entries <= young as u64, "{about}: {metrics:?} at {watermark}");
                }
                // One match a key, which has a row at least.
                assert!(metrics.partial_matches <= metrics.state_entries.min(4), "{about}: {metrics:?}");
                if random.below(4) == 0 {
                    harness.run(&format!("| 1 x{}", 1 + random.below(3)));
                }
            }
            text.push(harness.try_run(".")?);
            Ok(())
        };
        let failed = run().is_err();
        let Some(expected) = expected else {
            assert!(failed, "{about}");
            continue;
        };
        assert!(!failed, "{about}");
        let names = ["a", "b", "c"];
        let mut wanted: Vec<String> =
            expected.iter().map(|(k, (n, v))| format!("+I {k} {n} {}", names[*v as usize])).collect();
        matched += wanted.len();
        let got: Vec<String> =
            text.iter().flat_map(|t| t.lines()).filter(|l| l.starts_with('+')).map(str::to_owned).collect();
        // Keys come in any order, the matches of a key in theirs.
        let of_key = |rows: &[String], key: &str| -> Vec<String> {
            rows.iter().filter(|r| r.starts_with(&format!("+I {key} "))).cloned().collect()
        };
        for key in ["0", "1", "2", "3"] {
            assert_eq!(of_key(&got, key), of_key(&wanted, key), "{about}");
        }
        assert_eq!(harness.metrics().state_entries, 0, "{about}");
        assert_eq!(harness.metrics().partial_matches, 0, "{about}");

        if seed % 25 == 0 {
            let got = on_disk(&config, &rows);
            for key in ["0", "1", "2", "3"] {
                assert_eq!(of_key(&got, key), of_key(&wanted, key), "{about}, on disk");
            }
        }

        let mut sorted = MatchRecognizeOperator::new(config).unwrap();
        let mut out = Output::new();
        for chunk in ordered.chunks(1 + random.below(12) as usize) {
            let mut progress = sorted.process_sorted(&batch(chunk), &mut out).unwrap();
            while progress == Progress::More {
                progress = sorted.resume(&mut out).unwrap();
            }
        }
        let _ = sorted.finish_sorted(&mut out).unwrap();
        let mut got: Vec<String> = out.take().iter().flat_map(format_batch).collect();
        got.sort();
        wanted.sort();
        assert_eq!(got, wanted, "{about}");
    }
    assert!(matched > 3_000, "{matched} rows in matches");
}
