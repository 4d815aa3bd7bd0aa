//! Grammars in GBNF, the notation of llama.cpp: character-level rules, without terminals. SGLang and vLLM read it too.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// Translates the part of Lark that our own grammars use: rules of strings, names, groups and `?`, terminals that are one
/// regular expression. None for anything else.
pub(super) fn from_lark(lark: &str) -> Option<String> {
    let mut text = String::new();
    for line in lark.lines().filter(|line| !line.trim().is_empty()) {
        let (name, body) = line.split_once(':')?;
        let body = body.trim();
        let body = match body.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(pattern) => from_pattern(pattern)?,
            None => from_rule(body)?,
        };
        writeln!(text, "{} ::= {body}", rule_name(name.trim())).ok()?;
    }
    Some(text)
}

fn rule_name(name: &str) -> String {
    if name == "start" { "root".to_owned() } else { name.to_lowercase().replace('_', "-") }
}

fn from_rule(body: &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                text.push('"');
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => text.push_str(&escape_code(escaped(chars.next()?)?)),
                        c => literal(&mut text, c),
                    }
                }
                text.push('"');
            }
            ' ' | '(' | ')' | '|' | '?' | '*' | '+' => text.push(c),
            c if c.is_ascii_alphabetic() => {
                let mut name = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                text.push_str(&rule_name(&name));
            }
            _ => return None,
        }
    }
    Some(text)
}

fn from_pattern(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '[' => character_class(&mut text, &mut chars)?,
            '(' | ')' | '|' => {
                text.push(' ');
                text.push(c);
            }
            '?' | '*' | '+' => text.push(c),
            '{' => {
                text.push('{');
                while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || *c == ',') {
                    text.push(c);
                }
                text.push(chars.next_if_eq(&'}')?);
            }
            '.' | '^' | '$' => return None,
            c => {
                let c = if c == '\\' { escaped(chars.next()?)? } else { c };
                text.push_str(" \"");
                literal(&mut text, c);
                text.push('"');
            }
        }
    }
    Some(text.trim_start().to_owned())
}

/// A character class, after its opening bracket.
fn character_class(text: &mut String, chars: &mut Peekable<Chars<'_>>) -> Option<()> {
    text.push_str(" [");
    if chars.next_if_eq(&'^').is_some() {
        text.push('^');
    }
    loop {
        match chars.next()? {
            ']' => break,
            '\\' => match chars.next()? {
                's' => [' ', '\t', '\n', '\r'].into_iter().for_each(|c| text.push_str(&escape_code(c))),
                c => text.push_str(&escape_code(escaped(c)?)),
            },
            // Between two characters a range; at the end itself.
            '-' if chars.peek() != Some(&']') => text.push('-'),
            c if c.is_ascii_alphanumeric() => text.push(c),
            c => text.push_str(&escape_code(c)),
        }
    }
    text.push(']');
    Some(())
}

fn escaped(c: char) -> Option<char> {
    match c {
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        c if c.is_ascii_punctuation() => Some(c),
        _ => None,
    }
}

fn literal(text: &mut String, c: char) {
    match c {
        ' ' => text.push(' '),
        c if c.is_alphanumeric() || (c.is_ascii_punctuation() && !matches!(c, '"' | '\\')) => text.push(c),
        c => text.push_str(&escape_code(c)),
    }
}

/// A character by its code point, which every parser reads in the same way.
fn escape_code(c: char) -> String {
    match u32::from(c) {
        number @ 0..=0xff => format!("\\x{number:02X}"),
        number @ 0x100..=0xffff => format!("\\u{number:04X}"),
        number => format!("\\U{number:08X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_patterns_are_translated() {
        let lark = "start: line1\nREST: /[A-Z\\s](x\\-|[^\\n。]){2,3}([2-9][0-9]{2}|1000)段?/\nline1: \"No. 1：\" REST (\"\\n\" line1)?\n";
        let want = "root ::= line1\n\
                    rest ::= [A-Z\\x20\\x09\\x0A\\x0D] ( \"x\" \"-\" | [^\\x0A\\u3002] ){2,3} ( [2-9] [0-9]{2} | \"1\" \"0\" \"0\" \"0\" ) \"段\"?\n\
                    line1 ::= \"No. 1\\uFF1A\" rest (\"\\x0A\" line1)?\n";
        assert_eq!(from_lark(lark).unwrap(), want);
    }

    #[test]
    fn what_has_no_equivalent_is_left_to_the_coordinator() {
        for lark in ["start: /a.b/", "start: a ~ 3", "start: /\\d/", "no rule"] {
            assert_eq!(from_lark(lark), None, "{lark}");
        }
    }
}
