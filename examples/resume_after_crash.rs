//! Trains with a checkpoint every 50 steps, crashes, and resumes from the newest checkpoint: the
//! result has the bits of a run that was never interrupted.
//!
//! ```sh
//! cargo run --release --example resume_after_crash --features checkpoint,serde
//! ```
use ndarray::{Array1, Array2, Axis};
use ndarray_optim::{AdamW, Checkpoint, Checkpoints, Optimizer};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{error::Error, fs};

const STEPS: u64 = 400;

/// Fits a linear model with random batches, from the newest checkpoint if there is one.
fn train(checkpoints: &Checkpoints, crash_at: Option<u64>) -> Result<Array1<f64>, Box<dyn Error>> {
    let mut theta = Array1::<f64>::zeros(8);
    let mut optimizer = Optimizer::new(AdamW::new(0.02));
    let mut first = 0;
    if let Some(latest) = checkpoints.latest()? {
        let mut checkpoint = latest.checkpoint;
        checkpoint.restore([("theta", theta.view_mut().into_dyn())])?;
        optimizer.load_state_dict(checkpoint.take_state("optimizer")?)?;
        first = checkpoint.step();
        println!("resumed after step {first}");
    }
    for step in first..STEPS {
        if crash_at == Some(step) {
            return Err(format!("crash after step {step}").into());
        }
        // The batch depends on the step only. A generator that lives longer would need a section
        // of the checkpoint for its state.
        let mut rng = StdRng::seed_from_u64(step);
        let x = Array2::<f64>::from_shape_simple_fn((16, 8), || rng.random_range(-1.0..1.0));
        let y = x.sum_axis(Axis(1));
        let grad = x.t().dot(&(x.dot(&theta) - y)) / 16.0;
        optimizer.update(&mut theta, &grad)?;
        if (step + 1) % 50 == 0 {
            let checkpoint = Checkpoint::new(step + 1)
                .section("theta", &theta)
                .state("optimizer", optimizer.state_view())?;
            checkpoints.save(&checkpoint)?;
        }
    }
    Ok(theta)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("resume_after_crash-{}", std::process::id()));
    let uninterrupted = train(&Checkpoints::open(dir.join("uninterrupted"), 2)?, None)?;

    let checkpoints = Checkpoints::open(dir.join("crashed"), 2)?;
    if let Err(error) = train(&checkpoints, Some(237)) {
        println!("{error}"); // everything that was only in memory is gone
    }
    let resumed = train(&checkpoints, None)?;

    let bits = |theta: &Array1<f64>| theta.mapv(f64::to_bits);
    assert_eq!(bits(&resumed), bits(&uninterrupted));
    println!("the same bits as without the crash: {resumed:.6}");
    fs::remove_dir_all(dir)?;
    Ok(())
}
