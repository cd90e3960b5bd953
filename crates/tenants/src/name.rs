//! Names that people give.

use domain::Refusal;
use domain::card::contains_card_number;

/// 1 to 200 characters, none of them a control character, and no card's number among them.
pub(crate) fn check(name: &str) -> Result<(), Refusal> {
    let is_valid = (1..=200).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if !is_valid {
        return Err(Refusal::invalid_field("/name", "not-a-name"));
    }
    if contains_card_number(name) { Err(Refusal::CardDataRefused) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_name_is_1_to_200_characters() {
        for good in ["A", "Caf\u{e9} \u{5c0f}\u{7c73}", &"\u{e9}".repeat(200)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a\0", "a\nb", "\u{85}", &"x".repeat(201), "4242 4242 4242 4242"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
