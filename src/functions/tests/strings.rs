//! Strings, regular expressions, encodings and hashes.

use super::Session;

#[test]
fn text() {
    Session::new("UTC").check(&[
        ("SUBSTR('hello world',0,3)", "hel"),
        ("SUBSTR('hello world',2,300)", "ello world"),
        ("SUBSTRING('hello' FROM 2 FOR 3)", "ell"),
        ("SUBSTRING('hello', -3)", "llo"),
        ("SUBSTRING('hello', -9)", ""),
        ("SUBSTRING('hello', 2, -1)", "NULL"),
        ("SUBSTRING('héllo', 2, 2)", "él"),
        ("LPAD('hi',1,'??')", "h"),
        ("LPAD('hi',5,'??')", "???hi"),
        ("LPAD('',1,'??')", "?"),
        ("LPAD('111',-2,'??')", "NULL"),
        ("RPAD('abcd',5,'')", "NULL"),
        ("RPAD('hi',5,'ab')", "hiaba"),
        ("INSTR('Corporate Floor','or',3,2)", "14"),
        ("INSTR('Corporate Floor','or',-3,2)", "2"),
        ("INSTR('abc','x')", "0"),
        ("LOCATE('test','xxxtest')", "4"),
        ("LOCATE('b','abcb', 3)", "4"),
        ("POSITION('lo' IN 'hello')", "4"),
        ("SPLIT_INDEX('Test','e',1)", "st"),
        ("SPLIT_INDEX('test','e',-1)", "NULL"),
        ("SPLIT_INDEX('a,b',44,1)", "b"),
        ("TRIM(BOTH 'abc' FROM 'abcddcba')", "dd"),
        ("TRIM('  a ')", "a"),
        ("TRIM(LEADING 'x' FROM 'xxax')", "ax"),
        ("BTRIM('www.apache.org','a')", "www.apache.org"),
        ("LTRIM('  a') || '.'", "a."),
        ("TRANSLATE('www.apache.org','abc','123')", "www.1p13he.org"),
        ("INITCAP('fLinK')", "Flink"),
        ("STARTSWITH('','')", "TRUE"),
        ("ENDSWITH('abc','bc')", "TRUE"),
        ("ELT(0,'a','b')", "NULL"),
        ("ELT(2,'a','b')", "b"),
        ("ASCII('')", "0"),
        ("ASCII('a')", "97"),
        ("CHR(97)", "a"),
        ("CHAR_LENGTH('héllo')", "5"),
        ("UPPER('abc') || LOWER('DEF')", "ABCdef"),
        ("REVERSE('abc')", "cba"),
        ("REPEAT('ab', 2)", "abab"),
        ("REPEAT('ab', -1)", ""),
        ("REPLACE('hello','l','L')", "heLLo"),
        ("OVERLAY('abcdef' PLACING 'XY' FROM 2)", "aXYdef"),
        ("OVERLAY('abcdef' PLACING 'XY' FROM 2 FOR 1)", "aXYcdef"),
        ("OVERLAY('abc' PLACING 'X' FROM 9)", "abc"),
        ("CONCAT('a', 'b', NULL)", "NULL"),
        ("CONCAT('a', 'b')", "ab"),
        ("CONCAT_WS('-', 'a', NULL, '', 'b')", "a--b"),
        ("CONCAT('a', 1)", "ERROR cannot apply CONCAT"),
        ("LENGTH_('a')", "ERROR No match found for function signature LENGTH_(<STRING>)"),
        ("IS_ALPHA('11.4445')", "FALSE"),
        ("IS_DECIMAL('11.4445')", "TRUE"),
        ("IS_DIGIT('')", "FALSE"),
        ("LEFT('abc', 2) || RIGHT('abc', 1)", "abc"),
        ("LEFT('abc', -1)", ""),
    ]);
}

#[test]
fn regular_expressions() {
    Session::new("UTC").check(&[
        ("REGEXP_REPLACE('foobar','oo|ar','')", "fb"),
        ("REGEXP_REPLACE('abc','b','$1')", "a$1c"),
        ("REGEXP_EXTRACT('foothebar','foo(.*?)(bar)',2)", "bar"),
        ("REGEXP_EXTRACT('foothebar','foo(.*?)(bar)')", "foothebar"),
        ("REGEXP_EXTRACT('x','(a)', 5)", "NULL"),
        (r"REGEXP('abc-def','(\d+)')", "FALSE"),
        ("REGEXP('100-200',NULL)", "NULL"),
        ("REGEXP_COUNT('abcabcabc','abcab')", "1"),
        (r"REGEXP_COUNT('abc123xyz456','\d')", "6"),
        (r"REGEXP_INSTR('abc123xyz456','\d')", "4"),
        (r"REGEXP_SUBSTR('a.b.c.d','\.')", "."),
        ("REGEXP_EXTRACT_ALL('a1b2','([a-z])[0-9]')", "[a, b]"),
        ("REGEXP_REPLACE('a','(','')", "ERROR invalid regular expression"),
        ("REGEXP_COUNT('a','(')", "NULL"),
    ]);
}

#[test]
fn encodings_and_hashes() {
    Session::new("UTC").check(&[
        ("TO_BASE64('hello')", "aGVsbG8="),
        ("FROM_BASE64('aGVsbG8=')", "hello"),
        ("DECODE(ENCODE('é', 'UTF-16BE'), 'UTF-16BE')", "é"),
        ("URL_ENCODE('a b&c')", "a+b%26c"),
        ("URL_DECODE('a+b%26c')", "a b&c"),
        ("URL_DECODE('%x')", "NULL"),
        ("PARSE_URL('http://u@h.org:80/p/q?a=1&b=2#r', 'HOST')", "h.org"),
        ("PARSE_URL('http://u@h.org:80/p/q?a=1&b=2#r', 'QUERY', 'b')", "2"),
        ("PARSE_URL('http://u@h.org:80/p/q?a=1&b=2#r', 'AUTHORITY')", "u@h.org:80"),
        ("INET_ATON('127.0.0.1')", "2130706433"),
        ("INET_NTOA(2130706433)", "127.0.0.1"),
        ("HASH_CODE('abc')", "96354"),
        ("MD5('test')", "098f6bcd4621d373cade4e832627b4f6"),
        ("SHA1('test')", "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"),
        ("SHA256('test')", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
        ("SHA2('test', 256)", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
        ("CHAR_LENGTH(SHA512('test'))", "128"),
        ("MD5(NULL)", "NULL"),
        ("JSON_QUOTE('null')", "\"null\""),
        ("JSON_UNQUOTE('\"abc\"')", "abc"),
        ("JSON_UNQUOTE('[}')", "[}"),
    ]);
}

#[test]
fn json() {
    Session::new("UTC").check(&[
        (r#"JSON_VALUE('{"a":{"b":1.50,"c":[1,2,{"d":"x"}]}}','$.a.b')"#, "1.50"),
        (r#"JSON_VALUE('{"a":{"b":true}}','$.a.b')"#, "true"),
        (r#"JSON_VALUE('{"a":{"b":true}}','$.a')"#, "NULL"),
        (r#"JSON_QUERY('{"a":{"z": 1.50, "b":[1, 2]}}','$.a')"#, r#"{"b":[1,2],"z":1.50}"#),
        (r#"JSON_QUERY('{"a":[1,{"d":"x"}]}','$.a[1].d')"#, "NULL"),
        (r#"JSON_EXISTS('{"a":1}','$.a')"#, "TRUE"),
        (r#"JSON_EXISTS('{"a":1}','$.b')"#, "FALSE"),
        (r#"JSON_VALUE('{"a":null}','$.a')"#, "NULL"),
        ("JSON_VALUE('not json','$.a')", "NULL"),
        (r#"JSON_VALUE('{"a":"q\"x"}','$.a')"#, "q\"x"),
        (r#"JSON_VALUE('{"a b":1}','$[''a b'']')"#, "1"),
        (r#"JSON_QUERY('{"a":"\u00e9"}','$')"#, r#"{"a":"é"}"#),
        (r#"JSON_QUERY('{"a":[{"b":1},{"b":2}]}','$.a[*].b')"#, "[1,2]"),
        (r#"JSON_VALUE('{"a":1e2}','$.a')"#, "1E+2"),
        (r#"JSON_VALUE('{"a":1.0}','lax $.a')"#, "1.0"),
        (r#"JSON_VALUE('{"a":12345678901234567890.123}','$.a')"#, "12345678901234567890.123"),
        ("JSON_VALUE('{}','a')", "ERROR invalid JSON path"),
        ("JSON_STRING('a\"b')", r#""a\"b""#),
        ("JSON_STRING(ARRAY[1,NULL])", "[1,null]"),
        ("JSON_STRING(ROW(1,'a'))", r#"{"EXPR$0":1,"EXPR$1":"a"}"#),
        ("JSON_STRING(MAP['a',1.5])", r#"{"a":1.5}"#),
        ("CURRENT_DATABASE()", "default_database"),
    ]);
}
