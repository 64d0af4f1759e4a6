//! Random queries for the first or last rows of a key by a row time, outside of windows, and for the order of time itself.

use super::query::{Generator, Rel, order_by};
use super::tables::Ty;
use super::timed::{Needs, is_key, named, names_of, rel};

impl Generator<'_> {
    /// Rows of the lowest or highest times of each key; a window over them, where they keep their time.
    pub(super) fn deduplication(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::ORDER)?;
        let (types, names, time) = (table.types(), names_of("o", &table), table.time());
        let r = &mut *self.random;
        let keys: Vec<usize> = (0..types.len()).filter(|i| is_key(types[*i])).collect();
        let partition = if keys.is_empty() || r.one_in(5) {
            String::new()
        } else {
            format!("PARTITION BY {} ", names[*r.pick(&keys)])
        };
        let descending = if r.one_in(2) { " DESC" } else { "" };
        let bound = *r.pick(&["= 1", "= 1", "<= 1", "<= 2", "BETWEEN 2 AND 3"]);
        let mut items = names_of("x", &table);
        let mut out = types;
        if r.one_in(3) {
            items.push("x.rn".to_owned());
            out.push(Ty::Big);
        }
        let text = format!(
            "SELECT {} FROM (SELECT o.*, ROW_NUMBER() OVER ({partition}ORDER BY o.{time}{descending}) AS rn FROM {} AS o) AS x WHERE x.rn {bound}",
            named(&items),
            table.name
        );
        if !r.one_in(4) {
            return Some(rel(text, out));
        }
        let all: Vec<String> = (0..out.len()).map(|i| format!("z.c{i}")).collect();
        let (mut items, mut types) = (Vec::new(), Vec::new());
        if r.one_in(2) {
            items.push("z.c0".to_owned());
            types.push(out[0]);
        }
        let by = if items.is_empty() { "" } else { " GROUP BY z.c0" };
        self.calls(&out, &all, &mut items, &mut types);
        Some(rel(format!("SELECT {} FROM ({text}) AS z{by}", named(&items)), types))
    }

    /// ORDER BY a row time and all else, with a limit or without.
    pub(super) fn time_order(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::NOTHING)?;
        let (types, names) = (table.types(), names_of("o", &table));
        let r = &mut *self.random;
        let last = types.len() - 1;
        let mut order = vec![(last, r.one_in(4))];
        order.extend((0..last).map(|i| (i, r.one_in(2))));
        let limit = match r.below(4) {
            0 => String::new(),
            1 => format!(" LIMIT {} OFFSET {}", r.below(4), r.below(4)),
            _ => format!(" LIMIT {}", r.below(8)),
        };
        let order = order_by(&order, &names);
        // Around it a query that goes anywhere.
        let text = format!("SELECT {} FROM {} AS o ORDER BY {order}{limit}", named(&names), table.name);
        Some(rel(format!("SELECT * FROM ({text}) AS y"), types))
    }
}
