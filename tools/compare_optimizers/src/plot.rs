//! Line plots with logarithmic axes, as PNG files. The font is embedded: none has to be installed.
use plotters::{
    prelude::*,
    style::{FontStyle, register_font},
};
use std::{error::Error, path::Path, sync::Once};

pub struct Line {
    pub name: String,
    /// 0 for the best. If there are more lines than colors, the worst ones are grey.
    pub rank: usize,
    pub points: Vec<(f64, f64)>,
}

pub struct Panel {
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    /// Draw a dot at each point and no legend.
    pub dots: bool,
    pub lines: Vec<Line>,
}

/// The color-blind safe palette of Okabe and Ito.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

const GREY: RGBColor = RGBColor(205, 205, 205);

/// Draws the panels, two in each row.
pub fn draw(file: &Path, panels: &[Panel]) -> Result<(), Box<dyn Error>> {
    static FONT: Once = Once::new();
    FONT.call_once(|| _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular()));
    let rows = panels.len().div_ceil(2);
    let root = BitMapBackend::new(file, (1400, 520 * rows as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((rows, 2)).iter().zip(panels) {
        let shown = |&&(x, y): &&(f64, f64)| x > 0.0 && y > 0.0 && x.is_finite() && y.is_finite();
        let points: Vec<_> = panel
            .lines
            .iter()
            .flat_map(|line| line.points.iter().filter(shown))
            .copied()
            .collect();
        let range = |of: fn(&(f64, f64)) -> f64| {
            let (low, high) = points
                .iter()
                .map(of)
                .fold((f64::MAX, f64::MIN_POSITIVE), |(l, h), v| {
                    (l.min(v), h.max(v))
                });
            if low < high { low..high } else { 0.1..10.0 }
        };
        let (x, y) = (range(|p| p.0), range(|p| p.1));
        // plotters labels every decade of a logarithmic axis, so their number is limited.
        let y = (y.start / 2.0).max(y.end * 1e-30)..y.end * 2.0;
        let mut chart = ChartBuilder::on(area)
            .caption(&panel.title, ("sans-serif", 22))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(84)
            .build_cartesian_2d(x.log_scale(), y.log_scale())?;
        let number = |x: &f64| match (x * 1e6).round() / 1e6 {
            rounded if (0.01..10_000.0).contains(&rounded) => format!("{rounded}"),
            _ => format!("{x:.0e}"),
        };
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(panel.x)
            .y_desc(panel.y)
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 17))
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .draw()?;
        let many = panel.lines.len() > COLORS.len();
        let mut lines: Vec<_> = panel.lines.iter().enumerate().collect();
        if many {
            lines.sort_by_key(|(_, line)| std::cmp::Reverse(line.rank)); // the best on top
        }
        for (i, line) in lines {
            let style = COLORS
                .get(if many { line.rank } else { i })
                .unwrap_or(&GREY)
                .stroke_width(2);
            let points: Vec<_> = line.points.iter().filter(shown).copied().collect();
            // Segment by segment, since the joints of one long path would stick out as spikes.
            let series = chart.draw_series(
                points
                    .windows(2)
                    .map(|ends| PathElement::new(ends.to_vec(), style)),
            )?;
            if style.color != GREY.to_rgba() {
                series.label(&line.name).legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 22, y)], style.stroke_width(3))
                });
            }
            if panel.dots {
                chart.draw_series(
                    points
                        .iter()
                        .map(|&point| Circle::new(point, 4, style.filled())),
                )?;
            }
        }
        if panel.dots {
            continue; // the legend is that of the panel before
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 16))
            .draw()?;
    }
    root.present()?;
    Ok(())
}
