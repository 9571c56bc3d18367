//! optirs-core: in place where it can (AdamW, SGD), else a new array (RMSProp). On all threads lists
//! of arrays use its `ParallelOptimizer`; one array always takes one thread.
use super::*;
use crate::case::{
    ALPHA, Algorithm, BETA1, BETA2, EPS, LR, MOMENTUM, Model, Tensor, Threads, WEIGHT_DECAY, ends,
    with_arrays,
};
use ndarray::{ArrayD, Ix1, Ix2, IxDyn, ScalarOperand};
use optirs_core::{AdamW, Optimizer, RMSprop, SGD, parallel_optimizer::ParallelOptimizer};

pub struct Optirs;

impl Peer for Optirs {
    fn name(&self) -> &'static str {
        "optirs-core"
    }

    fn prepare(&mut self, case: &Case) -> Result<Box<dyn Run>, Skip> {
        Ok(by_dtype!(new(case)))
    }

    fn about(&self) -> Option<String> {
        let version = version("optirs-core");
        Some(format!(
            "optirs-core {version}: `step_inplace_indexed`, `step_indexed` where there is no other \
             (RMSProp); on all threads `ParallelOptimizer` for several arrays"
        ))
    }
}

enum Optimizers<A: Element + ScalarOperand> {
    AdamW(AdamW<A>),
    Sgd(SGD<A>),
    RmsProp(RMSprop<A>),
}

struct Prepared<A: Element + ScalarOperand> {
    optimizer: Optimizers<A>,
    model: Model<A>,
}

struct Parallel<A: Element + ScalarOperand, O: Optimizer<A, IxDyn> + Clone + Send + Sync> {
    optimizer: ParallelOptimizer<O, A, IxDyn>,
    params: Vec<ArrayD<A>>,
    grads: Vec<ArrayD<A>>,
}

fn new<A: Element + ScalarOperand>(case: &Case) -> Box<dyn Run> {
    let [lr, beta1, beta2, eps, decay] =
        [LR, BETA1, BETA2, EPS, WEIGHT_DECAY].map(<A as Element>::from_f64);
    let [momentum, alpha, zero] = [MOMENTUM, ALPHA, 0.0].map(<A as Element>::from_f64);
    let model = Model::<A>::new(case);
    let adamw = AdamW::new_with_config(lr, beta1, beta2, eps, decay);
    let sgd = SGD::new_with_config(lr, momentum, zero);
    let rmsprop = RMSprop::new_with_config(lr, alpha, eps, zero);
    if case.threads == Threads::All && model.params.len() > 1 {
        return match case.algorithm {
            Algorithm::Adamw => parallel(adamw, model),
            Algorithm::Momentum => parallel(sgd, model),
            Algorithm::Rmsprop => parallel(rmsprop, model),
        };
    }
    let optimizer = match case.algorithm {
        Algorithm::Adamw => Optimizers::AdamW(adamw),
        Algorithm::Momentum => Optimizers::Sgd(sgd),
        Algorithm::Rmsprop => Optimizers::RmsProp(rmsprop),
    };
    Box::new(Prepared { optimizer, model })
}

fn parallel<A, O>(optimizer: O, model: Model<A>) -> Box<dyn Run>
where
    A: Element + ScalarOperand,
    O: Optimizer<A, IxDyn> + Clone + Send + Sync + 'static,
{
    let dynamic = |tensors: Vec<Tensor<A>>| {
        let one = |tensor| with_arrays!(a = tensor => a.into_dyn());
        tensors.into_iter().map(one).collect()
    };
    Box::new(Parallel {
        optimizer: ParallelOptimizer::new(optimizer),
        params: dynamic(model.params),
        grads: dynamic(model.grads),
    })
}

impl<A: Element + ScalarOperand> Step for Prepared<A> {
    fn step(&mut self) -> Result<(), Skip> {
        let Model { params, grads } = &mut self.model;
        for (i, (param, grad)) in params.iter_mut().zip(grads).enumerate() {
            with_arrays!(p = param, g = grad => match &mut self.optimizer {
                Optimizers::AdamW(optimizer) => optimizer.step_inplace_indexed(i, p, g),
                Optimizers::Sgd(optimizer) => optimizer.step_inplace_indexed(i, p, g),
                Optimizers::RmsProp(optimizer) => {
                    optimizer.step_indexed(i, p, g).map(|updated| *p = updated)
                }
            })
            .map_err(skip)?;
        }
        Ok(())
    }

    fn ends(&mut self) -> Result<Vec<f64>, Skip> {
        Ok(ends(&self.model.params))
    }
}

impl<A, O> Step for Parallel<A, O>
where
    A: Element + ScalarOperand,
    O: Optimizer<A, IxDyn> + Clone + Send + Sync,
{
    fn step(&mut self) -> Result<(), Skip> {
        let Parallel {
            optimizer,
            params,
            grads,
        } = self;
        *params = optimizer
            .step_parallel_groups(params, grads)
            .map_err(skip)?;
        Ok(())
    }

    fn ends(&mut self) -> Result<Vec<f64>, Skip> {
        let typed = |a: &ArrayD<A>| match a.ndim() {
            1 => Tensor::Vector(a.clone().into_dimensionality::<Ix1>().unwrap()),
            _ => Tensor::Matrix(a.clone().into_dimensionality::<Ix2>().unwrap()),
        };
        let (first, last) = (&self.params[0], &self.params[self.params.len() - 1]);
        Ok(ends(&[typed(first), typed(last)]))
    }
}
