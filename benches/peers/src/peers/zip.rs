//! The step as a closure: ndarray's `Zip`, with `for_each` on one thread and `par_for_each` on all.
//! State has the memory order of the parameter, which `Zip` needs to be fast.
use super::*;
use crate::{
    case::{ALPHA, Algorithm, EPS, LR, MOMENTUM, Model, Tensor, Threads, ends, with_arrays},
    common::by_hand::adamw,
};
use ndarray::Zip;

pub struct NdarrayZip;

impl Peer for NdarrayZip {
    fn name(&self) -> &'static str {
        "ndarray Zip"
    }

    fn prepare(&mut self, case: &Case) -> Result<Box<dyn Run>, Skip> {
        Ok(by_dtype!(new(case)))
    }

    fn about(&self) -> Option<String> {
        let version = version("ndarray");
        Some(format!(
            "ndarray {version}: `Zip::for_each`, `Zip::par_for_each` on all threads"
        ))
    }
}

struct Zipped<A: Element> {
    algorithm: Algorithm,
    threads: Threads,
    /// The number of steps so far.
    t: i32,
    model: Model<A>,
    m: Vec<Tensor<A>>,
    v: Vec<Tensor<A>>,
}

fn new<A: Element>(case: &Case) -> Box<dyn Run> {
    let model = Model::<A>::new(case);
    let zeros = || model.params.iter().map(Tensor::zeros_like).collect();
    Box::new(Zipped {
        algorithm: case.algorithm,
        threads: case.threads,
        t: 0,
        m: zeros(),
        v: if case.algorithm.moments() == 2 {
            zeros()
        } else {
            vec![]
        },
        model,
    })
}

/// `for_each` or `par_for_each`.
macro_rules! for_each {
    ($threads:expr, $zip:expr, $one:expr) => {
        match $threads {
            Threads::One => $zip.for_each($one),
            Threads::All => $zip.par_for_each($one),
        }
    };
}

impl<A: Element> Step for Zipped<A> {
    fn step(&mut self) -> Result<(), Skip> {
        self.t += 1;
        let Model { params, grads } = &mut self.model;
        let arrays = params.iter_mut().zip(&*grads).zip(&mut self.m);
        match self.algorithm {
            Algorithm::Adamw => {
                let scalars = adamw::scalars::<A>(self.t.into());
                for (((p, g), m), v) in arrays.zip(&mut self.v) {
                    with_arrays!(p = p, g = g, m = m, v = v => for_each!(
                        self.threads,
                        Zip::from(p).and(g).and(m).and(v),
                        |p, &g, m, v| adamw::element(scalars, p, g, m, v)
                    ));
                }
            }
            Algorithm::Momentum => {
                let (lr, beta) = (A::from_f64(LR), A::from_f64(MOMENTUM));
                for ((p, g), m) in arrays {
                    with_arrays!(p = p, g = g, m = m => for_each!(
                        self.threads,
                        Zip::from(p).and(g).and(m),
                        |p, &g, m| {
                            *m = beta * *m + g;
                            *p = *p - lr * *m;
                        }
                    ));
                }
            }
            Algorithm::Rmsprop => {
                let [lr, alpha, rest, eps] = [LR, ALPHA, 1.0 - ALPHA, EPS].map(A::from_f64);
                for ((p, g), v) in arrays {
                    with_arrays!(p = p, g = g, v = v => for_each!(
                        self.threads,
                        Zip::from(p).and(g).and(v),
                        |p, &g, v| {
                            *v = alpha * *v + rest * g * g;
                            *p = *p - lr * (g / (v.sqrt() + eps));
                        }
                    ));
                }
            }
        }
        Ok(())
    }

    fn ends(&mut self) -> Result<Vec<f64>, Skip> {
        Ok(ends(&self.model.params))
    }
}
