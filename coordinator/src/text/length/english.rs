//! What English words around a figure say of it.

use std::sync::LazyLock;

use regex::Regex;

use super::bound::Bound;

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("a constant expression")
}

/// What before a figure says that it is about something else. Looked for in the same sentence.
static OTHER_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        // A text that is there already.
        r"(?i)\b(?:this|these|that|those|my|his|her|their|its|following|above|below|attached|existing|previous|original)(?:\s+\w+){0,2}\s*$",
        // Work on a text that is there, named right before the figure.
        r"|\b(?:summari[sz]e|shorten|condense|translate|proofread|edit|review|analy[sz]e|read|rewrite|paraphrase|cut)(?:\s+(?:a|an|the|down))*\s*$",
        // Words as things to know, to count or to say.
        r"|\b(?:learn|learned|memori[sz]e|know|knows|teach|list|lists|vocabulary|dictionary|typed?|types|speak|said|spoke|reads?|worth|flashcards|first|last|top|most\s+common|translated)(?:\s+\w+){0,3}\s*$",
        r"|\b(?:contains?|containing|contained|has|had|have|with\s+a\s+vocabulary\s+of)(?:\s+(?:about|around|over|some|only|more\s+than|nearly))?\s*$",
        r"|\b(?:office|microsoft)\s*$",
    ))
});

/// What before a figure says that it is about the text, whatever else stands there.
static SELF_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)\b(?:in|within|using|to|at\s+least|at\s+most|no\s+less\s+than|not\s+less\s+than|no\s+fewer\s+than|",
        r"no\s+more\s+than|not\s+more\s+than|minimum|maximum|up\s+to|length|long|essay|story|article|report|",
        r"write|written|exactly)(?:\s+(?:of|is|should\s+be|about|around|approximately|roughly|some|over|a))*[\s:]*$"
    ))
});

const PLURALS: &str = r"(?:essays|articles|stories|chapters|posts|pieces|sections|paragraphs|blogs|reports|entries|scenes|poems|reviews|summaries|emails|letters|descriptions|parts|episodes|acts|versions|drafts|speeches)";

/// What before a figure says that it is the length of one part of several.
static PART_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r"(?i)\beach\s+(?:of\s+)?(?:\w+\s+){{0,3}}(?:should|must|is|are|of|at|about|around|has|have|having|with|needs?|contain\w*|to)\b[^,.;:!?]*$|\b(?:each|every|per)\s+\w+\s*[:(=]\s*(?:about|around|approx\w*\.?|~)?\s*$|\b{PLURALS}(?:\s+(?:of|with|that|are|at|about|around|approximately|roughly|each|should|must|be|least|most))+\s*$"
    ))
});

/// What behind a figure says that it is about a part, a speed or a stock of words.
static OTHER_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        concat!(
            r"(?i)^[\s,(]*(?:(?:long\s+)?(?:each|apiece|per\b|every\b|an?\s+(?:day|minute|hour|week|month|page|chapter|section)|a\s+piece|/)|",
            r"(?:for|in)\s+(?:each|every)\b|",
            r"in\s+(?:the\s+)?(?:\w+\s+)?(?:dictionary|language|vocabulary|corpus|english|chinese|french|german)\b|",
            r"(?:that|which|from|known|spoken|vocabulary|list\b|document|problems?|puzzles?|of\s+(?:vocabulary|context))\b)|",
            r"^[\s-]+(?:\w+\s+)?{}\b"
        ),
        PLURALS
    ))
});

static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)(?:\bword\s*-?\s*(?:count|limit|target|length|goal|budget|range)|\bnumber\s+of\s+words|\blength\s+in\s+words|\blength\s*\(words\)|\bwords\s*[:=])",
        r"(?:[\s:=*()~≈>≥]|\b(?:should|must|be|is|of|at|about|around|approx(?:imately)?\.?|roughly|between|from|a|set|to|",
        r"least|most|minimum|maximum|up|no|more|less|fewer|than)\b)*$"
    ))
});

/// What a figure behind a label must not count.
static OTHER_UNIT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^\s*(?:%|percent|characters|letters|pages|lines|chapters|sections|paragraphs|sentences|per\b|each\b|/)",
    )
});

static LEAST_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(?:\b(?:at\s+least|no\s+less\s+than|not\s+less\s+than|no\s+fewer\s+than|not\s+fewer\s+than|more\s+than|over|exceeding|minimum(?:\s+of)?|min\.?)|[>≥])[\s:]*(?:a|of)?\s*$",
    )
});

static MOST_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(?:\b(?:at\s+most|no\s+more\s+than|not\s+more\s+than|fewer\s+than|less\s+than|under|below|up\s+to|maximum(?:\s+of)?|max\.?|not\s+exceed(?:ing)?|limit(?:\s+of)?)|[<≤])[\s:]*(?:a|of)?\s*$",
    )
});

static NO_LESS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(?:no|not)\s+(?:less|fewer)\s+than[\s:]*(?:a|of)?\s*$"));

static NO_MORE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(?:no|not)\s+(?:more\s+than|exceeding)[\s:]*(?:a|of)?\s*$"));

static LEAST_AFTER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)^[\s,(]*(?:or\s+more|minimum|min\b|at\s+least|and\s+up\s*[.,;)]|plus\b|\+)"));

static MOST_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)^[\s,(]*(?:or\s+(?:less|fewer|under)|maximum|max\b|at\s+(?:the\s+)?most|tops\b|limit\b)")
});

static TOTAL_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)^[\s,(]*(?:(?:long\s+)?in\s+(?:total|all)\b|total\b|overall\b|altogether\b|combined\b)")
});

static TOTAL_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\b(?:total(?:l?ing)?|altogether)(?:[\s:]|\b(?:of|length|is|should\s+be|about|around)\b)*$")
});

static ENDS_CLAUSE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)^\s*(?:$|[.,;!?)\]]|(?:about|on|in|for|and|but|or|please|regarding)\b)"));

static BETWEEN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\bbetween\s+(?:about\s+|around\s+|roughly\s+)?$"));

static VAGUE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(?:few|several|couple(?:\s+of)?|many|dozens\s+of|tens\s+of)\s+$"));

/// Whether words around a figure say that it is not the length of the text to write.
pub(super) fn about_other(before: &str, after: &str) -> bool {
    let sentence = sentence_before(before);
    OTHER_BEFORE.is_match(sentence) && !SELF_BEFORE.is_match(sentence)
        || PART_BEFORE.is_match(line_before(before))
        || OTHER_AFTER.is_match(after)
}

/// "word count: 3000", "a word limit of 2,000".
pub(super) fn labelled(before: &str, after: &str) -> bool {
    LABEL.is_match(line_before(before)) && !OTHER_UNIT.is_match(after)
}

/// What the words around a figure make of it, if anything.
pub(super) fn bound(before: &str, after: &str) -> Option<Bound> {
    let before = line_before(before);
    if NO_LESS.is_match(before) {
        Some(Bound::Least)
    } else if NO_MORE.is_match(before) {
        Some(Bound::Most)
    } else if LEAST_BEFORE.is_match(before) || LEAST_AFTER.is_match(after) {
        Some(Bound::Least)
    } else if MOST_BEFORE.is_match(before) || MOST_AFTER.is_match(after) {
        Some(Bound::Most)
    } else {
        None
    }
}

/// Said of all parts together.
pub(super) fn is_total(before: &str, after: &str) -> bool {
    TOTAL_AFTER.is_match(after) || TOTAL_BEFORE.is_match(line_before(before))
}

/// Nothing that could be counted follows.
pub(super) fn ends_clause(after: &str) -> bool {
    ENDS_CLAUSE.is_match(after)
}

/// The first of two numbers with "and" between them follows.
pub(super) fn between(before: &str) -> bool {
    BETWEEN.is_match(line_before(before))
}

/// "several", "a few": the number behind says nothing.
pub(super) fn vague(before: &str) -> bool {
    VAGUE.is_match(line_before(before))
}

/// The end of `text` on the same line.
fn line_before(text: &str) -> &str {
    /// More than any expression here looks back.
    const REACH: usize = 160;
    let line = &text[text.rfind('\n').map_or(0, |at| at + 1)..];
    line.char_indices().rev().nth(REACH).map_or(line, |(at, _)| &line[at..])
}

/// The end of `text` that belongs to the sentence that goes on behind it.
fn sentence_before(text: &str) -> &str {
    let text = line_before(text);
    let start = text.rfind(['!', '?', ';', ':']).map_or(0, |at| at + 1);
    let start = text.rfind(". ").map_or(start, |at| start.max(at + 2));
    &text[start..]
}
