//! Functions of users that expressions call, and queries that are mostly of them.

use super::expr::random;
use super::query::{Generator, Rel};
use super::tables::Ty;
use super::timed::{Needs, named, names_of, rel};

/// Name and statement.
const FUNCTIONS: [(&str, &str); 7] = [
    (
        "udf_more",
        "CREATE FUNCTION udf_more(a INT) RETURNS INT LANGUAGE SQL AS $$ CASE WHEN a > 2 THEN a - 1 ELSE a + 1 END $$",
    ),
    (
        "udf_least",
        "CREATE FUNCTION udf_least(a INT, b INT) RETURNS INT LANGUAGE SQL AS $$ CASE WHEN a < b OR b IS NULL THEN a ELSE b END $$",
    ),
    (
        "udf_length",
        "CREATE FUNCTION udf_length(s STRING, n INT) RETURNS BIGINT LANGUAGE SQL AS $$ CAST(CHAR_LENGTH(s) AS BIGINT) * n + COALESCE(n, 7) $$",
    ),
    (
        "udf_text",
        "CREATE FUNCTION udf_text(s STRING) RETURNS STRING LANGUAGE SQL AS $$ COALESCE(UPPER(s), 'ø') || s $$",
    ),
    (
        "udf_strict",
        "CREATE FUNCTION udf_strict(s STRING, n INT) RETURNS STRING RETURNS NULL ON NULL INPUT LANGUAGE SQL AS $$ COALESCE(s, 'none') || CAST(n AS STRING) $$",
    ),
    (
        "udf_rows",
        "CREATE FUNCTION udf_rows(n INT, s STRING) RETURNS TABLE (i INT, t STRING) LANGUAGE SQL AS $$ SELECT x.i + n, COALESCE(s, 'none') || CAST(x.i AS STRING) FROM (VALUES (1), (2), (3)) AS x(i) WHERE x.i <= n $$",
    ),
    (
        "udf_known",
        "CREATE FUNCTION udf_known(a INT) RETURNS BOOLEAN LANGUAGE SQL AS $$ a IS NOT NULL AND a <> 1 $$",
    ),
];

/// The statements that create what a text calls.
pub(super) fn used(text: &str) -> Vec<&'static str> {
    FUNCTIONS.iter().filter(|(name, _)| text.contains(name)).map(|(_, statement)| *statement).collect()
}

const CALLS: [(&str, Ty); 6] = [
    ("udf_more", Ty::Int),
    ("udf_least", Ty::Int),
    ("udf_length", Ty::Big),
    ("udf_text", Ty::Str),
    ("udf_strict", Ty::Str),
    ("udf_known", Ty::Bool),
];

impl Generator<'_> {
    /// A call of a function of users over columns.
    fn user_call(&mut self, types: &[Ty], names: &[String]) -> (String, Ty) {
        let (name, ty) = *self.random.pick(&CALLS);
        let mut argument = |ty: Ty| random(ty, types, 2, self.random).sql(names);
        let arguments = match name {
            "udf_least" => vec![argument(Ty::Int), argument(Ty::Int)],
            "udf_length" | "udf_strict" => vec![argument(Ty::Str), argument(Ty::Int)],
            "udf_text" => vec![argument(Ty::Str)],
            _ => vec![argument(Ty::Int)],
        };
        (format!("{name}({})", arguments.join(", ")), ty)
    }

    /// Functions of users in select lists, conditions, keys and aggregates.
    pub(super) fn function_query(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::NOTHING)?;
        let (types, names) = (table.types(), names_of("f", &table));
        let (mut items, mut out) = (Vec::new(), Vec::new());
        let aggregated = self.random.one_in(2);
        for _ in 0..1 + self.random.below(2) {
            let (call, ty) = self.user_call(&types, &names);
            items.push(call);
            out.push(ty);
        }
        let by = if aggregated { format!(" GROUP BY {}", items.join(", ")) } else { String::new() };
        if aggregated {
            for _ in 0..1 + self.random.below(2) {
                let (call, ty) = self.user_call(&types, &names);
                if ty == Ty::Bool {
                    items.push(format!("COUNT(*) FILTER (WHERE {call})"));
                    out.push(Ty::Big);
                } else {
                    items.push(format!("{}({call})", self.random.pick(&["MIN", "MAX"])));
                    out.push(ty);
                }
            }
        } else {
            items.push(format!("f.{}", table.time()));
            out.push(table.time_type());
        }
        let filter = if self.random.one_in(2) {
            let (call, ty) = self.user_call(&types, &names);
            if ty == Ty::Bool { format!(" WHERE {call}") } else { format!(" WHERE {call} IS NOT NULL") }
        } else {
            String::new()
        };
        Some(rel(format!("SELECT {} FROM {} AS f{filter}{by}", named(&items), table.name), out))
    }

    /// Rows that a function of users makes of each row.
    pub(super) fn function_table(&mut self) -> Option<Rel> {
        let table = self.timed_table(Needs::NOTHING)?;
        let (mut types, names) = (table.types(), names_of("f", &table));
        let mut argument = |ty: Ty| random(ty, &types, 1, self.random).sql(&names);
        let call = format!("udf_rows({}, {})", argument(Ty::Int), argument(Ty::Str));
        let (join, on) = *self.random.pick(&[("CROSS JOIN", ""), ("LEFT JOIN", " ON TRUE")]);
        let mut items = names;
        items.extend(["u.i".to_owned(), "u.t".to_owned()]);
        types.extend([Ty::Int, Ty::Str]);
        Some(rel(
            format!(
                "SELECT {} FROM {} AS f {join} LATERAL TABLE({call}) AS u(i, t){on}",
                named(&items),
                table.name
            ),
            types,
        ))
    }
}
