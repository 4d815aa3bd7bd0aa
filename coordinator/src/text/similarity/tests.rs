//! What is the same must be found, what only looks alike must be left, and the search must agree with a comparison of
//! all with all.

use std::collections::HashSet;

use super::*;
use crate::text::shingles::mix;

/// Texts of so many words of a vocabulary, each different.
fn text(seed: u64, words: u64) -> String {
    (0..words).map(|k| word(mix(seed ^ mix(k)) % 5_000)).collect::<Vec<_>>().join(" ")
}

fn word(number: u64) -> String {
    let letters = b"abcdefghijklmnopqrst";
    [number / 400, number / 20 % 20, number % 20].map(|n| letters[n as usize % 20] as char).iter().collect()
}

/// `text` with every `n`th word replaced, from word `from` on.
fn edited(text: &str, from: usize, n: usize) -> String {
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let edit = |(k, word): (usize, &String)| if k % n == from { "other".to_owned() } else { word.clone() };
    words.iter().enumerate().map(edit).collect::<Vec<_>>().join(" ")
}

/// The set of runs of a text, with no hash between.
fn runs(text: &str) -> HashSet<Vec<&str>> {
    text.split(' ').collect::<Vec<_>>().windows(5).map(<[&str]>::to_vec).collect()
}

fn share(a: &HashSet<Vec<&str>>, b: &HashSet<Vec<&str>>) -> f64 {
    let both = a.intersection(b).count();
    both as f64 / (a.len() + b.len() - both) as f64
}

fn jaccard(a: &str, b: &str) -> f64 {
    share(&runs(a), &runs(b))
}

#[test]
fn the_same_request_in_other_clothes_is_found() {
    for (first, second) in [
        ("Write a story about a lighthouse.", "write a story about a lighthouse"),
        ("Write a story about a lighthouse.", "Write a story, about a  LIGHTHOUSE!"),
        ("Hello", "hello."),
        ("???", "???"),
        ("写一篇关于灯塔的故事，要求三千字。", "写一篇关于灯塔的故事,要求三千字"),
        (
            "Please write a long and detailed essay on the history of tea in China, from its origins to the present day, with examples",
            "Please write a long and detailed essay on the history of tea in China, from its origins to the present day, with example",
        ),
        (
            "请写一篇约三千字的文章，向第一次接触茶的读者介绍中国茶的六大茶类、制作方法、产地、冲泡的水温与器具",
            "请写一篇约三千字的文章，向第一次接触茶的读者介绍中国茶的六大茶类、制作方法、产地、冲泡的水温和器具",
        ),
    ] {
        let mut index = Index::new(0.8);
        assert_eq!(index.insert_new(&Signature::of("Something else stands first, at number zero")), Ok(0));
        assert_eq!(index.insert_new(&Signature::of(first)), Ok(1));
        let found = index.insert_new(&Signature::of(second)).unwrap_err();
        assert!(found.text == 1 && found.similarity >= 0.8, "{second}: {found:?}");
        assert_eq!(index.len(), 2);
    }
}

#[test]
fn requests_of_one_mould_are_not_the_same() {
    let mut index = Index::new(0.8);
    for text in [
        "Write a story about a lighthouse.",
        "Write a story about a keeper.",
        "Write a 2,000-word essay on the history of tea.",
        "Write a 2,000-word essay on the history of salt and how it changed trade.",
        "写一篇关于灯塔的故事。",
        "写一篇关于港口的故事。",
        "写一篇三千字的散文，题目是老街的一天。",
        "写一篇三千字的散文，题目是雨后的小镇。",
        "",
        "!",
    ] {
        assert!(index.insert_new(&Signature::of(text)).is_ok(), "{text}");
    }
}

#[test]
fn similarity_is_exact_for_short_texts_and_close_for_long_ones() {
    for (words, within) in [(40, 1e-9), (100, 1e-9), (2_000, 0.12), (20_000, 0.12)] {
        for n in [7, 15, 31, 60, 200] {
            let one = text(words, words);
            let two = edited(&one, 3, n);
            let measured = similarity(&Signature::of(&one).sketch, &Signature::of(&two).sketch);
            let exact = jaccard(&one, &two);
            assert!((measured - exact).abs() <= within, "{words} words, every {n}: {measured} for {exact}");
        }
    }
}

#[test]
fn minima_agree_as_often_as_the_sets_do() {
    for n in [10, 20, 40, 80] {
        let (mut agree, mut exact) = (0, 0.0);
        for seed in 0..40 {
            let one = text(seed, 300);
            let two = edited(&one, 5, n);
            let (a, b) = (Signature::of(&one).minima, Signature::of(&two).minima);
            agree += a.iter().zip(&b).filter(|(a, b)| a == b).count();
            exact += jaccard(&one, &two) / 40.0;
        }
        let share = agree as f64 / (40 * LANES) as f64;
        // 3,840 trials: four standard deviations of a fair coin.
        assert!((share - exact).abs() < 0.033, "every {n}: {share} for {exact}");
    }
}

#[test]
fn every_processor_gives_the_same_minima() {
    let set: Vec<u32> = (0..500).map(|k| mix(k) as u32).collect();
    let slow: Vec<u32> = (0..LANES).map(|i| set.iter().map(|x| minhash::hash(i, *x)).min().unwrap()).collect();
    assert_eq!(minima(&set).to_vec(), slow);
    assert_eq!(minima(&[])[0], u32::MAX);
}

#[test]
fn the_search_finds_what_a_comparison_of_all_with_all_finds() {
    let mut texts = Vec::new();
    for seed in 0..60 {
        let one = text(seed, 60 + seed % 60);
        texts.extend([edited(&one, 2, 25), edited(&one, 1, 45), edited(&one, 7, 60), edited(&one, 0, 90), one]);
    }
    let mut index = Index::new(0.8);
    let signatures: Vec<Signature> = texts.iter().map(|text| Signature::of(text)).collect();
    let sets: Vec<_> = texts.iter().map(|text| runs(text)).collect();
    let (mut pairs, mut found) = (0, 0);
    for (k, signature) in signatures.iter().enumerate() {
        let near: Vec<u32> =
            (0..k).filter(|other| share(&sets[*other], &sets[k]) >= 0.8).map(|other| other as u32).collect();
        let met: Vec<u32> = index.all(signature).iter().map(|found| found.text).collect();
        pairs += near.len();
        found += near.iter().filter(|id| met.contains(id)).count();
        assert!(met.iter().all(|id| near.contains(id)), "nothing below the threshold is called near");
        assert_eq!(index.nearest(signature).is_some(), !met.is_empty());
        index.insert(signature);
    }
    assert!(pairs > 80, "{pairs}");
    assert!(found as f64 >= 0.98 * pairs as f64, "{found} of {pairs}");
}

#[test]
fn bands_are_as_wide_as_the_threshold_allows() {
    assert_eq!([1.0, 0.95, 0.9, 0.8, 0.5, 0.2].map(width), [8, 8, 8, 6, 2, 1]);
}

#[test]
fn a_table_keeps_what_it_was_given() {
    let mut table = Table::new();
    for n in 0..20_000u32 {
        table.insert(mix(u64::from(n % 5_000)) as u32, n);
    }
    for tag in [0, 1, 4_999] {
        let mut texts: Vec<u32> = table.get(mix(tag) as u32).collect();
        texts.sort_unstable();
        assert_eq!(texts, [0, 1, 2, 3].map(|round| tag as u32 + round * 5_000));
    }
    assert_eq!(table.get(mix(77_777) as u32).count(), 0);
}
