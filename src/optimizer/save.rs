//! Saving: the state of an optimizer as a value.
use super::{Optimizer, param_table::ParamEntry};
use crate::{
    array::{Data, Element, monomorphize},
    catalogue::AnyAlgorithm,
    state::{GroupState, Named, ParamState, StateDict, StateView, VERSION},
};
use ndarray::{ArrayViewD, aview1};
use std::iter::zip;

impl<A: Element> Optimizer<A> {
    /// Returns the state, including the hyper-parameters, without copying arrays, to be saved: see
    /// [`state`](crate::state).
    pub fn state_view(&self) -> StateView<'_> {
        let optimizer = self;
        monomorphize!(A, <'o>, (optimizer: &'o Optimizer<A>) -> StateView<'o> { optimizer.save() })
    }

    /// Returns a copy of the state: [`state_view`](Optimizer::state_view) with arrays of its own.
    pub fn state_dict(&self) -> StateDict {
        self.state_view().to_owned()
    }

    fn save<'a>(&'a self) -> StateView<'a> {
        fn named<'a, A: Element>(name: &'static str, array: ArrayViewD<'a, A>) -> Named<Data<'a>> {
            Named {
                name: name.into(),
                data: array.into(),
            }
        }
        let groups = self.groups.list.iter().map(|slot| GroupState {
            name: slot.name.clone(),
            params: slot.select.clone(),
            optimizer: slot.kind(),
            algorithm: AnyAlgorithm::of_parts(&slot.engine.parts()),
            frozen: slot.frozen,
            scalars: slot.scalars.filter(|_| slot.t > 0),
            steps: slot.t,
            initial_lr: Some(slot.engine.initial_lr()).filter(|lr| !lr.is_nan()),
            scheduled: slot.scheduled.clone(),
        });
        let param = |entry: &'a ParamEntry<A>| {
            let (order, reversed) = entry.order.axes(&entry.shape);
            let slot = &self.groups.list[entry.group];
            let names = if entry.allocated { &slot.held[..] } else { &[] };
            ParamState {
                name: entry.name.to_string(),
                group: slot.name.clone(),
                shape: entry.shape.as_slice().to_vec(),
                steps: entry.t,
                scalars: entry.scalars,
                allocated: entry.allocated,
                begun: entry.begun,
                swapped: entry.swapped,
                joined: entry.joined,
                missed: match entry.t {
                    0 => 0,
                    _ => self.steps.saturating_sub(entry.last),
                },
                order,
                reversed,
                arrays: zip(names, &entry.state)
                    .map(|(&name, memory)| {
                        let begins = memory.len() != entry.shape.size();
                        let view = (!begins).then(|| entry.view(memory));
                        named(name, view.unwrap_or_else(|| aview1(&[]).into_dyn()))
                    })
                    .collect(),
                factors: zip(&entry.extra_names, &entry.extra)
                    .map(|(&name, array)| named(name, array.view()))
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
            steps: self.steps,
            groups: groups.collect(),
            params: self.table.entries.iter().map(param).collect(),
            accumulation: self.accumulation.save(),
        }
    }
}
