//! Random joins over an interval of time: of every kind, their chains, and half joins by EXISTS and IN.

use super::query::{Generator, Rel};
use super::tables::{Table, Ty};
use super::timed::{JOINS, Needs, named, names_of, rel};

impl Generator<'_> {
    pub(super) fn interval_join(&mut self) -> Option<Rel> {
        let (left, right) = (self.timed_table(Needs::ROWS)?, self.timed_table(Needs::ROWS)?);
        let kind = *self.random.pick(&JOINS);
        let on = self.interval_condition(&left, &right);
        let (items, out) = self.both(&left, &right);
        let (a, b) = (&left.name, &right.name);
        if kind == "JOIN" && self.random.one_in(3) {
            return Some(rel(format!("SELECT {} FROM {a} AS a, {b} AS b WHERE {on}", named(&items)), out));
        }
        Some(rel(format!("SELECT {} FROM {a} AS a {kind} {b} AS b ON {on}", named(&items)), out))
    }

    /// Rows with, or without, a partner in the interval.
    pub(super) fn interval_semi_join(&mut self) -> Option<Rel> {
        let (left, right) = (self.timed_table(Needs::ROWS)?, self.timed_table(Needs::ROWS)?);
        let (bounds, mut keys) = (self.time_bounds(&left, &right), self.equalities(&left, &right));
        let b = &right.name;
        let test = match (keys.first().and_then(|k| k.split_once(" = ")), self.random.below(3)) {
            (Some((key, item)), 0) => format!("{key} IN (SELECT {item} FROM {b} AS b WHERE {bounds})"),
            (_, n) => {
                let not = if n == 1 { "NOT " } else { "" };
                keys.push(bounds);
                keys.extend(self.residual(&left, &right));
                format!("{not}EXISTS (SELECT 1 FROM {b} AS b WHERE {})", keys.join(" AND "))
            }
        };
        let text = format!("SELECT {} FROM {} AS a WHERE {test}", named(&names_of("a", &left)), left.name);
        Some(rel(text, left.types()))
    }

    /// Both row times go on as such: a construct over that of a side which has to be there.
    pub(super) fn interval_join_chain(&mut self) -> Option<Rel> {
        let (left, right) = (self.timed_table(Needs::ROWS)?, self.timed_table(Needs::ROWS)?);
        let on = self.interval_condition(&left, &right);
        let kind = *self.random.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN"]);
        let (kept, time) = match (kind, self.random.one_in(2)) {
            ("JOIN", true) | ("RIGHT JOIN", _) => ("b", right.time()),
            _ => ("a", left.time()),
        };
        let (items, out) = self.both(&left, &right);
        let pair = format!(
            "(SELECT {}, {kept}.{time} AS t FROM {} AS a {kind} {} AS b ON {on})",
            named(&items),
            left.name,
            right.name
        );
        let mut outer: Vec<String> = (0..items.len()).map(|i| format!("x.c{i}")).collect();
        let mut types = out;
        if self.random.one_in(2) {
            outer.push("COUNT(*) OVER (ORDER BY x.t)".to_owned());
            types.push(Ty::Big);
            return Some(rel(format!("SELECT {} FROM {pair} AS x", named(&outer)), types));
        }
        let Some(third) = self.timed_table(Needs::ROWS) else { unreachable!("there are two") };
        let (kind, n) = (*self.random.pick(&JOINS), self.random.below(5));
        outer.push(format!("y.{}", third.time()));
        types.push(third.time_type());
        let key = match types.iter().position(|ty| *ty == third.types()[0]) {
            Some(i) => format!("x.c{i} = y.c0"),
            None => "x.t = y.{time}".replace("{time}", &third.time()),
        };
        let text = format!(
            "SELECT {} FROM {pair} AS x {kind} {} AS y ON {key} AND y.{time} BETWEEN x.t - INTERVAL '{n}' SECOND AND x.t + INTERVAL '3' SECOND",
            named(&outer),
            third.name,
            time = third.time()
        );
        Some(rel(text, types))
    }

    /// Equal columns and bounds of time, and more once in a while.
    fn interval_condition(&mut self, left: &Table, right: &Table) -> String {
        let mut on = self.equalities(left, right);
        if on.is_empty() {
            on.push("a.c0 IS NOT DISTINCT FROM b.c0".to_owned());
            if left.types()[0] != right.types()[0] {
                on = vec!["CAST(a.c0 AS STRING) = CAST(b.c0 AS STRING)".to_owned()];
            }
        }
        on.push(self.time_bounds(left, right));
        on.extend(self.residual(left, right));
        on.join(" AND ")
    }

    fn time_bounds(&mut self, left: &Table, right: &Table) -> String {
        let (a, b) = (format!("a.{}", left.time()), format!("b.{}", right.time()));
        let r = &mut *self.random;
        let (before, behind) = (r.within(0, 6), r.within(0, 6));
        match r.below(11) {
            // Long ones, and one of no time at all.
            8 => format!("{a} BETWEEN {b} - INTERVAL '2' MINUTE AND {b} + INTERVAL '1' HOUR"),
            9 => format!("{a} BETWEEN {b} + INTERVAL '3' SECOND AND {b} - INTERVAL '3' SECOND"),
            // A bound of the right side alone.
            10 => format!(
                "{a} BETWEEN {b} - INTERVAL '{before}' SECOND AND {b} + INTERVAL '{behind}' SECOND AND {b} IS NOT NULL"
            ),
            0 => format!(
                "{a} >= {b} - INTERVAL '{before}' SECOND AND {a} < {b} + INTERVAL '{}' SECOND",
                behind.max(1)
            ),
            1 => format!("{a} > {b} - INTERVAL '{}' SECOND AND {a} <= {b}", before.max(1)),
            // Both bounds on one side.
            2 => format!(
                "{a} BETWEEN {b} + INTERVAL '{before}' SECOND AND {b} + INTERVAL '{}' SECOND",
                before + behind
            ),
            3 => format!(
                "{a} BETWEEN {b} - INTERVAL '{}' SECOND AND {b} - INTERVAL '{before}' SECOND",
                before + behind
            ),
            4 => format!("{a} = {b}"),
            // The other way around.
            5 => {
                format!("{b} <= {a} + INTERVAL '{before}' SECOND AND {b} >= {a} - INTERVAL '{behind}' SECOND")
            }
            _ => format!("{a} BETWEEN {b} - INTERVAL '{before}' SECOND AND {b} + INTERVAL '{behind}' SECOND"),
        }
    }
}
