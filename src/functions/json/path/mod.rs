//! JSON paths as Jayway's JsonPath reads them, which Flink uses, with `lax` or `strict` before.
//!
//! ```text
//!  $ .name ['a b'] ['a','b'] [0] [0,2] [1:3] [-1:] .* [*] ..name [?(@.x > 1 && @.y)]
//!  text ─► parse ─► steps ─► look: from the document, step by step, to Found
//! ```
//!
//! A path is definite as long as it leads to one place; behind `..`, `*`, a filter, several indexes or names it is a list
//! of what is there. Where a definite part leads nowhere, `strict` (the default) is an error and `lax` is nothing.

mod filter;
mod parse;

use std::borrow::Cow;

use super::value::Json;
use filter::Filter;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Names(Vec<String>),
    Indexes(Vec<i64>),
    Slice(Option<i64>, Option<i64>),
    All,
    Anywhere,
    Filter(Filter),
    /// `length()` at the end of a path.
    Length,
}

impl Step {
    /// Whether it leads to one place; several names do at the end of a path, where they are one object.
    fn is_definite(&self, last: bool) -> bool {
        match self {
            Step::Names(names) => names.len() == 1 || last,
            Step::Indexes(indexes) => indexes.len() == 1,
            Step::Length => true,
            Step::Slice(..) | Step::All | Step::Anywhere | Step::Filter(_) => false,
        }
    }
}

/// A compiled path.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Path {
    steps: Vec<Step>,
    lax: bool,
}

/// Where a path leads.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'j> {
    /// Nowhere, or the document is none, and the path is strict: `ON ERROR`.
    Error,
    /// To nothing, or to `null`: `ON EMPTY`.
    Nothing,
    /// To one value.
    One(Cow<'j, Json>),
    /// To any number of places.
    Many(Vec<Cow<'j, Json>>),
}

impl Path {
    /// `None` if it is not valid.
    pub(super) fn parse(text: &str) -> Option<Path> {
        let text = text.trim_start();
        let mode = |word: &str| {
            text.strip_prefix(word).filter(|rest| rest.starts_with(char::is_whitespace)).map(str::trim)
        };
        let (lax, text) = match (mode("lax"), mode("strict")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => (false, text.trim()),
        };
        Some(Path { steps: parse::steps(text)?, lax })
    }

    /// Whether what is missing is nothing instead of an error.
    pub(super) fn is_lax(&self) -> bool {
        self.lax
    }

    /// What it finds in a document; `None` is a document that is none.
    pub(super) fn look<'j>(&self, document: Option<&'j Json>) -> Found<'j> {
        let Some(document) = document else {
            return if self.lax { Found::Nothing } else { Found::Error };
        };
        let Some((found, definite)) = walk(&self.steps, document, self.lax) else { return Found::Error };
        if !definite {
            return Found::Many(found);
        }
        match found.into_iter().next() {
            None if self.lax => Found::Nothing,
            None => Found::Error,
            Some(one) if *one == Json::Null => Found::Nothing,
            Some(one) => Found::One(one),
        }
    }
}

/// The values at the end of the steps, and whether it is one place; `None` where a definite part is missing.
fn walk<'j>(steps: &[Step], document: &'j Json, lax: bool) -> Option<(Vec<Cow<'j, Json>>, bool)> {
    if let Some((Step::Length, before)) = steps.split_last() {
        let (found, definite) = walk(before, document, lax)?;
        let length = match found.first().map(AsRef::as_ref) {
            _ if !definite => Some(found.len()),
            Some(Json::Array(items)) => Some(items.len()),
            Some(Json::Object(fields)) => Some(fields.len()),
            _ => None,
        };
        return Some((length.map(|n| Cow::Owned(Json::Number(n.to_string()))).into_iter().collect(), true));
    }
    let mut found = vec![document];
    let mut merged: Vec<Cow<'j, Json>> = Vec::new();
    let (mut definite, mut anywhere) = (true, false);
    for (i, step) in steps.iter().enumerate() {
        let last = i + 1 == steps.len();
        let mut next = Vec::new();
        for j in found {
            let before = next.len();
            match (step, j) {
                (Step::Names(names), Json::Object(fields)) => {
                    let get = |name: &String| fields.iter().find(|(k, _)| k == name);
                    if last && names.len() > 1 {
                        let some = names.iter().filter_map(get).cloned().collect();
                        merged.push(Cow::Owned(Json::Object(some)));
                        continue;
                    }
                    next.extend(names.iter().filter_map(get).map(|(_, v)| v));
                }
                (Step::Indexes(indexes), Json::Array(items)) => {
                    next.extend(indexes.iter().filter_map(|at| items.get(position(*at, items.len())?)));
                }
                (Step::Slice(from, to), Json::Array(items)) => {
                    let bound = |at: &i64| {
                        let n = items.len() as i64;
                        (if *at < 0 { n + at } else { *at }).clamp(0, n) as usize
                    };
                    let (from, to) = (from.as_ref().map_or(0, bound), to.as_ref().map_or(items.len(), bound));
                    next.extend(items.get(from..to).into_iter().flatten());
                }
                (Step::All, Json::Array(items)) => next.extend(items),
                (Step::All, Json::Object(fields)) => next.extend(fields.iter().map(|(_, v)| v)),
                (Step::Anywhere, j) => below(j, &mut next),
                (Step::Filter(f), Json::Array(items)) if !anywhere => {
                    next.extend(items.iter().filter(|item| f.accepts(item, document)));
                }
                (Step::Filter(f), Json::Object(_)) => next.extend(f.accepts(j, document).then_some(j)),
                _ => {}
            }
            // A name at the end that is missing makes no difference: a definite path then has no value.
            let leaf = last && matches!((step, j), (Step::Names(_), Json::Object(_)));
            let needed =
                step.is_definite(last) || !matches!(step, Step::All | Step::Anywhere | Step::Filter(_));
            let whole = matches!((step, j), (Step::Slice(..) | Step::Indexes(_), Json::Array(_)));
            if next.len() == before && definite && needed && !whole && !leaf && !lax {
                return None;
            }
        }
        definite &= step.is_definite(last);
        anywhere = *step == Step::Anywhere;
        found = next;
    }
    merged.extend(found.into_iter().map(Cow::Borrowed));
    Some((merged, definite))
}

fn position(at: i64, len: usize) -> Option<usize> {
    usize::try_from(if at < 0 { at + len as i64 } else { at }).ok()
}

/// A value and everything in it, the outer before the inner.
fn below<'j>(j: &'j Json, out: &mut Vec<&'j Json>) {
    out.push(j);
    match j {
        Json::Object(fields) => fields.iter().for_each(|(_, v)| below(v, out)),
        Json::Array(items) => items.iter().for_each(|i| below(i, out)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(document: &str, path: &str) -> String {
        let json = Json::parse(document);
        let Some(path) = Path::parse(path) else { return "invalid".into() };
        let mut out = String::new();
        match path.look(json.as_ref()) {
            Found::Error => out.push_str("error"),
            Found::Nothing => out.push_str("nothing"),
            Found::One(j) => j.write(&mut out),
            Found::Many(many) => {
                Json::Array(many.into_iter().map(Cow::into_owned).collect()).write(&mut out);
            }
        }
        out
    }

    #[test]
    fn steps() {
        let d = r#"{"a":{"b c":[10,20,{"x":"é"}]},"n":null,"x":7}"#;
        for (path, answer) in [
            ("$.a['b c'][0]", "10"),
            ("$.a.['b c'][-2]", "20"),
            ("a['b c'][1]", "20"),
            ("$.a['b c'][2].x", "\"é\""),
            ("$.a['b c'][0,1,9]", "[10,20]"),
            ("$.a['b c'][1:]", "[20,{\"x\":\"é\"}]"),
            ("$.a['b c'][:-2]", "[10]"),
            ("$..x", "[7,\"é\"]"),
            ("$['x','n']", "{\"n\":null,\"x\":7}"),
            ("$.*", "[{\"b c\":[10,20,{\"x\":\"é\"}]},null,7]"),
            ("$.n", "nothing"),
            ("$.missing", "error"),
            ("lax $.missing", "nothing"),
            ("$.missing.b", "error"),
            ("$.missing[*]", "error"),
            ("lax $.missing[*]", "[]"),
            ("strict $.a['b c'][9]", "error"),
            ("$.x.y", "error"),
            ("$.a['b c'].length()", "3"),
            ("$.length()", "3"),
            ("$..x.length()", "2"),
            ("$.x.length()", "error"),
            ("lax $.x.y", "nothing"),
            ("$", "{\"a\":{\"b c\":[10,20,{\"x\":\"é\"}]},\"n\":null,\"x\":7}"),
        ] {
            assert_eq!(found(d, path), answer, "{path}");
        }
        assert_eq!(found("{", "$.a"), "error");
        for bad in ["", "$.", "$[", "$['a'", "$.a b", "$[1:2:3]", "$[?(@.x >)]", "$[?(@.x", "$..", "$.a("] {
            assert_eq!(found("{}", bad), "invalid", "{bad}");
        }
    }

    #[test]
    fn filters() {
        let d = r#"[{"x":1,"s":"ab"},{"x":5,"t":[1,2]},{"x":null},{"y":{"z":3}}]"#;
        for (path, answer) in [
            ("$[?(@.x > 1)].x", "[5]"),
            ("$[?(@.x >= 1 && @.s == 'ab')].x", "[1]"),
            ("$[?(@.x == 5 || @.s)].x", "[1,5]"),
            ("$[?(!(@.x == 5))].x", "[1,null]"),
            ("$[?(@.x)].x", "[1,5,null]"),
            ("$[?(@.x == null)].x", "[null]"),
            ("$[?(@.s =~ /A./i)].x", "[1]"),
            ("$[?(@.x in [5, 7])].x", "[5]"),
            ("$[?(@.x nin [5, 7])].x", "[1,null]"),
            ("$[?(@.t contains 2)].x", "[5]"),
            ("$[?(@.t size 2)].x", "[5]"),
            ("$[?(@.y.z == $[3].y.z)].y.z", "[3]"),
            ("$[?(@.x < 'a')].x", "[]"),
        ] {
            assert_eq!(found(d, path), answer, "{path}");
        }
    }
}
