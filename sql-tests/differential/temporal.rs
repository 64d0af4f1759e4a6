//! Random joins as of an event time. Batch has none (as in Flink), so it answers the same question by LEAD: a version
//! holds from its time until that of the next one.

use super::expr::condition;
use super::query::{Generator, Op, Rel};
use super::tables::Table;
use super::timed::{Needs, named, names_of, rel};

impl Generator<'_> {
    pub(super) fn temporal_join(&mut self) -> Option<Rel> {
        let needs = if self.random.one_in(5) { Needs::NOTHING } else { Needs::ROWS };
        let left = self.timed_table(needs)?;
        let right = self.base_table(Needs::ORDERED_ROWS)?;
        let keys: Vec<usize> =
            (0..left.columns.len()).filter(|i| left.columns[*i].0 == right.columns[0].0).collect();
        if keys.is_empty() {
            return None;
        }
        let key = *self.random.pick(&keys);
        let version = self.version_of(&right);
        let kind = *self.random.pick(&["JOIN", "LEFT JOIN"]);
        let mut on = vec![format!("a.c{key} = b.c0")];
        on.extend(self.residual(&left, &right));
        let (items, out) = self.both(&left, &right);
        let filter = if self.random.one_in(4) {
            let types = left.types();
            let filter = condition(&types[..types.len() - 1], 1, self.random);
            format!(" WHERE {}", filter.sql(&names_of("a", &left)))
        } else {
            String::new()
        };
        let (on, time, version_time) = (on.join(" AND "), left.time(), right.time());
        let mut joins = format!("{kind} {version} FOR SYSTEM_TIME AS OF a.{time} AS b ON {on}");
        let mut batch = format!(
            "{kind} {} AS b ON {on} AND b.{version_time} <= a.{time} AND (b.until IS NULL OR a.{time} < b.until)",
            held(&right)
        );
        let (mut items, mut out) = (items, out);
        if self.random.one_in(4) {
            // Another one of the same row.
            let kind = *self.random.pick(&["JOIN", "LEFT JOIN"]);
            let version = self.version_of(&right);
            joins += &format!(" {kind} {version} FOR SYSTEM_TIME AS OF a.{time} AS d ON a.c{key} = d.c0");
            batch += &format!(
                " {kind} {} AS d ON a.c{key} = d.c0 AND d.{version_time} <= a.{time} AND (d.until IS NULL OR a.{time} < d.until)",
                held(&right)
            );
            items.push(format!("d.{version_time}"));
            out.push(right.time_type());
        }
        let select = format!("SELECT {} FROM {} AS a", named(&items), left.name);
        let Rel { types, inputs, .. } = rel(String::new(), out);
        let op = Op::Made {
            construct: "",
            text: format!("{select} {joins}{filter}"),
            batch: Some(format!("{select} {batch}{filter}")),
        };
        Some(Rel { op, types, inputs })
    }

    /// A table with a primary key, or the last row of each key.
    fn version_of(&mut self, table: &Table) -> String {
        if table.has_versions() && self.random.one_in(2) {
            return table.versions();
        }
        let name = format!("V{}", self.prelude.len());
        let columns: Vec<String> = (0..table.columns.len()).map(|i| format!("c{i}")).collect();
        self.prelude.push(format!(
            "CREATE VIEW {name} AS SELECT {} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY c0 ORDER BY {} DESC) AS rn FROM {}) WHERE rn = 1",
            columns.join(", "),
            table.time(),
            table.name
        ));
        name
    }
}

/// The rows of a table with the time until which each holds.
fn held(table: &Table) -> String {
    let time = table.time();
    format!("(SELECT *, LEAD({time}) OVER (PARTITION BY c0 ORDER BY {time}) AS until FROM {})", table.name)
}
