//! One character for each meaning, so that the grammar and its word lists know only one.

/// Same number of characters; digits and signs of full width, dashes, blanks, and Traditional characters of numerals and of
/// the word lists in `chinese` become the plain ones.
pub(super) fn normalise(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    (0..chars.len()).map(|at| financial(&chars, at).unwrap_or_else(|| plain(chars[at]))).collect()
}

fn plain(c: char) -> char {
    match c {
        '０'..='９' | 'ａ'..='ｚ' | 'Ａ'..='Ｚ' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '＋' => '+',
        '％' => '%',
        '．' => '.',
        '／' => '/',
        '＞' => '>',
        '＜' => '<',
        '‐' | '‑' | '‒' | '–' | '−' | '－' | '﹣' => '-',
        '―' | '─' => '—',
        '～' | '〜' | '∼' | '˜' => '~',
        '’' | '‘' | 'ʼ' | '＇' => '\'',
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        '○' => '〇',
        '萬' => '万',
        '億' => '亿',
        '兩' => '两',
        '點' => '点',
        '拾' => '十',
        '佰' => '百',
        '仟' => '千',
        '個' => '个',
        '幾' => '几',
        '數' => '数',
        '餘' => '余',
        '來' => '来',
        '詞' => '词',
        '單' => '单',
        '彙' | '匯' => '汇',
        '漢' => '汉',
        '語' => '语',
        '這' => '这',
        '該' => '该',
        '學' => '学',
        '會' => '会',
        '習' => '习',
        '認' => '认',
        '識' => '识',
        '記' => '记',
        '寫' => '写',
        '將' => '将',
        '頁' => '页',
        '節' => '节',
        '條' => '条',
        '則' => '则',
        '體' => '体',
        '號' => '号',
        '庫' => '库',
        '跡' => '迹',
        '樣' => '样',
        '畫' => '画',
        '組' => '组',
        '頻' => '频',
        '碼' => '码',
        '約' => '约',
        '內' => '内',
        '過' => '过',
        '於' => '于',
        '總' => '总',
        '計' => '计',
        '間' => '间',
        '與' => '与',
        '長' => '长',
        '為' | '爲' => '为',
        '應' => '应',
        '書' => '书',
        '達' => '达',
        '帳' => '账',
        _ => c,
    }
}

/// A digit as banks write it, beside a unit: 壹仟伍佰. Elsewhere 陆 is land and 伍 a name.
fn financial(chars: &[char], at: usize) -> Option<char> {
    let digit = match chars[at] {
        '壹' => '一',
        '贰' | '貳' => '二',
        '叁' | '參' => '三',
        '肆' => '四',
        '伍' => '五',
        '陆' | '陸' => '六',
        '柒' => '七',
        '捌' => '八',
        '玖' => '九',
        _ => return None,
    };
    let unit = |c: &char| matches!(c, '拾' | '佰' | '仟' | '萬');
    (chars.get(at + 1).is_some_and(unit) || at > 0 && unit(&chars[at - 1])).then_some(digit)
}
