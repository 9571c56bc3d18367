//! Gradient accumulation, for batches that do not fit into memory at once: four micro-batches of 64
//! rows make the same steps as one batch of 256, up to rounding errors.
//!
//! ```sh
//! cargo run --release --example accumulate
//! ```
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use ndarray_optim::{AdamW, Optimizer, Outcome};
use ndarray_rand::{RandomExt, rand_distr::StandardNormal};
use rand::{SeedableRng, rngs::StdRng};

/// The gradient of the mean squared error over the rows of a batch.
fn gradient(x: ArrayView2<f64>, y: ArrayView1<f64>, theta: &Array1<f64>) -> Array1<f64> {
    2.0 / y.len() as f64 * x.t().dot(&(x.dot(theta) - y))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = StdRng::seed_from_u64(0);
    let x = Array2::<f64>::random_using((256, 10), StandardNormal, &mut rng);
    let y = x.sum_axis(Axis(1)) + Array1::<f64>::random_using(256, StandardNormal, &mut rng);

    let mut full = Optimizer::new(AdamW::new(0.01));
    let mut accumulating = Optimizer::new(AdamW::new(0.01));
    accumulating.set_accumulation(4);

    let (mut theta, mut same) = (Array1::zeros(10), Array1::zeros(10));
    let mut steps = 0;
    for _ in 0..50 {
        let grad = gradient(x.view(), y.view(), &theta);
        full.update(&mut theta, &grad)?;
        // The fourth call makes a step with the mean of the four gradients.
        let batches = x.axis_chunks_iter(Axis(0), 64);
        for (x, y) in batches.zip(y.axis_chunks_iter(Axis(0), 64)) {
            let grad = gradient(x, y, &same);
            let outcome = accumulating.update(&mut same, &grad)?;
            steps += u32::from(outcome == Outcome::Applied);
        }
    }
    let difference = (&theta - &same).abs().fold(0.0_f64, |max, &d| max.max(d));
    println!("50 full batches, and 200 micro-batches that made {steps} steps");
    println!("largest difference between the parameters: {difference:.1e}");
    Ok(())
}
