//! Pictures as PNG files. The font is embedded: none has to be installed.
//!
//! A picture is a grid of panels; each says itself how it is drawn into its frame.
mod axis;
mod lines;
mod maps;

pub use axis::Axis;
pub use lines::{Line, Lines};
pub use maps::{Path, Strip, Surface, cividis};

use plotters::{
    coord::Shift,
    prelude::*,
    style::{
        FontStyle, register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};
use std::{error::Error, path::Path as File, sync::Once};

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
pub(crate) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

const INK: RGBColor = RGBColor(38, 38, 38);

/// Something that is drawn into a frame.
pub trait Panel {
    fn draw(&self, area: &Area<'_>) -> Result<()>;
}

/// Draws panels of this size in rows of `columns`.
pub fn draw(file: &File, columns: usize, size: (u32, u32), panels: &[&dyn Panel]) -> Result<()> {
    static FONT: Once = Once::new();
    FONT.call_once(|| _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular()));
    let rows = panels.len().div_ceil(columns);
    let whole = (size.0 * columns as u32, size.1 * rows as u32);
    let root = BitMapBackend::new(file, whole).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((rows, columns)).iter().zip(panels) {
        panel.draw(area)?;
    }
    root.present()
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(())
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
pub(crate) enum At {
    Left,
    Center,
    Right,
}

/// Writes a text, vertically centered at its point.
pub(crate) fn text(
    area: &Area<'_>,
    what: &str,
    at: At,
    point: (i32, i32),
    size: i32,
) -> Result<()> {
    let horizontal = match at {
        At::Left => HPos::Left,
        At::Center => HPos::Center,
        At::Right => HPos::Right,
    };
    let style = TextStyle::from(("sans-serif", size).into_font())
        .color(&INK)
        .pos(Pos::new(horizontal, VPos::Center));
    area.draw_text(what, &style, point)?;
    Ok(())
}

/// Writes a text from the bottom to the top, centered at its point.
pub(crate) fn vertical_text(
    area: &Area<'_>,
    what: &str,
    point: (i32, i32),
    size: i32,
) -> Result<()> {
    let font = ("sans-serif", size)
        .into_font()
        .transform(FontTransform::Rotate270);
    let style = TextStyle::from(font)
        .color(&INK)
        .pos(Pos::new(HPos::Center, VPos::Center));
    area.draw_text(what, &style, point)?;
    Ok(())
}

/// A part of the picture in pixels, from the left top to the right bottom.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub left: i32,
    pub top: i32,
    pub right: i32,
    pub bottom: i32,
}

impl Frame {
    /// The pixel of a point, from fractions of the width and (from below) of the height.
    pub fn pixel(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let between = |a: i32, b: i32, t: f64| f64::from(a) + f64::from(b - a) * t;
        (
            between(self.left, self.right, x).round() as i32,
            between(self.bottom, self.top, y).round() as i32,
        )
    }
}
