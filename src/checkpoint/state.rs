//! Optimizer states in checkpoints. Each array is a section of its own, which is not copied when it
//! is saved or loaded.
use super::{Checkpoint, CheckpointError, Problem, Section};
use crate::state::{Data, Described, StateDict, StateView};
use std::{collections::HashSet, convert::Infallible, fmt::Display};

impl<'a> Checkpoint<'a> {
    /// Adds the state of an optimizer: the section `name` holds everything but the arrays as JSON,
    /// and each array is a section of its own, such as `optimizer/weight.exp_avg`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AdamW, Checkpoint, Optimizer};
    ///
    /// let (mut adamw, mut weight) = (Optimizer::new(AdamW::new(0.1)), array![1.0, 2.0]);
    /// adamw.update(&mut weight, &array![0.5, -0.5])?;
    /// let checkpoint = Checkpoint::new(1)
    ///     .section("weight", &weight)
    ///     .state("optimizer", adamw.state_view())?;
    /// let file = checkpoint.to_bytes()?;
    ///
    /// let mut checkpoint = Checkpoint::from_bytes(&file)?;
    /// assert_eq!(checkpoint.array::<f64>("optimizer/variable.exp_avg")?.len(), 2);
    /// let mut resumed = Optimizer::<f64>::new(AdamW::new(0.1));
    /// resumed.load_state_dict(checkpoint.take_state("optimizer")?)?;
    /// assert_eq!(resumed.state_view(), adamw.state_view());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Problem::State`] if the hyper-parameters cannot be serialized. Duplicate section names are
    /// detected when the checkpoint is saved.
    pub fn state(self, name: &str, mut state: StateView<'a>) -> Result<Self, CheckpointError> {
        let mut places = Vec::new();
        let Ok(described) = state.try_map(|place, data| {
            places.push(format!("{name}/{place}"));
            Ok::<_, Infallible>(Described::new(data))
        });
        let header = serde_json::to_vec(&described).map_err(|error| self.no_state(name, &error))?;
        let arrays = places.into_iter().zip(state.arrays_mut().map(Data::take));
        Ok(arrays.fold(
            self.section(name.to_owned(), header),
            |checkpoint, (name, array)| checkpoint.section(name, array),
        ))
    }

    /// Removes the state of an optimizer and returns it. Loaded arrays are moved, not copied.
    ///
    /// # Errors
    ///
    /// [`Problem::MissingSection`], [`Problem::OtherKind`] or [`Problem::State`]; in that case,
    /// nothing is removed.
    pub fn take_state(&mut self, name: &str) -> Result<StateDict<Data<'a>>, CheckpointError> {
        let described: StateDict<Described> = serde_json::from_slice(self.bytes(name)?)
            .map_err(|error| self.no_state(name, &error))?;
        let mut used = HashSet::new();
        let places = described.try_map(|place, array| {
            let section = format!("{name}/{place}");
            match self.find(&section)? {
                Section::Array(found)
                    if Described::new(found) == *array && used.insert(section.clone()) =>
                {
                    Ok(section)
                }
                Section::Array(_) if used.contains(&section) => Err(self.no_state(
                    name,
                    &format_args!("section `{section}` is referenced twice"),
                )),
                found => {
                    let problem = format!(
                        "section `{section}` holds {found:?}, expected an array of {} {:?}",
                        array.element, array.shape
                    );
                    Err(self.no_state(name, &problem))
                }
            }
        })?;
        self.remove(name);
        places.try_map(|_, section| match self.remove(section) {
            Some(Section::Array(array)) => Ok(array),
            _ => Err(self.missing(section)),
        })
    }

    fn no_state(&self, name: &str, problem: &dyn Display) -> CheckpointError {
        self.wrong(Problem::State {
            name: name.into(),
            problem: problem.to_string(),
        })
    }
}
