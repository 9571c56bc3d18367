//! The state as a value.
use super::{Optimizer, ledger::Entry};
use crate::{
    array::{Data, Element},
    catalogue::AnyAlgorithm,
    state::{GroupState, Named, ParamState, StateDict, StateView, VERSION},
};
use ndarray::ArrayViewD;
use std::iter::zip;

impl<A: Element> Optimizer<A> {
    pub(super) fn save<'a>(&'a self) -> StateView<'a> {
        fn named<'a, A: Element>(name: &'static str, array: ArrayViewD<'a, A>) -> Named<Data<'a>> {
            Named { name: name.into(), data: array.into() }
        }
        let groups = self.groups.list.iter().map(|slot| GroupState {
            name: slot.name.clone(),
            params: slot.select.clone(),
            optimizer: slot.kind(),
            algorithm: AnyAlgorithm::of_parts(&slot.engine.parts()),
            frozen: slot.frozen,
            scalars: slot.scalars.filter(|_| slot.t > 0),
            steps: slot.t,
        });
        let param = |entry: &'a Entry<A>| {
            let (order, reversed) = entry.order.axes(&entry.shape);
            let slot = &self.groups.list[entry.group];
            let names = if entry.allocated { &slot.demands.arrays[..] } else { &[] };
            ParamState {
                name: entry.name.to_string(),
                group: slot.name.clone(),
                shape: entry.shape.as_slice().to_vec(),
                steps: entry.t,
                scalars: entry.scalars,
                allocated: entry.allocated,
                begun: entry.begun,
                swapped: entry.swapped,
                order,
                reversed,
                arrays: zip(names, &entry.state).map(|(&name, memory)| named(name, entry.view(memory))).collect(),
                factors: zip(&entry.factor_names, &entry.factors)
                    .map(|(&name, factor)| named(name, factor.view()))
                    .collect(),
            }
        };
        StateDict {
            version: VERSION,
            element: A::TYPE,
            non_finite: self.non_finite,
            limits: self.limits,
            clip: self.clip.clone(),
            skipped: self.skipped,
            groups: groups.collect(),
            params: self.ledger.entries.iter().map(param).collect(),
            accumulation: self.accumulation.save(),
        }
    }
}
