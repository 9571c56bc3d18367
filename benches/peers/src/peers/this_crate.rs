//! This crate: `update` of one array, `step` of several.
use super::*;
use crate::case::{
    ALPHA, Algorithm, BETA1, BETA2, EPS, LR, MOMENTUM, Model, Threads, WEIGHT_DECAY, ends,
    with_arrays,
};
use ndarray_optim::{AdamW, Momentum, Optimizer, Parallel, Params, RmsProp};

pub struct ThisCrate;

impl Peer for ThisCrate {
    fn name(&self) -> &'static str {
        "this crate"
    }

    fn prepare(&mut self, case: &Case) -> Result<Box<dyn Run>, Skip> {
        Ok(by_dtype!(new(case)))
    }
}

struct Ours<A: Element> {
    optimizer: Optimizer<A>,
    names: Vec<String>,
    model: Model<A>,
}

fn new<A: Element>(case: &Case) -> Box<dyn Run> {
    let mut optimizer = match case.algorithm {
        Algorithm::Adamw => Optimizer::new(AdamW {
            lr: LR,
            betas: (BETA1, BETA2),
            eps: EPS,
            weight_decay: WEIGHT_DECAY,
            ..Default::default()
        }),
        Algorithm::Momentum => Optimizer::new(Momentum {
            lr: LR / (1.0 - MOMENTUM),
            beta: MOMENTUM,
            ..Default::default()
        }),
        Algorithm::Rmsprop => Optimizer::new(RmsProp {
            lr: LR,
            alpha: ALPHA,
            eps: EPS,
            ..Default::default()
        }),
    };
    if case.threads == Threads::One {
        optimizer.parallel = Parallel::SERIAL;
    }
    let model = Model::new(case);
    let names = (0..model.params.len())
        .map(|i| format!("layer{i}.weight"))
        .collect();
    Box::new(Ours::<A> {
        optimizer,
        names,
        model,
    })
}

impl<A: Element> Step for Ours<A> {
    fn step(&mut self) -> Result<(), Skip> {
        let Model { params, grads } = &mut self.model;
        let optimizer = &mut self.optimizer;
        if let ([param], [grad]) = (params.as_mut_slice(), grads.as_slice()) {
            return match with_arrays!(p = param, g = grad => optimizer.update(p, g)) {
                Ok(_) => Ok(()),
                Err(error) => Err(skip(error)),
            };
        }
        let mut list = Params::with_capacity(params.len());
        for ((name, param), grad) in self.names.iter().zip(params).zip(grads) {
            with_arrays!(p = param, g = grad => list.add(name, p, g)).map_err(skip)?;
        }
        optimizer.step(list).map(|_| ()).map_err(skip)
    }

    fn ends(&mut self) -> Result<Vec<f64>, Skip> {
        Ok(ends(&self.model.params))
    }
}
