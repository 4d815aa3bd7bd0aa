//! The texts of the double: sentences of common words drawn by seed, varied enough to pass repetition filters, with exactly
//! the requested number of words.

use longhand_proto::task::{Constraint, Task, TaskKind};

/// Words of a plan's document when neither prompt nor task names a number.
const DEFAULT_WORDS: u32 = 1_500;
/// Words that a step of a plan aims at.
const STEP_WORDS: u32 = 300;

const DETERMINERS: &str = "the this every each another some that their our its any one";
const ADJECTIVES: &str = "quiet early narrow bright patient local distant careful broken gentle formal hidden ancient \
    modern shallow steady warm hollow curious modest private public rapid rural severe silent simple slender social \
    solid sudden tender tidy urban vivid weary wooden young fertile fragile generous honest humble idle jolly keen \
    lively mellow noble open plain proud rough rustic sober spare stern stray subtle sunny thin vast wild";
const NOUNS: &str = "river market letter harbor teacher window garden bridge engine village morning library captain \
    journey valley station winter kitchen doctor forest island machine museum painter orchard railway season shadow \
    signal soldier stranger summer theater traveler treaty tunnel vessel visitor weather worker archive balcony \
    barrel basket border bottle branch canal candle carriage castle cellar chapel chimney circle college column \
    copper corner cottage council country courtyard custom danger daughter debate desert detail dinner district \
    dream editor effort emperor estate factory family farmer feather ferry festival fortune fountain gallery \
    granite harvest history horizon hunter idea index lantern lesson manager meadow memory merchant method mirror \
    model neighbor number office parent pattern pilot platform poem policy portrait problem question record rumor \
    sailor school secret shelter storm story student surface system tailor temple thread tower village voyage";
const VERBS: &str = "changes follows carries answers describes explains protects supports reaches measures repeats \
    shapes guides surprises joins repairs remembers questions gathers colors delays defends divides enters escapes \
    examines fills forgets guards haunts honors improves invites judges leads limits marks mends needs notices \
    observes offers orders paints passes praises prepares recalls reflects remakes resists reveals rewards seeks \
    serves settles shelters softens sorts studies tests touches traces unites visits warns watches welcomes";
const LINKS: &str = "because while although before after until whenever unless where since and but yet so";
const ADVERBS: &str = "slowly often rarely quickly quietly always seldom nearly openly barely gladly kindly firmly \
    freely calmly boldly plainly warmly wisely";
const HANZI: &str = "天地人山水风云雨雪花草树木春夏秋冬日月星光明暗早晚前后左右上下来去出入开关起落高低长短远近大小多少新旧\
    老少男女父母兄弟姐妹朋友先生学习读书写字工作生活城市乡村道路桥梁河流湖海岛屿田野森林花园房屋门窗桌椅灯火茶饭\
    衣服鞋帽车马船机声音颜色味道气息心情思想记忆梦想希望快乐悲伤安静热闹古今历史文化科学技术艺术音乐诗歌故事语言\
    问题答案方法原因结果变化发展经济社会自然世界国家民族时代未来过去现在手足眼耳口鼻身体健康力量勇气智慧真理";

/// A stream of pseudo-random numbers (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    /// The same stream for the same task and purpose.
    pub(super) fn of(task: &Task, purpose: u32) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(task.document.as_bytes()).update(task.kind.as_str().as_bytes());
        hash.update(&task.seed.to_le_bytes());
        hash.update(&task.section.to_le_bytes()).update(&purpose.to_le_bytes());
        let mut start = [0; 8];
        start.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        Self(u64::from_le_bytes(start))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0..1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a>(&mut self, words: &'a str) -> &'a str {
        let n = words.split_whitespace().count();
        words.split_whitespace().nth(self.below(n)).unwrap_or(words)
    }
}

/// Cuts a text into words, each with the white space before it, and single Chinese characters.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let space = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let mut chars = rest[space..].char_indices();
        let end = match chars.next() {
            Some((_, c)) if is_han(c) => c.len_utf8(),
            Some(_) => chars.find(|(_, c)| c.is_whitespace() || is_han(*c)).map_or(rest.len() - space, |(i, _)| i),
            None => 0,
        };
        let (next, left) = rest.split_at(space + end);
        rest = left;
        Some(next)
    })
}

/// The token of a word or character.
pub(super) fn token_of(word: &str) -> u32 {
    let mut start = [0; 4];
    start.copy_from_slice(&blake3::hash(word.as_bytes()).as_bytes()[..4]);
    u32::from_le_bytes(start) >> 1
}

fn is_han(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

/// The text that answers `task`: another seed is another text, another attempt is not.
pub(super) fn generate(task: &Task, ratio: f32) -> String {
    // Outcomes are drawn for attempts, which count from 1.
    let mut random = SplitMix64::of(task, 0);
    let prompt = task.messages.last().map_or("", |it| it.content.as_str());
    let chinese = prompt.chars().filter(|c| is_han(*c)).count() * 4 > prompt.chars().count();
    match task.kind {
        TaskKind::Plan => {
            let words = numbers(prompt).max().unwrap_or(DEFAULT_WORDS);
            plan(&mut random, words, chinese, topic(prompt))
        }
        TaskKind::Section | TaskKind::Summary => {
            let asked = task.length.map(|it| it.target_words).or_else(|| numbers(prompt).last());
            let words = (asked.unwrap_or(STEP_WORDS) as f32 * ratio).round() as usize;
            prose(&mut random, words.max(1), chinese, main_point(prompt))
        }
        // A yes-or-no question.
        TaskKind::Judge if matches!(task.constraint, Some(Constraint::Lark(_))) => random.pick("yes no").to_owned(),
        TaskKind::Judge => {
            let names = ["Relevance", "Accuracy", "Coherence", "Clarity", "Breadth and Depth", "Reading Experience"];
            let scores = names.map(|name| format!("\"{name}\": {}", 3 + random.below(3)));
            format!("{{{}}}", scores.join(", "))
        }
    }
}

/// Numbers that stand before "word" or "字" in a prompt. The upper end of a range is none: it bounds the paragraphs.
fn numbers(prompt: &str) -> impl Iterator<Item = u32> {
    prompt.char_indices().filter_map(|(i, c)| {
        let before = &prompt[..i];
        let unit = c == '字' || (matches!(c, 'w' | 'W') && prompt[i + 1..].to_ascii_lowercase().starts_with("ord"));
        if !unit {
            return None;
        }
        let before = before.trim_end_matches([' ', '-', '\u{a0}']);
        let digits = before.rfind(|c: char| !c.is_ascii_digit() && c != ',').map_or(before, |at| {
            let width = before[at..].chars().next().map_or(0, char::len_utf8);
            &before[at + width..]
        });
        let ahead = before[..before.len() - digits.len()].trim_end();
        if ahead.ends_with(" to") || ahead.ends_with('到') {
            return None;
        }
        digits.replace(',', "").parse().ok()
    })
}

/// What a plan for this prompt is about: the longest run of letters of the request, which is its second paragraph. The word
/// that an English request begins with says what to do.
fn topic(prompt: &str) -> &str {
    let request = prompt.split("\n\n").nth(1).unwrap_or(prompt);
    let request = request.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let runs = request.split(|c: char| !c.is_alphabetic());
    let topic = runs.max_by_key(|run| run.chars().count()).unwrap_or_default();
    topic.char_indices().nth(20).map_or(topic, |(end, _)| &topic[..end])
}

/// Every line names the topic.
fn plan(random: &mut SplitMix64, words: u32, chinese: bool, topic: &str) -> String {
    let steps = (words.div_ceil(STEP_WORDS)).clamp(1, 50);
    let each = words.div_ceil(steps).clamp(200, 1_000);
    let lines = (1..=steps).map(|n| {
        if chinese {
            let point = han(random, 14);
            format!("段落{n} - 主要内容：{point}{topic} - 字数：{each}字")
        } else {
            let point = sentence(random, 11);
            let point = point.trim_end_matches('.');
            format!("Paragraph {n} - Main Point: {point} {topic} - Word Count: {each} words")
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The main point that the prompt names last: the subject of the section's step.
fn main_point(prompt: &str) -> &str {
    let after = |label: &str| prompt.rfind(label).map(|at| &prompt[at + label.len()..]);
    let point = after("main point: ").or_else(|| after("主要内容：")).unwrap_or_default();
    point.lines().next().unwrap_or_default().trim_end_matches(['.', '。', ' '])
}

/// Begins with `opening`, if it has the words for it.
fn prose(random: &mut SplitMix64, words: usize, chinese: bool, opening: &str) -> String {
    let mut text = String::new();
    let (mut left, mut sentences) = (words, 0);
    let length = longhand_proto::words::count(opening);
    if length > 0 && length + 4 <= words {
        text = format!("{opening}{}", if chinese { "。" } else { "." });
        (left, sentences) = (words - length, 1);
    }
    while left > 0 {
        let mut take = (8 + random.below(9)).min(left);
        // The last sentence has at least four words.
        if left - take < 4 {
            take = left;
        }
        if sentences > 0 && sentences % 5 == 0 {
            text.push_str("\n\n");
        } else if sentences > 0 && !chinese {
            text.push(' ');
        }
        if chinese {
            text.push_str(&han(random, take));
            text.push('。');
        } else {
            text.push_str(&sentence(random, take));
        }
        left -= take;
        sentences += 1;
    }
    text
}

/// A sentence of exactly `words` words.
fn sentence(random: &mut SplitMix64, words: usize) -> String {
    let order = [DETERMINERS, ADJECTIVES, NOUNS, ADVERBS, VERBS, DETERMINERS, NOUNS, LINKS];
    let mut text = String::new();
    for at in 0..words {
        // The last word is always a noun, whatever the length.
        let word = random.pick(if at + 1 == words { NOUNS } else { order[at % order.len()] });
        if at == 0 {
            text.push_str(&word[..1].to_ascii_uppercase());
            text.push_str(&word[1..]);
        } else {
            text.push(' ');
            text.push_str(word);
        }
    }
    text.push('.');
    text
}

/// `words` Chinese characters, with a comma after every few.
fn han(random: &mut SplitMix64, words: usize) -> String {
    let pool: Vec<char> = HANZI.chars().filter(|c| is_han(*c)).collect();
    let mut text = String::new();
    for at in 0..words {
        text.push(pool[random.below(pool.len())]);
        if at % 7 == 6 && at + 1 < words {
            text.push('，');
        }
    }
    text
}
