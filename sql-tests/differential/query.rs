//! Random queries: relational operators put on top of each other.
//!
//! Every relation names its columns `c0`, `c1`, …, so that it can be put anywhere; a sub-query gets a name `t1`, `t2`, …
//! when it is written.

use super::expr::{Expr, condition, leaf, random};
use super::random::Random;
use super::tables::{Table, Ty};

/// Most columns of a relation.
const COLUMNS: usize = 6;

/// A relation and the types of its columns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rel {
    pub(crate) op: Op,
    pub(crate) types: Vec<Ty>,
    pub(crate) inputs: Vec<Rel>,
}

/// How a relation comes from its inputs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    Table(String),
    /// A query as it is, with what it shows and its text in batch where that is another one.
    Made {
        construct: &'static str,
        text: String,
        batch: Option<String>,
    },
    Select {
        exprs: Vec<Expr>,
        condition: Option<Expr>,
        distinct: bool,
    },
    Aggregate {
        keys: Vec<usize>,
        grouping: Grouping,
        calls: Vec<Call>,
        having: Option<String>,
    },
    Union,
    /// UNION, INTERSECT [ALL], EXCEPT [ALL].
    SetOperation(&'static str),
    /// Kind, equal columns, whether NULLs are equal, further condition, columns kept of both sides.
    Join {
        kind: &'static str,
        on: Vec<(usize, usize, bool)>,
        residual: Option<Expr>,
        keep: Vec<usize>,
    },
    /// `[NOT] IN` or `[NOT] EXISTS`.
    Semi {
        negated: bool,
        is_in: bool,
        on: Vec<(usize, usize)>,
        residual: Option<Expr>,
    },
    /// A column with the least, greatest or number of the other input's rows, correlated or not.
    Scalar {
        call: String,
        on: Option<(usize, usize)>,
    },
    /// Rows of rank `low` to `high` by partition.
    Rank {
        function: &'static str,
        partition: Vec<usize>,
        order: Vec<(usize, bool)>,
        last: usize,
        shown: bool,
    },
    /// ORDER BY … LIMIT … OFFSET.
    Limit {
        order: Vec<(usize, bool)>,
        limit: usize,
        offset: usize,
    },
    Unnest {
        array: Expr,
        left: bool,
        ordinality: bool,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Grouping {
    Plain,
    Rollup,
    Cube,
    Sets(Vec<Vec<usize>>),
}

/// An aggregate call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// A template with the argument as `{}`.
    template: &'static str,
    argument: Option<Expr>,
    filter: Option<Expr>,
    pub(crate) ty: Ty,
}

/// Makes a query over tables.
pub(crate) struct Generator<'a> {
    pub(crate) tables: &'a [Table],
    pub(crate) random: &'a mut Random,
    /// Statements before the query: views.
    pub(crate) prelude: Vec<String>,
    /// The only construct over event time that is wanted.
    pub(crate) only: Option<&'static str>,
}

impl Generator<'_> {
    /// A relation of at most `depth` operators on top of each other.
    pub(crate) fn relation(&mut self, depth: usize) -> Rel {
        if depth == 0 {
            return self.table();
        }
        let often = if self.only.is_some() { depth } else { 3 };
        if self.random.one_in(often)
            && let Some(timed) = self.timed()
        {
            return timed;
        }
        let weights = [20, 16, 6, 10, 16, 8, 6, 8, 3, 5];
        match self.random.weighted(&weights) {
            0 => self.select(depth),
            1 => self.aggregate(depth),
            2 => self.union(depth),
            3 => self.set_operation(depth),
            4 => self.join(depth),
            5 => self.semi(depth),
            6 => self.scalar(depth),
            7 => self.rank(depth),
            8 => self.limit(depth),
            _ => self.unnest(depth),
        }
    }

    fn table(&mut self) -> Rel {
        let table = self.random.pick(self.tables);
        let types = table.columns.iter().map(|(ty, _)| *ty).collect();
        Rel { op: Op::Table(table.name.clone()), types, inputs: Vec::new() }
    }

    fn input(&mut self, depth: usize) -> Rel {
        // Not always as deep as it may be.
        let depth = if self.random.one_in(4) { self.random.below(depth) } else { depth - 1 };
        self.relation(depth)
    }

    fn select(&mut self, depth: usize) -> Rel {
        let input = self.input(depth);
        let r = &mut *self.random;
        let condition = (!r.one_in(3)).then(|| condition(&input.types, 2, r));
        let mut types = Vec::new();
        let mut exprs = Vec::new();
        for i in 0..input.types.len() {
            if r.one_in(4) {
                continue;
            }
            if r.one_in(3) {
                let ty = *r.pick(&[Ty::Int, Ty::Int, Ty::Str, Ty::Big, Ty::Bool, Ty::Dec]);
                exprs.push(random(ty, &input.types, 2, r));
                types.push(ty);
            } else {
                exprs.push(Expr::Column(i));
                types.push(input.types[i]);
            }
        }
        if exprs.is_empty() {
            exprs.push(Expr::Column(0));
            types.push(input.types[0]);
        }
        let distinct = r.one_in(8);
        Rel { op: Op::Select { exprs, condition, distinct }, types, inputs: vec![input] }
    }

    /// A relation with these columns, out of any other.
    fn adapted(&mut self, types: &[Ty], depth: usize) -> Rel {
        let input = if depth == 0 { self.table() } else { self.input(depth) };
        if input.types == types {
            return input;
        }
        let r = &mut *self.random;
        let exprs = types.iter().map(|ty| leaf(*ty, &input.types, r)).collect();
        let op = Op::Select { exprs, condition: None, distinct: false };
        Rel { op, types: types.to_vec(), inputs: vec![input] }
    }

    fn aggregate(&mut self, depth: usize) -> Rel {
        let input = self.input(depth);
        let r = &mut *self.random;
        let mut keys = r.some_of(input.types.len());
        keys.truncate(3);
        let grouping = match r.below(8) {
            0 if !keys.is_empty() => Grouping::Rollup,
            1 if !keys.is_empty() => Grouping::Cube,
            2 if keys.len() > 1 => {
                let mut sets = vec![keys.clone()];
                for _ in 0..1 + r.below(2) {
                    sets.push(keys.iter().copied().filter(|_| r.one_in(2)).collect());
                }
                Grouping::Sets(sets)
            }
            _ => Grouping::Plain,
        };
        let mut types: Vec<Ty> = keys.iter().map(|k| input.types[*k]).collect();
        let mut calls = Vec::new();
        for _ in 0..1 + r.below(3) {
            let call = aggregate_call(&input.types, r);
            types.push(call.ty);
            calls.push(call);
        }
        let having =
            r.one_in(6).then(|| format!("COUNT(*) {} {}", *r.pick(&[">", "<=", "=", "<>"]), 1 + r.below(3)));
        Rel { op: Op::Aggregate { keys, grouping, calls, having }, types, inputs: vec![input] }
    }

    fn union(&mut self, depth: usize) -> Rel {
        let left = self.input(depth);
        let mut inputs = vec![];
        for _ in 0..1 + self.random.below(2) {
            inputs.push(self.adapted(&left.types, depth - 1));
        }
        let types = left.types.clone();
        inputs.insert(0, left);
        Rel { op: Op::Union, types, inputs }
    }

    fn set_operation(&mut self, depth: usize) -> Rel {
        let left = self.input(depth);
        let right = self.adapted(&left.types, depth - 1);
        let types = left.types.clone();
        let op = *self.random.pick(&["UNION", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]);
        Rel { op: Op::SetOperation(op), types, inputs: vec![left, right] }
    }

    /// Pairs of columns of equal types, at most `most`.
    pub(super) fn pairs(&mut self, left: &[Ty], right: &[Ty], most: usize) -> Vec<(usize, usize)> {
        let mut all: Vec<(usize, usize)> = Vec::new();
        for (i, l) in left.iter().enumerate() {
            for (j, r) in right.iter().enumerate() {
                if l == r && *l != Ty::Arr && *l != Ty::Dbl {
                    all.push((i, j));
                }
            }
        }
        let mut some = Vec::new();
        while some.len() < most && !all.is_empty() {
            some.push(all.swap_remove(self.random.below(all.len())));
        }
        some
    }

    fn join(&mut self, depth: usize) -> Rel {
        let left = self.input(depth);
        let right = self.input(depth);
        let kind = *self.random.pick(&["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]);
        let most = 1 + usize::from(self.random.one_in(3));
        let pairs = self.pairs(&left.types, &right.types, most);
        let kind = if pairs.is_empty() { "CROSS JOIN" } else { kind };
        let on = pairs.into_iter().map(|(l, r)| (l, r, self.random.one_in(6))).collect();
        let both: Vec<Ty> = left.types.iter().chain(&right.types).copied().collect();
        let r = &mut *self.random;
        let residual = (kind != "CROSS JOIN" && r.one_in(3)).then(|| condition(&both, 1, r));
        let mut keep: Vec<usize> = (0..both.len()).filter(|_| !r.one_in(4)).collect();
        keep.truncate(COLUMNS);
        if keep.is_empty() {
            keep.push(0);
        }
        let types = keep.iter().map(|i| both[*i]).collect();
        Rel { op: Op::Join { kind, on, residual, keep }, types, inputs: vec![left, right] }
    }

    fn semi(&mut self, depth: usize) -> Rel {
        let left = self.input(depth);
        let right = self.input(depth);
        let most = 1 + usize::from(self.random.one_in(4));
        let mut on = self.pairs(&left.types, &right.types, most);
        let r = &mut *self.random;
        let (negated, is_in) = (r.one_in(2), r.one_in(2) && !on.is_empty());
        if is_in && negated {
            // NOT IN with a correlation is more than DataFusion's batch answers rightly.
            on.truncate(1);
        }
        let residual = (!is_in && r.one_in(4)).then(|| condition(&right.types, 1, r));
        let types = left.types.clone();
        Rel { op: Op::Semi { negated, is_in, on, residual }, types, inputs: vec![left, right] }
    }

    fn scalar(&mut self, depth: usize) -> Rel {
        let left = self.input(depth);
        let right = self.input(depth);
        let on = if self.random.one_in(2) { self.pairs(&left.types, &right.types, 1).pop() } else { None };
        let r = &mut *self.random;
        let ordered: Vec<usize> =
            (0..right.types.len()).filter(|i| !matches!(right.types[*i], Ty::Arr | Ty::Bool)).collect();
        let (call, ty) = if ordered.is_empty() || r.one_in(3) {
            ("COUNT(*)".to_owned(), Ty::Big)
        } else {
            let column = *r.pick(&ordered);
            let function = *r.pick(&["MIN", "MAX"]);
            (format!("{function}({{}}.c{column})"), right.types[column])
        };
        let mut types = left.types.clone();
        types.truncate(COLUMNS - 1);
        types.push(ty);
        Rel { op: Op::Scalar { call, on }, types, inputs: vec![left, right] }
    }

    /// An order of all columns, so that ties are equal rows.
    fn total_order(&mut self, types: &[Ty]) -> Option<Vec<(usize, bool)>> {
        if types.contains(&Ty::Arr) {
            return None;
        }
        let mut left: Vec<usize> = (0..types.len()).collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            order.push((left.swap_remove(self.random.below(left.len())), self.random.one_in(2)));
        }
        Some(order)
    }

    fn rank(&mut self, depth: usize) -> Rel {
        let input = self.input(depth);
        let Some(mut order) = self.total_order(&input.types) else { return input };
        let r = &mut *self.random;
        let mut partition = r.some_of(input.types.len());
        partition.truncate(2);
        let function = *r.pick(&["ROW_NUMBER", "ROW_NUMBER", "ROW_NUMBER", "RANK", "DENSE_RANK"]);
        if function != "ROW_NUMBER" {
            // Rows may share a rank.
            order.truncate(1 + r.below(order.len()));
        }
        let last = *r.pick(&[1, 1, 2, 3]);
        let shown = r.one_in(2);
        let mut types = input.types.clone();
        if shown {
            types.push(Ty::Big);
        }
        Rel { op: Op::Rank { function, partition, order, last, shown }, types, inputs: vec![input] }
    }

    fn limit(&mut self, depth: usize) -> Rel {
        let input = self.input(depth);
        let Some(order) = self.total_order(&input.types) else { return input };
        let r = &mut *self.random;
        let (limit, offset) = (r.below(6), if r.one_in(3) { r.below(3) } else { 0 });
        let types = input.types.clone();
        Rel { op: Op::Limit { order, limit, offset }, types, inputs: vec![input] }
    }

    fn unnest(&mut self, depth: usize) -> Rel {
        let input = self.input(depth);
        let r = &mut *self.random;
        let array = random(Ty::Arr, &input.types, 1, r);
        let left = r.one_in(3);
        let ordinality = !left && r.one_in(3);
        let mut types = input.types.clone();
        types.truncate(COLUMNS - 2);
        types.push(Ty::Int);
        if ordinality {
            types.push(Ty::Int);
        }
        Rel { op: Op::Unnest { array, left, ordinality }, types, inputs: vec![input] }
    }
}

pub(crate) fn aggregate_call(types: &[Ty], r: &mut Random) -> Call {
    let filter = r.one_in(5).then(|| condition(types, 1, r));
    let ty = *r.pick(types);
    let (template, argument, ty) = match r.below(12) {
        0 | 1 => ("COUNT(*)", None, Ty::Big),
        2 => ("COUNT({})", Some(leaf(ty, types, r)), Ty::Big),
        3 if ty != Ty::Arr => ("COUNT(DISTINCT {})", Some(leaf(ty, types, r)), Ty::Big),
        4 if ty.is_number() => {
            let argument = random(Ty::Int, types, 1, r);
            (
                *r.pick(&["CAST(SUM({}) AS BIGINT)", "CAST(SUM(DISTINCT {}) AS BIGINT)"]),
                Some(argument),
                Ty::Big,
            )
        }
        5 if ty == Ty::Dec => ("CAST(SUM({}) AS DECIMAL(10, 2))", Some(leaf(ty, types, r)), Ty::Dec),
        5 => ("CAST(AVG({}) AS INT)", Some(leaf(Ty::Int, types, r)), Ty::Int),
        6 if !matches!(ty, Ty::Arr | Ty::Bool) => ("MIN({})", Some(leaf(ty, types, r)), ty),
        8 if ty != Ty::Arr => ("CARDINALITY(COLLECT({}))", Some(leaf(ty, types, r)), Ty::Int),
        9 if ty == Ty::Dbl => ("SUM({})", Some(leaf(ty, types, r)), ty),
        9 => ("CARDINALITY(ARRAY_AGG({}))", Some(leaf(ty, types, r)), Ty::Int),
        10 => {
            ("CAST(AVG({}) AS DECIMAL(10, 2))", Some(leaf(*r.pick(&[Ty::Dec, Ty::Big]), types, r)), Ty::Dec)
        }
        7 if !matches!(ty, Ty::Arr | Ty::Bool) => ("MAX({})", Some(leaf(ty, types, r)), ty),
        _ => ("COUNT(*)", None, Ty::Big),
    };
    Call { template, argument, filter, ty }
}

/// Writes relations; numbers the sub-queries.
#[derive(Default)]
struct Writer {
    names: usize,
    batch: bool,
}

impl Rel {
    /// As a query in streaming.
    pub(crate) fn sql(&self) -> String {
        Writer::default().query(self)
    }

    /// As a query in batch: another one where a construct is streaming's alone.
    pub(crate) fn batch_sql(&self) -> String {
        Writer { names: 0, batch: true }.query(self)
    }

    /// The constructs over event time in it.
    pub(crate) fn constructs(&self) -> Vec<&'static str> {
        let mut all: Vec<&'static str> = self.inputs.iter().flat_map(Rel::constructs).collect();
        if let Op::Made { construct, .. } = &self.op {
            all.push(construct);
        }
        all
    }

    /// Operators in it.
    pub(crate) fn size(&self) -> usize {
        1 + self.inputs.iter().map(Rel::size).sum::<usize>()
    }
}

impl Writer {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("t{}", self.names)
    }

    /// An item of FROM and its name.
    fn from(&mut self, rel: &Rel) -> (String, String) {
        let item = match &rel.op {
            Op::Table(table) => table.clone(),
            _ => format!("({})", self.query(rel)),
        };
        let name = self.name();
        (format!("{item} AS {name}"), name)
    }

    fn query(&mut self, rel: &Rel) -> String {
        let columns = |name: &str, types: &[Ty]| -> Vec<String> {
            (0..types.len()).map(|i| format!("{name}.c{i}")).collect()
        };
        let select = |columns: &[String]| -> String {
            let items: Vec<String> =
                columns.iter().enumerate().map(|(i, c)| format!("{c} AS c{i}")).collect();
            items.join(", ")
        };
        match (&rel.op, rel.inputs.as_slice()) {
            (Op::Table(name), _) => format!("SELECT * FROM {name}"),
            (Op::Made { batch: Some(text), .. }, _) if self.batch => text.clone(),
            (Op::Made { text, .. }, _) => text.clone(),
            (Op::Select { exprs, condition, distinct }, [input]) => {
                let (from, name) = self.from(input);
                let names = columns(&name, &input.types);
                let items: Vec<String> = exprs.iter().map(|e| e.sql(&names)).collect();
                let condition =
                    condition.as_ref().map_or(String::new(), |c| format!(" WHERE {}", c.sql(&names)));
                let distinct = if *distinct { "DISTINCT " } else { "" };
                format!("SELECT {distinct}{} FROM {from}{condition}", select(&items))
            }
            (Op::Aggregate { keys, grouping, calls, having }, [input]) => {
                let (from, name) = self.from(input);
                let names = columns(&name, &input.types);
                let list =
                    |keys: &[usize]| keys.iter().map(|k| names[*k].clone()).collect::<Vec<_>>().join(", ");
                let mut items: Vec<String> = keys.iter().map(|k| names[*k].clone()).collect();
                items.extend(calls.iter().map(|call| call.sql(&names)));
                let group = match grouping {
                    Grouping::Plain if keys.is_empty() => String::new(),
                    Grouping::Plain => format!(" GROUP BY {}", list(keys)),
                    Grouping::Rollup => format!(" GROUP BY ROLLUP ({})", list(keys)),
                    Grouping::Cube => format!(" GROUP BY CUBE ({})", list(keys)),
                    Grouping::Sets(sets) => {
                        let sets: Vec<String> = sets.iter().map(|s| format!("({})", list(s))).collect();
                        format!(" GROUP BY GROUPING SETS ({})", sets.join(", "))
                    }
                };
                let having = having.as_ref().map_or(String::new(), |h| format!(" HAVING {h}"));
                format!("SELECT {} FROM {from}{group}{having}", select(&items))
            }
            (Op::Union, inputs) => {
                let inputs: Vec<String> = inputs.iter().map(|i| self.query_of(i)).collect();
                inputs.join(" UNION ALL ")
            }
            (Op::SetOperation(op), [left, right]) => {
                format!("{} {op} {}", self.query_of(left), self.query_of(right))
            }
            (Op::Join { kind, on, residual, keep }, [left, right]) => {
                let ((l, left_name), (r, right_name)) = (self.from(left), self.from(right));
                let mut names = columns(&left_name, &left.types);
                names.extend(columns(&right_name, &right.types));
                let mut conditions: Vec<String> = on
                    .iter()
                    .map(|(a, b, nulls)| {
                        let equals = if *nulls { "IS NOT DISTINCT FROM" } else { "=" };
                        format!("{left_name}.c{a} {equals} {right_name}.c{b}")
                    })
                    .collect();
                conditions.extend(residual.as_ref().map(|e| e.sql(&names)));
                let on = match *kind {
                    "CROSS JOIN" => String::new(),
                    _ => format!(" ON {}", conditions.join(" AND ")),
                };
                let items: Vec<String> = keep.iter().map(|i| names[*i].clone()).collect();
                format!("SELECT {} FROM {l} {kind} {r}{on}", select(&items))
            }
            (Op::Semi { negated, is_in, on, residual }, [left, right]) => {
                let ((l, left_name), (r, right_name)) = (self.from(left), self.from(right));
                let not = if *negated { "NOT " } else { "" };
                let names = columns(&right_name, &right.types);
                let mut on = on.as_slice();
                let mut item = "1".to_owned();
                let mut test = format!("{not}EXISTS");
                if *is_in && let Some(((a, b), rest)) = on.split_first() {
                    test = format!("{left_name}.c{a} {not}IN");
                    item = format!("{right_name}.c{b}");
                    on = rest;
                }
                let mut conditions: Vec<String> =
                    on.iter().map(|(a, b)| format!("{right_name}.c{b} = {left_name}.c{a}")).collect();
                conditions.extend(residual.as_ref().map(|e| e.sql(&names)));
                let filter = if conditions.is_empty() {
                    String::new()
                } else {
                    format!(" WHERE {}", conditions.join(" AND "))
                };
                let items = select(&columns(&left_name, &left.types));
                format!("SELECT {items} FROM {l} WHERE {test} (SELECT {item} FROM {r}{filter})")
            }
            (Op::Scalar { call, on }, [left, right]) => {
                let ((l, left_name), (r, right_name)) = (self.from(left), self.from(right));
                let mut items = columns(&left_name, &left.types);
                items.truncate(rel.types.len() - 1);
                let call = call.replace("{}", &right_name);
                let filter =
                    on.map_or(String::new(), |(a, b)| format!(" WHERE {right_name}.c{b} = {left_name}.c{a}"));
                items.push(format!("(SELECT {call} FROM {r}{filter})"));
                format!("SELECT {} FROM {l}", select(&items))
            }
            (Op::Rank { function, partition, order, last, shown }, [input]) => {
                let (from, name) = self.from(input);
                let outer = self.name();
                let names = columns(&name, &input.types);
                let partition = if partition.is_empty() {
                    String::new()
                } else {
                    let list: Vec<&str> = partition.iter().map(|p| names[*p].as_str()).collect();
                    format!("PARTITION BY {} ", list.join(", "))
                };
                let order = order_by(order, &names);
                let mut items = columns(&outer, &input.types);
                if *shown {
                    items.push(format!("{outer}.rn"));
                }
                format!(
                    "SELECT {} FROM (SELECT {}, {function}() OVER ({partition}ORDER BY {order}) AS rn FROM {from}) AS {outer} WHERE {outer}.rn <= {last}",
                    select(&items),
                    select(&names)
                )
            }
            (Op::Limit { order, limit, offset }, [input]) => {
                let (from, name) = self.from(input);
                let names = columns(&name, &input.types);
                let order = order_by(order, &names);
                let offset = if *offset > 0 { format!(" OFFSET {offset}") } else { String::new() };
                format!("SELECT {} FROM {from} ORDER BY {order} LIMIT {limit}{offset}", select(&names))
            }
            (Op::Unnest { array, left, ordinality }, [input]) => {
                let (from, name) = self.from(input);
                let unnested = self.name();
                let names = columns(&name, &input.types);
                let added = 1 + usize::from(*ordinality);
                let mut items = names.clone();
                items.truncate(rel.types.len() - added);
                items.push(format!("{unnested}.x"));
                let array = array.sql(&names);
                let (join, on) = if *left { ("LEFT JOIN", " ON TRUE") } else { ("CROSS JOIN", "") };
                let (with, list) = if *ordinality {
                    items.push(format!("{unnested}.n"));
                    (" WITH ORDINALITY", "x, n")
                } else {
                    ("", "x")
                };
                format!(
                    "SELECT {} FROM {from} {join} UNNEST({array}){with} AS {unnested}({list}){on}",
                    select(&items)
                )
            }
            (op, _) => unreachable!("{op:?} with {} inputs", rel.inputs.len()),
        }
    }

    /// A side of a set operation.
    fn query_of(&mut self, rel: &Rel) -> String {
        match rel.op {
            Op::Union | Op::SetOperation(_) | Op::Limit { .. } => format!("({})", self.query(rel)),
            _ => self.query(rel),
        }
    }
}

pub(crate) fn order_by(order: &[(usize, bool)], names: &[String]) -> String {
    let items: Vec<String> = order
        .iter()
        .map(|(c, descending)| format!("{}{}", names[*c], if *descending { " DESC" } else { "" }))
        .collect();
    items.join(", ")
}

impl Call {
    pub(crate) fn sql(&self, names: &[String]) -> String {
        let argument = self.argument.as_ref().map(|a| a.sql(names)).unwrap_or_default();
        let filter =
            self.filter.as_ref().map(|f| format!(" FILTER (WHERE {})", f.sql(names))).unwrap_or_default();
        let text = self.template.replace("{}", &argument);
        if let (true, Some(call)) = (text.starts_with("CARDINALITY("), text.strip_suffix(')')) {
            return format!("{call}{filter})");
        }
        // FILTER stands behind the call itself, inside of a cast.
        match text.rsplit_once(" AS ") {
            Some((call, ty)) if text.starts_with("CAST(") => format!("{call}{filter} AS {ty}"),
            _ => format!("{text}{filter}"),
        }
    }
}
