//! Random queries over windows: aggregates, grouping sets, sessions, windows of GROUP BY, joins, top-N, deduplication,
//! windows of windows.

use super::expr::condition;
use super::query::{Generator, Rel, aggregate_call, order_by};
use super::random::Random;
use super::tables::{Table, Ty};
use super::timed::{JOINS, Needs, is_key, named, names_of, rel};

/// A window function of no table yet: `{}` stands for its first two arguments, `{by}` for a partition between them.
pub(super) fn function(r: &mut Random) -> String {
    if r.one_in(6) {
        let by = r.pick::<&str>(&["", "{by}"]);
        return format!("TABLE(SESSION({{}}{by}, INTERVAL '{}' SECOND))", r.pick(&[1, 3, 8, 20]));
    }
    let (size, unit) = *r.pick(&[
        (2, "SECOND"),
        (4, "SECOND"),
        (10, "SECOND"),
        (30, "SECOND"),
        (60, "SECOND"),
        (6, "HOUR"),
        (24, "HOUR"),
        (48, "HOUR"),
    ]);
    let parts: Vec<i32> = [1, 2, 3, 5, 6].into_iter().filter(|n| size % n == 0).collect();
    let part = size / *r.pick(&parts);
    let lengths = match r.below(3) {
        0 => format!("TUMBLE({{}}, INTERVAL '{size}' {unit}"),
        1 => format!("HOP({{}}, INTERVAL '{part}' {unit}, INTERVAL '{size}' {unit}"),
        _ => format!("CUMULATE({{}}, INTERVAL '{part}' {unit}, INTERVAL '{size}' {unit}"),
    };
    let offset = match r.below(6) {
        0 => ", INTERVAL '1' SECOND",
        1 => ", INTERVAL '-1' SECOND",
        2 if size > 7 => ", INTERVAL '7' SECOND",
        _ => "",
    };
    format!("TABLE({lengths}{offset}))")
}

/// The function over a table.
pub(super) fn over_table(function: &str, table: &Table) -> String {
    let by = if function.contains("{by}") { " PARTITION BY c0" } else { "" };
    let arguments = format!("TABLE {}{by}, DESCRIPTOR({})", table.name, table.time());
    function.replacen("{by}", "", 1).replacen("{}", &arguments, 1)
}

impl Generator<'_> {
    /// A window function over a table.
    pub(super) fn windows(&mut self, table: &Table) -> String {
        over_table(&function(self.random), table)
    }

    /// The keys of a table for GROUP BY, at most two.
    fn group_keys(&mut self, table: &Table) -> Vec<usize> {
        let types = table.types();
        let mut keys: Vec<usize> =
            self.random.some_of(types.len()).into_iter().filter(|k| is_key(types[*k])).collect();
        keys.truncate(2);
        keys
    }

    /// GROUP BY of keys and bounds, in sets once in a while.
    fn group_by(
        &mut self,
        keys: &[String],
        bounds: &str,
        items: &mut Vec<String>,
        out: &mut Vec<Ty>,
    ) -> String {
        let r = &mut *self.random;
        let list = keys.join(", ");
        if keys.is_empty() {
            return bounds.to_owned();
        }
        let sets = match r.below(8) {
            0 => format!("ROLLUP ({list})"),
            1 => format!("CUBE ({list})"),
            2 => format!("GROUPING SETS (({list}), ({}))", keys[0]),
            3 => format!("GROUPING SETS (({list}), ())"),
            _ => return format!("{list}, {bounds}"),
        };
        if r.one_in(3) {
            items.push(format!("GROUPING({})", keys[0]));
            out.push(Ty::Big);
        }
        format!("{bounds}, {sets}")
    }

    pub(super) fn window_aggregate(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::NOTHING)?;
        let windows = self.windows(&table);
        Some(self.aggregate_of(&table, &windows, Vec::new()))
    }

    /// Sessions, of keys or of all rows.
    pub(super) fn session(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::NOTHING)?;
        let (keys, gap) = (self.group_keys(&table), *self.random.pick(&[1, 3, 8, 20]));
        let list: Vec<String> = keys.iter().map(|k| format!("c{k}")).collect();
        let partition =
            if keys.is_empty() { String::new() } else { format!(" PARTITION BY ({})", list.join(", ")) };
        let (name, time) = (&table.name, table.time());
        let windows =
            format!("TABLE(SESSION(TABLE {name}{partition}, DESCRIPTOR({time}), INTERVAL '{gap}' SECOND))");
        // Mostly by the keys of the sessions, else by any.
        let keys = if self.random.one_in(4) { Vec::new() } else { keys };
        Some(self.aggregate_of(&table, &windows, keys))
    }

    /// Aggregates of windows, by `keys` and others.
    fn aggregate_of(&mut self, table: &Table, windows: &str, keys: Vec<usize>) -> Rel {
        let (types, names) = (table.types(), names_of("w", table));
        let fixed = !keys.is_empty();
        let mut keys = keys;
        if !fixed {
            keys = self.group_keys(table);
        }
        let mut items: Vec<String> = keys.iter().map(|k| names[*k].clone()).collect();
        let mut out: Vec<Ty> = keys.iter().map(|k| types[*k]).collect();
        let (key_names, with_time) = (items.clone(), self.random.one_in(4));
        let bounds =
            format!("w.window_start, w.window_end{}", if with_time { ", w.window_time" } else { "" });
        let shown = self.random.pick::<&str>(&["window_start", "window_end"]).to_owned();
        items.push(format!("w.{shown}"));
        out.push(Ty::Time);
        if with_time {
            items.push("w.window_time".to_owned());
            out.push(table.time_type());
        }
        self.calls(&types, &names, &mut items, &mut out);
        let by = if fixed {
            format!("{}, {bounds}", key_names.join(", "))
        } else {
            self.group_by(&key_names, &bounds, &mut items, &mut out)
        };
        let r = &mut *self.random;
        let filter = if r.one_in(4) {
            format!(" WHERE {}", condition(&types[..types.len() - 1], 1, r).sql(&names))
        } else {
            String::new()
        };
        let having = if r.one_in(5) { format!(" HAVING COUNT(*) > {}", r.below(3)) } else { String::new() };
        rel(format!("SELECT {} FROM {windows} AS w{filter} GROUP BY {by}{having}", named(&items)), out)
    }

    /// Rows with their windows, of which there may be several.
    pub(super) fn window_rows(&mut self) -> Option<Rel> {
        let needs = if self.random.one_in(4) { Needs::NOTHING } else { Needs::ROWS };
        let table = self.timed_table(needs)?;
        let (windows, names) = (self.windows(&table), names_of("w", &table));
        let mut types = table.types();
        let filter = if self.random.one_in(2) {
            format!(" WHERE {}", condition(&types, 2, self.random).sql(&names))
        } else {
            String::new()
        };
        let mut items = names;
        for (column, ty) in
            [("window_start", Ty::Time), ("window_end", Ty::Time), ("window_time", table.time_type())]
        {
            if self.random.one_in(2) {
                items.push(format!("w.{column}"));
                types.push(ty);
            }
        }
        Some(rel(format!("SELECT {} FROM {windows} AS w{filter}", named(&items)), types))
    }

    /// Windows as a function in GROUP BY.
    pub(super) fn group_window(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::NOTHING)?;
        let (types, names, keys) = (table.types(), names_of("w", &table), self.group_keys(&table));
        let time = format!("w.{}", table.time());
        let r = &mut *self.random;
        let size = *r.pick(&[3, 4, 10, 30]);
        let (function, lengths) = match r.below(3) {
            0 => ("TUMBLE", format!("INTERVAL '{size}' SECOND")),
            // Slides need not divide sizes, and may leave gaps.
            1 => ("HOP", format!("INTERVAL '{}' SECOND, INTERVAL '{size}' SECOND", r.pick(&[1, 2, 4, 5]))),
            _ => ("SESSION", format!("INTERVAL '{size}' SECOND")),
        };
        let mut items: Vec<String> = keys.iter().map(|k| names[*k].clone()).collect();
        let mut out: Vec<Ty> = keys.iter().map(|k| types[*k]).collect();
        let by: Vec<String> =
            items.iter().cloned().chain([format!("{function}({time}, {lengths})")]).collect();
        for part in ["START", "END", "ROWTIME"] {
            if r.one_in(2) {
                items.push(format!("{function}_{part}({time}, {lengths})"));
                out.push(Ty::Time);
            }
        }
        self.calls(&types, &names, &mut items, &mut out);
        let having = if self.random.one_in(5) { " HAVING COUNT(*) > 1" } else { "" };
        let (from, by) = (&table.name, by.join(", "));
        Some(rel(format!("SELECT {} FROM {from} AS w GROUP BY {by}{having}", named(&items)), out))
    }

    /// Aggregates of a window's aggregates, of the same windows and of others by their time.
    pub(super) fn window_of_windows(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::NOTHING)?;
        let windows = self.windows(&table);
        let (types, names) = (table.types(), names_of("w", &table));
        let key = self.random.below(types.len() - 1);
        let calls = [aggregate_call(&types, self.random), aggregate_call(&types, self.random)];
        let inner_types = [types[key], calls[0].ty, calls[1].ty];
        let inner_items = [names[key].clone(), calls[0].sql(&names), calls[1].sql(&names)];
        let inner = |bounds: &str| {
            format!(
                "SELECT {}, {bounds} FROM {windows} AS w GROUP BY {}, {bounds}",
                named(&inner_items),
                names[key]
            )
        };
        let bounds = "w.window_start, w.window_end";
        let outer_names: Vec<String> = (0..3).map(|i| format!("x.c{i}")).collect();
        let mut items = vec!["x.window_start".to_owned(), "x.window_end".to_owned()];
        let mut out = vec![Ty::Time, Ty::Time];
        let mut by = "x.window_start, x.window_end".to_owned();
        if self.random.one_in(3) && is_key(inner_types[0]) {
            items.push("x.c0".to_owned());
            out.push(inner_types[0]);
            by.push_str(", x.c0");
        }
        self.calls(&inner_types, &outer_names, &mut items, &mut out);
        let from = if self.random.one_in(2) {
            format!("({})", inner(bounds))
        } else {
            let name = format!("V{}", self.prelude.len());
            let sql = inner("w.window_start, w.window_end, w.window_time");
            let sql = sql.replacen(", w.window_time FROM", ", w.window_time AS wt FROM", 1);
            // Bounds of its own: those of the windows below have another name.
            let sql = format!("SELECT c0, c1, c2, wt FROM ({sql})");
            self.prelude.push(format!("CREATE VIEW {name} AS {sql}"));
            let by = self.random.pick::<&str>(&["", "c0"]);
            let function = function(self.random).replacen("{by}", "", 1);
            let by = if by.is_empty() || !function.contains("SESSION") {
                String::new()
            } else {
                format!(" PARTITION BY {by}")
            };
            function.replacen("{}", &format!("TABLE {name}{by}, DESCRIPTOR(wt)"), 1)
        };
        Some(rel(format!("SELECT {} FROM {from} AS x GROUP BY {by}", named(&items)), out))
    }

    /// Two tables in windows of one function.
    fn two_sides(&mut self) -> Option<(Table, Table, String, String)> {
        let needs = if self.random.one_in(6) { Needs::NOTHING } else { Needs::ROWS };
        let (left, right) = (self.timed_table(needs)?, self.timed_table(needs)?);
        let function = function(self.random);
        let mut side = |table: &Table| {
            let windows = over_table(&function, table);
            if !self.random.one_in(4) {
                return windows;
            }
            let types = table.types();
            let filter = condition(&types[..types.len() - 1], 1, self.random).sql(&names_of("s", table));
            format!("(SELECT * FROM {windows} AS s WHERE {filter})")
        };
        let (a, b) = (side(&left), side(&right));
        Some((left, right, a, b))
    }

    pub(super) fn window_join(&mut self) -> Option<Rel> {
        let (left, right, a, b) = self.two_sides()?;
        let kind = *self.random.pick(&JOINS);
        let mut on =
            vec!["a.window_start = b.window_start".to_owned(), "a.window_end = b.window_end".to_owned()];
        if self.random.one_in(8) {
            // A regular join.
            on.remove(self.random.below(2));
        }
        on.extend(self.equalities(&left, &right));
        on.extend(self.residual(&left, &right));
        let (mut items, mut out) = self.both(&left, &right);
        if self.random.one_in(3) {
            items.push("a.window_end".to_owned());
            out.push(Ty::Time);
        }
        let text = format!("SELECT {} FROM {a} AS a {kind} {b} AS b ON {}", named(&items), on.join(" AND "));
        Some(rel(text, out))
    }

    pub(super) fn window_semi_join(&mut self) -> Option<Rel> {
        let (left, right, a, b) = self.two_sides()?;
        let mut on =
            vec!["a.window_start = b.window_start".to_owned(), "a.window_end = b.window_end".to_owned()];
        let keys = self.equalities(&left, &right);
        on.extend(self.residual(&left, &right));
        let test = match (keys.first().and_then(|k| k.split_once(" = ")), self.random.below(3)) {
            (Some((k, item)), 0) => {
                format!("{k} IN (SELECT {item} FROM {b} AS b WHERE {})", on.join(" AND "))
            }
            (_, n) => {
                on.extend(keys.iter().cloned());
                let not = if n == 1 { "NOT " } else { "" };
                format!("{not}EXISTS (SELECT * FROM {b} AS b WHERE {})", on.join(" AND "))
            }
        };
        let mut items = names_of("a", &left);
        items.push("a.window_start".to_owned());
        let mut out = left.types();
        out.push(Ty::Time);
        Some(rel(format!("SELECT {} FROM {a} AS a WHERE {test}", named(&items)), out))
    }

    /// The first rows of each window by all columns, of rows or of aggregates.
    pub(super) fn window_top_n(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::ROWS)?;
        let mut windows = self.windows(&table);
        let mut types = table.types();
        if self.random.one_in(3) {
            let names = names_of("v", &table);
            let call = aggregate_call(&types, self.random);
            windows = format!(
                "(SELECT v.c0 AS c0, {} AS c1, v.window_start, v.window_end FROM {windows} AS v GROUP BY v.c0, v.window_start, v.window_end)",
                call.sql(&names)
            );
            types = vec![types[0], call.ty];
        }
        let r = &mut *self.random;
        // All columns: ties are equal rows.
        let mut left: Vec<usize> = (0..types.len()).collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            order.push((left.swap_remove(r.below(left.len())), r.one_in(2)));
        }
        let names: Vec<String> = (0..types.len()).map(|i| format!("w.c{i}")).collect();
        let key =
            if r.one_in(2) { format!(", {}", names[r.below(types.len().min(2))]) } else { String::new() };
        let last = 1 + r.below(3);
        let number = format!(
            "ROW_NUMBER() OVER (PARTITION BY w.window_start, w.window_end{key} ORDER BY {})",
            order_by(&order, &names)
        );
        let (first, shown) = (r.one_in(6), r.one_in(2));
        let mut items: Vec<String> = (0..types.len()).map(|i| format!("x.c{i}")).collect();
        items.push("x.window_start".to_owned());
        let mut out = types;
        out.push(Ty::Time);
        if shown {
            items.push("x.rn".to_owned());
            out.push(Ty::Big);
        }
        let bounds = if first { format!("BETWEEN 2 AND {}", last + 1) } else { format!("<= {last}") };
        let inner = format!("SELECT w.*, {number} AS rn FROM {windows} AS w");
        if r.one_in(4) {
            return Some(rel(
                format!("SELECT {} FROM ({inner} QUALIFY rn {bounds}) AS x", named(&items)),
                out,
            ));
        }
        Some(rel(format!("SELECT {} FROM ({inner}) AS x WHERE x.rn {bounds}", named(&items)), out))
    }

    /// The first or last row by time of each window and key.
    pub(super) fn window_deduplication(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::ORDERED_ROWS)?;
        let (windows, keys) = (self.windows(&table), self.group_keys(&table));
        let keys: String = keys.iter().map(|k| format!(", w.c{k}")).collect();
        let descending = if self.random.one_in(2) { " DESC" } else { "" };
        let mut items = names_of("x", &table);
        items.push("x.window_end".to_owned());
        let mut out = table.types();
        out.push(Ty::Time);
        let text = format!(
            "SELECT {} FROM (SELECT w.*, ROW_NUMBER() OVER (PARTITION BY w.window_start, w.window_end{keys} ORDER BY w.{}{descending}) AS rn FROM {windows} AS w) AS x WHERE x.rn = 1",
            named(&items),
            table.time()
        );
        Some(rel(text, out))
    }
}
