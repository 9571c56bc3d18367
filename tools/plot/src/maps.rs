//! Colors for numbers: strips by row and column, and functions of two variables with a path.
use crate::{Area, At, Frame, Panel, Result, lines::color, text};
use plotters::{prelude::*, style::RGBColor};

/// The palette cividis, readable without color vision, at a fraction from dark to light: a few of
/// its colors, and straight lines between them (J. R. Nuñez et al., PLOS ONE 13(7), 2018).
pub fn cividis(t: f64) -> RGBColor {
    const COLORS: [(u8, u8, u8); 6] = [
        (0, 34, 78),
        (53, 69, 108),
        (102, 105, 112),
        (148, 142, 119),
        (200, 184, 102),
        (254, 232, 56),
    ];
    let t = t.clamp(0.0, 1.0) * (COLORS.len() - 1) as f64;
    let below = (t as usize).min(COLORS.len() - 2);
    let mix = |a: u8, b: u8| {
        let part = t - below as f64;
        (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8
    };
    let (a, b) = (COLORS[below], COLORS[below + 1]);
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// A table of numbers as colors on a logarithmic scale.
#[derive(Clone, Debug)]
pub struct Strip {
    pub title: String,
    pub columns: Vec<String>,
    /// The label below the columns.
    pub x: String,
    /// Rows: a name and a number for each column; none is white, infinity or NaN is crossed out.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
    /// The numbers of the darkest and of the lightest color.
    pub range: (f64, f64),
    /// What the colors stand for.
    pub scale: String,
}

impl Panel for Strip {
    fn draw(&self, area: &Area<'_>) -> Result<()> {
        let (width, height) = area.dim_in_pixel();
        let frame = Frame {
            left: 210,
            top: 44,
            right: width as i32 - 20,
            bottom: height as i32 - 110,
        };
        let middle = (frame.left + frame.right) / 2;
        text(area, &self.title, At::Center, (width as i32 / 2, 22), 20)?;
        text(area, &self.x, At::Center, (middle, frame.bottom + 40), 16)?;
        let (rows, columns) = (self.rows.len() as f64, self.columns.len() as f64);
        let shade = |x: f64| {
            let (low, high) = (self.range.0.log10(), self.range.1.log10());
            cividis((x.max(1e-300).log10() - low) / (high - low))
        };
        for (row, (name, numbers)) in self.rows.iter().enumerate() {
            let y = 1.0 - (row as f64 + 0.5) / rows;
            text(
                area,
                name,
                At::Right,
                (frame.left - 8, frame.pixel((0.0, y)).1),
                14,
            )?;
            for (column, number) in numbers.iter().enumerate() {
                let Some(number) = number else { continue };
                let corner = |right: f64, below: f64| {
                    let x = (column as f64 + right) / columns;
                    frame.pixel((x, 1.0 - (row as f64 + below) / rows))
                };
                let (from, to) = (corner(0.0, 0.0), corner(1.0, 1.0));
                if number.is_finite() {
                    area.draw(&Rectangle::new([from, to], shade(*number).filled()))?;
                } else {
                    let grey = RGBColor(225, 225, 225);
                    area.draw(&Rectangle::new([from, to], grey.filled()))?;
                    area.draw(&PathElement::new([from, to], RGBColor(150, 150, 150)))?;
                }
            }
        }
        let few = self.columns.len().div_ceil(14).max(1);
        for (column, label) in self.columns.iter().enumerate().step_by(few) {
            let (x, y) = frame.pixel(((column as f64 + 0.5) / columns, 0.0));
            text(area, label, At::Center, (x, y + 16), 14)?;
        }
        // The scale of colors.
        let (left, right, y) = (frame.left, frame.right - 10, height as i32 - 46);
        for x in left..right {
            let t = f64::from(x - left) / f64::from(right - left);
            area.draw(&PathElement::new([(x, y), (x, y + 12)], cividis(t)))?;
        }
        text(
            area,
            &format!("{:.0e}", self.range.0),
            At::Left,
            (left, y + 24),
            14,
        )?;
        text(
            area,
            &format!("{:.0e}", self.range.1),
            At::Right,
            (right, y + 24),
            14,
        )?;
        text(area, &self.scale, At::Center, (middle, y + 24), 14)?;
        Ok(())
    }
}

/// A path on a function of two variables.
#[derive(Clone, Debug)]
pub struct Path {
    pub points: Vec<(f64, f64)>,
    pub style: usize,
}

/// A function of two variables in shades, with paths.
pub struct Surface<'f> {
    pub title: String,
    /// A second, smaller line of the title.
    pub subtitle: String,
    pub x: (f64, f64),
    pub y: (f64, f64),
    pub value: &'f dyn Fn(f64, f64) -> f64,
    /// The numbers of the darkest and of the lightest shade, which are steps on a logarithmic scale.
    pub range: (f64, f64),
    pub paths: Vec<Path>,
    /// Marked by a cross.
    pub minimum: (f64, f64),
}

impl Panel for Surface<'_> {
    fn draw(&self, area: &Area<'_>) -> Result<()> {
        let (width, height) = area.dim_in_pixel();
        let frame = Frame {
            left: 6,
            top: 38,
            right: width as i32 - 6,
            bottom: height as i32 - 6,
        };
        let size = if self.title.len() > 20 { 11 } else { 14 };
        text(area, &self.title, At::Center, (width as i32 / 2, 11), size)?;
        text(area, &self.subtitle, At::Center, (width as i32 / 2, 28), 12)?;
        let (low, high) = (self.range.0.log10(), self.range.1.log10());
        const LEVELS: f64 = 12.0;
        for py in frame.top..=frame.bottom {
            for px in frame.left..=frame.right {
                let t = |a: i32, b: i32, p: i32| f64::from(p - a) / f64::from(b - a);
                let x = self.x.0 + t(frame.left, frame.right, px) * (self.x.1 - self.x.0);
                let y = self.y.0 + t(frame.bottom, frame.top, py) * (self.y.1 - self.y.0);
                let value = (self.value)(x, y).max(1e-300).log10();
                let level = (((value - low) / (high - low)) * LEVELS).floor() / LEVELS;
                // Light greys, so that paths stand out.
                let grey = (165.0 + 90.0 * level.clamp(0.0, 1.0)) as u8;
                area.draw_pixel((px, py), &RGBColor(grey, grey, grey))?;
            }
        }
        let at = |(x, y): (f64, f64)| {
            let fraction = |a: f64, b: f64, x: f64| ((x - a) / (b - a)).clamp(-1.0, 2.0);
            frame.pixel((
                fraction(self.x.0, self.x.1, x),
                fraction(self.y.0, self.y.1, y),
            ))
        };
        let inside = |&(x, y): &(i32, i32)| {
            (frame.left..=frame.right).contains(&x) && (frame.top..=frame.bottom).contains(&y)
        };
        let (mx, my) = at(self.minimum);
        for (dx, dy) in [(5, 5), (5, -5)] {
            let ends = [(mx - dx, my - dy), (mx + dx, my + dy)];
            area.draw(&PathElement::new(ends, BLACK.stroke_width(2)))?;
        }
        for path in &self.paths {
            let finite = |&&(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
            let pixels: Vec<_> = path
                .points
                .iter()
                .take_while(finite)
                .map(|&p| at(p))
                .collect();
            let shown = |ends: &&[(i32, i32)]| ends[0] != ends[1] && ends.iter().all(inside);
            for ends in pixels.windows(2).filter(shown) {
                area.draw(&PathElement::new(
                    ends.to_vec(),
                    color(path.style).stroke_width(2),
                ))?;
            }
            if let Some(&first) = pixels.first().filter(|pixel| inside(pixel)) {
                area.draw(&Circle::new(first, 4, color(path.style)))?;
            }
            if let Some(&last) = pixels.last().filter(|pixel| inside(pixel)) {
                area.draw(&Circle::new(last, 4, color(path.style).filled()))?;
            }
        }
        Ok(())
    }
}
