//! Random tables with a row time: their histories, the versions that they may be, their times moved elsewhere.

use super::random::Random;
use super::tables::{Change, DISORDER, Row, TIMES, Table, Ty, Value};

impl Table {
    /// With a row time behind its other columns. What is taken back is no more behind than what comes.
    pub(crate) fn random_timed(name: String, r: &mut Random) -> Table {
        let mut columns: Vec<(Ty, bool)> = vec![(*r.pick(&[Ty::Int, Ty::Str]), !r.one_in(3))];
        for _ in 0..1 + r.below(2) {
            let types = [Ty::Int, Ty::Str, Ty::Big, Ty::Dec, Ty::Date, Ty::Bool, Ty::Dbl];
            columns.push((types[r.weighted(&[6, 3, 2, 2, 2, 1, 1])], !r.one_in(4)));
        }
        columns.push((Ty::Time, false));
        let splits = vec![Vec::new(); 1 + r.below(3)];
        let (ties, append_only) = (r.one_in(3), !r.one_in(5));
        let mut table =
            Table { name, columns, keyed: false, timed: true, ties, splits, batch: 1 + r.below(7) };
        let mut live: Vec<Vec<Row>> = vec![Vec::new(); table.splits.len()];
        let mut now = TIMES;
        for n in 0..*r.pick(&[0, 1, 3, 8, 20, 40, 60]) {
            let mut row = table.row(r);
            // Milliseconds make them unique.
            let time = now - r.within(0, DISORDER / 1000) * 1000 + if ties { 0 } else { n };
            if let Some(last) = row.last_mut() {
                *last = Value::Time(time);
            }
            let split = r.below(table.splits.len());
            let rows = &mut live[split];
            rows.retain(|row| matches!(row.last(), Some(Value::Time(t)) if *t >= now - DISORDER));
            let what = if append_only || rows.is_empty() { 0 } else { r.weighted(&[4, 1, 2]) };
            let change = match what {
                0 => Change::Insert(row.clone()),
                1 => Change::Delete(rows.swap_remove(r.below(rows.len()))),
                _ => {
                    let old = rows.swap_remove(r.below(rows.len()));
                    if r.one_in(2) {
                        // The same time.
                        row.pop();
                        row.extend(old.last().cloned());
                    }
                    Change::Update(old, row.clone())
                }
            };
            if what != 1 {
                rows.push(row);
            }
            table.splits[split].push(change);
            now += r.within(0, 3) * 1000;
            if r.one_in(25) {
                // Nothing for a while.
                now += *r.pick(&[40_000, 3_600_000, 90_000_000]);
            }
        }
        table
    }

    /// Moves all its times.
    pub(crate) fn moved(mut self, ms: i64) -> Table {
        let rows = self.splits.iter_mut().flatten().flat_map(|change| match change {
            Change::Insert(row) | Change::Delete(row) => vec![row],
            Change::Update(old, new) => vec![old, new],
        });
        for value in rows.flatten() {
            if let Value::Time(time) = value {
                *time += ms;
            }
        }
        self
    }

    /// Makes its row time an instant.
    pub(crate) fn zoned(mut self) -> Table {
        if let (true, Some(time)) = (self.timed, self.columns.last_mut()) {
            time.0 = Ty::Instant;
        }
        self
    }

    /// Type of the row time.
    pub(crate) fn time_type(&self) -> Ty {
        self.columns[self.columns.len() - 1].0
    }

    /// Whether its rows may be the versions of their first column.
    pub(crate) fn has_versions(&self) -> bool {
        self.timed && !self.ties && !self.columns[0].1 && self.is_append_only()
    }

    /// Name of the same table with a primary key, of which it has versions.
    pub(crate) fn versions(&self) -> String {
        format!("{}v", self.name)
    }
}
