//! The eight tables of TPC-H, at a scale of a few thousand lines.

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{Field, Schema, SchemaRef};
use tidelake::types::{LogicalType, TypeRoot};
use tpchgen::generators as g;

/// A table with its rows.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<(&'static str, LogicalType)>,
    /// Columns of the primary key.
    pub(crate) key: &'static [&'static str],
    pub(crate) rows: RecordBatch,
}

impl Table {
    fn new(
        name: &'static str,
        columns: &[(&'static str, TypeRoot)],
        key: &'static [&'static str],
        lines: impl Iterator<Item = String>,
    ) -> Table {
        let columns: Vec<(&'static str, LogicalType)> =
            columns.iter().map(|(n, root)| (*n, LogicalType::not_null(root.clone()))).collect();
        let fields: Vec<Field> = columns.iter().map(|(n, ty)| ty.to_field(n)).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        // Each line ends with a delimiter too many.
        let text: String = lines.map(|line| line.trim_end_matches('|').to_owned() + "\n").collect();
        let reader = ReaderBuilder::new(schema.clone())
            .with_delimiter(b'|')
            .with_quote(0)
            .build(Cursor::new(text))
            .expect("a reader");
        let batches: Vec<RecordBatch> = reader.map(|b| b.expect("rows of TPC-H")).collect();
        Table { name, columns, key, rows: concat_batches(&schema, &batches).expect("one schema") }
    }
}

/// All tables.
pub(crate) fn generate(scale: f64) -> Vec<Table> {
    let text = || LogicalType::string().root;
    let decimal = || TypeRoot::Decimal(15, 2);
    let mut pairs = HashSet::new();
    let (big, int, date) = (TypeRoot::BigInt, TypeRoot::Int, TypeRoot::Date);
    vec![
        Table::new(
            "region",
            &[("r_regionkey", big.clone()), ("r_name", text()), ("r_comment", text())],
            &["r_regionkey"],
            g::RegionGenerator::default().iter().map(|r| r.to_string()),
        ),
        Table::new(
            "nation",
            &[
                ("n_nationkey", big.clone()),
                ("n_name", text()),
                ("n_regionkey", big.clone()),
                ("n_comment", text()),
            ],
            &["n_nationkey"],
            g::NationGenerator::default().iter().map(|r| r.to_string()),
        ),
        Table::new(
            "supplier",
            &[
                ("s_suppkey", big.clone()),
                ("s_name", text()),
                ("s_address", text()),
                ("s_nationkey", big.clone()),
                ("s_phone", text()),
                ("s_acctbal", decimal()),
                ("s_comment", text()),
            ],
            &["s_suppkey"],
            g::SupplierGenerator::new(scale, 1, 1).iter().map(|r| r.to_string()),
        ),
        Table::new(
            "part",
            &[
                ("p_partkey", big.clone()),
                ("p_name", text()),
                ("p_mfgr", text()),
                ("p_brand", text()),
                ("p_type", text()),
                ("p_size", int.clone()),
                ("p_container", text()),
                ("p_retailprice", decimal()),
                ("p_comment", text()),
            ],
            &["p_partkey"],
            g::PartGenerator::new(scale, 1, 1).iter().map(|r| r.to_string()),
        ),
        Table::new(
            "partsupp",
            &[
                ("ps_partkey", big.clone()),
                ("ps_suppkey", big.clone()),
                ("ps_availqty", int.clone()),
                ("ps_supplycost", decimal()),
                ("ps_comment", text()),
            ],
            &["ps_partkey", "ps_suppkey"],
            // With so few suppliers a part gets some of them twice, which the key does not allow.
            g::PartSuppGenerator::new(scale, 1, 1)
                .iter()
                .filter(|r| pairs.insert((r.ps_partkey, r.ps_suppkey)))
                .map(|r| r.to_string()),
        ),
        Table::new(
            "customer",
            &[
                ("c_custkey", big.clone()),
                ("c_name", text()),
                ("c_address", text()),
                ("c_nationkey", big.clone()),
                ("c_phone", text()),
                ("c_acctbal", decimal()),
                ("c_mktsegment", text()),
                ("c_comment", text()),
            ],
            &["c_custkey"],
            g::CustomerGenerator::new(scale, 1, 1).iter().map(|r| r.to_string()),
        ),
        Table::new(
            "orders",
            &[
                ("o_orderkey", big.clone()),
                ("o_custkey", big.clone()),
                ("o_orderstatus", text()),
                ("o_totalprice", decimal()),
                ("o_orderdate", date.clone()),
                ("o_orderpriority", text()),
                ("o_clerk", text()),
                ("o_shippriority", int.clone()),
                ("o_comment", text()),
            ],
            &["o_orderkey"],
            g::OrderGenerator::new(scale, 1, 1).iter().map(|r| r.to_string()),
        ),
        Table::new(
            "lineitem",
            &[
                ("l_orderkey", big.clone()),
                ("l_partkey", big.clone()),
                ("l_suppkey", big),
                ("l_linenumber", int),
                ("l_quantity", decimal()),
                ("l_extendedprice", decimal()),
                ("l_discount", decimal()),
                ("l_tax", decimal()),
                ("l_returnflag", text()),
                ("l_linestatus", text()),
                ("l_shipdate", date.clone()),
                ("l_commitdate", date.clone()),
                ("l_receiptdate", date),
                ("l_shipinstruct", text()),
                ("l_shipmode", text()),
                ("l_comment", text()),
            ],
            &["l_orderkey", "l_linenumber"],
            g::LineItemGenerator::new(scale, 1, 1).iter().map(|r| r.to_string()),
        ),
    ]
}
