//! Time of peers relative to this crate against the number of elements, as a PNG file. The font is
//! embedded: none has to be installed.
use crate::{
    case::{Algorithm, Shapes, Threads},
    measure::Row,
};
use plotters::{
    coord::Shift,
    prelude::*,
    style::{FontStyle, register_font},
};
use std::{error::Error, path::Path};

/// A name, the color of its line and the number of its mark.
type Style = (&'static str, RGBColor, u32);

/// Limit and peers, in the colors of Okabe and Ito; variants of torch differ in their marks.
const STYLES: [Style; 10] = [
    ("limit", RGBColor(120, 120, 120), 0),
    ("ndarray Zip", RGBColor(0, 158, 115), 0),
    ("candle-optimisers", RGBColor(230, 159, 0), 0),
    ("burn-optim", RGBColor(213, 94, 0), 0),
    ("optirs-core", RGBColor(86, 180, 233), 0),
    ("torch operator", RGBColor(0, 114, 178), 0),
    ("torch fused", RGBColor(0, 114, 178), 1),
    ("torch foreach", RGBColor(0, 114, 178), 2),
    ("torch default", RGBColor(0, 114, 178), 3),
    ("optax", RGBColor(204, 121, 167), 0),
];

const SIZE: (u32, u32) = (760, 440);
const LEGEND: u32 = 70;

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Draws a panel for each algorithm and number of threads, of the first element type in `rows`.
/// Returns whether there is anything to draw.
pub fn draw(file: &Path, rows: &[Row]) -> Result<bool, Box<dyn Error>> {
    let one_array = |row: &&Row| matches!(row.case.shapes, Shapes::One(_));
    let Some(first) = rows.iter().find(one_array) else {
        return Ok(false);
    };
    let dtype = first.case.dtype;
    let rows: Vec<_> = rows
        .iter()
        .filter(one_array)
        .filter(|r| r.case.dtype == dtype)
        .collect();
    let mut panels = vec![];
    for algorithm in Algorithm::ALL {
        for threads in Threads::ALL {
            let here = |row: &&&Row| row.case.algorithm == algorithm && row.case.threads == threads;
            let panel: Vec<&Row> = rows.iter().filter(here).copied().collect();
            if !panel.is_empty() {
                panels.push((algorithm, threads, panel));
            }
        }
    }
    _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
    let lines = panels.len().div_ceil(2);
    let size = (2 * SIZE.0, SIZE.1 * lines as u32 + LEGEND);
    let root = BitMapBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (legend, charts) = root.split_vertically(LEGEND);
    let shown = |style: &&Style| !line(style.0, &rows).is_empty();
    draw_legend(&legend, &STYLES.iter().filter(shown).collect::<Vec<_>>())?;
    for (area, (algorithm, threads, rows)) in charts.split_evenly((lines, 2)).iter().zip(panels) {
        let (dtype, threads) = (dtype.title(), threads.title());
        let title = format!("{}, {dtype}, {threads}", algorithm.title());
        draw_panel(area, &title, &rows)?;
    }
    root.present()?;
    Ok(true)
}

fn draw_legend(area: &Area, styles: &[&Style]) -> Result<(), Box<dyn Error>> {
    let columns = styles.len().div_ceil(2) as i32;
    let width = (2 * SIZE.0 as i32 - 100) / columns;
    for (i, &&(name, color, mark)) in styles.iter().enumerate() {
        let (x, y) = (
            80 + i as i32 % columns * width,
            20 + i as i32 / columns * 26,
        );
        let line = [(x, y), (x + 40, y)];
        area.draw(&PathElement::new(line, color.stroke_width(2)))?;
        draw_mark(area, (x + 20, y), color, mark)?;
        let font = ("sans-serif", 17).into_font();
        area.draw(&Text::new(name, (x + 50, y - 9), font))?;
    }
    Ok(())
}

fn draw_mark(
    area: &Area,
    at: (i32, i32),
    color: RGBColor,
    mark: u32,
) -> Result<(), Box<dyn Error>> {
    match mark {
        0 => area.draw(&Circle::new(at, 4, color.filled()))?,
        1 => area.draw(&TriangleMarker::new(at, 6, color.filled()))?,
        2 => area.draw(&Cross::new(at, 5, color.stroke_width(2)))?,
        _ => {
            area.draw(&Circle::new(at, 5, WHITE.filled()))?;
            area.draw(&Circle::new(at, 5, color.stroke_width(2)))?;
        }
    }
    Ok(())
}

/// The points of a line: numbers of elements and times relative to this crate.
fn line(name: &str, rows: &[&Row]) -> Vec<(f64, f64)> {
    let point = |row: &&Row| {
        let measured = match name {
            "limit" => row.limit.as_ref(),
            _ => row.peers.iter().find(|peer| peer.name == name),
        };
        Some((row.case.elements() as f64, measured?.ratio))
    };
    rows.iter().filter_map(point).collect()
}

fn draw_panel(area: &Area, title: &str, rows: &[&Row]) -> Result<(), Box<dyn Error>> {
    let lines: Vec<_> = STYLES
        .iter()
        .map(|style| (style, line(style.0, rows)))
        .collect();
    let points = || lines.iter().flat_map(|(_, line)| line);
    let range = |of: fn(&(f64, f64)) -> f64, margin: f64| {
        let start = points().map(of).fold(f64::INFINITY, f64::min);
        let end = points().map(of).fold(0.0, f64::max);
        if start <= end {
            start / margin..end * margin
        } else {
            0.1..10.0
        }
    };
    let (x, y) = (range(|p| p.0, 1.3), range(|p| p.1, 1.5));
    let y = y.start.min(0.5)..y.end.max(2.0);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(x.clone().log_scale(), y.clone().log_scale())?;
    let power = |x: &f64| format!("{x:e}");
    let times = |y: &f64| format!("{}", (y * 1e6).round() / 1e6);
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("elements")
        .y_desc("time / time of this crate")
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 16))
        .x_label_formatter(&power)
        .y_label_formatter(&times)
        .draw()?;
    let even = [(x.start, 1.0), (x.end, 1.0)];
    chart.draw_series([PathElement::new(even, BLACK.stroke_width(2))])?;
    for ((_, color, mark), line) in lines {
        // Segment by segment, since the joints of one long path would stick out as spikes.
        let segments = line
            .windows(2)
            .map(|ends| PathElement::new(ends, color.stroke_width(2)));
        chart.draw_series(segments)?;
        for &point in &line {
            let at = chart.backend_coord(&point);
            let (left, top) = area.get_base_pixel();
            draw_mark(area, (at.0 - left, at.1 - top), *color, *mark)?;
        }
    }
    Ok(())
}
