//! The rule about what a web page, a feed, a form, a data set or a chat leaves in a text: hashtags, calls to click, places to
//! fill in, labels, lines of pictures, runs of lines in capitals, and stage directions where there is no stage.

use std::sync::LazyLock;

use regex::Regex;

use crate::domain::document::Assembled;
use crate::domain::language::Language;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::code::Fence;
use crate::text::filter::measure::excerpt;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "residue",
    key: "max_residue",
    measures: "hashtags, calls to click, placeholders, data-set labels, lines in capitals, stage directions",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

/// In any text.
static PAGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)
            (?:^|\s)\#[\p{L}\d_]{3,}\s+\#[\p{L}\d_]{3,}
          | ^\W*(?:share\s+this\s+(?:post|article|page)|subscribe\s+to\s+(?:our|my|the)|follow\s+(?:us|me)\s+on\b|click\s+(?:here|on\s+the\s+link|the\s+link)|read\s+more\W*$|leave\s+a\s+(?:comment|reply)\W|posted\s+(?:by|in)\b|(?:image|photo|picture)\s+(?:credit|source|courtesy)s?\b|all\s+rights\s+reserved|copyright\s+(?:©|\(c\)|\d{4})|©\s*\d{4}|advertisement\W*$|related\s+(?:posts|articles)\W*$|skip\s+to\s+(?:main\s+)?content|sign\s+up\s+for\s+(?:our|my)|thanks?(?:\s+you)?\s+for\s+(?:reading|watching|visiting)\b)
          | ^\W*(?:(?:sentence|word|character)\s+count|(?:supporting\s+)?categor(?:y|ies)(?:\s+list)?|sourced\s+from|text\s+content|filed\s+under)\s*:
          | ^\W*\d{4}-\d{2}-\d{2}\W*$
          | \bcheck\s+out\s+(?:the|our|my)\s+(?:website|blog|channel|page)\b
          | \bthis\s+(?:website|web\s?page)\s+(?:provides|contains|offers|is\s+for)\b
          | \|\s*(?:published|updated|posted|subscribed)\s+on\b
          | ^\s*https?://\S+\s*$
          | ^[^\p{L}\p{N}]*\p{Emoji_Presentation}[^\p{L}\p{N}]*\p{Emoji_Presentation}[^\p{L}\p{N}]*$
          | ^\W*(?:文章标签|文章分类|所属栏目|标签|栏目|来源网站)[：:]
          | \b(?:refer\s+to|see|click)\s+the\s+links?\b|\blinks?\s+below\b
          | <<[^<>\n]{2,60}>>
          | \[(?:(?:your|insert|add|enter|company|recipient|sender)(?:['’]s)?\s+[^\]\n]{1,40}|(?:name|date|title|company|address|city)\s*\d?)\]
          | (?:点击|戳)(?:这里|此处|链接|下方|右上角|“?阅读原文)|(?:长按|扫描?|识别)(?:下方)?二维码|关注(?:我们|本)(?:的)?(?:公众号|微信|微博|账号)|版权所有|未经(?:授权|许可)[，,]?(?:不得|禁止|严禁)|(?:责任编辑|图片来源|文章来源|原文链接|本文来源)[：:]|欢迎(?:在评论区|留言|评论|转发|点赞|关注)|(?:感谢|谢谢)(?:您的?|大家的?|你的?)?(?:阅读|观看|收看|收听)(?:[，。！!,.]|本文|本篇|\s*$)|[\[【（(](?:请?(?:填写|插入|输入|填入)|您的|你的)[^\]】）)\n]{1,14}[\]】）)]|\#[^\#\s]{2,20}\#",
    )
    .expect("a constant pattern, compiled by the tests")
});

/// Where nothing of the kind was asked for.
static POST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(?:this|my|our) (?:blog(?: post)?|vlog|podcast|newsletter|channel)\b|\bin this post\b|\bthis post (?:will|is|inspires|helps|has|remind(?:s|ed))\b|\bin the comments?(?: section)?(?: below)?[.!?]|(?:这篇|本篇|我的)(?:博客|博文|推文|帖子|公众号)|(?:在)?评论区",
    )
    .expect("a constant pattern, compiled by the tests")
});

/// Where a name should stand in a Chinese text: "申请人：XXX", "我叫某某某".
static BLANK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:^|[^A-Za-z0-9])(?:[Xx]{2,}|[×＊]{2,}|_{3,})(?:$|[^A-Za-z0-9])|某某|[○〇]{2,}")
        .expect("a constant pattern, compiled by the tests")
});

static ASKS_FOR_POST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)blog|\bposts?\b|vlog|podcast|newsletter|youtube|channel|social media|template|\bform\b|博客|博文|推文|帖子|公众号|视频|直播|模板|范本|评论区")
        .expect("a constant pattern, compiled by the tests")
});

static ASKS_FOR_BLANKS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("模板|范本|模版|范文|填空|表格").expect("a constant pattern, compiled by the tests"));

/// A stage direction, where no script was asked for.
static STAGE: LazyLock<Regex> = LazyLock::new(|| {
    let action = r"(?:(?:sigh|laugh|wink|nod|pause|giggle|chuckle|smile|grin|bow)s?|sighing|singing|sings|laughing|laughter|smiling|grinning|pausing|applause|clears\s+(?:(?:his|her|my|their)\s+)?throat)";
    Regex::new(&format!(
        r"(?i)\*\s*{action}\s*\*|[(\[]\s*{action}\s*[)\]]|[（(](?:停顿|叹气|鼓掌|清嗓子|掌声|微笑着?|眨眼)[）)]"
    ))
    .expect("a constant pattern, compiled by the tests")
});

static ASKS_FOR_SCRIPT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)script|screenplay|\bplays?\b|drama|dialogue|monologue|speech|sermon|toast|interview|transcript|stage|sketch|剧本|话剧|对话|台词|演讲|发言|访谈|小品|相声|独白")
        .expect("a constant pattern, compiled by the tests")
});

/// Lines of capitals in a row from which on they are no heading.
const CAPS_LINES: usize = 3;

/// Lines of the kind; a run of lines in capitals counts once.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let asks = |what: &Regex| document.instruction.messages.iter().any(|message| what.is_match(&message.content));
    let (asked, staged) = (asks(&ASKS_FOR_POST), asks(&ASKS_FOR_SCRIPT));
    let leaves_blanks = document.instruction.language == Language::En || asks(&ASKS_FOR_BLANKS) || asks(&BLANK);
    let mut fence = Fence::default();
    let (mut found, mut capitals) = (Vec::new(), 0);
    for line in document.text.lines().filter(|line| !line.trim().is_empty()) {
        if fence.holds(line) {
            capitals = 0;
            continue;
        }
        capitals = if is_all_capitals(line) { capitals + 1 } else { 0 };
        let unasked = (!asked && POST.is_match(line)) || (!staged && STAGE.is_match(line));
        let is_blank = !leaves_blanks && BLANK.is_match(line);
        if PAGE.is_match(line) || unasked || is_blank || capitals == CAPS_LINES {
            found.push(line);
        }
    }
    Some(Measure::count(found.len(), found.first().map(|line| excerpt(line))))
}

fn is_all_capitals(line: &str) -> bool {
    let letters = || line.chars().filter(|c| c.is_alphabetic());
    letters().count() >= 8 && line.split_whitespace().count() >= 2 && letters().all(char::is_uppercase)
}
