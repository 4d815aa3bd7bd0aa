//! Sentence patterns: texts with slots, and with parts of which the draw takes one.

use longhand_proto::rng::Sequence;

/// What a pattern has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The form with its subject.
    Text,
    /// The number of words.
    Words,
    /// For whom the text is.
    Reader,
    /// How it should sound.
    Tone,
}

impl Slot {
    const ALL: [Self; 4] = [Self::Text, Self::Words, Self::Reader, Self::Tone];

    const fn name(self) -> &'static str {
        match self {
            Self::Text => "{text}",
            Self::Words => "{words}",
            Self::Reader => "{reader}",
            Self::Tone => "{tone}",
        }
    }
}

/// A stretch of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Slot(Slot),
}

#[derive(Debug, Clone)]
enum Part {
    Piece(Piece),
    /// One of these is taken.
    Choice(Vec<Vec<Piece>>),
}

/// A pattern, read.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Vec<Part>);

/// What fills the slots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) text: &'a str,
    pub(super) words: &'a str,
    pub(super) reader: &'a str,
    pub(super) tone: &'a str,
}

impl Values<'_> {
    const fn of(&self, slot: Slot) -> &str {
        match slot {
            Slot::Text => self.text,
            Slot::Words => self.words,
            Slot::Reader => self.reader,
            Slot::Tone => self.tone,
        }
    }
}

/// A pattern with one part taken of each choice.
#[derive(Debug, Clone)]
pub(super) struct Sentence(Vec<Piece>);

impl Pattern {
    /// Reads `literal {slot} (one|other|)`.
    ///
    /// # Errors
    /// What is wrong with it, and what to do about that.
    pub(super) fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['(', ')']) {
            parts.extend(pieces(&rest[..at])?.into_iter().map(Part::Piece));
            let close = rest[at + 1..].find(['(', ')']).map(|end| at + 1 + end);
            let Some(end) = close.filter(|end| rest[at..].starts_with('(') && rest[*end..].starts_with(')')) else {
                return Err((
                    "unpaired or nested parenthesis".into(),
                    "close each `(` with one `)`, and do not nest them",
                ));
            };
            let options = rest[at + 1..end].split('|').map(pieces).collect::<Result<Vec<_>, _>>()?;
            parts.push(Part::Choice(options));
            rest = &rest[end + 1..];
        }
        parts.extend(pieces(rest)?.into_iter().map(Part::Piece));
        for slot in [Slot::Text, Slot::Words] {
            let is = |piece: &Piece| *piece == Piece::Slot(slot);
            let always = |part: &Part| match part {
                Part::Piece(piece) => is(piece),
                Part::Choice(options) => options.iter().all(|option| option.iter().any(is)),
            };
            if !parts.iter().any(always) {
                let remedy =
                    "put {text} and {words} into each pattern: outside of parentheses, or into each part of a choice";
                return Err((format!("{} is missing", slot.name()), remedy));
            }
        }
        Ok(Self(parts))
    }

    /// Takes a part of each choice.
    pub(super) fn choose(&self, random: &mut Sequence) -> Sentence {
        let mut chosen = Vec::new();
        for part in &self.0 {
            match part {
                Part::Piece(piece) => chosen.push(piece.clone()),
                Part::Choice(options) => chosen.extend(options[random.below(options.len())].iter().cloned()),
            }
        }
        Sentence(chosen)
    }

    /// True if a sentence of it may have the slot.
    pub(super) fn may_have(&self, slot: Slot) -> bool {
        let is = |piece: &Piece| *piece == Piece::Slot(slot);
        self.0.iter().any(|part| match part {
            Part::Piece(piece) => is(piece),
            Part::Choice(options) => options.iter().flatten().any(is),
        })
    }
}

impl Sentence {
    /// True if it has the slot.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.0.contains(&Piece::Slot(slot))
    }

    /// The text, with a capital where a slot begins a sentence.
    pub(super) fn fill(&self, values: &Values<'_>) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Slot(slot) => {
                    let value = values.of(*slot);
                    let begins = text.trim_end().is_empty() || [". ", "! ", "? "].iter().any(|end| text.ends_with(end));
                    let mut letters = value.chars();
                    match letters.next().filter(|_| begins) {
                        Some(first) => text.extend(first.to_uppercase().chain(letters)),
                        None => text.push_str(value),
                    }
                }
            }
        }
        text.trim().to_owned()
    }
}

/// Reads a stretch without choices.
fn pieces(text: &str) -> Result<Vec<Piece>, (String, &'static str)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let Some(slot) = Slot::ALL.into_iter().find(|slot| rest[at..].starts_with(slot.name())) else {
            let end = rest[at..].find('}').map_or(rest.len(), |end| at + end + 1);
            let problem = format!("unknown slot `{}`", &rest[at..end]);
            return Err((problem, "use {text}, {words}, {reader} or {tone}"));
        };
        if at > 0 {
            pieces.push(Piece::Literal(rest[..at].to_owned()));
        }
        pieces.push(Piece::Slot(slot));
        rest = &rest[at + slot.name().len()..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}
