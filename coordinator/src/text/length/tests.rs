//! What users write, and what they must not be misread as.

use super::required;

/// What texts ask for, one a line: `want` is the length, or null where the text states none.
const CASES: &str = include_str!("cases.jsonl");
/// How the prompts of benchmarks state a length, with the length that their authors give. The prompts are not ours.
const BENCHMARKS: &str = include_str!("benchmarks.jsonl");

/// Prints precision (of the lengths that were read, those that are right) and recall (of the texts that state one, those read
/// right) over rows whose `key` says what is right; returns what was read wrong.
fn measure(name: &str, rows: &str, key: &str) -> Vec<String> {
    let (mut read, mut stated, mut right, mut wrong) = (0, 0, 0, Vec::new());
    for line in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let prompt = row["prompt"].as_str().unwrap();
        let want = row[key].as_u64().map(|words| words as u32);
        let got = required(prompt);
        read += u32::from(got.is_some());
        stated += u32::from(want.is_some());
        right += u32::from(got.is_some() && got == want);
        if got != want {
            wrong.push(format!("{prompt:?}: wanted {want:?}, got {got:?}"));
        }
    }
    let percent = |of: u32| 100.0 * f64::from(right) / f64::from(of);
    let (precision, recall) = (percent(read), percent(stated));
    println!("{name}: {} rows, precision {precision:.1} %, recall {recall:.1} %", rows.lines().count());
    wrong
}

#[test]
fn every_row_of_the_table_is_read_as_it_says() {
    let wrong = measure("the table", CASES, "want");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every prompt of these sets states its length. Both sets are under the Apache licence. Of a range their authors give the end,
/// and the reader its middle.
#[test]
fn the_prompts_of_longbench_write_and_longwrite_ruler_are_read() {
    let mut wrong = measure(
        "24 prompts of LongBench-Write, 48 of LongWrite-Ruler, the words that state a length",
        BENCHMARKS,
        "length",
    );
    wrong.retain(|row| !row.contains("100至200字") && !row.contains("300到400字"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn stated_lengths_are_read() {
    let vectors = [
        ("Write a 3,000-word essay on tides.", 3000),
        ("Write a 1000-word China travel guide", 1000),
        ("The story should be at least 10000 words long.", 10_000),
        ("Write at least 2000 words on bees.", 2000),
        ("Write between 2k and 3k words about trains", 2500),
        ("I need 20k words of epic fantasy.", 20_000),
        ("Write a 200 words abstract for the paper: A Study of Novels", 200),
        ("Present your response in dialogue form, in 500 words.", 500),
        ("focusing instead on helpful guidance, 500 words.", 500),
        ("Approximately 400 words.", 400),
        ("Write a 2,000 to 2,500 word article", 2250),
        ("An essay of 1500-2000 words, please", 1750),
        ("Write a 2-3k word story", 2500),
        ("Summarize the plot of Hamlet in 800 words.", 800),
        ("The post should be no less than 2000 words and provide specific examples.", 2000),
        ("Write a report. Minimum 1500 words, maximum 2500 words.", 2000),
        ("Write two thousand words about silence", 2000),
        ("a five-hundred word letter to a friend", 500),
        ("Word count: 3000. Topic: volcanoes.", 3000),
        ("Write an essay with a word limit of 1,200.", 1200),
        ("Write a 3000-word novel; the abstract takes 200 words.", 3000),
        ("Write 2.5k words on glass", 2500),
        ("Write a 5000+ word guide to Kyoto", 5000),
        ("写一篇3000字的文章", 3000),
        ("请写两千字的游记", 2000),
        ("写一部一万五千字的小说", 15_000),
        ("写一篇读后感，不少于5000字", 5000),
        ("写一篇读书报告，3000字以上。", 3000),
        ("字数要求100至200字。", 150),
        ("生成小红书自媒体风格文章，300到400字", 350),
        ("比亚迪的产品决策研究意义，600字", 600),
        ("请写一本20000字的小说", 20_000),
        ("写一篇1.5万字的报告", 15_000),
        ("字数：不少于600字", 600),
        ("写一篇作文，字数2000左右", 2000),
        ("写两三千字的故事", 2500),
        ("写一篇万字长文", 10_000),
        ("写一篇八百字的作文", 800),
        ("把这篇5000字的文章缩写成500字", 500),
        ("写３０００字的介绍", 3000),
        ("写2万5千字的中篇小说", 25_000),
        ("写一篇2-3千字的散文", 2500),
        ("毕业论文的结论写5000字", 5000),
        ("写一篇5k字的影评", 5000),
    ];
    let wrong = vectors.map(|(text, words)| (text, Some(words), required(text)));
    let wrong: Vec<_> = wrong.into_iter().filter(|(_, want, got)| want != got).collect();
    assert!(wrong.is_empty(), "text, wanted, got: {wrong:#?}");
}

#[test]
fn other_figures_are_left_alone() {
    let texts = [
        "",
        "Write an essay on tides.",
        "Describe yourself in 3 words.",
        "Write chapter 2000 of the saga.",
        "What happened on 12 March 2019?",
        "A history of Paris from 1789 to 1815",
        "How do I use mail merge in Word 2016?",
        "Give me 500 keywords for my shop.",
        "Tell me about the word count of novels.",
        "How far is 10,000 steps?",
        "How can I learn 3000 words of Spanish quickly?",
        "Build a vocabulary of 5000 words",
        "Summarize this 5000-word article.",
        "Translate the following 2,000-word text into French.",
        "My 4000-word thesis was rejected. Write a letter to my supervisor.",
        "He types 100 words per minute; write his story.",
        "I write 1000 words a day. Give me advice.",
        "Plan a book with chapters of 2000 words each.",
        "A picture is worth a thousand words. Discuss.",
        "Explain the 171,476 words in the dictionary and their origin.",
        "The corpus contains 5000 words. Describe it.",
        "Write about the $3000 laptop, in other words a luxury.",
        "Give the 1000 most common words.",
        "Write a poem of 20 lines.",
        "Explain why 1984 is a great novel. In your own words.",
        "A password of 128 characters",
        "写一篇关于汉字的文章",
        "用一个字形容你的心情",
        "给孩子起5个字的名字",
        "认识3000个汉字需要多久？",
        "每章3000字，写大纲",
        "背诵千字文的技巧",
        "2000年的名字排行榜",
        "他每天写1000字，请采访他",
        "这个文件有5000字节",
        "怎样安装3000种字体？",
        "学会2000字就能看报纸吗？",
        "四字成语大全",
        "总结以下3000字文章",
        "第2000章写什么？",
        "1949年10月1日发生了什么？",
        "打字速度300字/分钟算快吗",
        "掌握5000词的方法",
    ];
    let wrong: Vec<_> = texts.iter().filter_map(|text| required(text).map(|words| (text, words))).collect();
    assert!(wrong.is_empty(), "text, got: {wrong:#?}");
}
