//! Wrappers that transform gradients and updates.
use super::{Wrap, barrier, elementwise, wrap_parameters};
use crate::{
    algorithm::{StepContext, WholeArray},
    array::Element,
    kernel::{Hooks, Kernel, Wrapper},
    random::nth,
};
use ndarray::Axis;

wrap_parameters! {
    /// Weight decay, for algorithms that have none of their own.
    ///
    /// # Update rule
    ///
    /// ```text
    /// coupled:    g <- g + weight_decay p           before the algorithm sees it (L2 penalty)
    /// decoupled:  p <- p - lr weight_decay p        with the old p
    /// fixed:      p <- p - weight_decay p           with the old p, whatever lr
    /// ```
    ///
    /// `fixed_decay` is the decay of the paper, which multiplies it by the schedule's factor but
    /// not by the learning rate: scale `weight_decay` by the same
    /// [`Schedules`](crate::schedule::Schedules) as `lr`. It is `fixed_decay` of
    /// `pytorch_optimizer`.
    ///
    /// # Reference
    ///
    /// I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization",
    /// [arXiv:1711.05101](https://arxiv.org/abs/1711.05101).
    WeightDecay = "weight_decay" {
        /// Weight decay factor.
        weight_decay: f64 [>= 0] = 1e-2;
        /// Decouples the weight decay from the gradient.
        decoupled: bool = true;
        /// Decouples the decay from the learning rate too; only if it is decoupled.
        fixed_decay: bool = false;
    }
    check(self) {
        if self.fixed_decay && !self.decoupled {
            let expected = "false unless decoupled";
            return Err(self.wrong("fixed_decay", self.fixed_decay, expected));
        }
        Ok(())
    }
}

/// Coupled or decoupled weight decay.
#[derive(Clone, Copy, Debug)]
pub struct Decay<A> {
    factor: A,
    decoupled: bool,
}

impl<A: Element> Wrapper<A> for Decay<A> {
    type State = [A; 0];
    fn hooks(&self) -> Hooks {
        if self.decoupled {
            Hooks::PARAM
        } else {
            Hooks::GRADIENT
        }
    }
    #[inline(always)]
    fn gradient(&self, p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (
            if self.decoupled {
                g
            } else {
                g + self.factor * p
            },
            [],
        )
    }
    #[inline(always)]
    fn param(&self, p: A, new: A, []: [A; 0]) -> (A, [A; 0]) {
        (
            if self.decoupled {
                new - self.factor * p
            } else {
                new
            },
            [],
        )
    }
}

elementwise!(WeightDecay: Decay<A>, |self, lr| {
    let lr = if self.decoupled && !self.fixed_decay { lr } else { 1.0 };
    Decay {
        factor: A::from_f64(lr * self.weight_decay),
        decoupled: self.decoupled,
    }
});

wrap_parameters! {
    /// Multiplies gradients by a factor, to undo loss scaling for example.
    ScaleGradient = "scale_gradient" {
        /// The factor.
        factor: f64 [finite] = 1.0;
    }
}

/// Multiplies gradients.
#[derive(Clone, Copy, Debug)]
pub struct Scale<A>(A);

impl<A: Element> Wrapper<A> for Scale<A> {
    type State = [A; 0];
    fn hooks(&self) -> Hooks {
        Hooks::GRADIENT
    }
    #[inline(always)]
    fn gradient(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.0 * g, [])
    }
}

elementwise!(ScaleGradient: Scale<A>, |self, _lr| Scale(A::from_f64(self.factor)));

wrap_parameters! {
    /// Replaces gradients by their signs.
    SignOfGradient = "sign_of_gradient" {}
}

/// The sign of gradients; NaN stays NaN.
#[derive(Clone, Copy, Debug)]
pub struct Signs;

impl<A: Element> Wrapper<A> for Signs {
    type State = [A; 0];
    fn hooks(&self) -> Hooks {
        Hooks::GRADIENT
    }
    #[inline(always)]
    fn gradient(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (g.sign(), [])
    }
}

elementwise!(SignOfGradient: Signs, |self, _lr| Signs);

wrap_parameters! {
    /// Grokfast: amplifies the slowly changing part of the gradient by adding a running average to
    /// it.
    ///
    /// # Update rule
    ///
    /// ```text
    /// h <- alpha h + (1 - alpha) g,  g <- g + lamb h           initially h = 0
    /// ```
    ///
    /// # State
    ///
    /// `grad_ema`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// The EMA form of J. Lee et al., [arXiv:2405.20233](https://arxiv.org/abs/2405.20233).
    Grokfast = "grokfast" {
        /// Decay rate of the running average.
        alpha: f64 [in 0..1] = 0.98;
        /// Weight of the running average.
        lamb: f64 [>= 0] = 2.0;
    }
}

/// Adds a running average to gradients.
#[derive(Clone, Copy, Debug)]
pub struct Filter<A> {
    alpha: A,
    one_minus_alpha: A,
    lamb: A,
}

impl<A: Element> Wrapper<A> for Filter<A> {
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["grad_ema"];
    const COST: u64 = 1;
    fn hooks(&self) -> Hooks {
        Hooks::GRADIENT
    }
    #[inline(always)]
    fn gradient(&self, _p: A, g: A, [h]: [A; 1]) -> (A, [A; 1]) {
        let h = self.alpha * h + self.one_minus_alpha * g;
        (g + self.lamb * h, [h])
    }
    fn floors(&self) -> [A; 1] {
        [A::min_positive_value()]
    }
}

elementwise!(Grokfast: Filter<A>, |self, _lr| Filter {
    alpha: A::from_f64(self.alpha),
    one_minus_alpha: A::from_f64(1.0 - self.alpha),
    lamb: A::from_f64(self.lamb),
});

wrap_parameters! {
    /// Cautious updates: zeroes the elements of an update whose sign disagrees with that of the
    /// gradient.
    ///
    /// # Update rule
    ///
    /// ```text
    /// u <- u where u g > 0, else 0
    /// ```
    ///
    /// The update is not rescaled by the fraction of remaining elements, which would take a second
    /// pass over memory. The decoupled weight decay of an algorithm is part of its update.
    ///
    /// # Reference
    ///
    /// K. Liang et al., [arXiv:2411.16085](https://arxiv.org/abs/2411.16085).
    #[derive(Copy)]
    Cautious = "cautious" {}
}

impl<A: Element> Wrapper<A> for Cautious {
    type State = [A; 0];
    fn hooks(&self) -> Hooks {
        Hooks::UPDATE
    }
    #[inline(always)]
    fn update(&self, _p: A, g: A, delta: A, []: [A; 0]) -> (A, [A; 0]) {
        // Signs instead of the product, which can underflow.
        let agree = delta.sign() * g.sign() > A::ZERO;
        (if agree { delta } else { A::ZERO * delta }, [])
    }
}

elementwise!(Cautious: Cautious, |self, _lr| *self);

wrap_parameters! {
    /// Gradient centralization: subtracts the mean over all axes but one from gradients with two or
    /// more axes.
    ///
    /// # Update rule
    ///
    /// ```text
    /// g <- g - mean of g over all axes but `keep_axis`
    /// ```
    ///
    /// Each output has its own mean: axis 0 for weights of shape (outputs, inputs). With the
    /// default this is `optax.centralize`. It works on a copy of the gradient.
    ///
    /// # Reference
    ///
    /// H. Yong et al., [arXiv:2004.01461](https://arxiv.org/abs/2004.01461).
    Centralize = "centralize" {
        /// The axis with a mean for each index; the last axis in arrays with fewer axes.
        keep_axis: usize = 0;
    }
}

impl Wrap for Centralize {
    barrier!();

    fn transform<A: Element>(&self, _step: &StepContext, array: &mut WholeArray<'_, A>) {
        if array.grad.ndim() >= 2 {
            let axis = Axis(self.keep_axis.min(array.grad.ndim() - 1));
            for mut g in array.grad.axis_iter_mut(axis) {
                let mean = A::from_f64(g.iter().map(|g| g.f64()).sum::<f64>() / g.len() as f64);
                g.mapv_inplace(|g| g - mean);
            }
        }
    }
}

wrap_parameters! {
    /// Adds Gaussian noise with decaying variance to gradients.
    ///
    /// # Update rule
    ///
    /// ```text
    /// g <- g + sqrt(eta / (1 + t)^gamma) N(0, 1)              t = 1, 2, ...
    /// ```
    ///
    /// The noise of an element is a function of the seed, the step, the name of the parameter and
    /// the index of the element. It does not depend on memory layout or number of threads, and
    /// continues when a run is resumed. It works on a copy of the gradient. This is
    /// `optax.add_noise`.
    ///
    /// # Reference
    ///
    /// A. Neelakantan et al., [arXiv:1511.06807](https://arxiv.org/abs/1511.06807).
    Noise = "noise" {
        /// Initial variance.
        eta: f64 [>= 0] = 0.01;
        /// Exponent of the decay of the variance.
        gamma: f64 [>= 0] = 0.55;
        /// Seed of the noise.
        seed: u64 = 0;
    }
}

impl Wrap for Noise {
    barrier!();

    fn transform<A: Element>(&self, step: &StepContext, array: &mut WholeArray<'_, A>) {
        let deviation = (self.eta / libm::pow(1.0 + step.t as f64, self.gamma)).sqrt();
        if deviation == 0.0 {
            return;
        }
        let name = array
            .name
            .bytes()
            .fold(0, |hash, byte| nth(hash, u64::from(byte)));
        let stream = nth(nth(self.seed, step.t), name);
        let uniform = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let grad = array.grad.as_slice_mut().unwrap_or_default();
        // Box and Muller: two numbers from two uniform ones.
        for (pair, g) in (0_u64..).zip(grad.chunks_mut(2)) {
            let [a, b] = [0, 1].map(|i| uniform(nth(stream, 2 * pair + i)));
            let (radius, angle) = (
                deviation * (-2.0 * libm::log(a)).sqrt(),
                std::f64::consts::TAU * b,
            );
            for (g, x) in g.iter_mut().zip([libm::cos(angle), libm::sin(angle)]) {
                *g += A::from_f64(radius * x);
            }
        }
    }
}
