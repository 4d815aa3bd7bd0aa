use longhand_proto::task::FinishReason;
use proptest::prelude::*;

use super::super::{all, judge, score_length};
use super::{Owned, chinese_prose, prose, rule};
use crate::document::{Language, Verdict};
use crate::recipe::Filters;

#[test]
fn length_scores_as_published() {
    for (share, score) in [(0.5, 50.0), (0.8, 87.5), (0.9, 94.4), (1.0, 100.0), (1.1, 96.7), (1.25, 91.7), (1.5, 83.3)]
    {
        let written = (f64::from(2_000) * share).round() as u32;
        assert!((score_length(2_000, written) - score).abs() < 0.05, "{share}: {}", score_length(2_000, written));
    }
    assert!((score_length(1_000, 2_000) - 66.7).abs() < 0.05);
    for (required, written) in [(1_000, 0), (1_000, 333), (1_000, 4_000), (1_000, u32::MAX), (0, 5), (0, 0)] {
        assert_eq!(score_length(required, written), 0.0, "{required} {written}");
    }
}

#[test]
fn good_documents_are_accepted() {
    let english = Owned::new(Language::En, &[prose(40, 1), prose(40, 2), prose(40, 3)]);
    let chinese = Owned::new(Language::Zh, &[chinese_prose(40, 1), chinese_prose(40, 2)]);
    for document in [english, chinese] {
        let verdict = judge(&Filters::default(), &document.assembled());
        assert_eq!(verdict, Verdict::Accepted, "{:?}", document.all());
    }
}

#[test]
fn the_first_rule_that_fires_is_the_verdict() {
    let mut document = Owned::new(Language::En, &["I cannot assist with that."]);
    assert_eq!(rule(&judge(&Filters::default(), &document.assembled())), "refusal");
    document.sections[0].finish_reason = FinishReason::Length;
    let verdict = judge(&Filters::default(), &document.assembled());
    let Verdict::Rejected { rule, value, threshold, detail } = verdict else { panic!("accepted") };
    assert_eq!((rule.as_str(), value, threshold, detail.as_str()), ("truncated", 1.0, 0.0, "cut sections: 1 (length)"));
    let fired: Vec<_> = document.all().into_iter().filter(|measured| measured.fired).map(|m| m.rule).collect();
    assert_eq!(fired, ["truncated", "refusal", "too_short"], "a report sees all of them");
}

#[test]
fn each_threshold_is_the_last_value_that_passes() {
    let mut document = Owned::new(Language::En, &["one two three four"]);
    let fires = |document: &Owned, filters: &Filters, name: &str| {
        all(filters, &document.assembled()).iter().any(|measured| measured.rule == name && measured.fired)
    };
    assert!(!fires(&document, &Filters { min_words: 4, ..Filters::default() }, "too_short"));
    assert!(fires(&document, &Filters { min_words: 5, ..Filters::default() }, "too_short"));
    assert!(!fires(&document, &Filters::default(), "score_length"), "nothing was required");
    document.instruction.required_words = Some(5);
    assert!(!fires(&document, &Filters { min_score_length: 87.5, ..Filters::default() }, "score_length"));
    assert!(fires(&document, &Filters { min_score_length: 87.6, ..Filters::default() }, "score_length"));
    document.sections[0].finish_reason = FinishReason::Repetition;
    assert!(!fires(&document, &Filters { max_truncated: 1, ..Filters::default() }, "truncated"));
    assert!(fires(&document, &Filters::default(), "truncated"));
    document.sections[0].finish_reason = FinishReason::Ceiling;
    assert!(!fires(&document, &Filters::default(), "truncated"));
    document.sections[0].usage.generated = 32_755;
    assert!(!fires(&document, &Filters::default(), "too_many_tokens"), "{:?}", document.measure("too_many_tokens"));
    document.sections[0].usage.generated += 1;
    assert!(fires(&document, &Filters::default(), "too_many_tokens"));
}

#[test]
fn tokens_that_an_engine_did_not_count_are_estimated() {
    let document = Owned::new(Language::Zh, &[chinese_prose(1_800, 1)]);
    let measured = document.measure("too_many_tokens");
    assert!(measured.fired && measured.value > 36_000.0, "{measured:?}");
}

#[test]
fn refusals_are_found_at_the_beginning() {
    for text in [
        "I'm sorry, but I can't assist with that request.",
        "I’m sorry, but as an AI language model I cannot write this.",
        "I am unable to provide this information.",
        "Sorry, I cannot help with that.",
        "I apologize, but I don't feel comfortable writing this.",
        "As an AI, I do not have personal experiences.",
        "As a large language model, I can only offer general advice.",
        "Unfortunately, I'm not able to write such content.",
        "**I cannot fulfil this request.**",
        "I must respectfully decline to write it.",
        "很抱歉，我无法完成这个请求。",
        "抱歉，我不能协助您完成这项任务。",
        "对不起，作为一个人工智能语言模型，我没有个人经历。",
        "作为一个AI助手，我无法提供此类内容。",
        "作为大型语言模型，我不能讨论这个话题。",
        "我无法提供相关内容。",
        "我不能协助您处理此事。",
        "非常抱歉，但我不便回答。",
    ] {
        assert!(Owned::new(Language::En, &[text]).measure("refusal").fired, "{text}");
        let second = Owned::new(Language::En, &["The sea was calm.", text]).measure("refusal");
        assert_eq!((second.value, second.fired), (1.0, true), "{text}");
    }
}

#[test]
fn speech_and_stories_are_no_refusals() {
    for text in [
        "\"I'm sorry, but I can't help you,\" the clerk said.",
        "I cannot help but wonder what he saw.",
        "I can't write without the smell of coffee in the room.",
        "As an AI researcher, she knew the limits of her models.",
        "As an AI system grows, so does its cost.",
        "Sorry is a word that comes late.",
        "Unfortunately, the harbour was closed for the winter.",
        "I am sorry that the letter came so late.",
        "It is often said that I cannot provide for a family. She did. I'm sorry, but I cannot assist, said nobody.",
        "“很抱歉，我不能帮您。”他说。",
        "抱歉是一个很轻的词。",
        "作为人工智能的一个重要分支，机器学习发展迅速。",
        "我无法忘记那个冬天。",
        "我不能不承认，那是一段美好的时光。",
        "对不起这三个字，他说了一辈子。",
        "遗憾的是，港口在冬天关闭了。",
        "作为一个老师，我无法接受这种说法。",
    ] {
        assert!(!Owned::new(Language::En, &[text]).measure("refusal").fired, "{text}");
    }
    let off = Filters { refusal: false, ..Filters::default() };
    let document = Owned::new(Language::En, &["I cannot assist with that."]);
    assert!(all(&off, &document.assembled()).iter().all(|measured| measured.rule != "refusal"));
}

#[test]
fn leftovers_are_found() {
    for text in [
        "Paragraph 3: The ship sailed on.",
        "The ship sailed.\n\n**Paragraph 4**\n\nThen it came back.",
        "## Paragraph 2: The storm\n\nIt rained.",
        "The ship sailed.\nSection 2 - The storm\nIt rained.",
        "The ship sailed. (Word count: 240)",
        "The ship sailed.\n\nMain Point: the storm\n\nIt rained.",
        "The ship sailed.\n\nWord Count: 200 words",
        "The ship sailed.\n[240 words]",
        "The ship sailed.<|im_end|>",
        "Step 4 - The ship sails.",
        "Paragraph 3 of 9 - Main Point: the storm - Word Count: 300 words",
        "第三段：船开了。",
        "船开了。\n\n**第四段**\n\n它又回来了。",
        "段落3：船开了。",
        "第二部分：船开了。",
        "船开了。（字数：240）",
        "船开了。\n\n主要内容：暴风雨",
        "船开了。\n字数：约300字",
        "船开了。(约240字)",
    ] {
        // Labels that may be headings count as the section's first line only.
        let text = if text.contains("主要内容") { "主要内容：暴风雨\n\n船开了。" } else { text };
        let measured = Owned::new(Language::En, &[text]).measure("leftover_identifiers");
        assert!(measured.fired && !measured.detail.is_empty(), "{text}");
    }
}

#[test]
fn ordinary_text_has_no_leftovers() {
    for text in [
        "Paragraph 3 of the treaty says that ships may pass.",
        "In section 2 - the longest one - she writes of rain.",
        "## Methods\n\nWe counted words.",
        "## Section 2: Background\n\nThe war was over.",
        "# Chapter 3: The Storm\n\nIt rained.",
        "Mix it well.\n\nStep 4: Preheat the oven.",
        "He wrote a letter (240 words) to his sister.",
        "The template ends with `<|im_end|>`, as all of them do.",
        "```\nParagraph 3: text\n<|im_end|>\n```",
        "The main point: nobody came. Then it rained.",
        "The word count of the essay was 240.",
        "第三段旅程从上海开始。",
        "第三段，也是最长的一段，讲述了战争。",
        "## 第二部分：市场分析\n\n市场在增长。",
        "船开了。\n\n第二部分：市场分析\n\n市场在增长。",
        "第一步是把水烧开。",
        "他写了一封信（240字）给妹妹。",
        "这篇文章的字数是240。",
        "内容要点如下。",
    ] {
        let measured = Owned::new(Language::En, &[text]).measure("leftover_identifiers");
        assert!(!measured.fired, "{text}: {measured:?}");
    }
}

#[test]
fn repetition_within_a_section_is_measured() {
    let sentence = "The old ship sailed slowly past the lighthouse again. ";
    let chinese = "那艘旧船又一次慢慢地驶过灯塔。";
    let half = |text: String, again: &str| format!("{text} {again}");
    for (language, text) in [
        (Language::En, sentence.repeat(20)),
        (Language::En, half(prose(20, 1), &prose(20, 1))),
        (Language::En, half(prose(20, 1), &sentence.repeat(12))),
        (Language::En, "and the sea and the sea and the sea ".repeat(9)),
        (Language::En, (0..10).map(|k| format!("Point {k} is here. He was so tired. ")).collect()),
        (Language::En, format!("{}\n\n{}", prose(9, 5), prose(9, 5).to_uppercase())),
        (Language::Zh, chinese.repeat(20)),
        (Language::Zh, half(chinese_prose(20, 1), &chinese_prose(20, 1))),
        (Language::Zh, half(chinese_prose(20, 1), &chinese.repeat(15))),
        (Language::Zh, "海浪声声海浪声声".repeat(9)),
        (Language::Zh, (0..10).map(|k| format!("这里是第{k}点。他实在太累了。")).collect()),
    ] {
        let measured = Owned::new(language, &[prose(10, 9), text.clone()]).measure("repetition_within");
        assert!(measured.fired && measured.detail.starts_with("section 2:"), "{text}: {measured:?}");
    }
}

#[test]
fn prose_with_refrains_and_lists_is_no_repetition() {
    let refrain = "\n\nAnd still the sea came in.\n\n";
    for (language, text) in [
        (Language::En, prose(40, 1)),
        (Language::En, [prose(12, 1), prose(12, 2), prose(12, 3), prose(12, 4)].join(refrain)),
        (Language::En, "Yes. No. Yes. No. Yes. No. ".into()),
        (Language::En, "One sentence only.".into()),
        (Language::En, format!("{} \"No,\" he said. \"No,\" she said.", prose(20, 1))),
        (Language::En, (0..12).map(|k| format!("- {}\n", prose(1, k * 7 + 1))).collect()),
        (Language::Zh, chinese_prose(40, 1)),
        (Language::Zh, [chinese_prose(12, 1), chinese_prose(12, 2), chinese_prose(12, 3)].join("大海依旧。")),
        (Language::Zh, "是。不是。是。不是。".into()),
        (Language::Zh, "只有一句话。".into()),
    ] {
        let measured = Owned::new(language, std::slice::from_ref(&text)).measure("repetition_within");
        assert!(!measured.fired, "{text}: {measured:?}");
    }
}

#[test]
fn repetition_between_sections_is_measured() {
    for (language, first, second, fires) in [
        (Language::En, prose(30, 1), prose(30, 1), true),
        (Language::En, prose(30, 1), format!("{} {}", prose(20, 2), prose(30, 1)), true),
        (Language::En, prose(30, 1), prose(30, 1).to_lowercase().replace(". ", ".\n\n"), true),
        (Language::En, prose(30, 1), prose(30, 2), false),
        (Language::En, prose(30, 1), format!("{} {}", prose(30, 2), prose(2, 1)), false),
        (Language::En, prose(30, 1), "In short.".into(), false),
        (Language::Zh, chinese_prose(30, 1), chinese_prose(30, 1), true),
        (Language::Zh, chinese_prose(30, 1), chinese_prose(20, 2) + &chinese_prose(20, 1), true),
        (Language::Zh, chinese_prose(30, 1), chinese_prose(30, 2), false),
        (Language::Zh, chinese_prose(30, 1), chinese_prose(30, 2) + &chinese_prose(2, 1), false),
    ] {
        let measured = Owned::new(language, &[first, second.clone()]).measure("repetition_between");
        assert_eq!(measured.fired, fires, "{second}: {measured:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn judging_never_panics(texts in proptest::collection::vec(any::<String>(), 0..4), zh: bool, required: Option<u32>) {
        let mut document = Owned::new(if zh { Language::Zh } else { Language::En }, &texts);
        document.instruction.required_words = required;
        for measured in document.all() {
            prop_assert!(measured.value.is_finite(), "{measured:?}");
        }
        let accepted = judge(&Filters::default(), &document.assembled()) == Verdict::Accepted;
        prop_assert_eq!(accepted, document.all().iter().all(|measured| !measured.fired));
    }
}
