//! Mathematics.

use super::Session;

#[test]
fn golden_values() {
    Session::new("UTC").check(&[
        ("POWER(5,5)", "3125.0"),
        ("POWER(-1,0.5)", "NaN"),
        ("LOG(1,100)", "Infinity"),
        ("LOG(-1)", "NaN"),
        ("LN(0)", "-Infinity"),
        ("SIGN(-1.1)", "-1.0"),
        ("CEIL(2.5)", "3"),
        ("CEILING(-2.5)", "-2"),
        ("FLOOR(-2.5)", "-3"),
        ("CEIL(2)", "2"),
        ("CEIL(2.5e0)", "3.0"),
        ("ROUND(125.315)", "125"),
        ("ROUND(-125.315,2)", "-125.32"),
        ("ROUND(125, -1)", "130"),
        ("ROUND(CAST(1.2345 AS DECIMAL(5,4)),3)", "1.235"),
        ("ROUND(CAST(1.2345 AS DOUBLE))", "1.0"),
        ("ROUND(2.675e0, 2)", "2.68"),
        ("TRUNCATE(42.345)", "42"),
        ("TRUNCATE(CAST(42.345 AS DECIMAL(5,3)),2)", "42.34"),
        ("TRUNCATE(-42.987e0, 1)", "-42.9"),
        ("RAND(1)", "0.7308781907032909"),
        ("RAND_INTEGER(3,99)", "50"),
        ("CAST(UNHEX('1') = X'00' AS STRING)", "TRUE"),
        ("CAST(UNHEX('146') = X'0046' AS STRING)", "TRUE"),
        ("UNHEX('1-')", "NULL"),
        ("HEX(255)", "FF"),
        ("HEX(-1)", "FFFFFFFFFFFFFFFF"),
        ("HEX('abc')", "616263"),
        ("BIN(4)", "100"),
        ("ABS(-2147483648)", "-2147483648"),
        ("ABS(-1.5)", "1.5"),
        ("SQRT(-1)", "NaN"),
        ("PI()", "3.141592653589793"),
        ("ROUND('a')", "ERROR cannot apply ROUND to arguments of type ROUND(<STRING>)"),
    ]);
    Session::new("UTC").check_types(&[
        ("ROUND(1.555,1)", "DECIMAL(3, 1)"),
        ("TRUNCATE(1.555,1)", "DECIMAL(3, 1)"),
        ("CEIL(1.5)", "DECIMAL(2, 0)"),
        ("SIGN(1.5)", "DECIMAL(2, 1)"),
        ("ABS(CAST(-2 AS TINYINT))", "TINYINT"),
        ("POWER(2,3)", "DOUBLE"),
        ("ROUND(CAST(1.5 AS FLOAT),1)", "FLOAT"),
    ]);
}
