//! Which language an instruction is written in.
//!
//! There are templates and filters for two, so [`detect`] takes every text for one of them; [`identify`] asks first whether
//! it is.

use serde::{Deserialize, Serialize};

/// Language of templates, filters and word counts' meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    En,
    Zh,
}

/// Chinese if at least three in ten of its letters are Han characters, English otherwise.
///
/// That is enough here: there are templates and filters for two languages, and a Han character says about as much as
/// a word of four or five letters. So an English instruction that quotes a Chinese name stays English, and a Chinese one
/// full of product names stays Chinese.
pub fn detect(text: &str) -> Language {
    let (mut han, mut letters) = (0_u64, 0_u64);
    for c in text.chars() {
        if is_han(c) {
            han += 1;
        } else if c.is_alphabetic() {
            letters += 1;
        }
    }
    if han > 0 && han * 10 >= (han + letters) * 3 { Language::Zh } else { Language::En }
}

/// English or Chinese if the text is written in one of them; unlike [`detect`] it knows that there are others.
pub fn identify(text: &str) -> Option<Language> {
    let text = beginning(text);
    if detect(text) == Language::Zh {
        // Japanese writes Han characters too, but no sentence without kana.
        let kana = text.chars().filter(|c| matches!(c, '\u{3041}'..='\u{30ff}')).count();
        let han = text.chars().filter(|c| is_han(*c)).count();
        return (kana * 10 < han).then_some(Language::Zh);
    }
    match whatlang::detect(text) {
        Some(found) if found.lang() == whatlang::Lang::Eng => Some(Language::En),
        Some(found) if found.is_reliable() => None,
        // A few words, or figures, are too little for statistics of letters; common words are not.
        Some(_) | None => looks_english(text).then_some(Language::En),
    }
}

/// True if a text is too short for the statistics of letters: three words of English may look like Latin.
pub fn says_too_little(text: &str) -> bool {
    /// Below, whatlang calls many English texts something else.
    const FEW_WORDS: usize = 15;
    let latin = text.chars().all(|c| !c.is_alphabetic() || c < '\u{250}');
    latin && text.split_whitespace().filter(|word| word.contains(char::is_alphabetic)).nth(FEW_WORDS).is_none()
}

/// True if a text of a Latin script is surely in another language than English.
pub fn is_foreign(text: &str) -> bool {
    let text = beginning(text);
    // The cheap question first.
    !looks_english(text)
        && whatlang::detect(text).is_some_and(|found| found.is_reliable() && found.lang() != whatlang::Lang::Eng)
}

/// ISO 639-3 code of the language that a text is most likely written in; `und` if it holds no words.
pub fn code(text: &str) -> &'static str {
    whatlang::detect(beginning(text)).map_or("und", |found| found.lang().code())
}

/// ISO 639-1 code.
pub fn name(language: Language) -> &'static str {
    match language {
        Language::En => "en",
        Language::Zh => "zh",
    }
}

/// More says nothing new of a language, and costs time.
fn beginning(text: &str) -> &str {
    const ENOUGH: usize = 600;
    text.char_indices().nth(ENOUGH).map_or(text, |(end, _)| &text[..end])
}

/// At least one word in six is one of the commonest of English, and no letter is foreign to it.
fn looks_english(text: &str) -> bool {
    const COMMON: &str = " a about after all although an and another any are as at be because been before but by can \
                          could create day do each every for from give had has have he her his how i if in into is it \
                          its list make me more my new no not of on one or our out she should since some than that the \
                          their them then there these they this those through to unless until us was we were what when \
                          where which while who why with would write yet you your essay story article ";
    let (mut words, mut common) = (0, 0);
    for word in text.split(|c: char| !c.is_alphabetic() && c != '\'').filter(|word| !word.is_empty()) {
        if !word.is_ascii() {
            return false;
        }
        words += 1;
        common += usize::from(COMMON.contains(&format!(" {} ", word.to_ascii_lowercase())));
    }
    words > 0 && common * 6 >= words
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_languages_are_told_apart() {
        for (text, want) in [
            ("Write a travel guide to Lisbon for somebody who has four days.", Some(Language::En)),
            ("Write an essay", Some(Language::En)),
            ("essay on bees", Some(Language::En)),
            ("Write a 1000-word novel about a teenage heroine", Some(Language::En)),
            ("写一篇游记", Some(Language::Zh)),
            ("寫一篇關於颱風的文章，三千字", Some(Language::Zh)),
            ("用 Kubernetes 部署 PostgreSQL 的教程，写三千字，要求详细", Some(Language::Zh)),
            ("日本の歴史について三千字の作文を書いてください。", None),
            ("한국의 역사에 대해 긴 글을 써 주세요.", None),
            ("Напиши длинный рассказ о старом маяке и его смотрителе.", None),
            ("Écrivez un long guide de voyage sur la ville de Lisbonne pour un débutant.", None),
            ("Escribe una historia larga sobre un faro en la costa de Galicia.", None),
            ("Schreibe bitte einen langen Aufsatz über die Geschichte des Buchdrucks.", None),
            ("1234 !?", None),
            ("", None),
        ] {
            assert_eq!(identify(text), want, "{text}");
        }
        assert_eq!((code("Напиши длинный рассказ о старом маяке."), code("")), ("rus", "und"));
    }

    #[test]
    fn a_short_text_of_latin_letters_says_too_little() {
        for (text, want) in [
            ("Explain quantum entanglement", true),
            ("Describe naïve realism", true),
            ("", true),
            ("写一篇游记", false),
            ("日本の歴史", false),
            (&*"many words ".repeat(20), false),
        ] {
            assert_eq!(says_too_little(text), want, "{text}");
        }
    }

    #[test]
    fn a_text_without_accents_is_told_by_its_common_words() {
        for text in [
            "Our lively painter often seeks their harbor manager. Each stray merchant rarely welcomes its signal while policy. \
             Any modern balcony often enters this tailor although dinner. The rural courtyard quietly gathers their debate.",
            "Any wooden captain firmly divides every letter but our simple desert calmly limits this neighbor letter. Some fertile \
             lesson firmly tests one merchant yet some railway.",
        ] {
            assert!(!is_foreign(text), "{text}");
        }
        for text in [
            "Le vieux marin regardait la mer et les bateaux qui rentraient au port, mais son fils ne revenait pas de la \
             longue route.",
            "El viejo marinero miraba el mar y los barcos que entraban en el puerto, pero su hijo no regresaba de aquel \
             largo viaje.",
            "Der alte Mann sah auf das Meer hinaus und wartete auf die Schiffe, die am Abend in den Hafen kommen sollten, \
             doch sein Sohn war nicht an Bord.",
        ] {
            assert!(is_foreign(text), "{text}");
        }
    }

    #[test]
    fn the_language_that_most_of_the_text_is_in_wins() {
        for text in [
            "Write a travel guide.",
            "",
            "1234 !?",
            "Write 2,000 words on the novel 红楼梦 by Cao Xueqin.",
            "Écrivez un guide de voyage",
        ] {
            assert_eq!(detect(text), Language::En, "{text}");
        }
        for text in [
            "写一篇游记",
            "基于OpenStack和Ceph的高可用存储集群的搭建毕业论文的结论写5000字",
            "用 Kubernetes 部署 PostgreSQL 的教程，写三千字，要求详细",
        ] {
            assert_eq!(detect(text), Language::Zh, "{text}");
        }
    }
}
