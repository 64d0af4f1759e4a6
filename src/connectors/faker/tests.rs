use arrow::array::{Array, AsArray};
use arrow::datatypes::Int32Type;

use crate::connectors::synthetic::tests::{env, read_all, sorted_rows, table};
use crate::edges::lookup::LookupRequest;

use super::*;

fn of(root: TypeRoot) -> LogicalType {
    LogicalType::nullable(root)
}

fn source(columns: &[(&str, LogicalType)], options: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
    FakerFactory.source(&table(columns, options), &env())
}

/// The texts that an expression makes.
fn texts(expression: &str, rows: u64) -> Vec<String> {
    let options = [("fields.a.expression", expression), ("seed", "1"), ("base-time", "2024-01-01")];
    let table = table(&[("a", LogicalType::string())], &options);
    let source = FakerFactory.source(&table, &env()).unwrap_or_else(|e| panic!("{expression}: {e}"));
    drop(source);
    let mut compiler = Compiler::default();
    let field = Field {
        name: "a".into(),
        ty: arrow::datatypes::DataType::Utf8,
        made: Made::Scalar(compiler.compile(expression).unwrap()),
        null_rate: 0.0,
        salt: 3,
    };
    let now = Clock::Simulated { base: 1_704_067_200_000, rows_per_second: 1 }.now();
    let array = field.generate(7, 0..rows, now).unwrap();
    let made: Vec<String> = array.as_string::<i32>().iter().map(|t| t.unwrap().to_owned()).collect();
    let most = field.most_bytes();
    assert!(made.iter().all(|t| t.len() as u64 <= most), "{expression}: more than {most} bytes");
    made
}

#[test]
fn expressions_make_what_they_say() {
    for (expression, pattern) in [
        ("plain", "plain"),
        ("#{number.numberBetween '0','1000'}", r"\d{1,3}"),
        ("#{number.numberBetween '-9223372036854775808','9223372036854775807'}", r"-?\d+"),
        ("#{number.numberBetween '5','5'}", "5"),
        ("#{Number.randomDouble '2','1','150'}", r"\d{1,3}\.\d\d"),
        ("#{number.randomNumber '12','false'}", r"\d{1,12}"),
        ("#{number.randomNumber '3'}", r"[1-9]\d\d"),
        ("#{number.randomDigit}", r"\d"),
        ("#{number.digits '6'}", r"\d{6}"),
        ("#{regexify '(OK|KO|WARNING){1}'}", "OK|KO|WARNING"),
        (r"#{regexify '(HTTP/1\.1|HTTP/2|/HTTP/1\.0){1}'}", r"HTTP/1\.1|HTTP/2|/HTTP/1\.0"),
        ("#{Options.option 'RECEIVED','SHIPPED','it''s')}", "RECEIVED|SHIPPED|it's"),
        ("#{Internet.publicIpV4Address}", r"\d+\.\d+\.\d+\.\d+"),
        ("#{internet.ipV6Address}", "([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}"),
        ("#{internet.macAddress}", "([0-9a-f]{2}:){5}[0-9a-f]{2}"),
        ("#{Internet.uuid}", "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
        ("#{internet.emailAddress}", r"[a-z0-9.]+@[a-z0-9.]+\.[a-z]+"),
        ("#{Internet.userAgentAny}", ".{10,}"),
        ("#{date.past '15','SECONDS'}", r"20(23-12-31|24-01-01) \d\d:\d\d:\d\d\.\d{1,3}"),
        ("#{date.birthday '1','2'}", r"202[1-3]-\d\d-\d\d \d\d:\d\d:\d\d\.\d{1,3}"),
        ("#{date.birthdayLocalDate}", r"(19|20)\d\d-\d\d-\d\d"),
        ("#{date.between '2020-01-01 00:00:00','2020-01-02 00:00:00'}", r"2020-01-01 .*"),
        ("#{time.future '15','5','SECONDS'}", r"\d+"),
        ("#{Name.full_name}", ".+ .+"),
        ("#{Name.firstName} of #{Address.city}!", ".+ of .+!"),
        ("#{Address.fullAddress}", r".+\d.*, .+"),
        ("#{superhero.name}", ".+"),
        ("#{superhero.power}", ".+"),
        ("#{harry_potter.spell}", ".+"),
        ("#{harry_potter.spells}", ".+"),
        ("#{HitchhikersGuideToTheGalaxy.starship}", ".+"),
        ("#{RickAndMorty.location}", ".+"),
        ("#{dr_who.the_doctors}", ".+ Doctor"),
        ("#{Space.nasaSpaceCraft}", "[A-Z][a-z]+"),
        ("#{Currency.code}", "[A-Z]{3}"),
        ("#{Commerce.productName}", r"\w+( \w+){2,}"),
        ("#{food.vegetables}", ".+"),
        ("#{Food.measurement_sizes}", ".+"),
        ("#{Lorem.characters '10'}", "[a-z0-9]{10}"),
        ("#{Lorem.sentence}", r"[A-Z][a-z]*( [a-z]+){3,9}\."),
        ("#{numerify '##-Ø#'}", r"\d\d-[1-9]\d"),
        ("#{bothify '?#'}", r"[a-z]\d"),
        ("#{examplify 'AB-12'}", r"[A-Z]{2}-\d\d"),
        ("#{phoneNumber.cellPhone}", r"[-().\d ]{12,}"),
        ("#{bool.bool}", "true|false"),
        ("#{color.hex}", "#[0-9a-f]{6}"),
        ("#{commerce.price '5','6'}", r"[56]\.\d\d"),
        ("#{address.latitude}", r"-?\d+\.\d{8}"),
        ("#{Address.zipCode}", r"\d{5}"),
    ] {
        let check = regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
        for text in texts(expression, 200) {
            assert!(check.is_match(&text), "{expression}: {text}");
            assert!(!text.contains("#{"), "{expression}: {text}");
        }
    }
}

#[test]
fn every_list_of_words_can_be_used() {
    let mut compiler = Compiler::default();
    for name in words::names() {
        let template = compiler.compile(&format!("#{{{name}}}")).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(template.most_bytes() > 0, "{name}");
    }
    // Functions that are suggested are there.
    for name in function::names() {
        let known = [0, 1, 2, 3, 4].iter().any(|n| {
            let arguments = vec!["5".to_owned(); *n];
            !matches!(function::find(name, &arguments), Ok(None))
        });
        assert!(known, "{name}");
    }
}

#[test]
fn times_are_as_far_away_as_they_say() {
    let ms = |text: &str| {
        chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
            .unwrap()
            .and_utc()
            .timestamp_millis()
    };
    for (expression, least, most) in [
        ("#{date.past '15','5','SECONDS'}", -15_000, -5_000),
        ("#{date.past '1','DAYS'}", -86_400_000, 0),
        ("#{date.future '2','HOURS'}", 0, 7_200_000),
        ("#{date.future '15','5','MINUTES'}", 300_000, 900_000),
    ] {
        for (row, text) in texts(expression, 300).iter().enumerate() {
            let away = ms(text) - (1_704_067_200_000 + row as i64 * 1000);
            assert!((least..=most).contains(&away), "{expression}: {away}");
        }
    }
}

#[tokio::test]
async fn rows_of_every_type_whatever_the_parallelism() {
    let text = LogicalType::string();
    let columns = [
        ("s", text.clone()),
        ("b", of(TypeRoot::Boolean)),
        ("i", of(TypeRoot::TinyInt)),
        ("l", of(TypeRoot::BigInt)),
        ("f", of(TypeRoot::Float)),
        ("d", of(TypeRoot::Decimal(6, 2))),
        ("day", of(TypeRoot::Date)),
        ("t", of(TypeRoot::Time(0))),
        ("ts", of(TypeRoot::Timestamp(3))),
        ("at", of(TypeRoot::TimestampLtz(6))),
        ("a", of(TypeRoot::Array(Box::new(text.clone())))),
        ("ms", of(TypeRoot::Multiset(Box::new(of(TypeRoot::Int))))),
        ("m", of(TypeRoot::Map(Box::new(text.clone()), Box::new(of(TypeRoot::Int))))),
        (
            "r",
            of(TypeRoot::Row(vec![crate::types::RowField {
                name: "x".into(),
                ty: of(TypeRoot::Int),
                comment: None,
            }])),
        ),
    ];
    let options = [
        ("fields.s.expression", "#{Name.firstName} 'é'"),
        ("fields.s.null-rate", "0.5"),
        ("fields.b.expression", "#{regexify '(true|false)'}"),
        ("fields.i.expression", "#{number.numberBetween '-128','127'}"),
        ("fields.l.expression", "#{number.randomNumber}"),
        ("fields.f.expression", "#{number.randomDouble '3','-1000','1000'}"),
        ("fields.d.expression", "#{number.randomDouble '3','-1000','1000'}"),
        ("fields.day.expression", "#{date.birthday}"),
        ("fields.t.expression", "#{time.past '1','HOURS'}"),
        ("fields.ts.expression", "#{date.past '15','SECONDS'}"),
        ("fields.at.expression", "#{date.future '15','SECONDS'}"),
        ("fields.a.expression", "#{harry_potter.location}"),
        ("fields.a.length", "3"),
        ("fields.ms.expression", "#{number.numberBetween '0','2'}"),
        ("fields.ms.length", "5"),
        ("fields.m.key.expression", "#{regexify 'a|b'}"),
        ("fields.m.value.expression", "#{number.digit}"),
        ("fields.m.length", "4"),
        ("fields.r.x.expression", "#{number.digit}"),
        ("number-of-rows", "3000"),
        ("rows-per-second", "10000000"),
        ("seed", "5"),
        ("base-time", "2024-01-01"),
    ];
    let source = source(&columns, &options).unwrap();
    assert!(source.bounded());
    let rows = sorted_rows(&read_all(source.as_ref(), 1, 1, 1).await);
    assert_eq!(rows.len(), 3000);
    assert_eq!(rows, sorted_rows(&read_all(source.as_ref(), 3, 1, 2).await));
    let batches = read_all(source.as_ref(), 1, 1, 1).await;
    let nulls: usize = batches.iter().map(|b| b.column(0).null_count()).sum();
    assert!((1300..1700).contains(&nulls), "{nulls}");
    for batch in &batches {
        let counts = batch.column(11).as_map();
        for i in 0..counts.len() {
            let entry = counts.value(i);
            let sum: i32 = entry.column(1).as_primitive::<Int32Type>().values().iter().sum();
            assert_eq!(sum, 5);
        }
        let maps = batch.column(12).as_map();
        assert!((0..maps.len()).all(|i| maps.value(i).len() <= 2));
        assert_eq!(batch.column(10).as_list::<i32>().value_length(0), 3);
    }
}

#[tokio::test]
async fn a_lookup_finds_one_row_for_every_key() {
    let columns = [("k", of(TypeRoot::Int)), ("v", LogicalType::string())];
    let options = [
        ("fields.k.expression", "#{number.digit}"),
        ("fields.v.expression", "#{harry_potter.house}"),
        ("seed", "1"),
    ];
    let source = source(&columns, &options).unwrap();
    assert!(!source.bounded());
    let points = source.lookup().unwrap().points.unwrap();
    let lookup = points.open(LookupRequest { keys: vec![0], projection: vec![1, 0] }).unwrap();
    let keys = RecordBatch::try_from_iter([(
        "k",
        Arc::new(arrow::array::Int32Array::from(vec![70, 80])) as ArrayRef,
    )])
    .unwrap();
    let found = lookup.lookup(&keys).await.unwrap();
    assert_eq!(found.found.iter().map(|f| (f.first, f.rows)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
    let rows = &found.batches[0].rows;
    assert_eq!(rows.column(1).as_primitive::<Int32Type>().values(), &[70, 80]);
    assert!(!rows.column(0).as_string::<i32>().value(0).is_empty());
}

#[test]
fn mistakes_are_told() {
    let text = [("a", LogicalType::string())];
    let int = [("a", of(TypeRoot::Int))];
    for (columns, options, why) in [
        (&text, vec![], "Every column needs a corresponding expression"),
        (&text, vec![("fields.a.expression", "#{superheroo.name}")], "did you mean #{superhero.name}"),
        (&text, vec![("fields.a.expression", "#{xqzv}")], "docs/faker.md"),
        (&text, vec![("fields.a.expression", "#{superhero.name")], "not closed"),
        (&text, vec![("fields.a.expression", "#{superhero.name 'x'}")], "with 1 arguments"),
        (&text, vec![("fields.a.expression", "#{regexify '(a'}")], "not closed"),
        (&text, vec![("fields.a.expression", "#{regexify '((a{9999}){9999})'}")], "more than"),
        (
            &text,
            vec![("fields.a.expression", "#{date.past '5','15','SECONDS'}")],
            "the larger number comes first",
        ),
        (&text, vec![("fields.a.expression", "#{date.past '5','WEEKS'}")], "no unit of time"),
        (&text, vec![("fields.a.expression", "#{number.numberBetween 'a','5'}")], "no whole number"),
        (&text, vec![("fields.a.expression", "x"), ("fields.a.null-rate", "2")], "from 0 to 1"),
        (&text, vec![("fields.a.expression", "x"), ("fields.b.expression", "y")], "fields.b.expression"),
        (&text, vec![("fields.a.expression", "x"), ("number-of-rows", "-2")], "number-of-rows"),
        (&text, vec![("fields.a.expression", "x"), ("rows-per-second", "0")], "rows-per-second"),
        (&int, vec![("fields.a.expression", "x"), ("fields.a.length", "2")], "fields.a.length"),
    ] {
        let e = source(columns, &options).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains(why), "{options:?}: {e}");
    }
}

#[tokio::test]
async fn a_text_that_is_no_value_of_the_type_is_an_error() {
    let options = [("fields.a.expression", "x"), ("number-of-rows", "1")];
    let source = source(&[("a", of(TypeRoot::Int))], &options).unwrap();
    let mut readers = source.readers(ScanRequest::default(), 1, None).await.unwrap();
    let mut error = None;
    for _ in 0..3 {
        if let Err(e) = readers[0].next().await {
            error = Some(e.to_string());
            break;
        }
    }
    let error = error.unwrap();
    assert!(error.contains("column `a`") && error.contains("'x', which is no INT"), "{error}");
}

#[test]
fn rows_at_a_pace_make_a_stream_even_if_they_end() {
    let columns = [("a", LogicalType::string())];
    for (rows, per_second, paced) in [("100000", "5", true), ("1000", "1000000", false)] {
        let options =
            [("fields.a.expression", "x"), ("number-of-rows", rows), ("rows-per-second", per_second)];
        let source = source(&columns, &options).unwrap();
        assert_eq!((source.bounded(), source.paced()), (true, paced), "{options:?}");
    }
}
