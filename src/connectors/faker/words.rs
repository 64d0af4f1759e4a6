//! The lists of words that expressions such as `#{superhero.name}` choose from.
//!
//! `words.txt` holds them as lines of tabs: a name in small letters without underscores, what is done with the result, and
//! the templates to choose from. [`OWN`] adds what is a method in datafaker and not a list.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::expression::Finish;

/// Name, what is done with the result, templates separated by tabs.
const OWN: &[(&str, Finish, &str)] = &[
    ("address.citystate", Finish::Nothing, "#{address.city}, #{address.state_abbr}"),
    ("cellphone.cellphone", Finish::Digits, "###-###-####\t(###) ###-####\t1-###-###-####\t###.###.####"),
    ("phonenumber.cellphone", Finish::Digits, "###-###-####\t(###) ###-####\t1-###-###-####\t###.###.####"),
    (
        "phonenumber.phonenumber",
        Finish::Digits,
        "###-###-####\t(###) ###-####\t###-###-#### x####\t###.###.####",
    ),
    ("phonenumber.phonenumberinternational", Finish::Digits, "+1 Ø## ###-####"),
    ("phonenumber.phonenumbernational", Finish::Digits, "(Ø##) ###-####"),
    ("phonenumber.extension", Finish::Digits, "####"),
    ("phonenumber.subscribernumber", Finish::Digits, "####"),
    ("idnumber.valid", Finish::Digits, "Ø##-##-####"),
    ("idnumber.ssnvalid", Finish::Digits, "Ø##-##-####"),
    (
        "commerce.productname",
        Finish::Nothing,
        "#{commerce.product_name.adjective} #{commerce.product_name.material} #{commerce.product_name.product}",
    ),
    (
        "commerce.promotioncode",
        Finish::Digits,
        "#{commerce.promotion_code.adjective}#{commerce.promotion_code.noun}######",
    ),
    ("company.bs", Finish::Nothing, "#{company.bs.0} #{company.bs.1} #{company.bs.2}"),
    ("company.buzzword", Finish::Nothing, "#{company.buzzwords}"),
    (
        "company.catchphrase",
        Finish::Nothing,
        "#{company.buzzwords.0} #{company.buzzwords.1} #{company.buzzwords.2}",
    ),
    ("company.url", Finish::Nothing, "www.#{internet.domain_name}"),
    ("credentials.username", Finish::Mail, "#{name.first_name}.#{name.last_name}"),
    ("internet.username", Finish::Mail, "#{name.first_name}.#{name.last_name}"),
    ("name.username", Finish::Mail, "#{name.first_name}.#{name.last_name}"),
    ("internet.domainword", Finish::Mail, "#{name.last_name}"),
    ("internet.domainname", Finish::Nothing, "#{internet.domain_word}.#{internet.domain_suffix}"),
    ("internet.webdomain", Finish::Nothing, "www.#{internet.domain_name}"),
    ("internet.url", Finish::Nothing, "https://www.#{internet.domain_name}/#{lorem.word}"),
    ("internet.slug", Finish::Nothing, "#{lorem.word}_#{lorem.word}"),
    ("internet.emailaddress", Finish::Nothing, "#{internet.username}@#{internet.free_email}"),
    ("internet.safeemailaddress", Finish::Nothing, "#{internet.username}@#{internet.safe_email}"),
    (
        "internet.useragentany",
        Finish::Nothing,
        "#{internet.user_agent.firefox}\t#{internet.user_agent.opera}\t#{internet.user_agent.internet_explorer}\t#{internet.user_agent.netscape}\t#{internet.user_agent.aol}",
    ),
    (
        "internet.botuseragentany",
        Finish::Nothing,
        "#{internet.bot_user_agent.bingbot}\t#{internet.bot_user_agent.duckduckbot}\t#{internet.bot_user_agent.googlebot}\t#{internet.bot_user_agent.yandexbot}",
    ),
    ("name.fullname", Finish::Nothing, "#{name.name}"),
    ("name.title", Finish::Nothing, "#{name.title.descriptor} #{name.title.level} #{name.title.job}"),
    ("job.title", Finish::Nothing, "#{name.title.descriptor} #{name.title.level} #{name.title.job}"),
    ("team.name", Finish::Nothing, "#{address.state} #{team.creature}"),
    (
        "university.name",
        Finish::Nothing,
        "#{university.prefix} #{name.last_name} #{university.suffix}\t#{name.last_name} #{university.suffix}",
    ),
];

/// How a name of an expression is looked up.
pub(super) fn normalized(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

type Lists = HashMap<&'static str, (Finish, &'static str)>;

fn lists() -> &'static Lists {
    static LISTS: OnceLock<Lists> = OnceLock::new();
    LISTS.get_or_init(|| {
        let mut lists: Lists = OWN.iter().map(|(name, finish, list)| (*name, (*finish, *list))).collect();
        for line in include_str!("words.txt").lines().filter(|l| !l.starts_with('#')) {
            if let Some((name, rest)) = line.split_once('\t')
                && let Some((finish, list)) = rest.split_once('\t')
            {
                let finish = match finish {
                    "numerify" => Finish::Digits,
                    "letterify" => Finish::Letters,
                    "bothify" => Finish::DigitsAndLetters,
                    _ => Finish::Nothing,
                };
                lists.insert(name, (finish, list));
            }
        }
        lists
    })
}

/// The templates of a normalized name.
pub(super) fn list(name: &str) -> Option<(Finish, impl Iterator<Item = &'static str>)> {
    lists().get(name).map(|(finish, list)| (*finish, list.split('\t')))
}

/// All names, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    lists().keys().copied()
}
