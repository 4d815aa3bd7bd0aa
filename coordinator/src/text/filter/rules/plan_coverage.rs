//! The rule about sections that are not on their step's subject.

use std::collections::HashSet;

use crate::domain::document::Assembled;
use crate::domain::language::Language;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "plan_coverage",
    key: "min_plan_coverage",
    measures: "mean share of a step's key terms in its section",
    stage: Stage::Document,
    bound: Bound::AtLeast,
    default: Threshold::Number(0.2),
    off: Threshold::Number(0.0),
    range: Rule::SHARE,
    first_version: false,
    measure,
};

/// Steps of fewer terms say too little to be looked for.
const FEW: usize = 2;
/// Letters by which forms of one word are known: "sailing" and "sailors" tell of the same.
const STEM: usize = 5;

/// English words that name no subject.
const COMMON: &str = " about above after again also although always among another around because before being below between \
    both could does doing during each even every first from have having here however important including into itself just \
    last like made make makes making many more most much must never next only other over paragraph part section shall should \
    show shows since some such than that their them then there these they this those through under until upon using very \
    what when where which while will with within without would your introduce introduces introduction describe describes \
    describing discuss discusses discussing explain explains explaining explore explores exploring conclude concludes \
    conclusion overview various different ";
/// Chinese characters that name none.
const FUNCTION: &str =
    "的了和与及或是在对其以为并将从中等这那之于而也就都把被让使由到上下们个一不有我你他她它所地得着过";

/// Mean share of the key terms of a step's main point that its section holds; none if no step has enough of them.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let language = document.instruction.language;
    let steps = document.plan.steps.iter().zip(document.sections).enumerate();
    let shares: Vec<(usize, f64)> = steps
        .filter_map(|(at, (step, section))| {
            let wanted = terms(&step.main_point, language);
            if wanted.len() < FEW {
                return None;
            }
            let written = all_terms(&section.text, language);
            Some((at, wanted.intersection(&written).count() as f64 / wanted.len() as f64))
        })
        .collect();
    let (at, least) = shares.iter().copied().min_by(|one, other| one.1.total_cmp(&other.1))?;
    let value = shares.iter().map(|(_, share)| share).sum::<f64>() / shares.len() as f64;
    Some(Measure { value, detail: format!("section {} holds {:.0} % of its step's key terms", at + 1, least * 100.0) })
}

/// Terms of a main point that say what it is about.
fn terms(point: &str, language: Language) -> HashSet<String> {
    let all = all_terms(point, language);
    all.into_iter().filter(|term| !term.chars().any(|c| FUNCTION.contains(c)) && !is_common(term, point)).collect()
}

/// True if every word of `point` with this stem is a common one.
fn is_common(term: &str, point: &str) -> bool {
    words(point).filter(|word| stem(word) == term).all(|word| COMMON.contains(&format!(" {word} "))) && term.is_ascii()
}

/// Stems of words with four letters or more, and pairs of Chinese characters.
fn all_terms(text: &str, language: Language) -> HashSet<String> {
    let mut terms: HashSet<String> =
        words(text).filter(|word| word.len() >= 4).map(|word| stem(&word).to_owned()).collect();
    if language == Language::Zh {
        let chars: Vec<char> = text.chars().collect();
        let pairs = chars.windows(2).filter(|pair| pair.iter().all(|c| shingles::is_ideograph(*c)));
        terms.extend(pairs.map(|pair| pair.iter().collect::<String>()));
    }
    terms
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase)
}

fn stem(word: &str) -> &str {
    &word[..word.len().min(STEM)]
}
