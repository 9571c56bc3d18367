//! Lines with bands and a legend beside them.
use crate::{Area, At, Axis, Frame, Panel, Result, text, vertical_text};
use plotters::{prelude::*, style::RGBColor};

/// A line; with its band if there is one.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Lower and upper bounds: x, low, high.
    pub band: Vec<(f64, f64, f64)>,
    /// Color, marker and dashes; lines of the same number in several panels look the same.
    pub style: usize,
}

impl Line {
    pub fn new(name: impl Into<String>, style: usize, points: Vec<(f64, f64)>) -> Self {
        Line {
            name: name.into(),
            points,
            band: Vec::new(),
            style,
        }
    }
}

/// A panel of lines.
#[derive(Clone, Debug)]
pub struct Lines {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
    /// Markers at all points, not only at some.
    pub dots: bool,
    /// Width of the legend in pixels; 0 for none.
    pub legend: i32,
}

/// The color-blind safe palette of Okabe and Ito, without yellow.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

pub(crate) fn color(style: usize) -> RGBColor {
    COLORS[style % COLORS.len()]
}

/// Lengths in pixels of a dash and of the gap after it: another pattern when colors repeat.
fn dashes(style: usize) -> Option<(i32, i32)> {
    [None, Some((9, 5)), Some((3, 4))][style / COLORS.len() % 3]
}

fn marker(area: &Area<'_>, style: usize, (x, y): (i32, i32)) -> Result<()> {
    let filled = color(style).filled();
    const R: i32 = 4;
    let polygon = |corners: &[(i32, i32)]| {
        Polygon::new(
            corners
                .iter()
                .map(|(dx, dy)| (x + dx, y + dy))
                .collect::<Vec<_>>(),
            filled,
        )
    };
    let line = |a: (i32, i32), b: (i32, i32)| {
        PathElement::new(
            [(x + a.0, y + a.1), (x + b.0, y + b.1)],
            color(style).stroke_width(2),
        )
    };
    match style % 6 {
        0 => area.draw(&Circle::new((x, y), R, filled))?,
        1 => area.draw(&Rectangle::new([(x - R, y - R), (x + R, y + R)], filled))?,
        2 => area.draw(&polygon(&[(0, -R - 1), (R + 1, R), (-R - 1, R)]))?,
        3 => area.draw(&polygon(&[
            (0, -R - 2),
            (R + 2, 0),
            (0, R + 2),
            (-R - 2, 0),
        ]))?,
        4 => {
            area.draw(&line((-R, -R), (R, R)))?;
            area.draw(&line((-R, R), (R, -R)))?;
        }
        _ => {
            area.draw(&line((-R - 1, 0), (R + 1, 0)))?;
            area.draw(&line((0, -R - 1), (0, R + 1)))?;
        }
    }
    Ok(())
}

/// Draws a path of pixels, in dashes if the style has them.
fn stroke(area: &Area<'_>, style: usize, pixels: &[(i32, i32)]) -> Result<()> {
    let pen = color(style).stroke_width(2);
    let Some((dash, gap)) = dashes(style) else {
        // Segment by segment: the joints of one long path would stick out as spikes.
        for ends in pixels.windows(2) {
            area.draw(&PathElement::new(ends.to_vec(), pen))?;
        }
        return Ok(());
    };
    let mut along = 0.0;
    let period = f64::from(dash + gap);
    for ends in pixels.windows(2) {
        let (a, b) = (ends[0], ends[1]);
        let length = f64::from(b.0 - a.0).hypot(f64::from(b.1 - a.1));
        let at = |s: f64| {
            let t = s / length;
            let x = f64::from(a.0) + t * f64::from(b.0 - a.0);
            let y = f64::from(a.1) + t * f64::from(b.1 - a.1);
            (x.round() as i32, y.round() as i32)
        };
        let mut s = 0.0;
        while s < length {
            let phase = (along + s) % period;
            let (on, rest) = if phase < f64::from(dash) {
                (true, f64::from(dash) - phase)
            } else {
                (false, period - phase)
            };
            let end = length.min(s + rest.max(0.5));
            if on {
                area.draw(&PathElement::new([at(s), at(end)], pen))?;
            }
            s = end;
        }
        along += length;
    }
    Ok(())
}

impl Panel for Lines {
    fn draw(&self, area: &Area<'_>) -> Result<()> {
        let (width, height) = area.dim_in_pixel();
        let frame = Frame {
            left: 82,
            top: 44,
            right: width as i32 - 20 - self.legend,
            bottom: height as i32 - 62,
        };
        let shown = |&&(x, y): &&(f64, f64)| self.x.shows(x) && self.y.shows(y);
        let points = || {
            self.lines
                .iter()
                .flat_map(|line| line.points.iter().filter(shown))
        };
        let (x, y) = (
            self.x.scale(points().map(|point| point.0)),
            self.y.scale(points().map(|point| point.1)),
        );
        let pixel = |px: f64, py: f64| frame.pixel((x.at(px), y.at(py).clamp(0.0, 1.0)));
        text(
            area,
            &self.title,
            At::Center,
            ((frame.left + frame.right) / 2, 22),
            20,
        )?;
        text(
            area,
            &self.x.label,
            At::Center,
            ((frame.left + frame.right) / 2, frame.bottom + 46),
            16,
        )?;
        vertical_text(
            area,
            &self.y.label,
            (16, (frame.top + frame.bottom) / 2),
            16,
        )?;
        let thin = BLACK.mix(0.1);
        for (t, label) in x.ticks(7) {
            let (px, _) = frame.pixel((t, 0.0));
            area.draw(&PathElement::new(
                [(px, frame.top), (px, frame.bottom)],
                thin,
            ))?;
            text(area, &label, At::Center, (px, frame.bottom + 16), 15)?;
        }
        for (t, label) in y.ticks(8) {
            let (_, py) = frame.pixel((0.0, t));
            area.draw(&PathElement::new(
                [(frame.left, py), (frame.right, py)],
                thin,
            ))?;
            text(area, &label, At::Right, (frame.left - 8, py), 15)?;
        }
        let corners = [(frame.left, frame.top), (frame.right, frame.bottom)];
        area.draw(&Rectangle::new(corners, BLACK.mix(0.5)))?;
        for line in &self.lines {
            let band: Vec<_> = line
                .band
                .iter()
                .filter(|&&(x, low, high)| {
                    self.x.shows(x) && self.y.shows(low) && self.y.shows(high)
                })
                .collect();
            if band.len() > 1 {
                let below = band.iter().map(|(x, low, _)| pixel(*x, *low));
                let above = band.iter().rev().map(|(x, _, high)| pixel(*x, *high));
                let corners: Vec<_> = below.chain(above).collect();
                area.draw(&Polygon::new(corners, color(line.style).mix(0.15).filled()))?;
            }
        }
        for (index, line) in self.lines.iter().enumerate() {
            let points = line.points.iter().filter(shown);
            let pixels: Vec<_> = points.map(|&(x, y)| pixel(x, y)).collect();
            stroke(area, line.style, &pixels)?;
            // Markers tell apart lines that coincide: each has them at other places.
            let (mut next, every) = (frame.left + 30 + 23 * index as i32 % 110, 110);
            for &(px, py) in &pixels {
                if self.dots || px >= next {
                    marker(area, line.style, (px, py))?;
                    next = px + every;
                }
            }
        }
        if self.legend > 0 {
            for (row, line) in self.lines.iter().enumerate() {
                let (left, y) = (frame.right + 14, frame.top + 10 + 22 * row as i32);
                stroke(area, line.style, &[(left, y), (left + 28, y)])?;
                marker(area, line.style, (left + 14, y))?;
                text(area, &line.name, At::Left, (left + 36, y), 15)?;
            }
        }
        Ok(())
    }
}
