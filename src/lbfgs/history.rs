//! The pairs of steps and changes of the gradient, and the direction that follows from them.
use super::vector::{add, difference, dot, scale};
use crate::array::Element;
use std::{collections::VecDeque, mem};

/// Which pairs are left out, because they would make the approximation of the Hessian indefinite or
/// singular.
#[derive(Clone, Copy, Debug)]
pub(super) enum Guard {
    /// Those with `y.s <= 1e-10`, as in torch. With gradients of about 1e-5 these are all.
    Absolute,
    /// Those with `y.s <= eps y.y`, as in L-BFGS-B, where eps is the rounding error of a number.
    Relative,
}

impl Guard {
    fn least<A: Element>(self, squares: f64) -> f64 {
        match self {
            Guard::Absolute => 1e-10,
            Guard::Relative => A::epsilon().f64() * squares,
        }
    }
}

/// A step and the change of the gradient along it.
#[derive(Clone, Debug)]
pub(super) struct Pair<A> {
    /// The step: torch's `old_stps`.
    pub s: Vec<A>,
    /// The change of the gradient: torch's `old_dirs`.
    pub y: Vec<A>,
    /// `1 / y.s`
    rho: f64,
}

impl<A: Element> Pair<A> {
    fn zeros(len: usize) -> Self {
        Pair {
            s: vec![A::ZERO; len],
            y: vec![A::ZERO; len],
            rho: 0.0,
        }
    }

    /// The pair, unless the product of its vectors is not positive.
    pub fn new(s: Vec<A>, y: Vec<A>) -> Option<Self> {
        let rho = 1.0 / dot(&y, &s);
        let valid = rho > 0.0 && rho.is_finite();
        valid.then_some(Pair { s, y, rho })
    }
}

#[derive(Clone, Debug)]
pub(super) struct History<A> {
    /// Oldest first.
    pub pairs: VecDeque<Pair<A>>,
    /// The scale of the initial approximation of the inverse Hessian: torch's `H_diag`.
    pub h_diag: f64,
    /// The memory of the next pair.
    next: Pair<A>,
    /// A coefficient for each pair.
    alphas: Vec<f64>,
}

impl<A: Element> History<A> {
    pub fn new(len: usize) -> Self {
        History {
            pairs: VecDeque::new(),
            h_diag: 1.0,
            next: Pair::zeros(len),
            alphas: Vec::new(),
        }
    }

    /// Records a step `t d` and the gradients before and after it, and drops the oldest pair if
    /// there are too many.
    pub fn record(
        &mut self,
        (t, d): (f64, &[A]),
        (before, after): (&[A], &[A]),
        history_size: usize,
        guard: Guard,
    ) {
        while self.pairs.len() > history_size {
            self.pairs.pop_front();
        }
        let next = &mut self.next;
        difference(after, before, &mut next.y);
        scale(t, d, &mut next.s);
        let squares = dot(&next.y, &next.y);
        let ys = dot(&next.y, &next.s);
        // NaN, too.
        let large = ys > guard.least::<A>(squares);
        if !large || !ys.is_finite() || !squares.is_finite() {
            return;
        }
        next.rho = 1.0 / ys;
        self.h_diag = ys / squares;
        let spare = if self.pairs.len() < history_size {
            Some(Pair::zeros(d.len()))
        } else {
            self.pairs.pop_front()
        };
        if let Some(spare) = spare {
            self.pairs.push_back(mem::replace(&mut self.next, spare));
        }
    }

    /// Writes minus the product of the approximate inverse Hessian and the gradient.
    pub fn direction(&mut self, grad: &[A], d: &mut [A]) {
        scale(-1.0, grad, d);
        self.alphas.resize(self.pairs.len(), 0.0);
        for (pair, alpha) in self.pairs.iter().zip(&mut self.alphas).rev() {
            *alpha = pair.rho * dot(&pair.s, d);
            add(d, -*alpha, &pair.y);
        }
        let h_diag = A::from_f64(self.h_diag);
        d.iter_mut().for_each(|d| *d = *d * h_diag);
        for (pair, alpha) in self.pairs.iter().zip(&self.alphas) {
            let beta = pair.rho * dot(&pair.y, d);
            add(d, alpha - beta, &pair.s);
        }
    }
}
