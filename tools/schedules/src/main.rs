//! Plots every schedule in one figure.
//!
//! ```sh
//! cargo run --release -p schedules -- [--out FILE]
//! ```
use clap::Parser;
use ndarray_optim::schedule::{
    AnySchedule, Constant, CosineAnnealing, CosineDecay, CosineWarmRestarts, Cyclic, CyclicMode,
    DecayShape, Exponential, ExponentialDecay, Interpolation, InverseSqrt, Linear, MultiStep, Noam,
    OneCycle, PiecewiseConstant, PiecewiseInterpolate, Polynomial, PolynomialDecay,
    ReduceOnPlateau, ReduceOnPlateauConfig, Schedule, Sgdr, Step, WarmupCosine, WarmupExponential,
    WarmupStableDecay,
};
use plotters::{
    prelude::*,
    style::{FontStyle, register_font},
};
use std::{error::Error, fs, path::PathBuf};

/// Plots every schedule in one figure
#[derive(Parser)]
struct Args {
    /// PNG file to write
    #[arg(long, default_value = "docs/figures/schedules.png")]
    out: PathBuf,
}

const STEPS: u64 = 200;
const COLUMNS: usize = 4;

type Panel = (String, Vec<f64>);

fn panel(title: &str, schedule: &impl Schedule) -> Result<Panel, ndarray_optim::Error> {
    schedule.validate()?;
    Ok((
        title.into(),
        (0..STEPS).map(|step| schedule.value(step)).collect(),
    ))
}

fn panels() -> Result<Vec<Panel>, ndarray_optim::Error> {
    let boundaries = vec![(50, 0.6), (120, 0.4), (160, 0.5)];
    let cyclic = Cyclic {
        step_size_up: 15,
        step_size_down: Some(30),
        gamma: 0.99,
        ..Cyclic::new(0.1, 1.0)
    };
    let one_cycle = OneCycle::new(1.0, 190);
    let wsd = WarmupStableDecay::new(1.0, 20, 110, 60);
    let warmup = Linear {
        start_factor: 0.0,
        total_steps: 20,
        ..Linear::new(1.0)
    };
    let schedules: [AnySchedule; 23] = [
        Constant::new(1.0).into(),
        Step {
            gamma: 0.5,
            ..Step::new(1.0, 40)
        }
        .into(),
        MultiStep {
            gamma: 0.4,
            ..MultiStep::new(1.0, vec![60, 120, 160])
        }
        .into(),
        Exponential::new(1.0, 0.98).into(),
        ExponentialDecay {
            transition_begin: 30,
            staircase: true,
            end_lr: Some(0.1),
            ..ExponentialDecay::new(1.0, 20, 0.7)
        }
        .into(),
        Linear {
            total_steps: 60,
            ..Linear::new(1.0)
        }
        .into(),
        Polynomial {
            total_steps: 180,
            power: 2.0,
            ..Polynomial::new(1.0)
        }
        .into(),
        PolynomialDecay {
            power: 2.0,
            transition_begin: 40,
            ..PolynomialDecay::new(1.0, 0.2, 120)
        }
        .into(),
        PiecewiseConstant {
            boundaries_and_scales: boundaries.clone(),
            ..PiecewiseConstant::new(1.0)
        }
        .into(),
        PiecewiseInterpolate {
            boundaries_and_scales: boundaries,
            ..PiecewiseInterpolate::new(Interpolation::Cosine, 1.0)
        }
        .into(),
        CosineDecay {
            end_lr: 0.1,
            ..CosineDecay::new(1.0, 160)
        }
        .into(),
        CosineAnnealing {
            eta_min: 0.1,
            ..CosineAnnealing::new(1.0, 50)
        }
        .into(),
        CosineWarmRestarts {
            t_mult: 2,
            ..CosineWarmRestarts::new(1.0, 28)
        }
        .into(),
        one_cycle.clone().into(),
        cyclic.clone().into(),
        Sgdr::new(vec![
            WarmupCosine::new(0.0, 1.0, 10, 60),
            WarmupCosine::new(0.0, 0.6, 10, 120),
        ])
        .into(),
        WarmupCosine {
            end_lr: 0.1,
            ..WarmupCosine::new(0.0, 1.0, 30, 180)
        }
        .into(),
        WarmupExponential::new(0.0, 1.0, 30, 40, 0.5).into(),
        wsd.clone().into(),
        InverseSqrt::new(1.0, 20).into(),
        Noam::new(512, 40).into(),
        AnySchedule::from(warmup.clone())
            .then(20, Exponential::new(1.0, 0.985))
            .then(150, 0.05),
        AnySchedule::from(CosineDecay::new(1.0, 190)).times(warmup),
    ];
    let mut panels = schedules
        .iter()
        .map(|schedule| panel(schedule.name(), schedule))
        .collect::<Result<Vec<_>, _>>()?;

    // A loss with two phases of improvement, each followed by a plateau.
    let config = ReduceOnPlateauConfig {
        factor: 0.5,
        patience: 10,
        cooldown: 5,
        ..ReduceOnPlateauConfig::new(1.0)
    };
    let mut plateau = ReduceOnPlateau::new(config)?;
    let loss =
        |step: u64| 1.0 / (1.0 + step.min(60) as f64 + step.saturating_sub(100).min(60) as f64);
    panels.push((
        "reduce_on_plateau".into(),
        (0..STEPS).map(|step| plateau.observe(loss(step))).collect(),
    ));

    panels.push(panel(
        "one_cycle, three phases",
        &OneCycle {
            three_phase: true,
            ..one_cycle
        },
    )?);
    panels.push(panel(
        "cyclic, triangular2",
        &Cyclic {
            mode: CyclicMode::Triangular2,
            ..cyclic.clone()
        },
    )?);
    panels.push(panel(
        "warmup_stable_decay, sqrt",
        &WarmupStableDecay {
            decay: DecayShape::Sqrt,
            ..wsd
        },
    )?);
    panels.push(panel("a closure", &|step: u64| {
        0.5 + 0.4 * (step as f64 / 12.0).sin()
    })?);
    Ok(panels)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    // The embedded font makes the figure independent of the fonts installed.
    _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
    if let Some(folder) = args.out.parent() {
        fs::create_dir_all(folder)?;
    }
    let panels = panels()?;
    let rows = panels.len().div_ceil(COLUMNS);
    let root = BitMapBackend::new(&args.out, (360 * COLUMNS as u32, 210 * rows as u32))
        .into_drawing_area();
    root.fill(&WHITE)?;
    for (area, (title, values)) in root.split_evenly((rows, COLUMNS)).iter().zip(&panels) {
        let top = values.iter().copied().fold(0.0, f64::max) * 1.08;
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 18))
            .margin(10)
            .margin_right(18)
            .x_label_area_size(24)
            .y_label_area_size(50)
            .build_cartesian_2d(0.0..STEPS as f64, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_labels(5)
            .y_labels(4)
            .label_style(("sans-serif", 14))
            .x_label_formatter(&|step| format!("{step:.0}"))
            .y_label_formatter(&|value| format!("{}", (value * 1e6).round() / 1e6))
            .draw()?;
        let points: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(step, &value)| (step as f64, value))
            .collect();
        // The joint of a wide path sticks out as a spike at a sharp corner, so the path is split
        // there.
        let corner = |v: &[f64]| (v[0] - 2.0 * v[1] + v[2]).abs() > 0.02 * top;
        let mut paths = vec![vec![points[0]]];
        for (at, &point) in points.iter().enumerate().skip(1) {
            paths
                .last_mut()
                .into_iter()
                .for_each(|path| path.push(point));
            if values.get(at - 1..at + 2).is_some_and(corner) {
                paths.push(vec![point]);
            }
        }
        let style = RGBColor(0, 114, 178).stroke_width(2);
        chart.draw_series(paths.into_iter().map(|path| PathElement::new(path, style)))?;
    }
    root.present()?;
    println!(
        "{} schedules over {STEPS} steps in {}",
        panels.len(),
        args.out.display()
    );
    Ok(())
}
