//! Where everything goes: texts and rules on pages, before anything is drawn.

use domain::invoice::InvoiceStatus;

use crate::text::{Color, Fonts, Style};
use crate::{Paper, amount};

/// A4, in points, with y from the top.
pub(crate) const PAGE_WIDTH: f32 = 595.28;
pub(crate) const PAGE_HEIGHT: f32 = 841.89;
const LEFT: f32 = 56.0;
const RIGHT: f32 = PAGE_WIDTH - 56.0;
const TOP: f32 = 64.0;
/// The last line's baseline; the footer is below.
const BOTTOM: f32 = PAGE_HEIGHT - 84.0;
const FOOTER: f32 = PAGE_HEIGHT - 44.0;
/// Between the text of a description and its amount.
const GAP: f32 = 16.0;
/// The columns of the head.
const MIDDLE: f32 = 320.0;
/// Where the totals begin.
const TOTALS: f32 = 320.0;
/// From a baseline to the next.
const LINE: f32 = 14.0;

const TITLE: Style = Style { size: 20.0, is_bold: true, color: Color::Ink };
const SELLER: Style = Style { size: 13.0, is_bold: true, color: Color::Ink };
const BODY: Style = Style { size: 10.0, is_bold: false, color: Color::Ink };
const STRONG: Style = Style { is_bold: true, ..BODY };
const LABEL: Style = Style { size: 9.0, is_bold: false, color: Color::Grey };

/// A text on a page.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    pub(crate) x: f32,
    /// Of the baseline.
    pub(crate) y: f32,
    pub(crate) style: Style,
    pub(crate) text: String,
}

/// A line across a part of a page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    pub(crate) from_x: f32,
    pub(crate) to_x: f32,
    pub(crate) y: f32,
    pub(crate) thickness: f32,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Page {
    pub(crate) texts: Vec<Text>,
    pub(crate) rules: Vec<Rule>,
}

/// Sets an invoice on as many pages as it needs.
pub(crate) fn set(paper: &Paper, fonts: &Fonts) -> Vec<Page> {
    let mut setter = Setter { paper, fonts, pages: vec![Page::default()], y: TOP };
    setter.head();
    setter.lines();
    setter.totals();
    setter.payments();
    setter.footers();
    setter.pages
}

struct Setter<'a> {
    paper: &'a Paper,
    fonts: &'a Fonts,
    pages: Vec<Page>,
    y: f32,
}

impl Setter<'_> {
    fn page(&mut self) -> &mut Page {
        if self.pages.is_empty() {
            self.pages.push(Page::default());
        }
        let last = self.pages.len() - 1;
        &mut self.pages[last]
    }

    fn put(&mut self, x: f32, y: f32, style: Style, text: &str) {
        self.page().texts.push(Text { x, y, style, text: text.to_owned() });
    }

    fn put_right(&mut self, right: f32, y: f32, style: Style, text: &str) {
        let x = right - self.fonts.width(text, style);
        self.put(x, y, style, text);
    }

    fn rule(&mut self, from_x: f32, y: f32, thickness: f32) {
        self.page().rules.push(Rule { from_x, to_x: RIGHT, y, thickness });
    }

    /// A text in lines of a column from `y` on; where the next one would stand.
    fn column(&mut self, x: f32, mut y: f32, width: f32, style: Style, text: &str) -> f32 {
        for line in self.fonts.wrap(text, style, width) {
            self.put(x, y, style, &line);
            y += (style.size * 1.3).max(LINE);
        }
        y
    }

    /// Who sells, who buys, which invoice.
    fn head(&mut self) {
        let paper = self.paper;
        let left_width = MIDDLE - LEFT - GAP;
        let mut left = self.column(LEFT, self.y, left_width, SELLER, &paper.seller) + 22.0;
        self.put(LEFT, left, LABEL, "Billed to");
        left += LINE;
        if let Some(buyer) = &paper.buyer {
            left = self.column(LEFT, left, left_width, STRONG, buyer);
        }
        left = self.column(LEFT, left, left_width, BODY, &paper.buyer_ref);

        self.put(MIDDLE, self.y, TITLE, "Invoice");
        let mut right = self.y + 30.0;
        let status = match paper.status {
            InvoiceStatus::Open => "open",
            InvoiceStatus::Paid => "paid",
            InvoiceStatus::Void => "void",
        };
        let mut facts = vec![
            ("Number", paper.number.to_string()),
            ("Issued", paper.issued_on.to_string()),
            ("Status", status.to_owned()),
        ];
        facts.extend(paper.paid_on.map(|day| ("Paid", day.to_string())));
        facts.push(("Currency", paper.total.currency.code().to_owned()));
        for (label, value) in facts {
            self.put(MIDDLE, right, LABEL, label);
            self.put_right(RIGHT, right, BODY, &value);
            right += LINE + 2.0;
        }
        self.y = left.max(right) + 24.0;
    }

    fn table_head(&mut self, label: &str) {
        let currency = format!("Amount, {}", self.paper.total.currency.code());
        self.put(LEFT, self.y, LABEL, label);
        self.put_right(RIGHT, self.y, LABEL, &currency);
        self.rule(LEFT, self.y + 6.0, 0.8);
        self.y += 6.0 + LINE + 4.0;
    }

    /// Begins another page where less than `height` is left on this one. Whether it did.
    fn make_room(&mut self, height: f32) -> bool {
        if self.y + height <= BOTTOM {
            return false;
        }
        self.pages.push(Page::default());
        self.y = TOP;
        true
    }

    fn lines(&mut self) {
        const HEAD: &str = "Description";
        self.table_head(HEAD);
        let (paper, fonts) = (self.paper, self.fonts);
        for line in paper.lines.iter().filter(|line| !line.is_tax) {
            let amount = amount(line.amount_minor, paper.total.currency);
            let width = RIGHT - LEFT - GAP - fonts.width(&amount, BODY);
            let described = fonts.wrap(&line.description, BODY, width);
            for (index, text) in described.iter().enumerate() {
                // Its amount and as many lines as there is room for stay together.
                if self.make_room(0.0) {
                    self.table_head(HEAD);
                }
                self.put(LEFT, self.y, BODY, text);
                if index == 0 {
                    self.put_right(RIGHT, self.y, BODY, &amount);
                }
                self.y += LINE;
            }
            self.rule(LEFT, self.y - LINE + 5.0, 0.3);
            self.y += 5.0;
        }
    }

    fn total_row(&mut self, style: Style, label: &str, minor: i64) {
        let amount = amount(minor, self.paper.total.currency);
        let width = RIGHT - TOTALS - GAP - self.fonts.width(&amount, style);
        self.put_right(RIGHT, self.y, style, &amount);
        self.y = self.column(TOTALS, self.y, width, style, label) + 3.0;
    }

    fn totals(&mut self) {
        let paper = self.paper;
        // The totals stay together.
        self.make_room(5.0 * LINE);
        self.y += 8.0;
        let tax_line = paper.lines.iter().find(|line| line.is_tax);
        if let Some(line) = tax_line {
            let before_tax = paper.total.amount_minor.saturating_sub(paper.tax.amount_minor);
            self.total_row(BODY, "Without tax", before_tax);
            self.total_row(BODY, &line.description, line.amount_minor);
            self.rule(TOTALS, self.y - LINE, 0.3);
            self.y += 3.0;
        }
        self.total_row(STRONG, "Total", paper.total.amount_minor);
        self.rule(TOTALS, self.y - LINE, 0.8);
        self.y += 18.0;
    }

    fn payments(&mut self) {
        let paper = self.paper;
        let mut rows: Vec<(String, i64)> = Vec::new();
        for payment in &paper.payments {
            rows.push((format!("{}  Paid", payment.paid_on), payment.amount_minor));
        }
        for note in &paper.credit_notes {
            let tax = match note.tax_minor {
                0 => String::new(),
                tax => format!(", tax in it {}", amount(tax, paper.total.currency)),
            };
            let text = format!("{}  Refunded, credit note {}{tax}", note.issued_on, note.number);
            rows.push((text, -note.total_minor));
        }
        if rows.is_empty() {
            return;
        }
        const HEAD: &str = "Payments and refunds";
        self.make_room(4.0 * LINE);
        self.table_head(HEAD);
        for (text, minor) in rows {
            if self.make_room(0.0) {
                self.table_head(HEAD);
            }
            self.put(LEFT, self.y, BODY, &text);
            self.put_right(RIGHT, self.y, BODY, &amount(minor, paper.total.currency));
            self.y += LINE + 2.0;
        }
    }

    fn footers(&mut self) {
        let count = self.pages.len();
        let seller_width = RIGHT - LEFT - 180.0;
        let seller = self.fonts.wrap(&self.paper.seller, LABEL, seller_width).swap_remove(0);
        for (index, page) in self.pages.iter_mut().enumerate() {
            let text = format!("{}, page {} of {count}", self.paper.number, index + 1);
            let x = RIGHT - self.fonts.width(&text, LABEL);
            page.texts.push(Text { x, y: FOOTER, style: LABEL, text });
            page.texts.push(Text { x: LEFT, y: FOOTER, style: LABEL, text: seller.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::paper;

    /// What stands beyond the margins.
    fn outside<'a>(pages: &'a [Page], fonts: &Fonts) -> Vec<&'a Text> {
        let texts = pages.iter().flat_map(|page| &page.texts);
        texts
            .filter(|text| {
                let right = text.x + fonts.width(&text.text, text.style);
                text.x < LEFT - 0.01 || right > RIGHT + 0.01 || text.y < TOP || text.y > FOOTER
            })
            .collect()
    }

    /// Texts of one page that would be drawn over each other.
    fn overlaps(page: &Page, fonts: &Fonts) -> Vec<(String, String)> {
        let boxes: Vec<(&Text, f32)> =
            page.texts.iter().map(|text| (text, text.x + fonts.width(&text.text, text.style))).collect();
        let mut found = Vec::new();
        for (index, (one, one_right)) in boxes.iter().enumerate() {
            for (other, other_right) in &boxes[index + 1..] {
                let is_beside = *one_right <= other.x || *other_right <= one.x;
                if (one.y - other.y).abs() < 8.0 && !is_beside {
                    found.push((one.text.clone(), other.text.clone()));
                }
            }
        }
        found
    }

    #[test]
    fn whatever_is_on_it_stays_within_the_margins_and_apart() {
        let fonts = Fonts::load().unwrap();
        let name = "Incorporated ".repeat(16);
        for (lines, seller, buyer) in [
            (1, "Ada", "Grace"),
            (
                7,
                name.trim(),
                "A name of two hundred characters without any space".repeat(4).replace(' ', "").as_str(),
            ),
            (120, "标准人工智能有限公司标准人工智能有限公司标准人工智能有限公司", "客户"),
        ] {
            let mut paper = paper(lines);
            paper.seller = seller.to_owned();
            paper.buyer = Some(buyer.to_owned());
            paper.lines[0].description = "A very long description of what was bought. ".repeat(9);
            let pages = set(&paper, &fonts);
            assert_eq!(outside(&pages, &fonts), Vec::<&Text>::new());
            for page in &pages {
                assert_eq!(overlaps(page, &fonts), Vec::new());
            }
        }
    }

    #[test]
    fn many_lines_go_on_over_pages_that_each_say_what_they_are() {
        let fonts = Fonts::load().unwrap();
        let pages = set(&paper(120), &fonts);
        assert!(pages.len() >= 4, "{}", pages.len());
        for (index, page) in pages.iter().enumerate() {
            let says = |wanted: &str| page.texts.iter().any(|text| text.text == wanted);
            assert!(says(&format!("INV-000123, page {} of {}", index + 1, pages.len())));
        }
        let amounts = pages.iter().flat_map(|page| &page.texts).filter(|text| text.text == "1.00").count();
        assert_eq!(amounts, 120, "each line once");
    }
}
