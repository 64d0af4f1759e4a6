//! Random queries over event time, a file for each family of constructs. Rows come out of order, none of them late.
//!
//! ```text
//!  table with a row time ─► view, or not ─► construct ─► query
//!   unique times or ties     filter, union, join, OVER,     │
//!   rows only, or changes    windows: their time goes on    └ of another text in batch where batch has no such construct
//! ```

use super::expr::{condition, random};
use super::query::{Generator, Op, Rel, aggregate_call};
use super::tables::{Table, Ty};

/// Kinds of joins with a condition.
pub(super) const JOINS: [&str; 5] = ["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];

/// Columns that take part in equalities.
pub(super) fn is_key(ty: Ty) -> bool {
    !matches!(ty, Ty::Arr | Ty::Dbl | Ty::Time | Ty::Instant)
}

/// What a construct asks of its table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// No two rows of one time.
    unique: bool,
    /// No row is taken back.
    append_only: bool,
}

impl Needs {
    pub(super) const NOTHING: Needs = Needs { unique: false, append_only: false };
    pub(super) const ROWS: Needs = Needs { unique: false, append_only: true };
    pub(super) const ORDER: Needs = Needs { unique: true, append_only: false };
    pub(super) const ORDERED_ROWS: Needs = Needs { unique: true, append_only: true };

    fn met_by(self, table: &Table) -> bool {
        table.timed && !(self.unique && table.ties) && (!self.append_only || table.is_append_only())
    }
}

type Make = fn(&mut Generator<'_>) -> Option<Rel>;

/// The constructs by name.
pub(crate) const CONSTRUCTS: [(&str, Make); 23] = [
    ("window-aggregate", |g| g.window_aggregate()),
    ("session", |g| g.session()),
    ("group-window", |g| g.group_window()),
    ("window-of-windows", |g| g.window_of_windows()),
    ("window-rows", |g| g.window_rows()),
    ("window-chain", |g| g.window_chain()),
    ("window-join", |g| g.window_join()),
    ("window-semi-join", |g| g.window_semi_join()),
    ("window-top-n", |g| g.window_top_n()),
    ("window-deduplication", |g| g.window_deduplication()),
    ("interval-join", |g| g.interval_join()),
    ("interval-semi-join", |g| g.interval_semi_join()),
    ("interval-join-chain", |g| g.interval_join_chain()),
    ("temporal-join", |g| g.temporal_join()),
    ("match-recognize", |g| g.matches()),
    ("match-recognize-ties", |g| g.matches_with_ties()),
    ("over", |g| g.over()),
    ("over-ties", |g| g.over_with_ties()),
    ("over-view", |g| g.over_twice()),
    ("deduplication", |g| g.deduplication()),
    ("time-order", |g| g.time_order()),
    ("function-query", |g| g.function_query()),
    ("function-table", |g| g.function_table()),
];

impl Generator<'_> {
    /// A relation that time attributes make possible, if there is a table with a row time.
    pub(crate) fn timed(&mut self) -> Option<Rel> {
        let (name, make) = match self.only {
            Some(only) => *CONSTRUCTS.iter().find(|(name, _)| *name == only)?,
            None => *self.random.pick(&CONSTRUCTS),
        };
        let mut rel = make(self)?;
        if let Op::Made { construct, .. } = &mut rel.op {
            *construct = name;
        }
        Some(rel)
    }

    /// A table with a row time, or a view over one.
    pub(super) fn timed_table(&mut self, needs: Needs) -> Option<Table> {
        let mut table = self.base_table(needs)?;
        // Views of views, too.
        while self.random.one_in(3) {
            table = self.view(table, needs);
        }
        Some(table)
    }

    pub(super) fn base_table(&mut self, needs: Needs) -> Option<Table> {
        let fit: Vec<&Table> = self.tables.iter().filter(|t| needs.met_by(t)).collect();
        if fit.is_empty() { None } else { Some((*self.random.pick(&fit)).clone()) }
    }

    /// A view that keeps the row time, as a table of its own; its history is that of the table below.
    fn view(&mut self, table: Table, needs: Needs) -> Table {
        let (types, time, from) = (table.types(), table.time(), table.name.clone());
        let plain = types.len() - 1;
        let names: Vec<String> = (0..types.len()).map(|i| format!("a.c{i}")).collect();
        let mut view = Table { name: format!("V{}", self.prelude.len()), ..table };
        let filter = condition(&types[..plain], 1, self.random).sql(&names);
        let kinds = if needs.unique { 3 } else { 7 };
        let sql = match self.random.below(kinds) {
            0 => format!("SELECT * FROM {from} AS a WHERE {filter}"),
            1 => {
                let changed = self.random.below(plain);
                let expr = random(types[changed], &types[..plain], 2, self.random);
                let mut items = names.clone();
                items[changed] = expr.sql(&names);
                view.columns[changed].1 = true;
                format!("SELECT {} FROM {from} AS a", named(&items))
            }
            // Behind OVER of changes no time goes on.
            2 if view.is_append_only() && plain < 5 => {
                let mut items = names.clone();
                items.insert(plain, format!("COUNT(*) OVER (PARTITION BY a.c0 ORDER BY a.{time})"));
                view.columns.insert(plain, (Ty::Big, false));
                format!("SELECT {} FROM {from} AS a", named(&items))
            }
            2 => format!("SELECT {} FROM {from} AS a", named(&names)),
            3 => {
                view.ties = true;
                format!("SELECT * FROM {from} UNION ALL SELECT * FROM {from} AS a WHERE {filter}")
            }
            4 if view.is_append_only() => {
                view.ties = true;
                let n = self.random.below(6);
                format!(
                    "SELECT {} FROM {from} AS a JOIN {from} AS b ON a.c0 = b.c0 AND a.{time} BETWEEN b.{time} - INTERVAL '{n}' SECOND AND b.{time}",
                    named(&names)
                )
            }
            5 if view.is_append_only() => {
                view.ties = true;
                let windows = self.windows(&view_of(&view, &from));
                let mut items = names.clone();
                items[plain] = "a.window_time".to_owned();
                format!("SELECT {} FROM {windows} AS a", named(&items))
            }
            _ => {
                view.ties = true;
                let windows = self.windows(&view_of(&view, &from));
                let call = aggregate_call(&types, self.random);
                let items = ["a.c0".to_owned(), call.sql(&names), "a.window_time".to_owned()];
                view.columns = vec![view.columns[0], (call.ty, true), (view.time_type(), false)];
                format!(
                    "SELECT {} FROM {windows} AS a GROUP BY a.c0, a.window_start, a.window_end, a.window_time",
                    named(&items)
                )
            }
        };
        self.prelude.push(format!("CREATE VIEW {} AS {sql}", view.name));
        view
    }

    pub(super) fn calls(
        &mut self,
        types: &[Ty],
        names: &[String],
        items: &mut Vec<String>,
        out: &mut Vec<Ty>,
    ) {
        for _ in 0..1 + self.random.below(3) {
            let call = aggregate_call(types, self.random);
            items.push(call.sql(names));
            out.push(call.ty);
        }
    }

    /// Equalities between columns of two sides, at most two.
    pub(super) fn equalities(&mut self, left: &Table, right: &Table) -> Vec<String> {
        let mut all = Vec::new();
        for (i, a) in left.types().iter().enumerate().filter(|(_, a)| is_key(**a)) {
            for (j, _) in right.types().iter().enumerate().filter(|(_, b)| *b == a) {
                all.push(format!("a.c{i} = b.c{j}"));
            }
        }
        let mut some = Vec::new();
        while !all.is_empty() && some.len() < 1 + usize::from(self.random.one_in(4)) {
            some.push(all.swap_remove(self.random.below(all.len())));
        }
        some
    }

    /// A condition over both sides, once in a while.
    pub(super) fn residual(&mut self, left: &Table, right: &Table) -> Option<String> {
        if !self.random.one_in(4) {
            return None;
        }
        let mut types = left.types();
        types.extend(right.types());
        let names: Vec<String> = names_of("a", left).into_iter().chain(names_of("b", right)).collect();
        Some(condition(&types, 1, self.random).sql(&names))
    }

    /// Some columns of two sides.
    pub(super) fn both(&mut self, left: &Table, right: &Table) -> (Vec<String>, Vec<Ty>) {
        let sides = [("a", left.types()), ("b", right.types())];
        let (mut items, mut out) = (Vec::new(), Vec::new());
        for (name, types) in sides {
            for (i, ty) in types.into_iter().enumerate() {
                if !self.random.one_in(3) {
                    items.push(format!("{name}.c{i}"));
                    out.push(ty);
                }
            }
        }
        if items.is_empty() {
            return (vec!["a.c0".to_owned()], vec![left.types()[0]]);
        }
        (items, out)
    }
}

fn view_of(table: &Table, name: &str) -> Table {
    Table { name: name.to_owned(), ..table.clone() }
}

/// The columns of a table by the name it has in the query.
pub(super) fn names_of(alias: &str, table: &Table) -> Vec<String> {
    (0..table.columns.len()).map(|i| format!("{alias}.c{i}")).collect()
}

/// Items of a SELECT with the names of every relation.
pub(super) fn named(items: &[String]) -> String {
    let items: Vec<String> = items.iter().enumerate().map(|(i, c)| format!("{c} AS c{i}")).collect();
    items.join(", ")
}

/// A query as a relation.
pub(super) fn rel(text: String, types: Vec<Ty>) -> Rel {
    Rel { op: Op::Made { construct: "", text, batch: None }, types, inputs: Vec::new() }
}
