//! An invoice as a PDF: A4 pages, set with fonts that are compiled in.
//!
//! [`Paper`] is all that is shown, as plain values; [`render`] sets it. `page` decides where everything
//! goes, as a list of texts and rules on pages, and can be tested without a PDF; `text` shapes and wraps;
//! `write` hands the list to the library that makes the file. The same paper gives the same bytes.
//!
//! # Characters
//! Latin, Greek, Cyrillic and Hebrew are set in Liberation Sans, Chinese, Japanese and Korean in Droid Sans
//! Fallback, each piece of a text in the first of them that has it. A character that neither has is
//! drawn as an empty box; copied from the PDF it is still itself. Texts run from left to right: a
//! right-to-left script is shaped piece by piece, and its pieces are not put in their own order.

#![allow(clippy::float_arithmetic, reason = "points on a page; no amount is a float here")]

mod page;
mod text;
mod write;

use chrono::NaiveDate;
use domain::invoice::InvoiceStatus;
use domain::numbering::{CreditNoteNumber, InvoiceNumber};
use domain::tax::Taxed;
use domain::{Currency, Money};

/// All that an invoice's PDF shows. Amounts are in the invoice's currency; dates are the tenant's days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paper {
    /// Who sells.
    pub seller: String,
    /// Who buys: a name, if there is one, and the seller's own id of the customer.
    pub buyer: Option<String>,
    pub buyer_ref: String,
    pub number: InvoiceNumber,
    pub status: InvoiceStatus,
    pub issued_on: NaiveDate,
    pub paid_on: Option<NaiveDate>,
    pub lines: Vec<PaperLine>,
    pub tax: Taxed,
    pub total: Money,
    /// What has been paid, oldest first.
    pub payments: Vec<PaperPayment>,
    /// What has gone back, oldest first.
    pub credit_notes: Vec<PaperCreditNote>,
}

/// A line of the invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaperLine {
    pub description: String,
    pub amount_minor: i64,
    /// Shown below the others, with the total.
    pub is_tax: bool,
}

/// A payment that has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaperPayment {
    pub paid_on: NaiveDate,
    pub amount_minor: i64,
}

/// A credit note of the invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaperCreditNote {
    pub number: CreditNoteNumber,
    pub issued_on: NaiveDate,
    pub total_minor: i64,
    pub tax_minor: i64,
}

/// The library refused to make the file: a bug.
#[derive(Debug, thiserror::Error)]
#[error("the PDF could not be made: {0}")]
pub struct NoPdf(String);

/// Sets an invoice as a PDF.
pub fn render(paper: &Paper) -> Result<Vec<u8>, NoPdf> {
    let fonts = text::Fonts::load()?;
    let pages = page::set(paper, &fonts);
    write::write(paper, &pages, &fonts)
}

/// `1,234.56`, and `−14.08` below zero.
fn amount(minor: i64, currency: Currency) -> String {
    let unit = 10_u64.pow(currency.minor_digits());
    let (whole, part) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
    let digits = whole.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if minor < 0 { "\u{2212}" } else { "" };
    format!("{sign}{grouped}.{part:0width$}", width = currency.minor_digits() as usize)
}

#[cfg(test)]
mod fixtures {
    use super::*;

    /// An invoice of so many lines of 1.00 each.
    pub(crate) fn paper(lines: usize) -> Paper {
        let day = |text: &str| text.parse().unwrap();
        let line = |n: usize| PaperLine {
            description: format!("Line {n} of what was bought"),
            amount_minor: 100,
            is_tax: false,
        };
        let mut all: Vec<PaperLine> = (0..lines).map(line).collect();
        all.push(PaperLine { description: "VAT 13%".to_owned(), amount_minor: 13, is_tax: true });
        Paper {
            seller: "Example AI".to_owned(),
            buyer: Some("Ada Lovelace".to_owned()),
            buyer_ref: "ada".to_owned(),
            number: InvoiceNumber(123),
            status: InvoiceStatus::Paid,
            issued_on: day("2026-01-31"),
            paid_on: Some(day("2026-01-31")),
            lines: all,
            tax: Taxed { rate_bps: 1_300, amount_minor: 13, is_included: false },
            total: Money { amount_minor: 4_213, currency: Currency::Usd },
            payments: vec![PaperPayment { paid_on: day("2026-01-31"), amount_minor: 4_213 }],
            credit_notes: vec![PaperCreditNote {
                number: CreditNoteNumber(4),
                issued_on: day("2026-02-02"),
                total_minor: 2_106,
                tax_minor: 6,
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_grouped_by_thousands() {
        for (minor, text) in [
            (0, "0.00"),
            (5, "0.05"),
            (99_999, "999.99"),
            (100_000, "1,000.00"),
            (-140_800, "\u{2212}1,408.00"),
            (12_345_678_900, "123,456,789.00"),
        ] {
            assert_eq!(amount(minor, Currency::Usd), text);
        }
    }
}
