//! Bounds on lists that a template adds. The engine counts the steps of a loop and the bytes of a text, but a list plus a list
//! costs it nothing until a chain of 33 sums is made one list at once: a list that is doubled forty times has as many elements
//! as there are bytes in a terabyte.
//!
//! So each sum passes a filter, which makes a list of it or refuses. Which part of a tag is a sum follows from the signs and
//! words that bind less than `+`; a sum within brackets is one of its own.

use longhand_proto::template::literal_len;
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// Name of the filter.
pub(super) const FILTER: &str = "longhand_sum";
/// Most elements of a list that was added.
const MAX_ELEMENTS: usize = 100_000;
/// Additions after which the sum so far passes the filter.
const MAX_ADDITIONS: usize = 16;

/// A list becomes one that is no chain of others; anything else stays as it is.
pub(super) fn bounded(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if value.is_tuple() || !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(value);
    }
    if value.len().is_none_or(|len| len > MAX_ELEMENTS) {
        let message = format!("a sum of lists has more than {MAX_ELEMENTS} elements");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    state.consume_fuel(value.len().unwrap_or(0) as u64)?;
    value.try_iter().map(|items| items.collect::<Vec<_>>().into())
}

/// A part of a tag in which `+` binds most.
#[derive(Default)]
struct Region {
    /// Where it begins in what is written.
    start: usize,
    additions: usize,
    multiplies: bool,
}

/// The tag `{{ … }}` or `{% … %}` with its sums passed through the filter.
pub(super) fn with_bounded_sums(tag: &str) -> String {
    let close = tag.len().saturating_sub(if tag.ends_with("}}") || tag.ends_with("%}") { 2 } else { 0 });
    let mut out = String::with_capacity(tag.len() + 32);
    out.push_str(&tag[..2]);
    let mut at = 2 + usize::from(tag[2..close.max(2)].starts_with(['-', '+']));
    out.push_str(&tag[2..at]);
    let end = close - usize::from(close > at && tag[..close].ends_with(['-', '+']));
    // The region of each open bracket, the innermost last.
    let mut regions = vec![Region { start: out.len(), ..Region::default() }];
    // The first word of a statement is its name, and those behind `is` are a test.
    let (mut first, mut tests) = (tag.starts_with("{%"), false);
    while at < end {
        let rest = &tag[at..end];
        let token = &rest[..token_len(rest)];
        at += token.len();
        if token.trim().is_empty() {
            out.push_str(token);
            continue;
        }
        let divides = first || divides(token, tests);
        first = false;
        tests = token == "is" || tests && token == "not";
        let Some(region) = regions.last_mut() else { break };
        match token {
            "(" | "[" | "{" => {
                out.push_str(token);
                regions.push(Region { start: out.len(), ..Region::default() });
                continue;
            }
            ")" | "]" | "}" => {
                region.end(&mut out);
                if regions.len() > 1 {
                    regions.pop();
                }
            }
            // The star of `f(*list)` has nothing before it.
            "*" => region.multiplies |= !out[region.start..].trim_matches([' ', '\n', '*']).is_empty(),
            "+" => {
                if region.additions >= MAX_ADDITIONS {
                    let start = region.start;
                    region.end(&mut out);
                    region.start = start;
                }
                region.additions += 1;
            }
            _ if divides => region.end(&mut out),
            _ => {}
        }
        out.push_str(token);
        if divides {
            region_start(&mut regions, out.len());
        }
    }
    regions.iter_mut().rev().take(1).for_each(|region| region.end(&mut out));
    out.push_str(&tag[end.max(at)..]);
    out
}

/// Bytes of the text in quotes, word or sign that `rest` begins with.
fn token_len(rest: &str) -> usize {
    let first = rest.chars().next();
    match first {
        Some('\'' | '"') => literal_len(rest),
        _ if is_word(first) => rest.find(|c| !is_word(Some(c))).unwrap_or(rest.len()),
        _ => first.map_or(0, char::len_utf8),
    }
}

/// True for what binds less than `+`.
fn divides(token: &str, tests: bool) -> bool {
    match token {
        "not" => !tests,
        _ if tests => false,
        "set" | "if" | "elif" | "else" | "for" | "in" | "and" | "or" | "recursive" | "with" => true,
        "," | "=" | "<" | ">" | "!" | ":" => true,
        _ => false,
    }
}

fn region_start(regions: &mut [Region], start: usize) {
    if let Some(region) = regions.last_mut() {
        region.start = start;
    }
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

impl Region {
    /// What was written of it passes the filter, if it adds or multiplies.
    fn end(&mut self, out: &mut String) {
        let written = &out[self.start..];
        if self.additions > 0 || self.multiplies {
            let sum = written.trim();
            let begin = self.start + (written.len() - written.trim_start().len());
            let finish = begin + sum.len();
            out.insert_str(finish, &format!(")|{FILTER})"));
            out.insert_str(begin, "((");
        }
        *self = Self { start: out.len(), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_what_binds_less_than_it() {
        for (tag, sums) in [
            ("{{ a }}", "{{ a }}"),
            ("{{- a + b -}}", "{{- ((a + b)|SUM) -}}"),
            ("{%+ if a + 1 == b|length +%}", "{%+ if ((a + 1)|SUM) == b|length +%}"),
            (
                "{% set x = a + b ~ c if d + e else [f + g] %}",
                "{% set x = ((a + b ~ c)|SUM) if ((d + e)|SUM) else [((f + g)|SUM)] %}",
            ),
            (
                "{% for x in a + b if not x + y is not none %}",
                "{% for x in ((a + b)|SUM) if not ((x + y is not none)|SUM) %}",
            ),
            (
                "{{ f(a + b, c=d * 2)[i + 1:] + 'x + y' }}",
                "{{ ((f(((a + b)|SUM), c=((d * 2)|SUM))[((i + 1)|SUM):] + 'x + y')|SUM) }}",
            ),
            ("{{ f(*a, **b) }}", "{{ f(*a, **b) }}"),
            ("{{ {'a': b + c} }}", "{{ {'a': ((b + c)|SUM)} }}"),
            ("{{ a is in b and c }}", "{{ a is in b and c }}"),
        ] {
            assert_eq!(with_bounded_sums(tag), sums.replace("SUM", FILTER), "{tag}");
        }
        let long = format!("{{{{ a{} }}}}", " + b".repeat(40));
        assert_eq!(with_bounded_sums(&long).matches(FILTER).count(), 3, "{long}");
    }
}
