//! Draws what was set.

use chrono::Datelike;
use krilla::Document;
use krilla::color::rgb;
use krilla::geom::{PathBuilder, Point};
use krilla::metadata::{DateTime, Metadata};
use krilla::num::NormalizedF32;
use krilla::page::PageSettings;
use krilla::paint::{Fill, FillRule};
use krilla::surface::Surface;

use crate::page::{PAGE_HEIGHT, PAGE_WIDTH, Page, Rule};
use crate::text::{Color, Fonts};
use crate::{NoPdf, Paper};

pub(crate) fn write(paper: &Paper, pages: &[Page], fonts: &Fonts) -> Result<Vec<u8>, NoPdf> {
    let settings = PageSettings::from_wh(PAGE_WIDTH, PAGE_HEIGHT)
        .ok_or_else(|| NoPdf("the page has no size".to_owned()))?;
    let mut document = Document::new();
    document.set_metadata(metadata(paper));
    for page in pages {
        let mut drawn = document.start_page_with(settings.clone());
        let mut surface = drawn.surface();
        for rule in &page.rules {
            surface.set_fill(Some(fill(Color::Grey)));
            draw_rule(&mut surface, rule);
        }
        for text in &page.texts {
            surface.set_fill(Some(fill(text.style.color)));
            let mut x = text.x;
            for run in fonts.shape(&text.text, text.style.is_bold) {
                let (start, size) = (Point::from_xy(x, text.y), text.style.size);
                surface.draw_glyphs(start, &run.glyphs, run.font, &run.text, size, false);
                x += run.width * size;
            }
        }
        surface.finish();
        drawn.finish();
    }
    document.finish().map_err(|error| NoPdf(format!("{error:?}")))
}

fn draw_rule(surface: &mut Surface<'_>, rule: &Rule) {
    let (top, bottom) = (rule.y - rule.thickness / 2.0, rule.y + rule.thickness / 2.0);
    let mut path = PathBuilder::new();
    path.move_to(rule.from_x, top);
    path.line_to(rule.to_x, top);
    path.line_to(rule.to_x, bottom);
    path.line_to(rule.from_x, bottom);
    path.close();
    if let Some(path) = path.finish() {
        surface.draw_path(&path);
    }
}

fn fill(color: Color) -> Fill {
    let color = match color {
        Color::Ink => rgb::Color::new(24, 27, 33),
        Color::Grey => rgb::Color::new(107, 114, 128),
    };
    Fill { paint: color.into(), opacity: NormalizedF32::ONE, rule: FillRule::NonZero }
}

/// Of the invoice and not of the moment, so that the same invoice is the same file.
fn metadata(paper: &Paper) -> Metadata {
    let year = u16::try_from(paper.issued_on.year()).unwrap_or_default();
    let part = |value: u32| u8::try_from(value).unwrap_or_default();
    let issued = DateTime::new(year).month(part(paper.issued_on.month())).day(part(paper.issued_on.day()));
    Metadata::new()
        .title(format!("Invoice {}", paper.number))
        .authors(vec![paper.seller.clone()])
        .creator("Tollgate".to_owned())
        .language("en".to_owned())
        .creation_date(issued)
}

#[cfg(test)]
mod tests {
    use crate::fixtures::paper;
    use crate::render;

    #[test]
    fn the_same_invoice_is_the_same_small_file() {
        let (once, again) = (render(&paper(30)).unwrap(), render(&paper(30)).unwrap());
        assert!(once.starts_with(b"%PDF-") && once.ends_with(b"%%EOF"), "{} bytes", once.len());
        assert!(once == again && once.len() < 100_000, "{} bytes: only the glyphs that it shows", once.len());
    }
}
