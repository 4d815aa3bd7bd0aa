//! Texts to draw on: which of an instruction's `context` go into a prompt, within the recipe's budget.
//!
//! Where all fit, all of them stand in every prompt, in the instruction's order and before plan and text: the prompts of a
//! document then share that prefix. Where they do not, each step gets those nearest to it, after the text, so that the
//! shared prefix ends there and not before.

use std::borrow::Cow;
use std::collections::HashSet;

use bm25::{EmbedderBuilder, Scorer, Tokenizer};

use crate::domain::instruction::{Context, Instruction};
use crate::domain::recipe::ContextRules;
use crate::text::shingles;

/// An excerpt shorter than this says nothing.
const MIN_EXCERPT_TOKENS: u64 = 32;

/// A context text as a prompt shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt<'a> {
    /// The id of the text in the instruction.
    pub id: &'a str,
    /// Cut at the end where the budget is.
    pub text: Cow<'a, str>,
}

/// The texts of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContextSelection<'a> {
    /// The same for all steps.
    pub always: Vec<Excerpt<'a>>,
    /// For this step only.
    pub near: Vec<Excerpt<'a>>,
}

impl ContextSelection<'_> {
    /// Ids of all of them.
    pub fn ids(&self) -> Vec<String> {
        self.always.iter().chain(&self.near).map(|excerpt| excerpt.id.to_owned()).collect()
    }
}

/// What a step's prompt shows.
pub fn for_step<'a>(rules: &ContextRules, instruction: &'a Instruction, main_point: &str) -> ContextSelection<'a> {
    if fits(rules, instruction) {
        return ContextSelection { always: whole(&instruction.context), near: Vec::new() };
    }
    // The step decides; the request only where the step's words occur nowhere.
    let near = nearest(rules, &instruction.context, &[main_point, &instruction.text()]);
    ContextSelection { always: Vec::new(), near }
}

/// What the plan's prompt shows.
pub fn for_plan<'a>(rules: &ContextRules, instruction: &'a Instruction) -> Vec<Excerpt<'a>> {
    if fits(rules, instruction) {
        return whole(&instruction.context);
    }
    nearest(rules, &instruction.context, &[&instruction.text()])
}

fn fits(rules: &ContextRules, instruction: &Instruction) -> bool {
    let tokens: u64 = instruction.context.iter().map(|item| shingles::tokens(&item.text)).sum();
    tokens <= u64::from(rules.max_tokens)
}

fn whole(context: &[Context]) -> Vec<Excerpt<'_>> {
    context.iter().map(|item| Excerpt { id: &item.id, text: Cow::Borrowed(&item.text) }).collect()
}

/// Those nearest to the first query, then to the next, as far as the budget goes. The last one may be cut; a text that
/// is too long for what is left makes room for a shorter one behind it only where cutting it would leave nothing.
fn nearest<'a>(rules: &ContextRules, context: &'a [Context], queries: &[&str]) -> Vec<Excerpt<'a>> {
    let mut room = u64::from(rules.max_tokens);
    let mut excerpts = Vec::new();
    for item in ranked(context, queries) {
        let tokens = shingles::tokens(&item.text);
        if tokens <= room {
            room -= tokens;
            excerpts.push(Excerpt { id: &item.id, text: Cow::Borrowed(&item.text) });
        } else if room >= MIN_EXCERPT_TOKENS
            && let Some(text) = cut(&item.text, room)
        {
            room = 0;
            excerpts.push(Excerpt { id: &item.id, text: Cow::Owned(text) });
        }
    }
    excerpts
}

/// In the order of relevance by BM25 to the first query that tells them apart, the others behind; equal ones in the order
/// of the instruction.
fn ranked<'a>(context: &'a [Context], queries: &[&str]) -> Vec<&'a Context> {
    let texts: Vec<&str> = context.iter().map(|item| item.text.as_str()).collect();
    let embedder = EmbedderBuilder::<u32, Terms>::with_tokenizer_and_fit_to_corpus(Terms, &texts).build();
    let mut scorer = Scorer::<usize>::new();
    for (place, text) in texts.iter().enumerate() {
        scorer.upsert(&place, embedder.embed(text));
    }
    let mut places: Vec<usize> = Vec::new();
    for query in queries {
        let mut found = scorer.matches(&embedder.embed(query));
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        places.extend(found.into_iter().map(|found| found.id));
    }
    places.extend(0..context.len());
    let mut seen = HashSet::new();
    places.into_iter().filter(|place| seen.insert(*place)).map(|place| &context[place]).collect()
}

/// The beginning of a text up to a sentence end within `room` tokens; none if not even one sentence fits.
fn cut(text: &str, room: u64) -> Option<String> {
    let mut end = 0;
    for sentence in shingles::sentences(text) {
        // Sentences are slices of the text.
        let until = sentence.as_ptr() as usize - text.as_ptr() as usize + sentence.len();
        if shingles::tokens(&text[..until]) > room {
            break;
        }
        end = until;
    }
    (end > 0).then(|| text[..end].to_owned())
}

/// Words without case; of scripts without spaces pairs of neighbours, as single characters occur everywhere.
#[derive(Debug, Clone, Copy)]
struct Terms;

impl Tokenizer for Terms {
    fn tokenize(&self, text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        let (mut word, mut before) = (String::new(), None);
        for c in text.chars() {
            if shingles::is_ideograph(c) {
                terms.extend(before.map(|before| [before, c].iter().collect()));
                before = Some(c);
            } else {
                before = None;
                if c.is_alphanumeric() {
                    word.extend(c.to_lowercase());
                    continue;
                }
            }
            if !word.is_empty() {
                terms.push(std::mem::take(&mut word));
            }
        }
        if !word.is_empty() {
            terms.push(word);
        }
        terms
    }
}

#[cfg(test)]
mod tests {
    use longhand_proto::task::Message;

    use super::*;
    use crate::domain::language::Language;

    fn instruction(context: &[(&str, &str)], language: Language) -> Instruction {
        Instruction {
            id: None,
            messages: vec![Message { role: "user".into(), content: "Write about a harbour town.".into() }],
            language,
            required_words: None,
            context: context.iter().map(|(id, text)| Context { id: (*id).into(), text: (*text).into() }).collect(),
            metadata: serde_json::Map::new(),
            line: 1,
        }
    }

    fn long(text: &str) -> String {
        format!("{text} ").repeat(40)
    }

    #[test]
    fn all_that_fit_stand_in_every_prompt_in_their_order() {
        let instruction = instruction(&[("b", "The quay."), ("a", "The light.")], Language::En);
        let selection = for_step(&ContextRules { max_tokens: 100 }, &instruction, "the light at night");
        assert_eq!(selection.ids(), ["b", "a"]);
        assert!(selection.near.is_empty());
        assert_eq!(for_plan(&ContextRules { max_tokens: 100 }, &instruction).len(), 2);
        let none = for_step(&ContextRules { max_tokens: 0 }, &instruction, "the light at night");
        assert_eq!(none, ContextSelection::default());
    }

    #[test]
    fn a_step_gets_the_texts_nearest_to_it_within_the_budget() {
        let (fish, light, law) = (
            long("Herring is salted and sold in barrels."),
            long("The lighthouse keeper trims the lamp."),
            long("A court heard the case of the two captains."),
        );
        let instruction = instruction(&[("fish", &fish), ("light", &light), ("law", &law)], Language::En);
        let rules = ContextRules { max_tokens: 420 };
        for (point, id) in [
            ("How the lighthouse lamp is kept burning", "light"),
            ("the CAPTAINS before the court", "law"),
            ("who bought herring", "fish"),
        ] {
            assert_eq!(for_step(&rules, &instruction, point).ids()[0], id, "{point}");
        }
        let selection = for_step(&ContextRules { max_tokens: 100 }, &instruction, "the lighthouse");
        let [only] = selection.near.as_slice() else { panic!("{selection:?}") };
        assert!(shingles::tokens(&only.text) <= 100 && only.text.ends_with("trims the lamp."), "cut at a sentence end");
    }

    #[test]
    fn chinese_is_found_without_spaces() {
        let (fish, light) = (long("渔民把鲱鱼腌在木桶里出售。"), long("灯塔看守人每夜修剪灯芯。"));
        let instruction = instruction(&[("鱼", &fish), ("灯", &light)], Language::Zh);
        let rules = ContextRules { max_tokens: 600 };
        assert_eq!(for_step(&rules, &instruction, "灯塔的夜晚").ids()[0], "灯");
        assert_eq!(for_step(&rules, &instruction, "鲱鱼的买卖").ids()[0], "鱼");
    }

    #[test]
    fn a_step_whose_words_occur_nowhere_gets_what_is_nearest_to_the_request() {
        let (inland, harbour) = (long("Wheat grows on the plain."), long("A harbour lives by its ships."));
        let instruction = instruction(&[("inland", &inland), ("harbour", &harbour)], Language::En);
        assert_eq!(for_step(&ContextRules { max_tokens: 300 }, &instruction, "qwerty").ids()[0], "harbour");
    }
}
