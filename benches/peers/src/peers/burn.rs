//! burn-optim on Flex, burn's back end for CPUs, one tensor at a time and without modules, which
//! would only add to it.
use super::*;
use crate::case::{
    ALPHA, Algorithm, BETA1, BETA2, EPS, LR, Layout, MOMENTUM, WEIGHT_DECAY, numbers,
};
use burn_core::tensor::{DType, Device, Tensor, TensorData};
use burn_optim::{AdamWConfig, Optimizer, RmsPropConfig, SgdConfig, momentum::MomentumConfig};

pub struct Burn;

impl Peer for Burn {
    fn name(&self) -> &'static str {
        "burn-optim"
    }

    fn prepare(&mut self, case: &Case) -> Result<Box<dyn Run>, Skip> {
        if case.layout != Layout::C {
            return Err("a step of burn returns row-major tensors".into());
        }
        Ok(match case.algorithm {
            Algorithm::Adamw => {
                let config = AdamWConfig::new()
                    .with_beta_1(BETA1 as f32)
                    .with_beta_2(BETA2 as f32)
                    .with_epsilon(EPS as f32)
                    .with_weight_decay(WEIGHT_DECAY as f32);
                new(case, config.build())
            }
            Algorithm::Momentum => {
                let momentum = MomentumConfig::new()
                    .with_momentum(MOMENTUM)
                    .with_dampening(0.0);
                new(case, SgdConfig::new().with_momentum(Some(momentum)).build())
            }
            Algorithm::Rmsprop => {
                let config = RmsPropConfig::new()
                    .with_alpha(ALPHA as f32)
                    .with_momentum(0.0)
                    .with_epsilon(EPS as f32);
                new(case, config.build())
            }
        })
    }

    fn about(&self) -> Option<String> {
        let [optim, flex] = ["burn-optim", "burn-flex"].map(version);
        Some(format!(
            "burn-optim {optim} on burn-flex {flex}, whose operations on elements use one thread"
        ))
    }
}

struct Param<O: Optimizer, const D: usize> {
    /// Taken during a step.
    param: Option<Tensor<D>>,
    grad: Tensor<D>,
    state: Option<O::State<D>>,
}

impl<O: Optimizer, const D: usize> Param<O, D> {
    fn new([p, g]: [TensorData; 2], dtype: DType) -> Self {
        let device = Device::flex();
        let tensor = |data| Tensor::from_data(data, (&device, dtype));
        Param {
            param: Some(tensor(p)),
            grad: tensor(g),
            state: None,
        }
    }

    fn step(&mut self, optimizer: &O) {
        let Some(param) = self.param.take() else {
            return;
        };
        let (param, state) = optimizer.step(LR, param, self.grad.clone(), self.state.take());
        (self.param, self.state) = (Some(param), state);
    }

    fn numbers(&self) -> Vec<f64> {
        let param = self.param.clone().map(|param| param.into_data_as::<f64>());
        param
            .and_then(|data| data.try_to_vec().ok())
            .unwrap_or_default()
    }
}

enum AnyParam<O: Optimizer> {
    Vector(Param<O, 1>),
    Matrix(Param<O, 2>),
}

impl<O: Optimizer> AnyParam<O> {
    fn numbers(&self) -> Vec<f64> {
        match self {
            Self::Vector(param) => param.numbers(),
            Self::Matrix(param) => param.numbers(),
        }
    }
}

struct Prepared<O: Optimizer> {
    optimizer: O,
    params: Vec<AnyParam<O>>,
}

fn new<O: Optimizer>(case: &Case, optimizer: O) -> Box<dyn Run> {
    let one = |(i, shape): (usize, &Vec<usize>)| {
        let len = shape.iter().product();
        let (data, dtype) = match case.dtype {
            Dtype::F32 => {
                let (p, g) = numbers::<f32>(i, len);
                (
                    [p, g].map(|x| TensorData::new(x, shape.clone())),
                    DType::F32,
                )
            }
            Dtype::F64 => {
                let (p, g) = numbers::<f64>(i, len);
                (
                    [p, g].map(|x| TensorData::new(x, shape.clone())),
                    DType::F64,
                )
            }
        };
        match shape.len() {
            1 => AnyParam::Vector(Param::new(data, dtype)),
            _ => AnyParam::Matrix(Param::new(data, dtype)),
        }
    };
    let params = case.shapes.list().iter().enumerate().map(one).collect();
    Box::new(Prepared { optimizer, params })
}

impl<O: Optimizer> Step for Prepared<O> {
    fn step(&mut self) -> Result<(), Skip> {
        for param in &mut self.params {
            match param {
                AnyParam::Vector(param) => param.step(&self.optimizer),
                AnyParam::Matrix(param) => param.step(&self.optimizer),
            }
        }
        Ok(())
    }

    fn ends(&mut self) -> Result<Vec<f64>, Skip> {
        let (first, last) = (&self.params[0], &self.params[self.params.len() - 1]);
        let (mut ends, last) = (first.numbers(), last.numbers());
        ends.truncate(4);
        ends.extend(&last[last.len() - 4..]);
        Ok(ends)
    }
}
