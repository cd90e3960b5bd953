//! Card numbers, which Tollgate never takes: whoever stores one answers for it.

/// Whether a text has a run of 13 to 19 digits, spaces and dashes between them allowed, that could be
/// a card's number: one in ten such runs passes the check by chance, so ids are not to be checked.
pub fn contains_card_number(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, ' ' | '-');
    text.split(|c| !is_part(c)).any(|run| {
        let digits: Vec<u32> = run.chars().filter_map(|c| c.to_digit(10)).collect();
        (13..=19).contains(&digits.len()) && passes_luhn(&digits)
    })
}

/// Every second digit from the right is doubled, its own digits added up; the sum ends in 0.
fn passes_luhn(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let terms = digits.iter().rev().enumerate();
    let sum: u32 = terms.map(|(n, digit)| if n % 2 == 1 { doubled(*digit) } else { *digit }).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::contains_card_number;

    #[test]
    fn a_test_card_is_found_however_it_is_written() {
        for text in
            ["4242424242424242", "4242 4242 4242 4242", "pay with 4242-4242-4242-4242!", "378282246310005"]
        {
            assert!(contains_card_number(text), "{text}");
        }
        for text in ["4242424242424241", "Anna 1984", "424242424242", "", "2026-11-24 12:00"] {
            assert!(!contains_card_number(text), "{text}");
        }
    }
}
