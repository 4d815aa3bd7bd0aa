//! Which language an instruction is written in.

use crate::document::Language;

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

fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use super::*;

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
