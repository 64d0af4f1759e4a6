//! Random MATCH_RECOGNIZE: patterns over the values of one number, every way to go on behind a match, measures of all
//! kinds, rows of one time put in order by their other columns.

use super::query::{Generator, Rel};
use super::random::Random;
use super::tables::{Table, Ty};
use super::timed::{Needs, is_key, named, rel};

const PATTERNS: [&str; 18] = [
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
    "A B C D",
    "A B*? C* D",
    "A B{2} C?",
    "A",
];

impl Generator<'_> {
    pub(super) fn matches(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::ORDERED_ROWS)?;
        self.matches_of(&table, "")
    }

    /// Rows of one time are in the order of their other columns.
    pub(super) fn matches_with_ties(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::ROWS)?;
        let more: String = (0..table.columns.len() - 1)
            .map(|i| format!(", c{i}{}", if self.random.one_in(3) { " DESC" } else { "" }))
            .collect();
        self.matches_of(&table, &more)
    }

    fn matches_of(&mut self, table: &Table, order: &str) -> Option<Rel> {
        let types = table.types();
        let value = types.iter().position(|ty| *ty == Ty::Int)?;
        let keys: Vec<usize> = (0..types.len()).filter(|i| is_key(types[*i])).collect();
        let r = &mut *self.random;
        let (v, time) = (format!("c{value}"), table.time());
        let partition = if r.one_in(3) { String::new() } else { format!("PARTITION BY c{} ", r.pick(&keys)) };
        let pattern = &if r.one_in(2) { r.pick::<&str>(&PATTERNS).to_string() } else { pattern(r) };
        let variables: Vec<&str> = ["A", "B", "C", "D"].into_iter().filter(|x| pattern.contains(x)).collect();
        let skip = skip(pattern, &variables, r);
        let within = if r.one_in(3) { " WITHIN INTERVAL '15' SECOND" } else { "" };
        let conditions: Vec<String> =
            variables.iter().filter_map(|x| Some(format!("{x} AS {}", define(x, &v, pattern, r)?))).collect();
        let define = if conditions.is_empty() { "A AS TRUE".to_owned() } else { conditions.join(", ") };
        let (mut measures, mut out, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..2 + r.below(3) {
            let (measure, ty) = measure(r.pick::<&str>(&variables), &v, (&time, table.time_type()), r);
            measures.push(format!("{measure} AS m{i}"));
            items.push(format!("m.m{i}"));
            out.push(ty);
        }
        let rows = if r.one_in(6) { "ALL ROWS" } else { "ONE ROW" };
        if rows == "ALL ROWS" {
            items.push(format!("m.{time}"));
            out.push(table.time_type());
        }
        let text = format!(
            "SELECT {} FROM {} MATCH_RECOGNIZE ({partition}ORDER BY {time}{order} MEASURES {} {rows} PER MATCH {skip}PATTERN ({pattern}){within} DEFINE {define}) AS m",
            named(&items),
            table.name,
            measures.join(", ")
        );
        Some(rel(text, out))
    }
}

/// A pattern of variables in order, with at most two that may be of any number; the last one is plain, as Flink wants.
fn pattern(r: &mut Random) -> String {
    let names = ["A", "B", "C", "D"];
    let n = 1 + r.below(4);
    let (mut parts, mut many) = (Vec::new(), 0);
    for (i, name) in names.iter().enumerate().take(n) {
        if i + 1 == n {
            parts.push((*name).to_owned());
            continue;
        }
        let quantifier =
            *r.pick(&["", "", "?", "+", "*", "+?", "*?", "{2}", "{1,3}", "{2,}", "{0,2}", "{,2}", "??"]);
        let unbounded = matches!(quantifier, "+" | "*" | "+?" | "*?" | "{2,}");
        many += usize::from(unbounded);
        parts.push(if many > 2 { (*name).to_owned() } else { format!("{name}{quantifier}") });
    }
    parts.join(" ")
}

/// Where to go on behind a match. A variable that a match may lack, or its first row, is an error.
fn skip(pattern: &str, variables: &[&str], r: &mut Random) -> String {
    let last = variables[variables.len() - 1];
    let sure = pattern.ends_with(last) && variables.len() > 1 && !pattern.contains(&format!("| {last}"));
    match r.below(6) {
        0 if sure => format!("AFTER MATCH SKIP TO FIRST {last} "),
        1 if sure => format!("AFTER MATCH SKIP TO LAST {last} "),
        2 if sure => format!("AFTER MATCH SKIP TO {last} "),
        3 => String::new(),
        4 => "AFTER MATCH SKIP TO NEXT ROW ".to_owned(),
        _ => "AFTER MATCH SKIP PAST LAST ROW ".to_owned(),
    }
}

fn define(x: &str, v: &str, pattern: &str, r: &mut Random) -> Option<String> {
    let behind = x != "A" && pattern.starts_with('A');
    Some(match r.below(10) {
        0 => return None,
        1 => format!("{x}.{v} > 0"),
        2 => format!("{x}.{v} < 3"),
        3 => format!("{x}.{v} >= LAST({x}.{v}, 1) OR LAST({x}.{v}, 1) IS NULL"),
        4 if behind => format!("{x}.{v} > A.{v}"),
        5 => format!("MOD({x}.{v}, 2) = 0"),
        6 if behind => format!("{x}.{v} <= FIRST(A.{v})"),
        7 if behind => format!("{x}.{v} + 1 > AVG(A.{v})"),
        8 => format!("SUM({x}.{v}) < 6"),
        9 => format!("COUNT({x}.{v}) < 3"),
        _ => format!("{x}.{v} IS NOT NULL"),
    })
}

fn measure(x: &str, v: &str, (time, time_type): (&str, Ty), r: &mut Random) -> (String, Ty) {
    match r.below(14) {
        0 => (format!("COUNT({v})"), Ty::Big),
        1 => (format!("FIRST({v})"), Ty::Int),
        2 => (format!("LAST({v})"), Ty::Int),
        3 => (format!("LAST({time})"), time_type),
        4 => (format!("COUNT({x}.{v})"), Ty::Big),
        5 => (format!("SUM({x}.{v})"), Ty::Int),
        6 => (format!("MIN({x}.{v})"), Ty::Int),
        7 => (format!("MAX({x}.{v})"), Ty::Int),
        8 => (format!("AVG({x}.{v})"), Ty::Int),
        9 => (format!("LAST({x}.{v}, 1)"), Ty::Int),
        10 => (format!("FIRST({x}.{time})"), time_type),
        11 => (format!("FIRST({x}.{v}, 1)"), Ty::Int),
        12 => (format!("{x}.{v}"), Ty::Int),
        _ => (format!("SUM({x}.{v} * 2 + 1)"), Ty::Int),
    }
}
