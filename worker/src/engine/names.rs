//! Names that a text is to keep to, so that no penalty on repetition changes "Sarah" to "Sally".

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct NameSet {
    /// Distinct, in order.
    names: Vec<String>,
    /// Characters of the longest.
    longest: usize,
}

/// Where a text stands among the names.
#[derive(Debug)]
pub struct Here<'a> {
    set: &'a NameSet,
    /// What may follow of the names that the text has begun.
    rests: Vec<&'a str>,
}

impl NameSet {
    /// Empty ones are left out.
    pub fn new(names: &[String]) -> Self {
        let mut names: Vec<String> = names.iter().filter(|name| !name.is_empty()).cloned().collect();
        names.sort_unstable();
        names.dedup();
        Self { longest: names.iter().map(|name| name.chars().count()).max().unwrap_or(0), names }
    }

    /// The names that begin with these bytes.
    fn with_prefix(&self, prefix: &[u8]) -> &[String] {
        let begin = self.names.partition_point(|name| name.as_bytes() < prefix);
        let len = self.names[begin..].partition_point(|name| name.as_bytes().starts_with(prefix));
        &self.names[begin..begin + len]
    }

    /// After `text`. Takes time in proportion to the longest name.
    pub fn after<'a>(&'a self, text: &str) -> Here<'a> {
        let mut rests = Vec::new();
        for (at, _) in text.char_indices().rev().take(self.longest.saturating_sub(1)) {
            let begun = &text[at..];
            rests.extend(self.with_prefix(begun.as_bytes()).iter().map(|name| &name[begun.len()..]));
        }
        rests.retain(|rest| !rest.is_empty());
        Here { set: self, rests }
    }
}

impl Here<'_> {
    /// True if a token with these bytes begins a name or goes on with one. In scripts without spaces it may also end a name
    /// and go on.
    pub fn writes_name(&self, token: &[u8]) -> bool {
        let word = token.strip_prefix(b" ").unwrap_or(token);
        let ends = |name: &str| !name.is_ascii() && word.starts_with(name.as_bytes());
        let goes_on = |rest: &&str| rest.as_bytes().starts_with(token) || ends(rest);
        let begins = || !self.set.with_prefix(word).is_empty() || self.set.names.iter().any(|name| ends(name));
        !word.is_empty() && (self.rests.iter().any(goes_on) || begins())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_begin_or_go_on_with_a_name_are_found() {
        let set = NameSet::new(&["Marrygate", "金钱帮", "林原", ""].map(String::from));
        let writes = |text: &str, token: &str| set.after(text).writes_name(token.as_bytes());
        assert!(writes("she left", " Marry") && writes("she left Marry", "gate") && writes("", "Mar"));
        assert!(!writes("she left", " Marsh") && !writes("she left", "gate") && !writes("she left", " Marrygateway"));
        assert!(
            writes("来到", "金") && writes("来到金", "钱") && writes("来到金", "钱帮") && writes("来到", "金钱帮的")
        );
        assert!(!writes("来到金", "海") && !writes("来到", "钱") && !writes("来到", "") && !writes("来到", " "));
        let bytes = "林".as_bytes();
        assert!(set.after("").writes_name(&bytes[..2]), "a part of a character");
        assert!(!NameSet::default().after("来到").writes_name(b"a"));
    }
}
