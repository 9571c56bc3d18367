//! candle-optimisers on candle's CPU device.
use super::*;
use crate::case::{
    ALPHA, Algorithm, BETA1, BETA2, EPS, LR, Layout, MOMENTUM, WEIGHT_DECAY, numbers,
};
use candle_core::{Device, Result as Outcome, Tensor, Var, WithDType, backprop::GradStore};
use candle_nn::optim::Optimizer;
use candle_optimisers::{
    Decay, Momentum,
    adam::{Adam, ParamsAdam},
    esgd::{ParamsSGD, SGD},
    rmsprop::{ParamsRMSprop, RMSprop},
};

pub struct Candle;

impl Peer for Candle {
    fn name(&self) -> &'static str {
        "candle-optimisers"
    }

    fn prepare(&mut self, case: &Case) -> Result<Box<dyn Run>, Skip> {
        if case.layout != Layout::C {
            return Err("variables of candle are row-major".into());
        }
        by_dtype!(new(case)).map_err(skip)
    }

    fn about(&self) -> Option<String> {
        let [optimisers, core] = ["candle-optimisers", "candle-core"].map(version);
        Some(format!(
            "candle-optimisers {optimisers} on candle-core {core}, whose operations on elements use \
             one thread"
        ))
    }
}

enum Optimizers {
    Adam(Adam),
    Sgd(SGD),
    RmsProp(RMSprop),
}

struct Prepared {
    optimizer: Optimizers,
    vars: Vec<Var>,
    grads: GradStore,
}

fn new<A: Element + WithDType>(case: &Case) -> Outcome<Box<dyn Run>> {
    let device = &Device::Cpu;
    // A store of gradients comes from nowhere else.
    let mut grads = Var::ones(1, A::DTYPE, device)?.sum_all()?.backward()?;
    let mut vars = Vec::new();
    for (i, shape) in case.shapes.list().into_iter().enumerate() {
        let (p, g) = numbers::<A>(i, shape.iter().product());
        let var = Var::from_vec(p, shape.clone(), device)?;
        grads.insert(&var, Tensor::from_vec(g, shape, device)?);
        vars.push(var);
    }
    let optimizer = match case.algorithm {
        Algorithm::Adamw => Optimizers::Adam(Adam::new(
            vars.clone(),
            ParamsAdam {
                lr: LR,
                beta_1: BETA1,
                beta_2: BETA2,
                eps: EPS,
                weight_decay: Some(Decay::DecoupledWeightDecay(WEIGHT_DECAY)),
                amsgrad: false,
            },
        )?),
        Algorithm::Momentum => Optimizers::Sgd(SGD::new(
            vars.clone(),
            ParamsSGD {
                lr: LR,
                weight_decay: None,
                momentum: Some(Momentum::Classical(MOMENTUM)),
                dampening: 0.0,
            },
        )?),
        Algorithm::Rmsprop => Optimizers::RmsProp(RMSprop::new(
            vars.clone(),
            ParamsRMSprop {
                lr: LR,
                alpha: ALPHA,
                eps: EPS,
                weight_decay: None,
                momentum: None,
                centered: false,
            },
        )?),
    };
    Ok(Box::new(Prepared {
        optimizer,
        vars,
        grads,
    }))
}

impl Prepared {
    fn ends(&self) -> Outcome<Vec<f64>> {
        let [first, last] = [&self.vars[0], &self.vars[self.vars.len() - 1]];
        let [first, last] = [first.flatten_all()?, last.flatten_all()?];
        let mut ends = first
            .narrow(0, 0, 4)?
            .to_dtype(candle_core::DType::F64)?
            .to_vec1()?;
        let tail = last.narrow(0, last.dims1()? - 4, 4)?;
        ends.extend(tail.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?);
        Ok(ends)
    }
}

impl Step for Prepared {
    fn step(&mut self) -> Result<(), Skip> {
        let grads = &self.grads;
        match &mut self.optimizer {
            Optimizers::Adam(optimizer) => optimizer.step(grads),
            Optimizers::Sgd(optimizer) => optimizer.step(grads),
            Optimizers::RmsProp(optimizer) => optimizer.step(grads),
        }
        .map_err(skip)
    }

    fn ends(&mut self) -> Result<Vec<f64>, Skip> {
        Prepared::ends(self).map_err(skip)
    }
}
