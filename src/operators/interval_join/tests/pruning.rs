//! What comes out with each row and each watermark, and what is kept then: against lists of the rows that can still meet
//! something. Rows are late as often as not.

use super::*;

/// A row that waits.
#[derive(Debug, Clone, Copy)]
struct Kept {
    row: Row,
    matched: bool,
}

struct Model {
    config: IntervalJoinConfig,
    kept: [Vec<Kept>; 2],
    watermark: i64,
    late: u64,
}

impl Model {
    /// The time by which windows and bounds count.
    fn time(&self, row: &Row) -> Option<i64> {
        row.1.map(|t| t - self.config.window.unwrap_or(0))
    }

    fn meet(&self, left: &Row, right: &Row) -> bool {
        let (least, greatest) = self.config.bounds;
        let in_time = left.1.zip(right.1).is_some_and(|(l, r)| (least..=greatest).contains(&(l - r)));
        left.0.is_some()
            && left.0 == right.0
            && in_time
            && (self.config.join.filter.is_none() || left.2 < right.2)
    }

    /// Whether no row can come any more that meets one of this time: all that come are behind the watermark.
    fn is_over(&self, port: usize, time: i64) -> bool {
        let (least, greatest) = self.config.bounds;
        let last = if port == 0 { time - least } else { time + greatest };
        last <= self.watermark
    }

    /// A row without a match, if it comes out.
    fn alone(&self, port: usize, row: &Row) -> Option<String> {
        let kind = self.config.join.kind;
        match (port, kind) {
            (0, JoinKind::LeftAnti) => Some(show(Some(row))),
            (0, _) if kind.pads(JoinSide::Left) => Some(format!("{} {}", show(Some(row)), show(None))),
            (1, _) if kind.pads(JoinSide::Right) => Some(format!("{} {}", show(None), show(Some(row)))),
            _ => None,
        }
    }

    fn process(&mut self, port: usize, batch: &[Row]) -> Vec<String> {
        let (mut out, kind) = (Vec::new(), self.config.join.kind);
        let mut fresh = Vec::new();
        for row in batch {
            let time = self.time(row);
            if self.config.window.is_some() && time.is_some_and(|t| t <= self.watermark) {
                self.late += 1;
                continue;
            }
            let mut matched = false;
            for at in 0..self.kept[1 - port].len() {
                let other = self.kept[1 - port][at];
                let (left, right) = if port == 0 { (row, &other.row) } else { (&other.row, row) };
                if !self.meet(left, right) {
                    continue;
                }
                match (kind, port) {
                    (JoinKind::LeftAnti, _) => {}
                    (JoinKind::LeftSemi, 0) if !matched => out.push(show(Some(left))),
                    (JoinKind::LeftSemi, 1) if !other.matched => out.push(show(Some(left))),
                    (JoinKind::LeftSemi, _) => {}
                    _ => out.push(format!("{} {}", show(Some(left)), show(Some(right)))),
                }
                matched = true;
                self.kept[1 - port][at].matched = true;
            }
            match time.filter(|_| row.0.is_some()) {
                Some(time) if !self.is_over(port, time) => fresh.push(Kept { row: *row, matched }),
                _ if matched => {}
                _ => out.extend(self.alone(port, row)),
            }
        }
        self.kept[port].extend(fresh);
        out
    }

    fn watermark(&mut self, watermark: i64) -> Vec<String> {
        self.watermark = watermark;
        let mut out = Vec::new();
        for port in 0..2 {
            let (over, kept): (Vec<Kept>, Vec<Kept>) = std::mem::take(&mut self.kept[port])
                .into_iter()
                .partition(|k| self.time(&k.row).is_some_and(|t| self.is_over(port, t)));
            self.kept[port] = kept;
            out.extend(over.iter().filter(|k| !k.matched).filter_map(|k| self.alone(port, &k.row)));
        }
        out
    }

    fn entries(&self) -> u64 {
        self.kept.iter().map(|k| k.len() as u64).sum()
    }
}

fn check_pruning(seed: u64) {
    let mut dice = Dice(seed);
    let kind = KINDS[dice.roll(6) as usize];
    let is_window = dice.roll(4) == 0;
    let least = dice.roll(60) - 30;
    let bounds = if is_window { (0, 0) } else { (least, least + dice.roll(40)) };
    let mut config = config(kind, bounds, dice.roll(2) == 0);
    config.window = is_window.then_some(1);
    let keys = 1 + dice.roll(3);
    let mut joins = Subtasks::new(config.clone());
    joins.in_time = false;
    let mut model = Model { config, kept: [Vec::new(), Vec::new()], watermark: i64::MIN, late: 0 };
    let mut now = 100;
    for step in 0..60 {
        let about = format!("seed {seed}, step {step}: {kind:?} {bounds:?}, watermark {}", model.watermark);
        let port = dice.roll(2) as usize;
        let batch: Vec<Row> = (0..dice.roll(8))
            .map(|_| {
                now += dice.roll(4);
                // Ends of windows are those of few.
                let round = if is_window { 10 } else { 1 };
                let time = (dice.roll(15) > 0).then_some((now + dice.roll(40) - 30) / round * round);
                ((dice.roll(12) > 0).then(|| dice.roll(keys)), time, dice.roll(10))
            })
            .collect();
        let mut expected = model.process(port, &batch);
        joins.process(port, &batch);
        if dice.roll(8) == 0 {
            joins.restart(1 + dice.roll(3) as usize);
            model.late = 0;
        }
        if dice.roll(2) == 0 {
            let to = (now - dice.roll(20)).max(model.watermark);
            expected.extend(model.watermark(to));
            joins.watermark(to);
        }
        let mut got: Vec<String> = joins.text.drain(..).map(|line| line.replacen("+I ", "", 1)).collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "{about}\n{batch:?}");
        let metrics: Vec<OperatorMetrics> = joins.joins.iter().map(|j| j.metrics()).collect();
        assert_eq!(metrics.iter().map(|m| m.state_entries).sum::<u64>(), model.entries(), "{about}");
        assert_eq!(metrics.iter().map(|m| m.late_rows_dropped).sum::<u64>(), model.late, "{about}");
        // Keys of which there are no rows are gone, too.
        let mut alive: Vec<i64> = model.kept.iter().flatten().filter_map(|k| k.row.0).collect();
        alive.sort_unstable();
        alive.dedup();
        let slots: usize = joins.joins.iter().map(|j| j.directory.len()).sum();
        assert_eq!(slots, alive.len(), "{about}");
    }
}

#[test]
fn rows_come_out_and_go_when_nothing_can_meet_them_any_more() {
    for seed in 0..150 {
        check_pruning(seed);
    }
}
