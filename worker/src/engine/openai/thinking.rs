//! A model's thoughts in its text: marked blocks that a server should have kept apart. At the head of a text they are taken
//! off; anywhere else the text cannot be trusted.

/// Marks of the families that models use: the beginning of a thought, and its end.
const MARKS: [(&str, &str); 12] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[think]", "[/think]"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    // The end of the same where a server leaves out special tokens.
    ("<|message|>", "assistantfinal"),
];
/// The longest mark has 30 bytes.
const MAX_MARK_BYTES: usize = 32;

/// Takes thoughts off a text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct ThoughtFilter {
    state: State,
    /// At the head: what may still become a mark. In a thought and in the text: their last bytes, in lower case.
    held: String,
    /// A thought was taken off.
    stripped: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// Its end.
    Thought(&'static str),
    Text,
}

/// What follows from a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filtered {
    /// This is text.
    Text(String),
    /// All before was a thought without its beginning, which the prompt held; this is text.
    Restart(String),
    /// A mark in the middle of the text.
    Misplaced(&'static str),
}

impl ThoughtFilter {
    pub(super) fn push(&mut self, piece: &str) -> Filtered {
        match self.state {
            State::Head => {
                self.held.push_str(piece);
                self.read_head()
            }
            State::Thought(end) => {
                self.held.push_str(piece);
                // Bytes that are not ASCII keep their places.
                let lower = self.held.to_ascii_lowercase();
                if let Some(at) = lower.find(end) {
                    self.held.drain(..at + end.len());
                    (self.state, self.stripped) = (State::Head, true);
                    return self.read_head();
                }
                self.keep_tail();
                Filtered::Text(String::new())
            }
            State::Text => self.read_text(piece),
        }
    }

    /// What was held back at the end, or the mark of a thought that did not end.
    pub(super) fn finish(&mut self) -> Result<String, &'static str> {
        match self.state {
            State::Head => Ok(std::mem::take(&mut self.held)),
            State::Thought(end) => Err(end),
            State::Text => Ok(String::new()),
        }
    }

    fn read_head(&mut self) -> Filtered {
        let lower = self.held.trim_start().to_ascii_lowercase();
        if let Some((begin, end)) = MARKS.iter().find(|(begin, _)| lower.starts_with(begin)) {
            let thought = self.held.trim_start()[begin.len()..].to_owned();
            (self.state, self.held) = (State::Thought(end), String::new());
            return self.push(&thought);
        }
        if MARKS.iter().any(|(begin, end)| begin.starts_with(&lower) || end.starts_with(&lower)) {
            return Filtered::Text(String::new());
        }
        self.state = State::Text;
        let held = std::mem::take(&mut self.held);
        self.read_text(if self.stripped { held.trim_start() } else { &held })
    }

    fn read_text(&mut self, piece: &str) -> Filtered {
        let known = self.held.len();
        self.held.push_str(&piece.to_ascii_lowercase());
        if let Some((at, mark, is_end)) = first_mark(&self.held) {
            let behind = (at + mark.len()).saturating_sub(known);
            if !is_end || self.stripped {
                return Filtered::Misplaced(mark);
            }
            (self.state, self.stripped, self.held) = (State::Head, true, piece[behind..].to_owned());
            return match self.read_head() {
                Filtered::Text(text) => Filtered::Restart(text),
                other @ (Filtered::Restart(_) | Filtered::Misplaced(_)) => other,
            };
        }
        self.keep_tail();
        Filtered::Text(piece.to_owned())
    }

    fn keep_tail(&mut self) {
        let mut from = self.held.len().saturating_sub(MAX_MARK_BYTES);
        while !self.held.is_char_boundary(from) {
            from += 1;
        }
        self.held.drain(..from);
    }
}

/// The first mark in a text, and whether it is an end.
fn first_mark(text: &str) -> Option<(usize, &'static str, bool)> {
    let marks = MARKS.iter().flat_map(|(begin, end)| [(*begin, false), (*end, true)]);
    marks.filter_map(|(mark, is_end)| Some((text.find(mark)?, mark, is_end))).min_by_key(|(at, ..)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that is left of `whole`, given in pieces of `size` characters.
    fn filtered(whole: &str, size: usize) -> Result<String, &'static str> {
        let (mut filter, mut text) = (ThoughtFilter::default(), String::new());
        let chars: Vec<char> = whole.chars().collect();
        for piece in chars.chunks(size) {
            match filter.push(&piece.iter().collect::<String>()) {
                Filtered::Text(piece) => text.push_str(&piece),
                Filtered::Restart(piece) => text = piece,
                Filtered::Misplaced(mark) => return Err(mark),
            }
        }
        text.push_str(&filter.finish()?);
        Ok(text)
    }

    #[test]
    fn thoughts_are_taken_off_the_head_and_refused_elsewhere() {
        for (whole, expected) in [
            ("<think>Hm.</think>\n\nThe harbour.", Ok("The harbour.")),
            ("\n<think>\n</think>\nThe harbour.", Ok("The harbour.")),
            ("<THINK>a < b</THINK>The harbour.", Ok("The harbour.")),
            ("<think>a</think><think>b</think> The harbour.", Ok("The harbour.")),
            ("I should write.\n</think>\nThe harbour.", Ok("The harbour.")),
            ("</think>The harbour.", Ok("The harbour.")),
            ("[THINK]Hm[/THINK]The harbour.", Ok("The harbour.")),
            ("◁think▷嗯◁/think▷港口。", Ok("港口。")),
            ("<seed:think>Hm</seed:think>The harbour.", Ok("The harbour.")),
            ("<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Text.", Ok("Text.")),
            ("analysisWe need a text.assistantfinalThe harbour.", Ok("The harbour.")),
            ("The harbour.<think>Hm</think>", Err("<think>")),
            ("<think>a</think>The harbour.</think> More.", Err("</think>")),
            ("<think>It never ends.", Err("</think>")),
            ("The harbour < the sea [1] <b>.", Ok("The harbour < the sea [1] <b>.")),
            ("  An indented text.", Ok("  An indented text.")),
            ("<thi", Ok("<thi")),
            ("", Ok("")),
        ] {
            for size in [1, 2, 5, 1000] {
                assert_eq!(filtered(whole, size).as_deref(), expected.as_ref().copied(), "{whole:?} by {size}");
            }
        }
    }
}
