//! Poisson regression with exposure: numbers of events in times of observation of 5000 subjects,
//! whose rates depend on four features.
//!
//! ```sh
//! cargo run --release --example poisson_regression
//! ```
use ndarray::{Array1, Array2, array};
use ndarray_optim::objective::{Objective, Regression};
use ndarray_optim::{Lbfgs, LbfgsConfig, fit::check_gradient};
use ndarray_rand::{RandomExt, rand_distr::Poisson, rand_distr::StandardNormal};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{error::Error, time::Instant};

fn main() -> Result<(), Box<dyn Error>> {
    // Events in t years at a rate of exp(x w + b) per year.
    let (w, b) = (array![0.5, -0.3, 0.2, 0.0], -1.0);
    let mut rng = StdRng::seed_from_u64(0);
    let x = Array2::<f64>::random_using((5000, 4), StandardNormal, &mut rng);
    let t = Array1::from_shape_simple_fn(5000, || rng.random_range(0.5..10.0));
    let mut y = &t * (x.dot(&w) + b).exp();
    for y in &mut y {
        *y = rng.sample(Poisson::new(*y)?);
    }

    let start = Instant::now();
    let mut problem = Regression::poisson(&x, &y)?.exposure(&t)?;
    let (mut model, mut grads) = (problem.zeros(), problem.zeros());
    problem.value_and_grad(&model, &mut grads)?;
    check_gradient(&mut model, &grads, |model| problem.value(model))?;
    let report = Lbfgs::new(LbfgsConfig::precise()).minimize(&mut model, &mut grads, |m, g| {
        Ok::<_, Box<dyn Error>>(problem.value_and_grad(m, g)?)
    })?;
    let (n, grad, time) = (report.evaluations, report.grad_max, start.elapsed());
    println!("largest element of the gradient {grad:.0e} after {n} evaluations, {time:.1?}");
    println!("weights {:.3}, bias {:.3}", model.weights, model.bias);
    println!("true:   {w:.3}, bias {b:.3}");
    Ok(())
}
