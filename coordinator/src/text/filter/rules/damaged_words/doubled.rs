//! Chinese characters that were written twice: 业务转转型, 我们的的家.

use std::collections::HashMap;

use crate::text::shingles::is_ideograph;

/// Two characters that a text has so often are a word of it.
const WORD: usize = 3;
/// Characters that never double, but for what follows.
const PARTICLES: [(char, &str); 6] = [('的', "确"), ('在', ""), ('和', "美气睦"), ('与', ""), ('及', ""), ('于', "")];
/// Characters that double in words of the language.
const REDUPLICATED: &str = "常往渐慢人天看想说刚仅偏处时年事种步点个家件层条久深淡轻静默悄缓微纷频屡连滚茫漫悠匆急重远近高大小多少早\
                            好真白红绿黑圆长短暗明亮闪冷热暖甜香软硬细粗满空足整刻分秒日月夜世代生字句声样次位项片块颗棵座本张\
                            双对株根些妈爸哥姐弟妹爷奶叔伯姑舅公婆宝星猩太娃谢试走听笑聊谈问等找跳唱写读学玩动歇坐躺睡吃喝摸拍\
                            数翻逛转谆恰隐依楚清平安稳形色原本区侃津栩历欣郁葱绵循咄耿落老";

/// Where a word of the text begins with its first character twice, or a particle stands twice.
pub(super) fn find(lines: &[impl AsRef<str>]) -> impl Iterator<Item = &str> {
    let mut pairs: HashMap<(char, char), usize> = HashMap::new();
    for line in lines {
        let chars: Vec<char> = line.as_ref().chars().collect();
        for pair in chars.windows(2).filter(|pair| is_ideograph(pair[0]) && is_ideograph(pair[1])) {
            *pairs.entry((pair[0], pair[1])).or_insert(0) += 1;
        }
    }
    lines.iter().flat_map(move |line| {
        let line = line.as_ref();
        let chars: Vec<(usize, char)> = line.char_indices().collect();
        let found = chars.windows(3).filter(|triple| {
            let [(_, first), (_, second), (_, third)] = triple else { return false };
            first == second && is_ideograph(*first) && is_damaged(*first, *third, &pairs)
        });
        found.map(|triple| &line[triple[0].0..triple[2].0 + triple[2].1.len_utf8()]).collect::<Vec<_>>()
    })
}

fn is_damaged(doubled: char, next: char, pairs: &HashMap<(char, char), usize>) -> bool {
    let times = |pair| pairs.get(&pair).copied().unwrap_or(0);
    if let Some((_, follows)) = PARTICLES.iter().find(|(particle, _)| *particle == doubled) {
        return !follows.contains(next);
    }
    // 转转 may be a word; 转转型 where 转型 is the text's word, and 转转 stands nowhere else, is not.
    let once = times((doubled, doubled)) == 1;
    let word = times((doubled, next)) > if REDUPLICATED.contains(doubled) { 2 * WORD } else { WORD };
    once && word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_was_begun_twice_is_found_and_a_word_that_doubles_is_not() {
        let text = "业务转型，转型的研究，转型之后，公司转型，再次转型，转型期，业务转转型的研究。";
        assert_eq!(find(&[text, "转型"]).collect::<Vec<_>>(), ["转转型"]);
        assert_eq!(find(&["我们的的家在在山上。"]).collect::<Vec<_>>(), ["的的家", "在在山"]);
        for good in ["他的的确确来过。", "常常见到常见的人，常见，常见，常常。", "慢慢地，人人都看看。", "转转型。"]
        {
            assert_eq!(find(&[good]).next(), None, "{good}");
        }
    }
}
