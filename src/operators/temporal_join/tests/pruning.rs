//! What comes out with each watermark, and which versions are kept then: against the list of all versions that ever came.
//! Rows of both sides are late as often as not.

use super::*;

#[derive(Default)]
struct Model {
    /// All that came with a key and a time, in the order of arrival.
    versions: Vec<Row>,
    /// Left rows that wait, in the order of arrival.
    waiting: Vec<Row>,
    late: u64,
}

impl Model {
    fn process(&mut self, port: usize, batch: &[Row], watermark: i64) {
        for row in batch {
            let Some(time) = row.2 else { continue };
            match port {
                0 if time <= watermark => self.late += 1,
                0 => self.waiting.push(*row),
                _ if row.0 == RowKind::UpdateBefore || row.1.is_none() => {}
                _ => self.versions.push(*row),
            }
        }
    }

    /// The version that a key has at a time, of several of one time the last to come; none where it was deleted.
    fn version(&self, key: i64, time: i64) -> Option<&Row> {
        let of_key = self.versions.iter().filter(|v| v.1 == Some(key) && v.2.is_some_and(|t| t <= time));
        of_key.max_by_key(|v| v.2)
    }

    fn watermark(&mut self, config: &TemporalJoinConfig, watermark: i64) -> Vec<String> {
        let (due, waiting): (Vec<Row>, Vec<Row>) =
            self.waiting.drain(..).partition(|r| r.2.is_some_and(|t| t <= watermark));
        self.waiting = waiting;
        let row = |(kind, key, time, value): &Row| {
            let sign = if kind.is_retraction() { "-D" } else { "+I" };
            let version = key.zip(*time).and_then(|(key, time)| self.version(key, time));
            let version = version.filter(|v| v.0 != RowKind::Delete);
            match version.filter(|v| config.join.filter.is_none() || *value < v.3) {
                Some(version) => Some(format!("{sign} {value} {}", version.3)),
                None => (config.join.kind == JoinKind::Left).then(|| format!("{sign} {value} null")),
            }
        };
        due.iter().filter_map(row).collect()
    }

    /// Of each key: versions that are to come, and the one that is valid.
    fn kept(&self, keys: i64, watermark: i64) -> u64 {
        let later = self.versions.iter().filter(|v| v.2.is_some_and(|t| t > watermark)).count();
        let valid = (0..keys).filter(|key| self.version(*key, watermark).is_some()).count();
        (later + valid + self.waiting.len()) as u64
    }
}

fn check_pruning(seed: u64) {
    let mut dice = Dice(seed);
    let kind = if dice.roll(2) == 0 { JoinKind::Inner } else { JoinKind::Left };
    let config = config(kind, dice.roll(2) == 0);
    let keys = 1 + dice.roll(4);
    let mut joins = Subtasks::new(config.clone());
    let (mut model, mut watermark, mut now) = (Model::default(), i64::MIN, 100);
    for step in 0..80 {
        let about = format!("seed {seed}, step {step}: {kind:?}, watermark {watermark}");
        let port = dice.roll(2) as usize;
        let batch: Vec<Row> = (0..dice.roll(8))
            .map(|_| {
                now += dice.roll(4);
                let time = (dice.roll(15) > 0).then_some(now + dice.roll(40) - 30);
                let key = (dice.roll(12) > 0).then(|| dice.roll(keys));
                let kind = match (port, dice.roll(8)) {
                    (1, 0) => RowKind::Delete,
                    (1, 1) => RowKind::UpdateBefore,
                    (1, 2) => RowKind::UpdateAfter,
                    (0, 0) => RowKind::Delete,
                    _ => RowKind::Insert,
                };
                (kind, key, time, dice.roll(10))
            })
            .collect();
        model.process(port, &batch, watermark);
        joins.process(port, &batch);
        let late: u64 = joins.joins.iter().map(|j| j.metrics().late_rows_dropped).sum();
        assert_eq!(late, model.late, "{about}");
        if dice.roll(8) == 0 {
            joins.restart(1 + dice.roll(3) as usize);
            model.late = 0;
        }
        if dice.roll(2) == 0 {
            watermark = (now - dice.roll(20)).max(watermark);
            let mut expected = model.watermark(&config, watermark);
            joins.watermark(watermark);
            assert_eq!(joins.entries(), model.kept(keys, watermark), "{about}");
            // Keys that have been of different subtasks come in any order.
            let mut got: Vec<String> = joins.text.drain(..).collect();
            got.sort();
            expected.sort();
            assert_eq!(got, expected, "{about}");
        }
    }
}

#[test]
fn versions_stay_as_long_as_a_left_row_may_ask_for_them() {
    for seed in 0..150 {
        check_pruning(seed);
    }
}
