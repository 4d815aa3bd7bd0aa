use proptest::prelude::*;

use super::{chinese_prose, prose};
use crate::domain::language::Language;
use crate::text::filter::clean_section;

const EARLIER: &str = "The old ship sailed slowly past the lighthouse while the keeper counted the waves and wrote them down. \
                       Nobody saw it.\n\nIn the morning the keeper found a letter that nobody in the town had ever sent to him.";
const EARLIER_ZH: &str = "那艘旧船慢慢地驶过灯塔，守灯人一边数着海浪，一边把它们写进日记里。没有人看见它。\n\n\
                          第二天早上，守灯人收到了一封镇上没有任何人寄出过的信。";

fn clean(text: &str) -> String {
    clean_section(text, Language::En, &[])
}

#[test]
fn identifiers_and_artefacts_go() {
    for (text, want) in [
        ("Paragraph 3: The ship sailed.", "The ship sailed."),
        ("**Paragraph 3:** The ship sailed.", "The ship sailed."),
        ("**Paragraph 3: The Storm**\n\nIt rained.", "**The Storm**\n\nIt rained."),
        ("**Section 2**\n\nThe ship sailed.", "The ship sailed."),
        ("## Paragraph 2\n\nThe ship sailed.", "The ship sailed."),
        ("## Paragraph 2: The Storm\n\nIt rained.", "## The Storm\n\nIt rained."),
        ("Step 4 - The ship sailed.", "The ship sailed."),
        ("Step 4: The ship sailed.", "The ship sailed."),
        ("[Paragraph 3 of 9]\nThe ship sailed.", "The ship sailed."),
        ("Paragraph 3 (240 words): The ship sailed.", "The ship sailed."),
        ("Main Point: the storm\n\nIt rained.", "It rained."),
        ("Main Point: The ship sailed.", "The ship sailed."),
        ("Paragraph 3 - Main Point: the storm - Word Count: 300 words\n\nIt rained.", "It rained."),
        ("The ship sailed.\n\nParagraph 4: It rained.", "The ship sailed.\n\nIt rained."),
        ("The ship sailed. (Word count: 240)", "The ship sailed."),
        ("The ship sailed. (Word Count: 240 words) It rained.", "The ship sailed. It rained."),
        ("The ship sailed.\n\n[240 words]", "The ship sailed."),
        ("The ship sailed. (approx. 240 words)", "The ship sailed."),
        ("The ship sailed.\n\n**Word Count:** 200 words", "The ship sailed."),
        ("The ship sailed. Word Count: 200 words", "The ship sailed."),
        ("The ship sailed.<|im_end|>\n<|im_start|>assistant\n", "The ship sailed."),
        ("<s>The ship sailed.</s>", "The ship sailed."),
        ("[INST] The ship sailed.", "The ship sailed."),
        ("  The ship sailed.  \n\n\n\nIt rained.\t\r\n", "The ship sailed.\n\nIt rained."),
        ("第三段：船开了。", "船开了。"),
        ("**第三段**\n\n船开了。", "船开了。"),
        ("第2部分：船开了。", "船开了。"),
        ("【第三段】船开了。", "船开了。"),
        ("段落3：船开了。", "船开了。"),
        ("[Paragraph 3] The ship sailed.", "The ship sailed."),
        ("第三段（300字）：船开了。", "船开了。"),
        ("主要内容：暴风雨\n\n下雨了。", "下雨了。"),
        ("第三段 - 主要内容：暴风雨 - 字数：300字\n\n下雨了。", "下雨了。"),
        ("船开了。（字数：240）", "船开了。"),
        ("船开了。\n\n（约240字）", "船开了。"),
        ("船开了。\n字数统计：240字", "船开了。"),
        ("Paragraph 3:\n\nParagraph 3: Section 3 - The ship sailed.", "The ship sailed."),
        ("Paragraph 3:", ""),
    ] {
        assert_eq!(clean(text), want, "{text:?}");
    }
}

#[test]
fn ordinary_text_stays_as_it_is() {
    for text in [
        "Paragraph 3 of the treaty says that ships may pass.",
        "Section 2 of the law was never read aloud.",
        "Step by step - and slowly - they went.",
        "## Methods\n\nWe counted the words.",
        "## Section 2: Background\n\nThe war was over.",
        "# Chapter 3: The Storm\n\nIt rained.",
        "Mix it well.\n\nStep 4: Preheat the oven.",
        "He wrote a letter (240 words) to his sister.",
        "A poem (12 words). Nothing more.",
        "The token is `<|im_end|>`, and it ends a turn.",
        "```python\n# Paragraph 3: setup\nprint('<|im_end|>')  \n```",
        "The word count was 240 words",
        "[Section 2](#two) tells of ships.",
        "- one\n- two\n    - three",
        "The ship sailed into the",
        "第三段旅程从上海开始。",
        "第三段，也是最长的一段，讲述了战争。",
        "## 第二部分：市场分析\n\n市场在增长。",
        "第一步是把水烧开。",
        "他写了一封信（240字）给妹妹。",
        "字数不多，却很动人。",
        "要点在于，没有人来。",
        "船开进了",
    ] {
        let text = text.replace("  \n", "\n");
        assert_eq!(clean(&text), text);
    }
}

#[test]
fn text_of_earlier_sections_goes() {
    let first = EARLIER.lines().next().unwrap();
    let sentence =
        "The old ship sailed slowly past the lighthouse while the keeper counted the waves and wrote them down.";
    for (text, want) in [
        (format!("{EARLIER}\n\nThen it rained."), "Then it rained."),
        (format!("It began.\n\n{first}\n\nThen it rained."), "It began.\n\nThen it rained."),
        (format!("{sentence} Then it rained."), "Then it rained."),
        (format!("It began. {sentence} Then it rained."), "It began. Then it rained."),
        (format!("Paragraph 2: {first}\n\nThen it rained."), "Then it rained."),
        ("Nobody saw it. Then it rained.".into(), "Nobody saw it. Then it rained."),
        (format!("> {first}\n\nSo it was written."), &*format!("> {first}\n\nSo it was written.")),
        (prose(10, 4), &prose(10, 4)),
    ] {
        assert_eq!(clean_section(&text, Language::En, &["Some other text.", EARLIER]), want, "{text:?}");
    }
    let first = EARLIER_ZH.lines().next().unwrap();
    let sentence = "那艘旧船慢慢地驶过灯塔，守灯人一边数着海浪，一边把它们写进日记里。";
    for (text, want) in [
        (format!("{EARLIER_ZH}\n\n后来下雨了。"), "后来下雨了。"),
        (format!("{first}\n\n后来下雨了。"), "后来下雨了。"),
        (format!("开始了。{sentence}后来下雨了。"), "开始了。后来下雨了。"),
        ("没有人看见它。后来下雨了。".into(), "没有人看见它。后来下雨了。"),
        (chinese_prose(10, 4), &chinese_prose(10, 4)),
    ] {
        assert_eq!(clean_section(&text, Language::Zh, &[EARLIER_ZH]), want, "{text:?}");
    }
}

#[test]
fn a_title_that_is_repeated_at_the_beginning_goes() {
    let earlier = "# The Keeper\n\nIt began.";
    assert_eq!(clean_section("# The Keeper\n\nThen it rained.", Language::En, &[earlier]), "Then it rained.");
    assert_eq!(clean_section("## Rain\n\nIt rained.", Language::En, &[earlier]), "## Rain\n\nIt rained.");
}

/// Pieces that cleaning looks for, and what stands around them.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("Paragraph 3: ".to_owned()),
        Just("**Section 2** - ".to_owned()),
        Just("Main Point: ".to_owned()),
        Just("(Word count: 240)".to_owned()),
        Just("Word Count: 200 words".to_owned()),
        Just("第三段：".to_owned()),
        Just("（字数：240）".to_owned()),
        Just("<|im_end|>".to_owned()),
        Just("</s>".to_owned()),
        Just("```".to_owned()),
        Just("## ".to_owned()),
        Just(". ".to_owned()),
        Just("\n".to_owned()),
        Just("\n\n".to_owned()),
        Just("  ".to_owned()),
        Just(EARLIER.to_owned()),
        Just(EARLIER_ZH.to_owned()),
        any::<String>(),
        "[a-z*_#`|<>().: \n-]{0,12}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn cleaning_twice_is_cleaning_once(text in pieces(), zh: bool) {
        let language = if zh { Language::Zh } else { Language::En };
        let once = clean_section(&text, language, &[EARLIER, EARLIER_ZH]);
        prop_assert_eq!(clean_section(&once, language, &[EARLIER, EARLIER_ZH]), once);
    }
}
