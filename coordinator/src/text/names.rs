//! Names of people, places and things in a text: what a writer repeats on purpose. Found by their form, without a list of
//! names: enough to keep a penalty on repetition off them, where one too many does no harm.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::shingles::is_ideograph;
use crate::domain::language::Language;

/// Most names of a text; those that occur most.
const MAX_NAMES: usize = 64;
/// Letters of an English name at least.
const MIN_LETTERS: usize = 3;
/// A name is one if it occurs so often.
const MIN_COUNT: usize = 2;
/// Characters of a Chinese term of the outline.
const TERM_CHARACTERS: std::ops::RangeInclusive<usize> = 2..=5;
/// Times that a Chinese person's name stands in the text.
const MIN_PERSON_COUNT: usize = 3;
/// Surnames of nine in ten Chinese people, and those of two characters that stories have.
const SURNAMES: &str = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石\
    廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤令";
/// Characters with which no name begins or ends.
const FUNCTION: &str = "的了是在和与及或我你他她它们这那有不也都就而对为之以于从到把被让使将要会能可但却因所着过得地并其更很最又再还只个一些每各种\
    上下中里外前后时么吗呢吧啊呀写字段落篇章";

/// The Latin words of a text: names of products, abbreviations.
pub fn latin(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic())).collect()
}

/// The names in the lines of the instruction and the plan, and in what is written.
pub fn find(language: Language, outline: &[&str], written: &[&str]) -> Vec<String> {
    let counts = match language {
        Language::En => english(outline.iter().chain(written).copied()),
        Language::Zh => chinese(outline, written),
    };
    let mut names: Vec<(String, usize)> = counts.into_iter().collect();
    names.sort_by(|(one, often), (other, count)| count.cmp(often).then_with(|| one.cmp(other)));
    names.truncate(MAX_NAMES);
    names.into_iter().map(|(name, _)| name).collect()
}

/// Words that have a capital wherever they stand, within sentences too.
fn english<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let (mut capital, mut small, mut inside) = (BTreeMap::new(), HashSet::new(), HashSet::new());
    for line in texts.flat_map(str::lines) {
        let mut begins = true;
        for word in line.split_whitespace() {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            let bare = bare.strip_suffix("'s").or_else(|| bare.strip_suffix("’s")).unwrap_or(bare);
            let is_word = bare.chars().count() >= MIN_LETTERS && bare.chars().all(char::is_alphabetic);
            if is_word && bare.starts_with(char::is_uppercase) {
                *capital.entry(bare.to_owned()).or_insert(0) += 1;
                // A mark before it may begin a sentence.
                if !begins && word.starts_with(char::is_alphabetic) {
                    inside.insert(bare.to_owned());
                }
            } else if is_word {
                small.insert(bare.to_lowercase());
            }
            begins = word.ends_with(|c: char| !c.is_alphanumeric() && c != ',');
        }
    }
    capital.retain(|name, count| {
        *count >= MIN_COUNT && inside.contains(name) && !small.contains(name.to_lowercase().as_str())
    });
    capital
}

/// Terms that stand in several lines of the outline, and people of the text.
fn chinese(outline: &[&str], written: &[&str]) -> BTreeMap<String, usize> {
    let mut lines_of: HashMap<String, usize> = HashMap::new();
    for line in outline {
        let mut seen = HashSet::new();
        for run in runs(line) {
            for len in TERM_CHARACTERS {
                seen.extend(run.windows(len).filter(|term| is_name(term)).map(|term| term.iter().collect::<String>()));
            }
        }
        for term in seen {
            *lines_of.entry(term).or_insert(0) += 1;
        }
    }
    lines_of.retain(|_, count| *count >= MIN_COUNT);
    // A part of a longer term that stands nowhere else is none.
    let longer: Vec<(&String, &usize)> = lines_of.iter().collect();
    let is_part = |term: &str, count: usize| {
        longer.iter().any(|(other, often)| other.len() > term.len() && **often == count && other.contains(term))
    };
    let terms = lines_of.iter().filter(|(term, count)| !is_part(term, **count));
    let mut names: BTreeMap<String, usize> = terms.map(|(term, count)| (term.clone(), *count)).collect();
    names.extend(people(written));
    names
}

/// A surname with one or two characters, where that occurs often.
fn people(written: &[&str]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for run in written.iter().flat_map(|text| runs(text)) {
        for len in [2, 3] {
            for name in run.windows(len).filter(|name| SURNAMES.contains(name[0]) && is_name(name)) {
                *counts.entry(name.iter().collect::<String>()).or_insert(0) += 1;
            }
        }
    }
    counts.retain(|_, count| *count >= MIN_PERSON_COUNT);
    counts
}

/// Runs of Chinese characters.
fn runs(text: &str) -> impl Iterator<Item = Vec<char>> {
    text.split(|c| !is_ideograph(c)).filter(|run| !run.is_empty()).map(|run| run.chars().collect())
}

fn is_name(term: &[char]) -> bool {
    !term.iter().any(|c| FUNCTION.contains(*c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_names_have_a_capital_within_sentences() {
        let outline = ["Write about Sarah and the old mill.", "Sarah meets Tom at the Mill"];
        let written =
            ["Tom had left. The mill stood empty, and Tom’s boat was gone. \"Where is he?\" Sarah asked Tom."];
        assert_eq!(find(Language::En, &outline, &written), ["Tom", "Sarah"]);
        assert!(find(Language::En, &["The road. The Road"], &["They left. They came."]).is_empty());
    }

    #[test]
    fn chinese_names_are_terms_of_the_outline_and_people_of_the_text() {
        let outline = ["写金钱帮的故事", "金钱帮众人飞向合欢宗", "合欢宗的长老出来"];
        let written = ["林原来了。林原说：好。众人看着林原，没有人说话。"];
        assert_eq!(find(Language::Zh, &outline, &written), ["林原", "合欢宗", "金钱帮"]);
        assert!(find(Language::Zh, &["写一篇文章"], &["他走了。"]).is_empty());
        assert_eq!(latin("用OpenStack和Ceph-2搭建，3D，OpenStack。"), BTreeSet::from(["Ceph", "OpenStack"]));
    }

    #[test]
    fn the_most_frequent_are_kept() {
        let text: String =
            (0..200).map(|n| format!("I saw N{0} and N{0}. ", "abcdefghij".repeat(n % 20 + 1))).collect();
        let found = find(Language::En, &[], &[&text]);
        assert!(found.len() <= MAX_NAMES && !found.is_empty());
    }
}
