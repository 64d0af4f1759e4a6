//! Random chains of operators within windows: rows, aggregates, joins and top-N of one window function put on top of each
//! other, the bounds going on from each to the next.

use super::expr::condition;
use super::query::{Generator, Rel, order_by};
use super::tables::{Table, Ty};
use super::timed::{Needs, is_key, named, names_of, rel};
use super::windows::{function, over_table};

/// An item of FROM with columns `c0`, … and the bounds of windows.
struct Windowed {
    from: String,
    types: Vec<Ty>,
}

impl Windowed {
    fn names(&self, alias: &str) -> Vec<String> {
        (0..self.types.len()).map(|i| format!("{alias}.c{i}")).collect()
    }
}

impl Generator<'_> {
    pub(super) fn window_chain(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::ROWS)?;
        let function = function(self.random);
        let depth = 2 + self.random.below(2);
        let chain = self.windowed(&table, &function, depth);
        let mut items = chain.names("x");
        let mut out = chain.types.clone();
        items.push(format!("x.{}", self.random.pick::<&str>(&["window_start", "window_end"])));
        out.push(Ty::Time);
        Some(rel(format!("SELECT {} FROM {} AS x", named(&items), chain.from), out))
    }

    fn windowed(&mut self, table: &Table, function: &str, depth: usize) -> Windowed {
        if depth == 0 {
            return self.windowed_rows(table, function);
        }
        let below = self.windowed(table, function, depth - 1);
        match self.random.below(5) {
            0 | 1 => self.windowed_aggregate(&below),
            2 => self.windowed_top(&below),
            3 => {
                let other = self.timed_table(Needs::ROWS).unwrap_or_else(|| table.clone());
                let depth = self.random.below(depth);
                let other = self.windowed(&other, function, depth);
                self.windowed_join(&below, &other)
            }
            _ => {
                let filter = condition(&below.types, 1, self.random).sql(&below.names("w"));
                let items = named(&below.names("w"));
                let from = format!(
                    "(SELECT {items}, w.window_start, w.window_end FROM {} AS w WHERE {filter})",
                    below.from
                );
                Windowed { from, types: below.types }
            }
        }
    }

    fn windowed_rows(&mut self, table: &Table, function: &str) -> Windowed {
        let windows = over_table(function, table);
        let (mut items, mut types) = (names_of("w", table), table.types());
        if self.random.one_in(3) {
            items.push("w.window_time".to_owned());
            types.push(table.time_type());
        }
        let from = format!("(SELECT {}, w.window_start, w.window_end FROM {windows} AS w)", named(&items));
        Windowed { from, types }
    }

    fn windowed_aggregate(&mut self, below: &Windowed) -> Windowed {
        let names = below.names("w");
        let keys: Vec<usize> = (0..below.types.len()).filter(|i| is_key(below.types[*i])).collect();
        let key =
            if keys.is_empty() || self.random.one_in(4) { None } else { Some(*self.random.pick(&keys)) };
        let mut items: Vec<String> = key.iter().map(|k| names[*k].clone()).collect();
        let mut types: Vec<Ty> = key.iter().map(|k| below.types[*k]).collect();
        let mut by = items.clone();
        by.extend(["w.window_start".to_owned(), "w.window_end".to_owned()]);
        self.calls(&below.types, &names, &mut items, &mut types);
        let having = if self.random.one_in(5) { " HAVING COUNT(*) > 1" } else { "" };
        let from = format!(
            "(SELECT {}, w.window_start, w.window_end FROM {} AS w GROUP BY {}{having})",
            named(&items),
            below.from,
            by.join(", ")
        );
        Windowed { from, types }
    }

    /// The first rows by all columns: ties are equal rows.
    fn windowed_top(&mut self, below: &Windowed) -> Windowed {
        if below.types.contains(&Ty::Arr) {
            return self.windowed_aggregate(below);
        }
        let names = below.names("w");
        let r = &mut *self.random;
        let mut left: Vec<usize> = (0..names.len()).collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            order.push((left.swap_remove(r.below(left.len())), r.one_in(2)));
        }
        let key = if r.one_in(2) { format!(", {}", r.pick(&names)) } else { String::new() };
        let from = format!(
            "(SELECT {}, y.window_start, y.window_end FROM (SELECT w.*, ROW_NUMBER() OVER (PARTITION BY w.window_start, w.window_end{key} ORDER BY {}) AS rn FROM {} AS w) AS y WHERE y.rn <= {})",
            named(&below.names("y")),
            order_by(&order, &names),
            below.from,
            1 + r.below(3)
        );
        Windowed { from, types: below.types.clone() }
    }

    /// Joins that have the bounds of the left side.
    fn windowed_join(&mut self, a: &Windowed, b: &Windowed) -> Windowed {
        let mut on = "a.window_start = b.window_start AND a.window_end = b.window_end".to_owned();
        let pairs = self.pairs(&a.types, &b.types, 1);
        let pairs: Vec<_> = pairs.into_iter().filter(|(i, _)| is_key(a.types[*i])).collect();
        for (i, j) in pairs {
            on += &format!(" AND a.c{i} = b.c{j}");
        }
        let (from_a, from_b) = (&a.from, &b.from);
        let mut items = a.names("a");
        let mut types = a.types.clone();
        let text = match self.random.below(4) {
            0 => format!("FROM {from_a} AS a WHERE EXISTS (SELECT 1 FROM {from_b} AS b WHERE {on})"),
            1 => format!("FROM {from_a} AS a WHERE NOT EXISTS (SELECT 1 FROM {from_b} AS b WHERE {on})"),
            n => {
                items.truncate(3);
                types.truncate(3);
                items.extend(b.names("b").into_iter().take(2));
                types.extend(b.types.iter().take(2));
                let kind = if n == 2 { "JOIN" } else { "LEFT JOIN" };
                format!("FROM {from_a} AS a {kind} {from_b} AS b ON {on}")
            }
        };
        let from = format!("(SELECT {}, a.window_start, a.window_end {text})", named(&items));
        Windowed { from, types }
    }
}
