//! Counts in sentences.

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun: `1 document`, `1,234 documents`.
pub fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators_and_a_plural() {
        assert_eq!(
            (grouped(7).as_str(), grouped(999).as_str(), grouped(1_234_567).as_str()),
            ("7", "999", "1,234,567")
        );
        assert_eq!((plural(1, "document"), plural(0, "document")), ("1 document".into(), "0 documents".into()));
        assert_eq!(plural(12_000, "row"), "12,000 rows");
    }
}
