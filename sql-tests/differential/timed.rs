//! Random queries over event time: windows, joins over time, OVER. Rows come out of order, none of them late.

use super::query::{Generator, Op, Rel, aggregate_call, order_by};
use super::tables::{Table, Ty};

/// Kinds of joins with a condition.
const JOINS: [&str; 5] = ["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];

/// Columns that take part in equalities.
fn is_key(ty: Ty) -> bool {
    !matches!(ty, Ty::Arr | Ty::Dbl | Ty::Time)
}

impl Generator<'_> {
    /// A relation that time attributes make possible, if there is a table with a row time.
    pub(crate) fn timed(&mut self) -> Option<Rel> {
        let table = self.timed_table()?;
        Some(match self.random.below(11) {
            0 => self.window_aggregate(&table),
            1 => self.session(&table),
            8 => self.group_window(&table),
            9 | 10 => self.matches(&table),
            2 => self.window_join(&table),
            3 => self.window_top_n(&table),
            4 | 5 => self.interval_join(&table),
            _ => self.over(&table),
        })
    }

    fn timed_table(&mut self) -> Option<Table> {
        let timed: Vec<&Table> = self.tables.iter().filter(|t| t.timed).collect();
        if timed.is_empty() { None } else { Some((*self.random.pick(&timed)).clone()) }
    }

    /// A window function over a table.
    fn windows(&mut self, table: &Table) -> String {
        let r = &mut *self.random;
        let (name, time) = (&table.name, table.time());
        let size = *r.pick(&[4, 10, 30]);
        let lengths = match r.below(3) {
            0 => format!("TUMBLE(TABLE {name}, DESCRIPTOR({time}), INTERVAL '{size}' SECOND"),
            1 => {
                let slide = size / *r.pick(&[1, 2]);
                format!(
                    "HOP(TABLE {name}, DESCRIPTOR({time}), INTERVAL '{slide}' SECOND, INTERVAL '{size}' SECOND"
                )
            }
            _ => {
                let step = size / 2;
                format!(
                    "CUMULATE(TABLE {name}, DESCRIPTOR({time}), INTERVAL '{step}' SECOND, INTERVAL '{size}' SECOND"
                )
            }
        };
        let offset = if r.one_in(4) { ", INTERVAL '1' SECOND" } else { "" };
        format!("TABLE({lengths}{offset}))")
    }

    fn window_aggregate(&mut self, table: &Table) -> Rel {
        let windows = self.windows(table);
        let r = &mut *self.random;
        let types = table.types();
        let keys: Vec<usize> =
            r.some_of(types.len()).into_iter().filter(|k| types[*k] != Ty::Arr).take(2).collect();
        let names: Vec<String> = (0..types.len()).map(|i| format!("w.c{i}")).collect();
        let mut items: Vec<String> = keys.iter().map(|k| names[*k].clone()).collect();
        let mut out: Vec<Ty> = keys.iter().map(|k| types[*k]).collect();
        let by: Vec<String> =
            items.iter().cloned().chain(["w.window_start".into(), "w.window_end".into()]).collect();
        items.push(format!("w.{}", r.pick(&["window_start", "window_end"])));
        out.push(Ty::Time);
        for _ in 0..1 + r.below(3) {
            let call = aggregate_call(&types, r);
            items.push(call.sql(&names));
            out.push(call.ty);
        }
        let text = format!("SELECT {} FROM {windows} AS w GROUP BY {}", named(&items), by.join(", "));
        rel(text, out)
    }

    /// Sessions of a key, which all calls are over.
    fn session(&mut self, table: &Table) -> Rel {
        let types = table.types();
        let keys: Vec<usize> = (0..types.len()).filter(|i| is_key(types[*i])).collect();
        let r = &mut *self.random;
        let (key, gap, time) = (*r.pick(&keys), *r.pick(&[1, 3, 8]), table.time());
        let names: Vec<String> = (0..types.len()).map(|i| format!("w.c{i}")).collect();
        let (name, start) = (&table.name, r.pick(&["window_start", "window_end"]));
        let mut items = vec![names[key].clone(), format!("w.{start}")];
        let mut out = vec![types[key], Ty::Time];
        self.calls(&types, &names, &mut items, &mut out);
        let text = format!(
            "SELECT {} FROM TABLE(SESSION(TABLE {name} PARTITION BY c{key}, DESCRIPTOR({time}), INTERVAL '{gap}' SECOND)) AS w GROUP BY {}, w.window_start, w.window_end",
            named(&items),
            names[key]
        );
        rel(text, out)
    }

    /// Windows as a function in GROUP BY.
    fn group_window(&mut self, table: &Table) -> Rel {
        let types = table.types();
        let keys: Vec<usize> = (0..types.len()).filter(|i| is_key(types[*i])).collect();
        let r = &mut *self.random;
        let names: Vec<String> = (0..types.len()).map(|i| format!("w.c{i}")).collect();
        let key = r.one_in(2).then(|| names[*r.pick(&keys)].clone());
        let time = format!("w.{}", table.time());
        let (function, lengths) = match r.below(3) {
            0 => ("TUMBLE", "INTERVAL '10' SECOND"),
            1 => ("HOP", "INTERVAL '2' SECOND, INTERVAL '6' SECOND"),
            _ => ("SESSION", "INTERVAL '4' SECOND"),
        };
        let part = *r.pick(&["START", "END"]);
        let mut items = vec![format!("{function}_{part}({time}, {lengths})")];
        let mut out = vec![Ty::Time];
        self.calls(&types, &names, &mut items, &mut out);
        let by: Vec<String> = key.into_iter().chain([format!("{function}({time}, {lengths})")]).collect();
        let text = format!("SELECT {} FROM {} AS w GROUP BY {}", named(&items), table.name, by.join(", "));
        rel(text, out)
    }

    fn calls(&mut self, types: &[Ty], names: &[String], items: &mut Vec<String>, out: &mut Vec<Ty>) {
        for _ in 0..1 + self.random.below(3) {
            let call = aggregate_call(types, self.random);
            items.push(call.sql(names));
            out.push(call.ty);
        }
    }

    /// MATCH_RECOGNIZE with patterns over the values of one number.
    fn matches(&mut self, table: &Table) -> Rel {
        let types = table.types();
        let Some(value) = types.iter().position(|ty| *ty == Ty::Int) else { return self.over(table) };
        let keys: Vec<usize> = (0..types.len()).filter(|i| is_key(types[*i])).collect();
        let r = &mut *self.random;
        let (v, time) = (format!("c{value}"), table.time());
        let partition = if r.one_in(3) { String::new() } else { format!("PARTITION BY c{} ", r.pick(&keys)) };
        let pattern = *r.pick(&[
            "A B+ C",
            "A B* C",
            "A B? C",
            "A+ B",
            "A B+? C",
            "(A B)+",
            "A (B | C)",
            "A (B C)* B",
            "A{2} B",
            "A{1,3} C",
            "A{2,} B",
            "A B{0,2}? C",
            "(A | B) C+ A",
            "A (B | C)+ D",
        ]);
        let skip = *r.pick(&["PAST LAST ROW", "TO NEXT ROW"]);
        let within = if r.one_in(3) { " WITHIN INTERVAL '15' SECOND" } else { "" };
        let conditions: Vec<String> = ["A", "B", "C", "D"]
            .iter()
            .filter(|name| pattern.contains(*name))
            .filter_map(|name| {
                let what = match r.below(7) {
                    0 => return None,
                    1 => format!("{name}.{v} > 0"),
                    2 => format!("{name}.{v} < 3"),
                    3 => format!("{name}.{v} >= LAST({name}.{v}, 1) OR LAST({name}.{v}, 1) IS NULL"),
                    4 if *name != "A" && pattern.starts_with('A') => format!("{name}.{v} > A.{v}"),
                    5 => format!("MOD({name}.{v}, 2) = 0"),
                    6 if *name != "A" && pattern.starts_with('A') => format!("{name}.{v} <= FIRST(A.{v})"),
                    _ => format!("{name}.{v} IS NOT NULL"),
                };
                Some(format!("{name} AS {what}"))
            })
            .collect();
        let define = if conditions.is_empty() { "A AS TRUE".to_owned() } else { conditions.join(", ") };
        let text = format!(
            "SELECT m.n AS c0, m.f AS c1, m.l AS c2, m.t AS c3 FROM {} MATCH_RECOGNIZE ({partition}ORDER BY {time} MEASURES COUNT({v}) AS n, FIRST({v}) AS f, LAST({v}) AS l, LAST({time}) AS t ONE ROW PER MATCH AFTER MATCH SKIP {skip} PATTERN ({pattern}){within} DEFINE {define}) AS m",
            table.name
        );
        rel(text, vec![Ty::Big, Ty::Int, Ty::Int, Ty::Time])
    }

    fn window_join(&mut self, left: &Table) -> Rel {
        let Some(right) = self.timed_table() else { unreachable!("the left one is there") };
        let windows = self.windows(left);
        // The windows of both sides are the same.
        let other = windows.replacen(
            &format!("TABLE {}, DESCRIPTOR({})", left.name, left.time()),
            &format!("TABLE {}, DESCRIPTOR({})", right.name, right.time()),
            1,
        );
        let kind = *self.random.pick(&JOINS);
        let mut on =
            vec!["a.window_start = b.window_start".to_owned(), "a.window_end = b.window_end".to_owned()];
        on.extend(self.equalities(left, &right));
        let (items, out) = self.both(left, &right);
        let text = format!(
            "SELECT {} FROM {windows} AS a {kind} {other} AS b ON {}",
            named(&items),
            on.join(" AND ")
        );
        rel(text, out)
    }

    fn window_top_n(&mut self, table: &Table) -> Rel {
        let windows = self.windows(table);
        let types = table.types();
        let columns: Vec<usize> = (0..types.len()).filter(|i| types[*i] != Ty::Arr).collect();
        let r = &mut *self.random;
        // The row time, which is unique, makes the order total.
        let mut order: Vec<(usize, bool)> = r
            .some_of(types.len())
            .into_iter()
            .filter(|c| columns.contains(c))
            .map(|c| (c, r.one_in(2)))
            .collect();
        order.push((types.len() - 1, r.one_in(2)));
        let names: Vec<String> = (0..types.len()).map(|i| format!("w.c{i}")).collect();
        let key = if r.one_in(2) { format!(", {}", names[*r.pick(&columns)]) } else { String::new() };
        let last = 1 + r.below(3);
        let inner = format!(
            "SELECT w.*, ROW_NUMBER() OVER (PARTITION BY w.window_start, w.window_end{key} ORDER BY {}) AS rn FROM {windows} AS w",
            order_by(&order, &names)
        );
        let mut items: Vec<String> = (0..types.len()).map(|i| format!("x.c{i}")).collect();
        items.push("x.window_start".to_owned());
        let mut out = types;
        out.push(Ty::Time);
        if r.one_in(2) {
            items.push("x.rn".to_owned());
            out.push(Ty::Big);
        }
        rel(format!("SELECT {} FROM ({inner}) AS x WHERE x.rn <= {last}", named(&items)), out)
    }

    fn interval_join(&mut self, left: &Table) -> Rel {
        let Some(right) = self.timed_table() else { unreachable!("the left one is there") };
        let (text, items, out) = self.interval_join_of(left, &right);
        if !self.random.one_in(3) {
            return rel(format!("SELECT {} FROM {text}", named(&items)), out);
        }
        // Both row times go on as such: an OVER aggregate over that of the left side, which has to be there.
        let text = text.replace(" RIGHT JOIN ", " JOIN ").replace(" FULL JOIN ", " LEFT JOIN ");
        let mut outer: Vec<String> = (0..items.len()).map(|i| format!("x.c{i}")).collect();
        outer.push("COUNT(*) OVER (ORDER BY x.t)".to_owned());
        let mut types = out;
        types.push(Ty::Big);
        let text = format!(
            "SELECT {} FROM (SELECT {}, a.{} AS t FROM {text}) AS x",
            named(&outer),
            named(&items),
            left.time()
        );
        rel(text, types)
    }

    fn interval_join_of(&mut self, left: &Table, right: &Table) -> (String, Vec<String>, Vec<Ty>) {
        let kind = *self.random.pick(&JOINS);
        let (a, b) = (left.time(), right.time());
        let mut on = self.equalities(left, right);
        if on.is_empty() {
            on.push("a.c0 IS NOT DISTINCT FROM b.c0".to_owned());
            if left.types()[0] != right.types()[0] {
                on = vec!["CAST(a.c0 AS STRING) = CAST(b.c0 AS STRING)".to_owned()];
            }
        }
        let r = &mut *self.random;
        let (before, behind) = (r.within(-2, 6), r.within(-2, 6));
        on.push(match r.below(3) {
            0 => format!(
                "a.{a} >= b.{b} - INTERVAL '{}' SECOND AND a.{a} < b.{b} + INTERVAL '{}' SECOND",
                before.max(0),
                behind.max(1)
            ),
            _ => format!(
                "a.{a} BETWEEN b.{b} - INTERVAL '{}' SECOND AND b.{b} + INTERVAL '{}' SECOND",
                before.max(0),
                behind.max(0)
            ),
        });
        let (items, out) = self.both(left, right);
        (format!("{} AS a {kind} {} AS b ON {}", left.name, right.name, on.join(" AND ")), items, out)
    }

    fn over(&mut self, table: &Table) -> Rel {
        let types = table.types();
        let names: Vec<String> = (0..types.len()).map(|i| format!("o.c{i}")).collect();
        let keys: Vec<usize> = (0..types.len()).filter(|i| is_key(types[*i])).collect();
        let r = &mut *self.random;
        let mut items = names.clone();
        let mut out = types.clone();
        for _ in 0..1 + r.below(3) {
            let partition =
                if r.one_in(4) { String::new() } else { format!("PARTITION BY {} ", names[*r.pick(&keys)]) };
            let frame = match r.below(5) {
                0 => "",
                1 => " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
                2 => " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
                3 => " RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW",
                _ => " RANGE BETWEEN INTERVAL '20' SECOND PRECEDING AND CURRENT ROW",
            };
            let column = r.below(types.len());
            let (ty, name) = (types[column], &names[column]);
            let ordered = !matches!(ty, Ty::Arr | Ty::Bool);
            let (call, ty, framed) = match r.below(10) {
                0 => ("COUNT(*)".to_owned(), Ty::Big, true),
                1 => (format!("COUNT({name})"), Ty::Big, true),
                2 if ty == Ty::Int => (format!("SUM({name})"), Ty::Int, true),
                3 if ordered => (format!("MIN({name})"), ty, true),
                4 if ordered => (format!("MAX({name})"), ty, true),
                5 => (format!("FIRST_VALUE({name})"), ty, true),
                6 => (format!("LAST_VALUE({name})"), ty, true),
                7 => (format!("LAG({name}, {})", 1 + r.below(2)), ty, false),
                8 => (format!("{}()", r.pick(&["ROW_NUMBER", "RANK", "DENSE_RANK"])), Ty::Big, false),
                _ => ("COUNT(*)".to_owned(), Ty::Big, true),
            };
            let frame = if framed { frame } else { "" };
            items.push(format!("{call} OVER ({partition}ORDER BY o.{}{frame})", table.time()));
            out.push(ty);
        }
        rel(format!("SELECT {} FROM {} AS o", named(&items), table.name), out)
    }

    /// Equalities between columns of two sides, at most two.
    fn equalities(&mut self, left: &Table, right: &Table) -> Vec<String> {
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

    /// Some columns of two sides.
    fn both(&mut self, left: &Table, right: &Table) -> (Vec<String>, Vec<Ty>) {
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

fn named(items: &[String]) -> String {
    let items: Vec<String> = items.iter().enumerate().map(|(i, c)| format!("{c} AS c{i}")).collect();
    items.join(", ")
}

fn rel(text: String, types: Vec<Ty>) -> Rel {
    Rel { op: Op::Text(text), types, inputs: Vec::new() }
}
