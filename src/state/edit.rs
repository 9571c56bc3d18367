//! Changes of a state by hand.
use super::{Data, Mean, Named, ParamState, StateDict};
use crate::{
    array::{Element, either},
    error::Error,
    select::Select,
};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};
use std::ops::Range;

pub(super) fn refused(name: &str, problem: impl Into<String>) -> Error {
    Error::StateEdit { name: name.into(), problem: problem.into() }
}

impl StateDict<Data<'_>> {
    /// The array of this name of a parameter, in row-major order or any other.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Momentum, Optimizer};
    ///
    /// let (mut momentum, mut theta) = (Optimizer::new(Momentum::new(0.1)), array![1.0, 2.0]);
    /// momentum.update(&mut theta, &array![1.0, 2.0])?;
    /// let mut state = momentum.state_dict();
    /// let average = state.array::<f64>("variable", "exp_avg").unwrap().to_owned();
    /// state.set_array("variable", "exp_avg", 0.5 * average)?;
    /// state.param_mut("variable")?.steps = 0;
    /// momentum.load_state_dict(state)?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    pub fn array<A: Element>(&self, param: &str, array: &str) -> Option<ArrayViewD<'_, A>> {
        let param = self.param(param)?;
        param.arrays.iter().chain(&param.factors).find(|named| named.name == array)?.data.view()
    }
}

/// All at their places, or nothing changes: these make new arrays first.
impl StateDict {
    /// Puts another array in the place of one of the same shape.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`].
    pub fn set_array<A: Element>(&mut self, param: &str, array: &str, data: ArrayD<A>) -> Result<(), Error> {
        let element = self.element;
        let of = self.param_mut(param)?;
        let place = of.arrays.iter_mut().chain(&mut of.factors).find(|named| named.name == array);
        let place = place.ok_or_else(|| refused(param, format!("has no array `{array}`")))?;
        if place.data.shape() != data.shape() || element != A::TYPE {
            let (known, given) = (place.data.shape(), data.shape());
            let problem = format!("has {element} of shape {known:?} in `{array}`, not {} of {given:?}", A::TYPE);
            return Err(refused(param, problem));
        }
        place.data = data.into();
        Ok(())
    }

    /// Gives a parameter another name, also where its group lists it and an accumulation has its mean.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if there is none of the old name, or one of the new.
    pub fn rename(&mut self, old: &str, new: impl Into<String>) -> Result<(), Error> {
        let new = new.into();
        if new != old && self.mentions(&new) {
            return Err(refused(&new, "is there already"));
        }
        self.param_mut(old)?.name.clone_from(&new);
        for group in &mut self.groups {
            if let Select::Names(names) = &mut group.params {
                names.iter_mut().filter(|name| *name == old).for_each(|name| name.clone_from(&new));
            }
        }
        if let Some(round) = &mut self.accumulation {
            round.means.iter_mut().filter(|mean| mean.name == old).for_each(|mean| mean.name.clone_from(&new));
            round.means.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(())
    }

    /// Adds a parameter, taken from another state or made by hand, to the group it names. One that is to begin at its first
    /// step needs no entry.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if there is one of its name, or no such group.
    pub fn add(&mut self, param: ParamState) -> Result<(), Error> {
        if self.param(&param.name).is_some() {
            return Err(refused(&param.name, "is there already"));
        }
        let listed = |names: &Select| names.listed().contains(&param.name);
        if let Some(other) = self.groups.iter().find(|group| group.name != param.group && listed(&group.params)) {
            return Err(refused(&param.name, format!("is in group {:?}", other.name)));
        }
        let unknown = || refused(&param.name, format!("is in group {:?}, which is not in the state", param.group));
        let group = self.groups.iter_mut().find(|group| group.name == param.group).ok_or_else(unknown)?;
        if group.name.is_some()
            && let Select::Names(names) = &mut group.params
            && !names.contains(&param.name)
        {
            names.push(param.name.clone());
        }
        self.params.push(param);
        Ok(())
    }

    /// Removes a parameter, also from the list of its group and from an accumulation.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if there is none.
    pub fn remove(&mut self, name: &str) -> Result<ParamState, Error> {
        let at = self.params.iter().position(|param| param.name == name).ok_or_else(|| refused(name, "has no state"))?;
        for group in &mut self.groups {
            if let Select::Names(names) = &mut group.params {
                names.retain(|param| param != name);
            }
        }
        if let Some(round) = &mut self.accumulation {
            round.means.retain(|mean| mean.name != name);
        }
        Ok(self.params.remove(at))
    }

    /// Keeps a range of a parameter along an axis, for a model that has shrunk.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`]: there is no such parameter or range, or its state has arrays of other shapes, which cannot be cut.
    pub fn slice(&mut self, name: &str, axis: usize, range: Range<usize>) -> Result<(), Error> {
        let len = self.length(name, axis)?;
        if range.start > range.end || range.end > len {
            return Err(refused(name, format!("has {len} places along axis {axis}, not {range:?}")));
        }
        let part = Slice::from(range.clone());
        self.change(name, axis, range.len(), |data| {
            let cut = either!(data, array => array.slice_axis(Axis(axis), part).as_standard_layout().into_owned().into());
            Ok(cut)
        })
    }

    /// Appends `n` places along an axis of a parameter, whose state is `value` there, for a model that has grown.
    ///
    /// ```
    /// use ndarray::{array, concatenate, Axis};
    /// use ndarray_optim::{Adam, Optimizer};
    ///
    /// let (mut adam, mut table) = (Optimizer::new(Adam::new(0.1)), array![[1.0, 2.0]]);
    /// adam.update(&mut table, &array![[0.5, 0.5]])?;
    /// let mut state = adam.state_dict();
    /// state.grow("variable", 0, 1, 0.0)?;
    /// let mut table = concatenate![Axis(0), table, array![[3.0, 4.0]]];
    /// let mut adam = Optimizer::new(Adam::new(0.1));
    /// adam.load_state_dict(state)?;
    /// adam.update(&mut table, &array![[0.5, 0.5], [0.0, 0.0]])?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`]: there is no such parameter or axis, its size would be more than memory can address, or its state
    /// has arrays of other shapes, which cannot grow.
    pub fn grow(&mut self, name: &str, axis: usize, n: usize, value: f64) -> Result<(), Error> {
        fn more<A: Element>(array: ArrayViewD<'_, A>, axis: usize, len: usize, value: f64) -> Option<Data<'static>> {
            let mut shape = array.shape().to_vec();
            let old = std::mem::replace(shape.get_mut(axis)?, len);
            let size = shape.iter().try_fold(1_usize, |size, &n| size.checked_mul(n))?;
            let mut memory = Vec::new();
            memory.try_reserve_exact(size).ok()?;
            memory.resize(size, A::of(value));
            let mut new = ArrayD::from_shape_vec(IxDyn(&shape), memory).ok()?;
            new.slice_axis_mut(Axis(axis), Slice::from(..old)).assign(&array);
            Some(new.into())
        }
        let len = self.length(name, axis)?.checked_add(n).ok_or_else(|| refused(name, "would be too large"))?;
        self.change(name, axis, len, |data| {
            either!(data, array => more(array.view(), axis, len, value)).ok_or_else(|| refused(name, "would be too large"))
        })
    }

    fn mentions(&self, name: &str) -> bool {
        let means = || self.accumulation.iter().flat_map(|round| &round.means);
        self.param(name).is_some()
            || self.groups.iter().any(|group| group.params.listed().iter().any(|param| param == name))
            || means().any(|mean| mean.name == name)
    }

    fn length(&self, name: &str, axis: usize) -> Result<usize, Error> {
        let param = self.param(name).ok_or_else(|| refused(name, "has no state"))?;
        let wrong = || refused(name, format!("has {} axes, and no axis {axis}", param.shape.len()));
        param.shape.get(axis).copied().ok_or_else(wrong)
    }

    /// Changes every array in the shape of the parameter.
    fn change(
        &mut self,
        name: &str,
        axis: usize,
        len: usize,
        change: impl Fn(&Data<'static>) -> Result<Data<'static>, Error>,
    ) -> Result<(), Error> {
        let param = self.param(name).ok_or_else(|| refused(name, "has no state"))?;
        if let Some(factor) = param.factors.first() {
            return Err(refused(name, format!("has state of another shape in `{}`", factor.name)));
        }
        let means = || self.accumulation.iter().flat_map(|round| &round.means).filter(|mean| mean.name == name);
        let all = param.arrays.iter().map(|array| &array.data).chain(means().map(|mean| &mean.data));
        for data in all.clone() {
            if data.shape() != param.shape {
                return Err(refused(name, format!("has an array of shape {:?}", data.shape())));
            }
        }
        let mut new = all.map(change).collect::<Result<Vec<_>, _>>()?.into_iter();
        let param = self.param_mut(name)?;
        if let Some(known) = param.shape.get_mut(axis) {
            *known = len;
        }
        for (Named { data, .. }, new) in param.arrays.iter_mut().zip(&mut new) {
            *data = new;
        }
        let means = self.accumulation.iter_mut().flat_map(|round| &mut round.means).filter(|mean| mean.name == name);
        for (Mean { data, .. }, new) in means.zip(&mut new) {
            *data = new;
        }
        Ok(())
    }
}
