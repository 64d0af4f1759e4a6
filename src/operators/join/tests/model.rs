//! Random changelogs against a join of lists.

use super::*;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

type Row = (Option<i64>, Option<i64>);

fn show(v: Option<i64>) -> String {
    v.map_or("null".to_owned(), |v| v.to_string())
}

fn pair(row: &Row) -> String {
    format!("{} {}", show(row.0), show(row.1))
}

/// What the inputs promise.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Promise {
    Append,
    Bag,
    /// The value is unique.
    Value,
    /// The join key is unique.
    Key,
}

struct Side {
    letter: char,
    promise: Promise,
    rows: Vec<Row>,
}

impl Side {
    fn fits(&self, row: &Row) -> bool {
        match self.promise {
            Promise::Append | Promise::Bag => true,
            Promise::Value => !self.rows.iter().any(|r| r.1 == row.1),
            Promise::Key => !self.rows.iter().any(|r| r.0 == row.0),
        }
    }

    fn step(&mut self, dice: &mut Dice, lines: &mut Vec<String>) {
        let letter = self.letter;
        for _ in 0..=dice.roll(6) {
            let null = |dice: &mut Dice, n| (dice.roll(6) > 0).then(|| dice.roll(n) as i64);
            let row = (null(dice, 4), null(dice, 8));
            let retracts = self.promise != Promise::Append && !self.rows.is_empty() && dice.roll(2) == 0;
            if !retracts {
                if self.fits(&row) {
                    self.rows.push(row);
                    lines.push(format!("{letter} +I {}", pair(&row)));
                }
                continue;
            }
            let at = dice.roll(self.rows.len() as u64) as usize;
            let old = self.rows.swap_remove(at);
            // An update keeps the unique column.
            let new = match self.promise {
                Promise::Value => (row.0, old.1),
                Promise::Key => (old.0, row.1),
                _ => row,
            };
            if dice.roll(2) == 0 && self.fits(&new) {
                self.rows.push(new);
                lines.push(format!("{letter} -U {}", pair(&old)));
                lines.push(format!("{letter} +U {}", pair(&new)));
            } else {
                lines.push(format!("{letter} -D {}", pair(&old)));
            }
        }
    }
}

fn expected(config: &JoinConfig, left: &[Row], right: &[Row]) -> Vec<String> {
    let keyed = !config.left.keys.is_empty();
    let null_safe = config.null_safe.first() == Some(&true);
    let equal = |l: &Row, r: &Row| -> Option<bool> {
        if !keyed {
            Some(true)
        } else if null_safe {
            Some(l.0 == r.0)
        } else {
            Some(l.0? == r.0?)
        }
    };
    let filtered = config.filter.is_some();
    let matches = |l: &Row, r: &Row| {
        equal(l, r) == Some(true) && (!filtered || matches!((l.1, r.1), (Some(a), Some(b)) if a < b))
    };
    let mut rows = Vec::new();
    for l in left {
        let found: Vec<&Row> = right.iter().filter(|r| matches(l, r)).collect();
        let has = !found.is_empty();
        match config.kind {
            JoinKind::LeftSemi if has => rows.push(pair(l)),
            JoinKind::LeftAnti if !has => rows.push(pair(l)),
            JoinKind::NullAwareLeftAnti => {
                if right.iter().all(|r| equal(l, r) == Some(false)) {
                    rows.push(pair(l));
                }
            }
            JoinKind::LeftMark => rows.push(format!("{} {has}", pair(l))),
            JoinKind::LeftSemi | JoinKind::LeftAnti => {}
            _ => {
                rows.extend(found.iter().map(|r| format!("{} {}", pair(l), pair(r))));
                if !has && config.kind.pads(JoinSide::Left) {
                    rows.push(format!("{} null null", pair(l)));
                }
            }
        }
    }
    if config.kind.pads(JoinSide::Right) {
        let alone = right.iter().filter(|r| !left.iter().any(|l| matches(l, r)));
        rows.extend(alone.map(|r| format!("null null {}", pair(r))));
    }
    rows.sort();
    rows
}

fn check(seed: u64) {
    let mut dice = Dice(seed);
    let kinds = [
        JoinKind::Inner,
        JoinKind::Left,
        JoinKind::Right,
        JoinKind::Full,
        JoinKind::LeftSemi,
        JoinKind::LeftAnti,
        JoinKind::LeftMark,
        JoinKind::NullAwareLeftAnti,
    ];
    let kind = kinds[dice.roll(8) as usize];
    let mut config = config(kind);
    let null_aware = kind == JoinKind::NullAwareLeftAnti;
    if !null_aware {
        match dice.roll(6) {
            0 => config = without_keys(config),
            1 => config.null_safe = vec![true],
            _ => {}
        }
        if dice.roll(2) == 0 {
            config = with_filter(config);
        }
        if dice.roll(5) == 0 {
            // Long enough to expire nothing: the ways of joins with a TTL.
            config.right.ttl_ms = Some(1_000_000);
        }
    }
    let promises = [Promise::Append, Promise::Bag, Promise::Value, Promise::Key];
    let mut sides =
        ['L', 'R'].map(|letter| Side { letter, promise: promises[dice.roll(4) as usize], rows: Vec::new() });
    for (side, input) in sides.iter_mut().zip([&mut config.left, &mut config.right]) {
        if input.keys.is_empty() && side.promise == Promise::Key {
            side.promise = Promise::Bag;
        }
        input.retracts = side.promise != Promise::Append;
        input.unique = match side.promise {
            Promise::Value => UniqueKey::Columns(vec![1]),
            Promise::Key => UniqueKey::JoinKey,
            _ => UniqueKey::None,
        };
    }
    let mut lines = Vec::new();
    for step in 0..60 {
        sides[dice.roll(2) as usize].step(&mut dice, &mut lines);
        lines.push(String::new());
        if dice.roll(5) == 0 {
            let parallelism = if null_aware { 1 } else { 1 + dice.roll(3) };
            lines.push(format!("| {step} x{parallelism}"));
        }
    }
    let mut joins = Joins::new(config);
    let script = lines.join("\n");
    let got = materialize(&joins.run(&script));
    let expected = expected(&joins.config, &sides[0].rows, &sides[1].rows);
    assert_eq!(got, expected, "seed {seed}, {:?}\n{script}", joins.config);
}

#[test]
fn random_changelogs() {
    (0..600).for_each(check);
}
