//! Fonts, shaping and line breaks.

use std::ops::Range;

use krilla::text::{Font, GlyphId, KrillaGlyph};
use rustybuzz::{Direction, Face, UnicodeBuffer};

use crate::NoPdf;

const REGULAR: &[u8] = include_bytes!("../fonts/LiberationSans-Regular.ttf");
const BOLD: &[u8] = include_bytes!("../fonts/LiberationSans-Bold.ttf");
const FALLBACK: &[u8] = include_bytes!("../fonts/DroidSansFallback.ttf");

/// How a text is set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Style {
    /// In points.
    pub(crate) size: f32,
    pub(crate) is_bold: bool,
    pub(crate) color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Color {
    Ink,
    /// For what explains.
    Grey,
}

/// A font for the library that draws and for the one that shapes.
struct Loaded {
    font: Font,
    face: Face<'static>,
}

pub(crate) struct Fonts {
    regular: Loaded,
    bold: Loaded,
    fallback: Loaded,
}

/// A part of a text in one font.
pub(crate) struct Run {
    pub(crate) font: Font,
    pub(crate) text: String,
    pub(crate) glyphs: Vec<KrillaGlyph>,
    /// Of a text of size 1.
    pub(crate) width: f32,
}

impl Loaded {
    fn new(data: &'static [u8]) -> Result<Loaded, NoPdf> {
        let font = Font::new(data.into(), 0);
        let face = Face::from_slice(data, 0);
        match (font, face) {
            (Some(font), Some(face)) => Ok(Loaded { font, face }),
            (_, _) => Err(NoPdf("a font cannot be read".to_owned())),
        }
    }

    fn has(&self, character: char) -> bool {
        self.face.glyph_index(character).is_some()
    }

    fn shape(&self, text: &str) -> Run {
        let mut buffer = UnicodeBuffer::new();
        buffer.push_str(text);
        buffer.guess_segment_properties();
        let is_forward = buffer.direction() == Direction::LeftToRight;
        let shaped = rustybuzz::shape(&self.face, &[], buffer);
        let infos = shaped.glyph_infos();
        let starts: Vec<usize> = infos.iter().map(|info| info.cluster as usize).collect();
        let units_per_em = self.font.units_per_em();
        let mut glyphs = Vec::new();
        for (index, (info, position)) in infos.iter().zip(shaped.glyph_positions()).enumerate() {
            let scaled = |units: i32| units as f32 / units_per_em;
            glyphs.push(KrillaGlyph::new(
                GlyphId::new(info.glyph_id),
                scaled(position.x_advance),
                scaled(position.x_offset),
                scaled(position.y_offset),
                scaled(position.y_advance),
                cluster(&starts, index, is_forward, text.len()),
                None,
            ));
        }
        let width = glyphs.iter().map(|glyph| glyph.x_advance).sum();
        Run { font: self.font.clone(), text: text.to_owned(), glyphs, width }
    }
}

/// The part of the text that a glyph stands for: up to where the next cluster in reading order begins.
fn cluster(starts: &[usize], index: usize, is_forward: bool, text_length: usize) -> Range<usize> {
    let own = starts[index];
    let next = if is_forward {
        starts[index..].iter().find(|start| **start != own)
    } else {
        starts[..index].iter().rev().find(|start| **start != own)
    };
    own..next.copied().unwrap_or(text_length)
}

impl Fonts {
    pub(crate) fn load() -> Result<Fonts, NoPdf> {
        Ok(Fonts {
            regular: Loaded::new(REGULAR)?,
            bold: Loaded::new(BOLD)?,
            fallback: Loaded::new(FALLBACK)?,
        })
    }

    /// The first font that has a character; the style's own where none has, which then draws an empty box.
    fn of(&self, character: char, is_bold: bool) -> &Loaded {
        let own = if is_bold { &self.bold } else { &self.regular };
        if own.has(character) || !self.fallback.has(character) { own } else { &self.fallback }
    }

    /// A text in as many runs as it needs fonts.
    pub(crate) fn shape(&self, text: &str, is_bold: bool) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut from = 0;
        let mut current: Option<&Loaded> = None;
        for (at, character) in text.char_indices() {
            let font = self.of(character, is_bold);
            if let Some(other) = current.filter(|other| !std::ptr::eq(*other, font)) {
                runs.push(other.shape(&text[from..at]));
                from = at;
            }
            current = Some(font);
        }
        if let Some(font) = current {
            runs.push(font.shape(&text[from..]));
        }
        runs
    }

    /// In points.
    pub(crate) fn width(&self, text: &str, style: Style) -> f32 {
        self.shape(text, style.is_bold).iter().map(|run| run.width).sum::<f32>() * style.size
    }

    /// Breaks a text into lines of at most `width` points: after a space or a hyphen, around a character of
    /// a script that is written without spaces, and within a word only where that alone is too long.
    pub(crate) fn wrap(&self, text: &str, style: Style, width: f32) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = String::new();
        for piece in pieces(text) {
            if self.width(&format!("{line}{}", piece.trim_end()), style) <= width {
                line.push_str(piece);
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
            }
            for character in piece.chars() {
                line.push(character);
                if self.width(line.trim_end(), style) > width && line.chars().count() > 1 {
                    line.pop();
                    lines.push(std::mem::take(&mut line));
                    line.push(character);
                }
            }
        }
        let last = line.trim_end();
        if !last.is_empty() || lines.is_empty() {
            lines.push(last.to_owned());
        }
        lines
    }
}

/// The pieces of a text that stay on one line.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut from = 0;
    let mut before: Option<char> = None;
    for (at, character) in text.char_indices() {
        let breaks = before.is_some_and(|before| {
            let is_after_a_break = matches!(before, ' ' | '-') && character != ' ';
            let is_between = (is_wide(before) || is_wide(character)) && !is_closing(character);
            is_after_a_break || is_between && character != ' '
        });
        if breaks {
            pieces.push(&text[from..at]);
            from = at;
        }
        before = Some(character);
    }
    pieces.push(&text[from..]);
    pieces
}

/// Of a script that is written without spaces.
fn is_wide(character: char) -> bool {
    matches!(character, '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}

/// What no line begins with.
fn is_closing(character: char) -> bool {
    matches!(
        character,
        '，' | '。' | '、' | '；' | '：' | '！' | '？' | '）' | '」' | '》' | ',' | '.' | ')' | ';' | ':'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { size: 10.0, is_bold: false, color: Color::Ink };

    #[test]
    fn a_line_breaks_between_words_and_within_one_only_where_it_must() {
        let fonts = Fonts::load().unwrap();
        let lines = fonts.wrap("One cycle of the standard plan", PLAIN, 70.0);
        assert_eq!(lines, ["One cycle of", "the standard", "plan"]);
        let lines = fonts.wrap("A cyclothymicallylongwordwithoutspaces", PLAIN, 70.0);
        assert!(lines.len() > 2 && lines.iter().all(|line| fonts.width(line, PLAIN) <= 70.0), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), "Acyclothymicallylongwordwithoutspaces");
        assert_eq!(fonts.wrap("", PLAIN, 70.0), [""]);
    }

    #[test]
    fn chinese_breaks_between_its_characters_and_no_line_begins_with_a_stop() {
        let fonts = Fonts::load().unwrap();
        let lines = fonts.wrap("标准套餐，一个周期。标准套餐", PLAIN, 52.0);
        assert!(lines.len() >= 3 && lines.iter().all(|line| fonts.width(line, PLAIN) <= 52.0), "{lines:?}");
        assert!(lines.iter().all(|line| !line.starts_with(['，', '。'])), "{lines:?}");
    }

    #[test]
    fn each_part_of_a_text_is_set_in_a_font_that_has_it() {
        let fonts = Fonts::load().unwrap();
        let runs = fonts.shape("Plan 标准 Ω ё", false);
        let texts: Vec<&str> = runs.iter().map(|run| run.text.as_str()).collect();
        assert_eq!(texts, ["Plan ", "标准", " Ω ё"]);
        assert!(runs.iter().flat_map(|run| &run.glyphs).all(|glyph| glyph.glyph_id != GlyphId::new(0)));
        let unknown = fonts.shape("\u{13080}", false);
        assert_eq!(unknown[0].glyphs[0].glyph_id, GlyphId::new(0), "an empty box");
    }
}
