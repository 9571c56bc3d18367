//! A custom algorithm: the gradient divided by a running average of its magnitude, with bias
//! correction. Groups, wrappers, schedules, threads and checks of the hyper-parameters work as for
//! the built-in algorithms.
//!
//! ```sh
//! cargo run --release --example custom_algorithm
//! ```
use ndarray::array;
use ndarray_optim::{
    Compose, Optimizer,
    algorithm::{Algorithm, DecayRates, Element, Rule, StepContext},
    hyper_parameters,
};

hyper_parameters! {
    /// `m <- beta m + (1 - beta) |g|`, `p <- p - lr g / (m / (1 - beta^t))`.
    struct AbsProp = "abs_prop" {
        /// Learning rate.
        lr: f64 [>= 0] = 0.02;
        /// Decay rate of the running average.
        beta: f64 [in 0..1] = 0.9;
    }
}

/// The arithmetic on one element: `lr`, `1 - beta` and the bias correction of one step.
#[derive(Clone, Copy)]
struct AbsPropStep<A>([A; 3]);

impl<A: Element> Rule for AbsPropStep<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["abs_avg"];
    const COST: u64 = 4; // in 0.1 ns; decides when threads are used
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let [lr, weight, correction] = self.0;
        let m = m + weight * (g.abs() - m);
        ((lr * g).over(m / correction), [m]) // 0 where m is 0
    }
    // Tiny numbers of the average are flushed to 0: arithmetic on them is slow.
    fn floors(&self) -> [A; 1] {
        [A::min_positive_value()]
    }
}

impl Algorithm for AbsProp {
    type Kernel<A: Element> = AbsPropStep<A>;
    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> AbsPropStep<A> {
        AbsPropStep([self.lr, 1.0 - self.beta, step.correction(0)].map(A::from_f64))
    }
    // By default those in a field `betas`.
    fn decay_rates(&self) -> DecayRates {
        DecayRates::new([self.beta])
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Minimizes 500 x^2 + 0.5 y^2 from (1, 1), and averages the parameters.
    let mut optimizer = Optimizer::new(AbsProp::default().ema(0.9));
    let mut theta = array![1.0, 1.0];
    for _ in 0..100 {
        let grad = array![1000.0, 1.0] * &theta;
        optimizer.update(&mut theta, &grad)?;
    }
    println!("after 100 steps of {}: {theta:.1e}", optimizer.name());
    println!(
        "average of the parameters: {:.1e}",
        optimizer.evaluate(&theta)?
    );
    Ok(())
}
