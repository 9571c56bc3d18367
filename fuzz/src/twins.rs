//! Two optimizers that must stay the same: one works on views of any layout and on any number of
//! threads, the other on row-major copies on one thread.
use crate::{
    layout::{BESIDE, Layout, shape, values},
    subject::{Real, bits, state_bytes, summary, without_new_momentum},
    trace,
};
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, IxDyn};
use ndarray_optim::{Error, Optimizer, Outcome, Params, StateDict};
use std::mem::swap;

/// A parameter during the run.
pub struct Param<A> {
    pub name: &'static str,
    pub value: ArrayD<A>,
}

/// A parameter and its gradient in one call: in memory of any layout, and as row-major copies.
pub struct Pair<A> {
    pub name: &'static str,
    of_p: Layout,
    of_g: Layout,
    p: ArrayD<A>,
    g: ArrayD<A>,
    pub plain: ArrayD<A>,
    pub grad: Grad<A>,
}

pub enum Grad<A> {
    /// An array, in most cases of the shape of the parameter.
    Of(ArrayD<A>),
    /// One number for all elements, broadcast with strides of 0.
    Broadcast(ArrayD<A>),
    None,
}

impl<A: Real> Pair<A> {
    /// With a gradient of any kind.
    pub fn new(u: &mut Unstructured<'_>, param: &Param<A>) -> Result<Pair<A>> {
        let grad = match u.int_in_range(0..=19)? {
            0 => Grad::Broadcast(values(u, &[])?),
            1 => Grad::None,
            2 => {
                let shape = shape(u)?;
                Grad::Of(values(u, &shape)?)
            }
            _ => Grad::Of(values(u, param.value.shape())?),
        };
        Pair::with(u, param, grad)
    }

    pub fn with(
        u: &mut Unstructured<'_>,
        Param { name, value }: &Param<A>,
        grad: Grad<A>,
    ) -> Result<Pair<A>> {
        let ndim = value.ndim();
        let of_p = Layout::new(u, ndim)?;
        let of_g = match &grad {
            Grad::Of(grad) if grad.ndim() != ndim || bool::arbitrary(u)? => {
                Layout::new(u, grad.ndim())?
            }
            _ => of_p.clone(),
        };
        let g = if let Grad::Of(grad) = &grad {
            of_g.store(grad)
        } else {
            ArrayD::zeros(IxDyn(&[0]))
        };
        Ok(Pair {
            name,
            p: of_p.store(value),
            of_p,
            of_g,
            g,
            plain: value.clone(),
            grad,
        })
    }

    /// The parameter in its memory.
    pub fn now(&mut self) -> ArrayViewMutD<'_, A> {
        self.of_p.view(self.p.view_mut(), self.plain.shape())
    }

    /// The gradient in row-major order; `None` without one, or with one of another shape.
    pub fn gradient(&self) -> Option<ArrayViewD<'_, A>> {
        match &self.grad {
            Grad::Of(grad) if grad.shape() == self.plain.shape() => Some(grad.view()),
            Grad::Broadcast(one) => one.broadcast(self.plain.raw_dim()),
            _ => None,
        }
    }

    /// Swaps the gradients of two pairs for the same parameter.
    pub fn swap_gradient(&mut self, other: &mut Pair<A>) {
        swap(&mut self.of_g, &mut other.of_g);
        swap(&mut self.g, &mut other.g);
        swap(&mut self.grad, &mut other.grad);
    }

    /// The parameter and its gradient, if it has one: row-major copies if `plain`.
    pub fn views(&mut self, plain: bool) -> (ArrayViewMutD<'_, A>, Option<ArrayViewD<'_, A>>) {
        let shape = self.plain.shape().to_vec();
        let grad = match &self.grad {
            Grad::Of(grad) if plain => Some(grad.view()),
            Grad::Of(grad) => Some(self.of_g.view(self.g.view(), grad.shape())),
            Grad::Broadcast(one) => one.broadcast(IxDyn(&shape)),
            Grad::None => None,
        };
        let p = if plain {
            self.plain.view_mut()
        } else {
            self.of_p.view(self.p.view_mut(), &shape)
        };
        (p, grad)
    }
}

pub struct Twins<A: Real> {
    pub any: Optimizer<A>,
    pub plain: Optimizer<A>,
}

impl<A: Real> Twins<A> {
    /// Makes the same change to both, which must succeed in both or in none.
    pub fn change<T>(
        &mut self,
        mut change: impl FnMut(&mut Optimizer<A>) -> std::result::Result<T, Error>,
    ) -> Option<T> {
        let before = state_bytes(&self.any);
        let (outcome, other) = (change(&mut self.any), change(&mut self.plain));
        trace(|| format!("change: {:?}", outcome.as_ref().err()));
        assert_eq!(
            format!("{:?}", outcome.as_ref().err()),
            format!("{:?}", other.as_ref().err())
        );
        assert!(
            outcome.is_ok() || before == state_bytes(&self.any),
            "a failed change has changed something: {:?}",
            outcome.err()
        );
        outcome.ok()
    }

    /// Makes the same call with both. The parameters and the states must be the same afterwards, a
    /// call that fails or is skipped must change nothing, and none may write outside of the views.
    /// The new values become those of `params`.
    pub fn call(
        &mut self,
        mut all: Vec<Pair<A>>,
        params: &mut [Param<A>],
        mut call: impl FnMut(
            &mut Optimizer<A>,
            &mut [Pair<A>],
            bool,
        ) -> std::result::Result<Outcome, Error>,
    ) -> std::result::Result<Outcome, Error> {
        let state = |optimizer: &Optimizer<A>| {
            let mut state = optimizer.state_dict();
            let skipped = std::mem::take(&mut state.skipped);
            (state, skipped)
        };
        let values = |all: &[Pair<A>]| all.iter().map(|pair| bits(pair.p.view())).collect();
        let ((before, skipped), old): (_, Vec<_>) = (state(&self.any), values(&all));
        let expected = call(&mut self.plain, &mut all, true);
        let outcome = call(&mut self.any, &mut all, false);
        trace(|| {
            let grads: Vec<_> = all
                .iter()
                .map(|pair| (pair.name, pair.gradient()))
                .collect();
            format!("call with {grads:?}: {outcome:?}")
        });
        // Compared as text, because an error may contain NaN.
        let text = |outcome: &std::result::Result<_, _>| match outcome {
            // The value is that of the first one in memory order.
            Err(Error::NonFiniteGradient { name, .. }) => format!("non-finite: {name}"),
            other => format!("{other:?}"),
        };
        assert_eq!(
            text(&outcome),
            text(&expected),
            "the outcome depends on the layout"
        );
        let (after, counted) = state(&self.any);
        match outcome {
            Ok(Outcome::Applied) => {
                let norms =
                    [&self.any, &self.plain].map(|optimizer| optimizer.grad_norm().map(Real::bits));
                assert_eq!(norms[0], norms[1], "the norm depends on the layout");
            }
            // A call of a round has its gradients counted; the parameters stay.
            Ok(Outcome::Accumulated) => assert!(values(&all) == old),
            _ => assert!(
                values(&all) == old && still(&before, &outcome) == still(&after, &outcome),
                "a call without effect has changed something: {outcome:?}\n{before:?}\n{after:?}"
            ),
        }
        let expected = match outcome {
            Ok(Outcome::Skipped) => skipped + 1,
            Ok(_) => 0,
            Err(_) => skipped,
        };
        assert_eq!(counted, expected, "skipped steps after {outcome:?}");
        for mut pair in all {
            let found = bits(pair.now().view());
            assert_eq!(
                found,
                bits(pair.plain.view()),
                "`{}` of shape {:?}",
                pair.name,
                pair.plain.shape()
            );
            pair.now().fill(A::from_f64(BESIDE));
            assert!(
                pair.p
                    .iter()
                    .all(|x| x.bits() == A::from_f64(BESIDE).bits()),
                "a step has written outside the view"
            );
            if let Some(param) = params.iter_mut().find(|param| param.name == pair.name) {
                param.value = pair.plain;
            }
        }
        outcome
    }

    /// Both must be in the same state, apart from its memory order.
    pub fn check(&self) {
        let [any, plain] = [&self.any, &self.plain].map(|optimizer| {
            let mut state = optimizer.state_dict();
            for param in &mut state.params {
                param.order.clear();
                param.reversed.clear();
            }
            state
        });
        assert!(
            summary(any.clone()) == summary(plain.clone()),
            "the state depends on the layout\n{any:?}\n{plain:?}"
        );
    }
}

/// One step with these parameters and gradients.
pub fn make_step<A: Real>(
    optimizer: &mut Optimizer<A>,
    all: &mut [Pair<A>],
    loss: Option<f64>,
    plain: bool,
) -> std::result::Result<Outcome, Error> {
    with_params(all, loss, plain, |params| optimizer.step(params))
}

/// Passes the views of all parameters and their gradients.
pub fn with_params<A: Real, T>(
    all: &mut [Pair<A>],
    loss: Option<f64>,
    plain: bool,
    work: impl FnOnce(Params<'_, A>) -> std::result::Result<T, Error>,
) -> std::result::Result<T, Error> {
    let mut all: Vec<_> = all
        .iter_mut()
        .map(|pair| (pair.name, pair.views(plain)))
        .collect();
    let mut params = Params::new();
    if let Some(loss) = loss {
        params.loss(loss);
    }
    for (name, (p, grad)) in &mut all {
        params.add_optional(*name, p, grad.as_deref())?;
    }
    work(params)
}

/// What a call without effect leaves as it is.
fn still(state: &StateDict, outcome: &std::result::Result<Outcome, Error>) -> Vec<u8> {
    let mut state = state.clone();
    state.params.iter_mut().for_each(without_new_momentum);
    // A round whose mean gradient is above the limit is discarded.
    if matches!(outcome, Ok(Outcome::Skipped)) {
        state.accumulation = None;
    }
    summary(state)
}
