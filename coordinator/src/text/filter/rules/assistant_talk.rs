//! The rule about a model that talks to whoever asked, in the middle of the text.

use std::sync::LazyLock;

use regex::Regex;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::narration;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "assistant_talk",
    key: "max_assistant_talk",
    measures: "sentences addressed to the requester",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

/// How such a sentence begins.
static EN: LazyLock<Regex> = LazyLock::new(|| {
    let part = r"(?:paragraph|section|part|chapter|passage|continuation|draft|version|text|essay|article|story|response|answer|outline|rewrite|revision|conclusion|introduction|conversation)";
    let which = r"(?:a|an|the|your|my|another|one)\s+(?:(?:possible|next|first|second|third|fourth|final|last|new|short|long|brief|detailed|revised|rewritten|updated|full|complete|requested|edited|corrected|original|shorter|longer|expanded|more|polished|improved|better|simplified|alternative|slightly|\d+[-\s]word)\s+)*";
    let yes = r"(?:sure(?:\s+thing)?|certainly|of\s+course|absolutely|okay|ok|great|understood|no\s+problem)";
    let offer = r"(?:here(?:['’]s|\s+is|\s+are|\s+goes|\s+you\s+go)|i(?:['’]d|\s+would)\s+be\s+(?:happy|glad)|i\s+can\s+(?:help|do\s+that|write)|i(?:['’]ll|\s+will)\s+(?:write|continue|help|do|be\s+happy|provide))";
    Regex::new(&format!(
        r"(?ix)^[\s*_\#>\[(-]*(?:
            {yes}\s*[,.!:–—-]+\s*{offer}
          | i(?:['’]d|\s+would)\s+be\s+(?:happy|glad)\s+to\s+(?:help|assist|continue|write|provide|create|expand|revise)\b
          | i(?:['’]m|\s+am)\s+(?:so\s+)?(?:glad|happy|pleased|delighted)\s+(?:to\s+hear\s+)?(?:that\s+)?you(?:['’](?:re|ve)|\s+(?:are|have|like|liked|found|enjoy|enjoyed|asked|reached))\b
          | (?:please\s+)?(?:go\s+ahead\s+and\s+)?share\s+any\s+(?:further|other|additional)\b
          | i(?:['’]d|\s+would)\s+love\s+(?:for\s+)?you\s+to\s+(?:edit|review|rewrite|revise|continue)\b
          | (?:(?:so|and|now|well|then)\s*,?\s+){{0,2}}here(?:['’]s|\s+is)\s+{which}{part}\b
          | (?:so\s*,?\s+)?(?:this|that)\s+is\s+(?:also\s+|indeed\s+)?{which}{part}\s+to\s+(?:the\s+prompt|your\s+(?:request|question|prompt|instruction))\b
          | i(?:['’]ll|\s+will)\s+(?:make\s+sure\s+to\s+(?:give|provide|offer|include)\b[^.]*\byou|continue\s+(?:writing|to\s+write)\s+about)\b
          | i(?:['’]ll|\s+will)\s+keep\s+(?:providing|writing|giving|adding)\b
          | i(?:['’]m|\s+am)\s+eager\s+to\s+continue\s+(?:the|this|our)\s+(?:conversation|discussion)\b
          | your\s+(?:story|message|essay|text)\s+is\s+(?:truly\s+|very\s+|so\s+)?(?:inspiring|moving|beautiful|great|excellent|wonderful)\b
          | read\s+the\s+(?:next|following)\s+(?:paragraph|section|part)\s*:
          | here(?:['’]s|\s+is)\s+my\s+(?:attempt|draft|version)\b
          | (?:and\s+now,?\s+)?you(?:['’]ve|\s+have)\s+just\s+added\b
          | this\s+is\s+your\s+chance\s+to\s+write\b
          | i\s+(?:love|like)\s+how\s+you(?:['’]ve|\s+have)?\s+\w+
          | thank\s+you\s+for\s+(?:providing|sharing|giving)\s+(?:me\b|your\s+(?:feedback|input|thoughts|text|essay))
          | you(?:['’]ve|\s+have)\s+done\s+(?:it|this|the\s+\w+)\s+justice\b
          | (?:below|above)\s+is\s+{which}{part}\b
          | the\s+(?:above|following|next)\s+(?:paragraph|section|part)\s+(?:is|was|will|describes|covers|continues|focuses)\b
          | (?:this|that)\s+(?:concludes|completes|is\s+the\s+end\s+of)\s+(?:the|this|my|our)\s+{part}\b
          | (?:please\s+)?go\s+ahead\s+with\s+the\s+next\s+{part}\b
          | as\s+we\s+continue\s+(?:our|this)\s+(?:conversation|discussion|dialogue|chat)\b
          | you(?:['’]re|\s+are)\s+an?\s+(?:AI|artificial\s+intelligence)\s+(?:assistant|character|model|language\s+model)\b
          | i\s+hope\s+(?:that\s+)?(?:the\s+rest\s+of\s+)?(?:this|my|the)\s+(?:post|article|blog|essay|guide|text|answer|response)\b
          | i\s+hope\s+(?:this|that|you)\s+(?:\w+\s+)?{{0,2}}(?:helps?|gives|provides|meets?|adds?|inspires?|satisf\w+|enjoy|find|fits?|works|is\s+what)\b
          | (?:please\s+)?(?:let\s+me\s+know\s+(?:if|what|how|whether|when|which|your|about|by|in)\b|feel\s+free\s+to\s+(?:ask|let|contact|reach|modify|adjust|use)\b)
          | (?:would|do)\s+you\s+(?:like|want)\s+me\s+to\b
          | is\s+there\s+anything\s+else\s+(?:i|you)\b
          | (?:if\s+you\s+(?:need|have|want|would\s+like)\s+(?:any\s+)?(?:more|further|other|additional|changes|me\s+to|questions)\b)
          | as\s+(?:an\s+ai|a\s+(?:large\s+)?language\s+model)\b\s*(?:assistant|language\s+model|model)?\s*,
          | as\s+(?:per\s+your\s+request|you\s+(?:requested|asked)|requested\s+by\s+(?:the\s+user|you)|requested)\s*,
          | continued\s+in\s+the\s+next\s+(?:part|section|paragraph)\b
          | (?:i(?:['’]ll|\s+will|['’]m\s+going\s+to)|let\s+me|let['’]s)\s+(?:now\s+)?(?:continue|proceed|move\s+on|start|begin)\s+(?:with|to|writing)\s+(?:the|this|your)\s+(?:next\s+|first\s+|final\s+)?(?:paragraph|section|part|outline|essay|story|article)\b
          | (?:note|please\s+note|disclaimer)\s*[:,]?\s*(?:that\s+)?(?:this|the\s+above|i)\s+(?:is\s+a\s+(?:sample|fictional|draft|sketch)|text|response|have\s+(?:written|tried|kept)|paragraph|section)
          | the\s+(?:user|prompt|instruction)s?\s+(?:asks?|asked|wants?|requests?|requires?|requested)\b
        )"
    ))
    .expect("a constant pattern, compiled by the tests")
});

static ZH: LazyLock<Regex> = LazyLock::new(|| {
    let part = r"(?:第[一二三四五六七八九十\d]+[段节章部]|下一?[段节章]|段落|部分|续写|正文|全文|文章|故事|内容|回答|版本|修改|大纲|扩写)";
    let yes = r"(?:好的|当然可以|当然|没问题|可以的|明白了|收到)";
    Regex::new(&format!(
        r"(?ix)^[\s*_\#>\[【（(-]*(?:
            {yes}[，,。！!：:]\s*(?:以下|下面|这是|这里是|我(?:来|会|将|可以|这就)|让我|请看)
          | (?:以下|下面|这)(?:就)?是(?:我)?(?:为[您你](?:写|撰写|准备|创作|生成|续写|提供)的|根据(?:[您你]的)?要求|按照(?:[您你]的)?要求|本文的?|文章的?)?(?:一[篇段个份])?(?:关于[^，。：:]{{1,20}}的)?{part}(?:[^，。]{{0,6}}[：:]|[，,。]?\s*$)
          | 希望(?:这|以上|本)[^。！]{{0,18}}(?:帮助|满意|要求|喜欢|有用|需求)
          | 如果?[您你](?:还)?(?:有|需要|想要|希望)(?:任何|其他|其它|更多|进一步|我|修改|调整)
          | 如有(?:任何|其他|其它|更多|需要|疑问|问题|不足)
          | (?:请|欢迎|[您你]可以)?随时(?:告诉我|联系我|提问|向我|与我|提出)
          | (?:请问)?[您你](?:还)?(?:需要|希望|想要?)我(?:继续|帮|为|再|修改|调整)
          | 作为(?:一个|一名|一款)?(?:AI|人工智能(?:助手|模型|语言模型)|(?:大型)?语言模型)(?:助手|模型|语言模型)?[，,]
          | (?:根据|按照|应)[您你]的(?:要求|请求|指示|需求|提示)[，,]
          | (?:接下来|下面|现在)?[，,]?我(?:将|会|来|继续)(?:为[您你])?(?:继续)?(?:写|撰写|续写|创作|完成|生成)(?:下一?[段节章]|第[一二三四五六七八九十\d]+[段节章部]|接下来的|剩下的|文章|正文)
          | (?:请|[您你]可以)继续(?:写|撰写|完成)?下一?(?:部分|段落?|节|章)
          | (?:让我们|我们)?继续(?:我们)?今天的(?:对话|谈话|讨论|聊天)
          | [您你]是一[个名款](?:AI|人工智能)(?:助手|模型)
          | (?:以上|上述|上面)(?:就是|是|为)(?:我|本次|关于)?[^。]{{0,14}}{part}
          | (?:本|这一?)(?:段|节|部分)(?:的?内容)?(?:到此|至此)(?:结束|为止|完)
          | (?:请注意|注意|备注|说明|注)[：:，,]\s*(?:以上|本文|这[是只]|此(?:文|段)|由于篇幅)
          | 由于(?:篇幅|字数|长度)(?:限制|有限|所限|原因|要求)
          | 用户(?:要求|希望|想要|需要|请求)(?:我|写|生成|一篇)
        )"
    ))
    .expect("a constant pattern, compiled by the tests")
});

/// Sentences in which the model speaks as an assistant. What stands in quotation marks is somebody's speech.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    Some(narration::count(document, |sentence| EN.is_match(sentence) || ZH.is_match(sentence)))
}
