//! The numbers that people call an invoice or a credit note by: 1, 2, 3 of each tenant, without a hole.

/// An invoice's number; reads as `INV-000123`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvoiceNumber(pub i64);

/// A credit note's number; reads as `CN-000123`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CreditNoteNumber(pub i64);

impl std::fmt::Display for InvoiceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "INV-{:06}", self.0)
    }
}

impl std::fmt::Display for CreditNoteNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CN-{:06}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_six_digits_at_least() {
        assert_eq!(InvoiceNumber(123).to_string(), "INV-000123");
        assert_eq!(CreditNoteNumber(1_234_567).to_string(), "CN-1234567");
    }
}
