//! Names of Arrow types in messages as those of SQL types.

/// Arrow's names and SQL's. What stands in parentheses behind a name belongs to it.
const PLAIN: [(&str, &str); 17] = [
    ("Utf8View", "STRING"),
    ("LargeUtf8", "STRING"),
    ("Utf8", "STRING"),
    ("LargeBinary", "BYTES"),
    ("BinaryView", "BYTES"),
    ("Binary", "BYTES"),
    ("Boolean", "BOOLEAN"),
    ("Int8", "TINYINT"),
    ("Int16", "SMALLINT"),
    ("Int32", "INT"),
    ("Int64", "BIGINT"),
    ("UInt64", "BIGINT"),
    ("Float32", "FLOAT"),
    ("Float64", "DOUBLE"),
    ("Date32", "DATE"),
    ("IntervalMonthDayNano", "INTERVAL"),
    ("IntervalYearMonth", "INTERVAL"),
];

/// The text with SQL's names in place of Arrow's.
pub fn sql_names(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut within_word = false;
    while let Some(c) = rest.chars().next() {
        if !within_word && let Some((name, length)) = name_at(rest) {
            out.push_str(&name);
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        within_word = c.is_alphanumeric() || c == '_';
        out.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out
}

/// The SQL name of the Arrow type that a text begins with, and the length of that.
fn name_at(text: &str) -> Option<(String, usize)> {
    let word = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let (name, rest) = text.split_at(word);
    if let Some((_, sql)) = PLAIN.iter().find(|(arrow, _)| *arrow == name) {
        // A literal: `Int32(5)`.
        if let Some(value) = inside(rest) {
            return Some((value.trim_matches('"').to_owned(), word + value.len() + 2));
        }
        return Some(((*sql).to_owned(), word));
    }
    let value = inside(rest)?;
    let length = word + value.len() + 2;
    let named = match name {
        "Timestamp" => {
            let (unit, zone) = value.split_once(", ").map_or((value, None), |(u, z)| (u, Some(z)));
            let digits = match unit.trim() {
                "s" | "Second" => 0,
                "ms" | "Millisecond" => 3,
                "µs" | "us" | "Microsecond" => 6,
                "ns" | "Nanosecond" => 9,
                _ => return None,
            };
            let zoned = zone.is_some_and(|z| z != "None");
            format!("{}({digits})", if zoned { "TIMESTAMP_LTZ" } else { "TIMESTAMP" })
        }
        "Time32" | "Time64" => "TIME".to_owned(),
        "Decimal128" | "Decimal256" => format!("DECIMAL({value})"),
        "Interval" => if value == "YearMonth" { "INTERVAL MONTH" } else { "INTERVAL SECOND(3)" }.to_owned(),
        "List" | "LargeList" => format!("ARRAY<{}>", sql_names(value.trim_start_matches("non-null "))),
        "Struct" => "ROW".to_owned(),
        "Map" => "MAP".to_owned(),
        _ => return None,
    };
    Some((named, length))
}

/// What stands in the parentheses that a text begins with.
fn inside(text: &str) -> Option<&str> {
    if !text.starts_with('(') {
        return None;
    }
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return text.get(1..i),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}
