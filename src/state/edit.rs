//! Editing a state.
use super::{Data, ElementType, Mean, Named, ParamState, StateDict};
use crate::{
    array::{Element, either},
    error::Error,
    select::Select,
};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};
use std::ops::Range;

pub(super) fn refused(name: &str, problem: impl Into<String>) -> Error {
    Error::StateEdit {
        name: name.into(),
        problem: problem.into(),
    }
}

/// What a message calls the entry of a group.
fn entry(group: Option<&str>) -> String {
    group.map_or_else(
        || "the entry of the parameters in no group".into(),
        |group| format!("group `{group}`"),
    )
}

impl StateDict<Data<'_>> {
    /// Returns the state array `array` of a parameter, in any memory order; `None` if there is no
    /// such array or it does not have elements of `A`.
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
        param
            .arrays
            .iter()
            .chain(&param.factors)
            .find(|named| named.name == array)?
            .data
            .view()
    }
}

impl StateDict<Data<'_>> {
    /// Returns a copy whose arrays have this element type, to continue a run in `f32` that was
    /// saved in `f64`, or the reverse.
    ///
    /// A load never converts arrays by itself. From `f64`, elements are rounded to the nearest
    /// `f32`; those below its smallest number become 0, and infinities and NaN stay what they are.
    /// From `f32` it is exact. Scalars and hyper-parameters are `f64` in any state, and do not
    /// change.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adam, Optimizer, state::ElementType};
    ///
    /// let (mut adam, mut theta) = (Optimizer::new(Adam::new(0.1)), array![1.0_f64, 2.0]);
    /// adam.update(&mut theta, &array![0.1, -0.2])?;
    /// let state = adam.state_view().cast(ElementType::F32)?;
    /// let mut theta = theta.mapv(|x| x as f32);
    /// Optimizer::from_state(state)?.update(&mut theta, &array![0.1_f32, -0.2])?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if a finite element is too large for `f32`.
    pub fn cast(&self, element: ElementType) -> Result<StateDict, Error> {
        let mut state = self.try_map(|place, data| match (data, element) {
            (Data::F64(array), ElementType::F32) => {
                let narrow = array.mapv(|x| x as f32);
                let mut pairs = array.iter().zip(&narrow);
                match pairs.find(|(x, y)| x.is_finite() && !y.is_finite()) {
                    Some((x, _)) => {
                        let problem = format!("`{place}` contains {x:e}, out of range for f32");
                        Err(refused(place.param, problem))
                    }
                    None => Ok(narrow.into()),
                }
            }
            (Data::F32(array), ElementType::F64) => Ok(array.mapv(f64::from).into()),
            _ => Ok(data.to_owned()),
        })?;
        state.element = element;
        Ok(state)
    }
}

/// Edits either succeed or change nothing: they create all new arrays before they replace any.
impl StateDict {
    /// Replaces a state array by one of the same shape and element type.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if there is no such array, or its shape or element type differs.
    pub fn set_array<A: Element>(
        &mut self,
        param: &str,
        array: &str,
        data: ArrayD<A>,
    ) -> Result<(), Error> {
        let element = self.element;
        let of = self.param_mut(param)?;
        let place = of
            .arrays
            .iter_mut()
            .chain(&mut of.factors)
            .find(|named| named.name == array);
        let place = place.ok_or_else(|| refused(param, format!("it has no array `{array}`")))?;
        if place.data.shape() != data.shape() || element != A::TYPE {
            let (known, given) = (place.data.shape(), data.shape());
            let problem = format!(
                "array `{array}` is {element} of shape {known:?}, got {} of shape {given:?}",
                A::TYPE
            );
            return Err(refused(param, problem));
        }
        place.data = data.into();
        Ok(())
    }

    /// Renames a parameter, including in the list of its group and in an unfinished accumulation.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if there is no parameter `old`, or the name `new` is already in use.
    pub fn rename(&mut self, old: &str, new: impl Into<String>) -> Result<(), Error> {
        let new = new.into();
        if new != old && self.mentions(&new) {
            return Err(refused(&new, "this name already exists"));
        }
        self.param_mut(old)?.name.clone_from(&new);
        for group in &mut self.groups {
            if let Select::Names(names) = &mut group.params {
                names
                    .iter_mut()
                    .filter(|name| *name == old)
                    .for_each(|name| name.clone_from(&new));
            }
        }
        if let Some(round) = &mut self.accumulation {
            round
                .means
                .iter_mut()
                .filter(|mean| mean.name == old)
                .for_each(|mean| mean.name.clone_from(&new));
            round.means.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(())
    }

    /// Adds a parameter, from another state or from [`ParamState::new`], to the group that it
    /// names. A parameter that has made no step yet does not need to be added.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if a parameter of this name exists, its group does not exist, or
    /// another group lists it.
    pub fn add(&mut self, param: ParamState) -> Result<(), Error> {
        if self.param(&param.name).is_some() {
            return Err(refused(&param.name, "this name already exists"));
        }
        let listed = |names: &Select| names.listed().contains(&param.name);
        if let Some(other) = self
            .groups
            .iter()
            .find(|group| group.name != param.group && listed(&group.params))
        {
            let group = entry(other.name.as_deref());
            return Err(refused(
                &param.name,
                format!("it is already listed in {group}"),
            ));
        }
        let unknown = || {
            let group = entry(param.group.as_deref());
            refused(&param.name, format!("{group} is not in the state"))
        };
        let group = self
            .groups
            .iter_mut()
            .find(|group| group.name == param.group)
            .ok_or_else(unknown)?;
        if group.name.is_some()
            && let Select::Names(names) = &mut group.params
            && !names.contains(&param.name)
        {
            names.push(param.name.clone());
        }
        self.params.push(param);
        Ok(())
    }

    /// Removes a parameter, including from the list of its group and from an unfinished
    /// accumulation.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if the parameter has no state.
    pub fn remove(&mut self, name: &str) -> Result<ParamState, Error> {
        let at = self
            .params
            .iter()
            .position(|param| param.name == name)
            .ok_or_else(|| refused(name, "it has no state"))?;
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

    /// Slices all state arrays of a parameter along an axis, for a model that has shrunk.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if there is no such parameter, axis or range, or the parameter has
    /// extra arrays, which cannot be sliced.
    pub fn slice(&mut self, name: &str, axis: usize, range: Range<usize>) -> Result<(), Error> {
        let len = self.length(name, axis)?;
        if range.start > range.end || range.end > len {
            return Err(refused(
                name,
                format!("range {range:?} is out of bounds for axis {axis} of length {len}"),
            ));
        }
        let part = Slice::from(range.clone());
        self.change(name, axis, range.len(), |data| {
            Ok(either!(data, array => {
                let slice = array.slice_axis(Axis(axis), part);
                slice.as_standard_layout().into_owned().into()
            }))
        })
    }

    /// Grows all state arrays of a parameter by `n` along an axis, filled with `value`, for a model
    /// that has grown.
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
    /// [`Error::StateEdit`] if there is no such parameter or axis, the arrays would not fit in
    /// memory, or the parameter has extra arrays, which cannot grow.
    pub fn grow(&mut self, name: &str, axis: usize, n: usize, value: f64) -> Result<(), Error> {
        fn more<A: Element>(
            array: ArrayViewD<'_, A>,
            axis: usize,
            len: usize,
            value: f64,
        ) -> Option<Data<'static>> {
            let mut shape = array.shape().to_vec();
            let old = std::mem::replace(shape.get_mut(axis)?, len);
            let size = shape
                .iter()
                .try_fold(1_usize, |size, &n| size.checked_mul(n))?;
            let mut memory = Vec::new();
            memory.try_reserve_exact(size).ok()?;
            memory.resize(size, A::from_f64(value));
            let mut new = ArrayD::from_shape_vec(IxDyn(&shape), memory).ok()?;
            new.slice_axis_mut(Axis(axis), Slice::from(..old))
                .assign(&array);
            Some(new.into())
        }
        let len = self
            .length(name, axis)?
            .checked_add(n)
            .ok_or_else(|| refused(name, "it would be too large"))?;
        self.change(name, axis, len, |data| {
            either!(data, array => more(array.view(), axis, len, value))
                .ok_or_else(|| refused(name, "it would be too large"))
        })
    }

    fn mentions(&self, name: &str) -> bool {
        let means = || self.accumulation.iter().flat_map(|round| &round.means);
        self.param(name).is_some()
            || self
                .groups
                .iter()
                .any(|group| group.params.listed().iter().any(|param| param == name))
            || means().any(|mean| mean.name == name)
    }

    fn length(&self, name: &str, axis: usize) -> Result<usize, Error> {
        let param = self
            .param(name)
            .ok_or_else(|| refused(name, "it has no state"))?;
        let wrong = || {
            let ndim = param.shape.len();
            refused(name, format!("it has no axis {axis}, only {ndim} axes"))
        };
        param.shape.get(axis).copied().ok_or_else(wrong)
    }

    /// Changes the length of an axis and every array in the shape of the parameter.
    fn change(
        &mut self,
        name: &str,
        axis: usize,
        len: usize,
        change: impl Fn(&Data<'static>) -> Result<Data<'static>, Error>,
    ) -> Result<(), Error> {
        let param = self
            .param(name)
            .ok_or_else(|| refused(name, "it has no state"))?;
        if let Some(extra) = param.factors.first() {
            return Err(refused(
                name,
                format!("extra array `{}` cannot be resized", extra.name),
            ));
        }
        let means = || {
            self.accumulation
                .iter()
                .flat_map(|round| &round.means)
                .filter(|mean| mean.name == name)
        };
        let all = param
            .arrays
            .iter()
            .map(|array| &array.data)
            .chain(means().map(|mean| &mean.data));
        for data in all.clone() {
            if data.shape() != param.shape {
                return Err(refused(
                    name,
                    format!("it has an array of shape {:?}", data.shape()),
                ));
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
        let means = self
            .accumulation
            .iter_mut()
            .flat_map(|round| &mut round.means)
            .filter(|mean| mean.name == name);
        for (Mean { data, .. }, new) in means.zip(&mut new) {
            *data = new;
        }
        Ok(())
    }
}
