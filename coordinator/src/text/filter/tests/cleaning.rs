use proptest::prelude::*;

use super::{Owned, prose};
use crate::domain::language::{self, Language};
use crate::text::filter::clean_section;

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
        ("The ship sailed. (Word count: 240)", "The ship sailed."),
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
        ("Part 2 - The ship sailed.", "The ship sailed."),
        ("**Part 4**\n\nThe ship sailed.", "The ship sailed."),
        ("Part 3 of 8:\nThe ship sailed.", "The ship sailed."),
        ("The ship sailed.\n\n**Paragraph 4**", "The ship sailed."),
        ("The ship sailed.\n\n第四段：", "The ship sailed."),
    ] {
        assert_eq!(clean_section(text, ""), want, "{text:?}");
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
        assert_eq!(clean_section(&text, ""), text);
    }
}

#[test]
fn what_announces_or_ends_the_text_goes() {
    for (text, want) in [
        ("Here is the next part:\n\nIt rained.", "It rained."),
        ("Sure, here's the third section of the article:\n\nIt rained.", "It rained."),
        ("Certainly!\n\nHere is part 3:\n\nIt rained.", "It rained."),
        ("Of course, I'll continue the story.\nIt rained.", "It rained."),
        ("**Next part:**\n\nIt rained.", "It rained."),
        ("It rained.\n\nEnd of part 3.", "It rained."),
        ("It rained.\n\n**End of Section 2**", "It rained."),
        ("It rained.\n\n[End]", "It rained."),
        ("It rained.\n\n(To be continued...)", "It rained."),
        ("It rained.\n\nThank you for reading.\n\n(Word count: 312)", "It rained."),
        ("```\nIt rained.\n```", "It rained."),
        ("```markdown\nPart 3:\n\nIt rained.\n\nEnd of part 3.\n```", "It rained."),
        ("好的，以下是第三部分的正文：\n\n下雨了。", "下雨了。"),
        ("好的。\n\n下面是续写的内容：\n\n下雨了。", "下雨了。"),
        ("下雨了。\n\n（本节完）", "下雨了。"),
        ("下雨了。\n\n（未完待续）", "下雨了。"),
        ("下雨了。\n\n感谢您的阅读。", "下雨了。"),
        ("Thank you for reading.", ""),
    ] {
        assert_eq!(clean_section(text, ""), want, "{text:?}");
    }
    for text in [
        "Here is the law of the sea: nobody owns it.\n\nIt rained.",
        "This is the captain's story:\n\nIt rained.",
        "Sure, he was late.\n\nIt rained.",
        "\"Certainly, I'll write the letter.\"\n\nIt rained.",
        "Certainly, the next part of the coast is steeper.",
        "It rained.\n\nThe End",
        "It rained. Thank you for reading.",
        "It rained.\n\n“感谢您的阅读。”",
        "```python\nprint(1)\n```",
        "```\none\n```\n\nIt rained.\n\n```\ntwo\n```",
        "好的开始是成功的一半。\n\n下雨了。",
        "下雨了。\n\n一切都结束了。",
        "下面是海，上面是天。\n\n下雨了。",
    ] {
        assert_eq!(clean_section(text, ""), text);
    }
}

/// Cleaning does not cut inside a text, so each thing that it takes off the ends has a rule that sees it there.
#[test]
fn what_stands_inside_stays_and_a_rule_sees_it() {
    let repeated = format!("{}\n\n{}", prose(12, 1), prose(12, 1));
    for (text, rule) in [
        ("The ship sailed.\n\nParagraph 4: It rained.", "leftover_identifiers"),
        ("The ship sailed.\n\nSection 2 - The storm\n\nIt rained.", "leftover_identifiers"),
        ("The ship sailed. (Word Count: 240 words) It rained.", "leftover_identifiers"),
        ("The ship sailed.\n\n[240 words]\n\nIt rained.", "leftover_identifiers"),
        ("The ship sailed.<|im_end|>\n\nIt rained.", "leftover_identifiers"),
        ("The ship sailed.\n\nMain Point: the storm\n\nIt rained.", "leftover_identifiers"),
        ("The ship sailed.\n\nHere is the next part:\n\nIt rained.", "assistant_talk"),
        ("The ship sailed.\n\nEnd of part 3.\n\nIt rained.", "prompt_echo"),
        ("The ship sailed. Thank you for reading. It rained.", "prompt_echo"),
        ("船开了。\n\n第四段：下雨了。", "leftover_identifiers"),
        ("船开了。（字数：240）下雨了。", "leftover_identifiers"),
        ("船开了。\n\n好的，以下是第四段：\n\n下雨了。", "assistant_talk"),
        ("船开了。\n\n（本节完）\n\n下雨了。", "prompt_echo"),
        (&*repeated, "repeated_sentences"),
    ] {
        assert_eq!(clean_section(text, ""), text);
        let measured = Owned::new(language::detect(text), &[text]).measure(rule);
        assert!(measured.fired, "{text:?}: {measured:?}");
    }
    let title = "# The Keeper\n\nIt began.";
    assert!(Owned::new(Language::En, &[title, title]).measure("heading_disorder").fired);
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
        Just("Here is the next part:\n".to_owned()),
        Just("\n（本节完）".to_owned()),
        Just("\n[End]".to_owned()),
        any::<String>(),
        "[a-z*_#`|<>().: \n-]{0,12}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn cleaning_twice_is_cleaning_once(text in pieces()) {
        let once = clean_section(&text, "");
        prop_assert_eq!(clean_section(&once, ""), once);
    }
}

#[test]
fn a_first_line_that_says_the_main_point_in_other_words_is_taken_off() {
    let point = "Ensuring privacy and personal space during the photography session";
    let zh = "陈述个人情况、经济状况以及解决问题的计划";
    for (text, point, want) in [
        ("Ensuring Privacy and Personal Space\n\nKeep away.", point, "Keep away."),
        ("**Ensuring privacy and personal spaces in the photography session**\n\nKeep away.", point, "Keep away."),
        ("陈述个人情况、经济状况及解决问题的计划\n\n我写信申请。", zh, "我写信申请。"),
    ] {
        assert_eq!(clean_section(text, point), want);
    }
    for (kept, point) in [
        ("## Ensuring privacy and personal space\n\nKeep away.", point),
        ("Ensuring privacy and personal space is hard.\n\nKeep away.", point),
        ("A word on light\n\nKeep away.", point),
        ("我的家庭\n\n我写信申请。", zh),
    ] {
        assert_eq!(clean_section(kept, point), kept);
    }
}

#[test]
fn the_main_point_as_a_first_line_is_taken_off() {
    let point = "How the harbour came to be built";
    for (text, want) in [
        ("How the Harbour came to be built.\n\nIn 1820 the town had none.", "In 1820 the town had none."),
        ("**How the harbour came to be built**\nIn 1820 the town had none.", "In 1820 the town had none."),
        (
            "How the harbour came to be built is told below.\nIn 1820.",
            "How the harbour came to be built is told below.\nIn 1820.",
        ),
        ("How the harbour came to be built", "How the harbour came to be built"),
    ] {
        assert_eq!(clean_section(text, point), want, "{text:?}");
    }
}
