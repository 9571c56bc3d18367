//! A custom wrapper: no element moves by more than `radius` in a step, whatever the algorithm and
//! the gradient. Being element-wise, it becomes part of the one pass over memory.
//!
//! ```sh
//! cargo run --release --example custom_wrapper
//! ```
use ndarray::array;
use ndarray_optim::{
    Compose, Optimizer, Sgd,
    algorithm::{Element, Hooks, Kernel, StepContext, Wrapper},
    hyper_parameters,
    wrap::Wrap,
};

hyper_parameters! {
    /// Clips updates element-wise.
    struct TrustRegion = "trust_region" {
        /// The largest change of an element in one step.
        radius: f64 [> 0] = 0.1;
    }
}

/// The arithmetic on one element, with the radius.
#[derive(Clone, Copy)]
struct Within<A>(A);

impl<A: Element> Wrapper<A> for Within<A> {
    type State = [A; 0];
    fn hooks(&self) -> Hooks {
        Hooks::UPDATE
    }
    #[inline(always)]
    fn update(&self, _p: A, _g: A, delta: A, []: [A; 0]) -> (A, [A; 0]) {
        (delta.clamp(-self.0, self.0), []) // NaN stays NaN
    }
}

impl Wrap for TrustRegion {
    type Kernel<A: Element, K: Kernel<A>> = K::With<Within<A>>;
    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(
        &self,
        _step: &StepContext,
        _lr: f64,
        kernel: K,
    ) -> K::With<Within<A>> {
        kernel.with(Within(A::from_f64(self.radius)))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Gradient descent on sum(theta^4) / 4 diverges from far away. In a trust region it converges.
    let region = TrustRegion { radius: 0.5 };
    for mut optimizer in [
        Optimizer::new(Sgd::new(0.1)),
        Optimizer::new(Sgd::new(0.1).wrap(region)),
    ] {
        let mut theta = array![10.0_f64, -3.0];
        for _ in 0..100 {
            let grad = theta.powi(3);
            optimizer.update(&mut theta, &grad)?;
        }
        println!("after 100 steps of {}: {theta:.2}", optimizer.name());
    }
    Ok(())
}
