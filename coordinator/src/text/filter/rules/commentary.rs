//! The rule about text that speaks of itself: a model that reviews what it wrote, or shows the bones of an essay.

use std::sync::LazyLock;

use regex::Regex;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::narration;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "commentary",
    key: "max_commentary",
    measures: "sentences about the text itself",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

static EN: LazyLock<Regex> = LazyLock::new(|| {
    let verb = r"(?:(?:\w+ly|still|also)\s+)?(?:sets?|touch(?:es)?|adds?|conveys?|aims?|captures?|explores?|highlights?|brings?|emphasi[sz]es?|describes?|provides?|serves?|maintains?|preserves?|introduces?|establish(?:es)?|begins?|starts?|concludes?|summari[sz]es|uses?|creates?|helps?|continues?|gives?|should|has|have)\b";
    let craft = r"(?:sentences?|paragraphs?|wording|grammar|the\s+tone|phras(?:es|ing)|spelling|punctuation|adjectives?|apostrophes?|imagery|(?:sensory|descriptive|vivid|simple|figurative)\s+(?:\w+\s+)?(?:language|details?|words|descriptions?|imagery|sentences)|clarity|word\s+choice|transitions?|tweaks|redundan\w+|(?:narrative\s+)?structure|changes\s+(?:while\s+reviewing|to\s+(?:your|the)\s+(?:text|essay|story|writing|draft))|metaphors?|the\s+(?:language|style)\s+(?:and|further))";
    Regex::new(&format!(
        r"(?ix)
            ^[\s*_\#>-]*(?:
              (?:the|this|that)\s+(?:above|next|previous|rewritten|revised|edited|original|initial|opening|concluding|introductory|final\s+(?:two|three)|first\s+\d+)\s+(?:sentence|paragraph|passage|essay|text|excerpt|version|section|draft)s?\s+{verb}
            | (?:the|this)\s+(?:sentence|paragraph|rewrite|revision|response)\s+{verb}
            | the\s+(?:first|next|final|last|closing|second|third)\s+paragraphs?\s+{verb}
            | the\s+(?:story|essay|narrative|text)\s+unfolds\s+in\s+\w+\s+paragraphs\b
            | here(?:['’]s|\s+is)\s+an?\s+(?:more|less)\s+\w+\s+way\s+to\s+(?:express|say|write|phrase|put)\b
            | this\s+is\s+an?\s+(?:\w+\s+(?:and|yet|but)\s+)?(?:reflective|descriptive|moving|powerful|beautiful|emotional|thoughtful)\s+passage\b
            | this\s+is\s+(?:a|the)\s+(?:\w+ly\s+)?\w+\s+(?:work|piece)\s+of\s+(?:storytelling|writing)\b
            | this\s+is\s+(?:a|the)\s+(?:\w+\s+)?(?:summary|description|rewrite)\s+of\s+(?:the|this|your)\s+(?:paragraph|text|passage|essay)\b
            | the\s+(?:narrative|passage|writing)\s+(?:\w+ly\s+)?(?:keeps|draws|leaves)\s+the\s+reader\b
            | the\s+use\s+of\s+(?:descriptive|vivid|sensory|figurative)\s+(?:language|imagery|details?|words)\b
            | the\s+(?:first|second|third|final|last)\s+(?:part|half|section)\s+of\s+(?:the|this|my)\s+(?:essay|story|text|article|narrative)\s+(?:{verb}|dives|deals)
            | (?:so\s+)?this\s+is\s+the\s+(?:final|last|first)\s+part\s+of\s+(?:the|this|my)\s+(?:text|essay|story|article)\b
            | i(?:['’]m|\s+am)\s+going\s+to\s+write\s+(?:another|the\s+next|a)\s+(?:paragraph|section)\b
            | here\s+are\s+(?:\w+\s+)?examples\s+of\s+(?:the|a)\s+(?:same\s+)?paragraph\b
            | here\s+are\s+(?:\w+\s+)?(?:main\s+)?points\s+to\s+(?:discuss|cover)\b
            | each\s+paragraph\s+(?:includes|contains|covers|describes|focuses)\b
            | (?:and\s+)?when\s+i\s+(?:finished|started|began)\s+writing\s+(?:this|the)\s+(?:story|essay|article|text)\b
            | it(?:['’]s|\s+is)\s+too\s+many\s+words\b
            | the\s+(?:narrative|passage)\s+(?:explores|concludes|continues\s*,)
            | my\s+essay\s+\w+s\b
            | i(?:['’]ve|\s+have)?\s+(?:just\s+)?(?:completed|finished|written)\s+(?:my|the)\s+\w+\s+(?:paragraph|section|essay)\b
            | (?:as\s+i\s+continue\s*,\s*)?i(?:['’]ll|\s+will)\s+add\s+(?:a\s+few|some|more)\s+(?:more\s+)?(?:sentences|paragraphs)\b
            | this\s+message\s+(?:emphasi[sz]es|conveys|highlights)\b
            | the\s+story\s+explores\s+(?:the\s+)?themes?\b
            | the\s+mention\s+of\s+[^.]{{1,40}}\s+adds\b
            | the\s+writing\s+(?:style\s+)?is\s+(?:clear|engaging|concise|simple)\b
            | paragraph\s+\d+\s+(?:concludes|begins|introduces|explores|focuses)\b
            | this\s+(?:essay|story|article|text|passage)\s+(?:also\s+)?(?:starts|begins|ends|concludes|contains|consists|shares|is\s+inspired|was\s+written|has\s+been\s+written|effectively)\b
            | this\s+(?:revised\s+)?version\s+of\s+the\s+(?:original\s+)?(?:text|story|essay|passage|paragraph)\b
            | (?:this|that)\s+(?:is|was)\s+(?:the|my|your)\s+(?:first|last|final|next|second|opening|concluding)\s+(?:paragraph|section|sentence)\b
            | (?:this|that)\s+brings\s+us\s+to\s+the\s+(?:end|conclusion)\s+of\s+(?:the|this|our)\s+(?:(?:last|first|final)\s+)?(?:paragraph|essay|section|story|article)\b
            | in\s+(?:your|my|this|the)\s+(?:(?:opening|first|second|third|fourth|fifth|next|final|closing|introductory|last|previous)\s+)?paragraph(?:\s*,|\s+(?:i|we)\b)
            | (?:these|the\s+(?:above|last|first|next))\s+(?:two|three|four|few|final|last|opening)\s+paragraphs\s+(?:{verb}|continue\b|add\b|show\b)
            | this\s+passage\s+(?:also\s+)?(?:explores|highlights|emphasi[sz]es|discusses|delves|continues)\b
            | what\s+do\s+you\s+think\s+of\s+(?:this|these|the)\s+(?:\w+\s+)?(?:paragraph|section|passage|draft)s?\b
            | do\s+you\s+want\s+to\s+expand\s+(?:up)?on\b
            | you(?:['’]ve|\s+have)\s+(?:\w+ly\s+)?(?:written|conveyed|captured)\b[^.]*\b(?:paragraph|narrative|essay|story|style)\b
            | your\s+(?:writing(?:\s+style)?|opening\s+paragraph|sentence\s+structure|closing\s+paragraph)\s+(?:is|has|sets|could|should)\b
            | here(?:['’]s|\s+(?:is|are))\s+(?:your|the)\s+[^.:]{{0,40}}\b(?:rewritten|rephrased|reworded)\b
            | here(?:['’]s|\s+is)\s+how\s+(?:you|to)\s+(?:can\s+)?(?:rephrase|reword|rewrite)\b
            | i(?:['’]m|\s+am|['’]ll|\s+will)\s+(?:going\s+to\s+)?(?:explore|continue|expand)\b[^.]*\b(?:two|three|few|more|next)\s+paragraphs?\b
            | to\s+(?:support|improve|enhance)\s+(?:this|the)\s+(?:narrative|text|story|essay|paragraph)\s*,\s*i\b
            | in\s+the\s+introduction\s+to\s+the\s+(?:paragraph|essay|story)\b
            | i(?:['’]m|\s+am)\s+(?:glad|pleased|happy|excited)\s+(?:to\s+share|you(?:['’]ve|\s+have)\s+shared)\b[^.]*\b(?:essay|excerpt|text|thoughts|story|draft)\b
            | overall,\s+(?:the|your)\s+(?:writing|tone|text|essay|draft)\s+(?:is|does|contains?|maintains?|remains?|flows?)\b
            | (?:body\s+paragraph|topic\s+sentence|supporting\s+(?:sentence|detail)s?|concluding\s+sentence|transition\s+sentence|thesis(?:\s+statement)?|premise|(?:preliminary|original|revised|edited|rewritten)\s+(?:version|content|text|draft)|(?:introduction|conclusion|opening|closing)\s+paragraph|prelude\s+to\s+the\s+story|makeup\s+of\s+the\s+\w+\s+character)\s*\d*\s*:
            )
          | \bi(?:['’]ve)?\s+(?:(?:have|didn['’]t|also|then|just|even|mostly)\s+|tried\s+to\s+|made\s+sure\s+to\s+|aimed\s+to\s+)*(?:add|use|incorporate|convey|create|made|kept|rewrote|(?:add|us|incorporat|rephras|reword|revis|edit|correct|remov|chang|replac|reorgani[sz]|restructur|includ|maintain|convey|creat|emphasi[sz])ed)\b[^.\n]{{0,60}}\b{craft}\b"
    ))
    .expect("a constant pattern, compiled by the tests")
});

static ZH: LazyLock<Regex> = LazyLock::new(|| {
    let craft = r"(?:句子|段落|措辞|语气|修辞|描写|细节描述|比喻|标点|语法|词语|用词|文字|语句|衔接|过渡)";
    Regex::new(&format!(
        r"(?x)
            ^[\s*_\#>-]*(?:
              (?:本段|这一段落?|该段落?|上述段落|这段文字|上一段|以上段落)(?:文字)?(?:主要|首先)?(?:通过[^，。]{{1,12}})?(?:描述|介绍|讲述|描写|运用|使用|强调|展示|表现|刻画|体现|概括|总结|阐述)
            | (?:在)?(?:本|这一?|该|上一|下一)(?:段落?)(?:中|里)[，,]
            | (?:这|本)(?:篇)?(?:文章|作文|故事)(?:以|从)[^，。]{{1,20}}(?:开头|开篇|结尾|收尾)
            | (?:主题句|论点句|中心句|过渡句|总结句|结尾段|开头段|正文段落?|中心论点|论据)\s*[一二三四五六七八九\d]*\s*[：:]
            | (?:下面是|以下是|这是)?(?:经过)?(?:修改|改写|润色|优化|修订|精简|完善)(?:过|之)?后的(?:文本|段落|文章|版本|内容|文字)
            | (?:这|以上|上面)[两三四几]段(?:文字|话)?(?:为|让|使|给|描|展|进一步|都)
            | [您你]的(?:文笔|写作风格|开头段|结尾段|第[一二三四五]段)(?:很|非常|写得|可以|应该|有|十分)
            | [您你](?:觉得|认为)这[一两三几]?段
            | 总体(?:来说|而言|上)[，,](?:这篇|本|该)(?:文章?|段落?|文)(?:语言|结构|内容|条理)
            )
          | 我(?:在(?:文中|这里|这段里|段落中))?(?:又|还|也|已经?|特意)?(?:使用|运用|加入|添加|修改|调整|删除|润色|改写|替换|增加)了[^。，]{{0,24}}{craft}"
    ))
    .expect("a constant pattern, compiled by the tests")
});

/// Sentences about the text in which they stand. What stands in quotation marks is somebody's speech.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    Some(narration::count(document, |sentence| EN.is_match(sentence) || ZH.is_match(sentence)))
}
