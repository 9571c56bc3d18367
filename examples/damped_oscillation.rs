//! Fits a damped oscillation to measurements: nonlinear least squares for four parameters from 1e-3
//! to 1e3, with L-BFGS.
//!
//! ```sh
//! cargo run --release --example damped_oscillation
//! ```
use ndarray::Array1;
use ndarray_optim::{Lbfgs, LbfgsConfig, fit::check_gradient, named_arrays};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Instant;

/// a exp(-d t) cos(w t + phi), in m, 1/s, rad/s and rad.
#[derive(Clone, Debug)]
struct Oscillation {
    a: f64,
    d: f64,
    w: f64,
    phi: f64,
}
named_arrays!(impl NamedArrays<f64> for Oscillation { a, d, w, phi });

/// Half the mean squared residual, in mm^2, and its gradient.
fn loss(p: &Oscillation, g: &mut Oscillation, t: &Array1<f64>, y: &Array1<f64>) -> f64 {
    let decay = t.mapv(|t| 1e3 * (-p.d * t).exp());
    let cos = &decay * t.mapv(|t| (p.w * t + p.phi).cos());
    let sin = &decay * t.mapv(|t| (p.w * t + p.phi).sin());
    let (residual, n) = (p.a * &cos - 1e3 * y, t.len() as f64);
    g.a = residual.dot(&cos) / n;
    g.d = -p.a * residual.dot(&(t * &cos)) / n;
    g.w = -p.a * residual.dot(&(t * &sin)) / n;
    g.phi = -p.a * residual.dot(&sin) / n;
    0.5 * residual.dot(&residual) / n
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = StdRng::seed_from_u64(0);
    let t = Array1::linspace(0.0, 0.2, 1000);
    let y = t.mapv(|t: f64| 4e-3 * (-15.0 * t).exp() * (2000.0 * t + 0.6).cos());
    let y = y + Array1::from_shape_simple_fn(1000, || rng.random_range(-1e-4..1e-4));
    let [a, d, w, phi] = [2e-3, 10.0, 1990.0, 0.0];
    let mut model = Oscillation { a, d, w, phi };
    let (start, mut grads) = (Instant::now(), model.clone());
    loss(&model, &mut grads, &t, &y);
    check_gradient(&mut model, &grads.clone(), |p| loss(p, &mut grads, &t, &y))?;
    let mut lbfgs = Lbfgs::new(LbfgsConfig::precise());
    let report = lbfgs.minimize(&mut model, &mut grads, |p, g| loss(p, g, &t, &y))?;
    println!("{model:?}\n{report:?}, {:.1?}", start.elapsed());
    Ok(())
}
