//! Fits a decaying exponential to noisy measurements with Adam. All three parameters are in one
//! array and the gradient is written by hand, so a step is one call of `update`.
//!
//! ```sh
//! cargo run --release --example quickstart
//! ```
use ndarray::{Array1, array};
use ndarray_optim::{Adam, Optimizer};
use rand::{Rng, SeedableRng, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Measurements of 2.5 exp(-1.3 t) + 0.5 with uniform noise.
    let mut rng = StdRng::seed_from_u64(0);
    let t = Array1::linspace(0.0, 4.0, 200);
    let y = t.mapv(|t: f64| 2.5 * (-1.3 * t).exp() + 0.5 + rng.random_range(-0.05..0.05));

    // The model a exp(-b t) + c, with a, b and c in `theta`.
    let mut theta = array![1.0, 1.0, 0.0];
    let mut adam = Optimizer::new(Adam::new(0.02));
    for step in 0..=1000 {
        let (a, b, c) = (theta[0], theta[1], theta[2]);
        let decay = t.mapv(|t| (-b * t).exp());
        let residual = a * &decay + c - &y;
        if step % 200 == 0 {
            let loss = 0.5 * residual.pow2().mean().unwrap_or(f64::NAN);
            println!("step {step:4}: loss {loss:.6}, a = {a:.3}, b = {b:.3}, c = {c:.3}");
        }
        // The gradient of the loss, half the mean squared residual.
        let by_a = residual.dot(&decay);
        let by_b = -a * residual.dot(&(&t * &decay));
        let by_c = residual.sum();
        let grad = array![by_a, by_b, by_c] / t.len() as f64;
        adam.update(&mut theta, &grad)?;
    }
    println!("true values:               a = 2.500, b = 1.300, c = 0.500");
    Ok(())
}
