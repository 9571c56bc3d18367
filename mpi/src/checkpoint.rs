//! Checkpoints of several ranks, which any other number of ranks can load.
use crate::{
    Distributed, Error, Mode, Number,
    agree::{agree, same},
    layout::Layout,
    values::{copy_owned, named},
};
use ndarray::{ArrayD, IxDyn};
use ndarray_optim::{
    Checkpoint, Checkpoints, NamedArrays, NamedArraysMut, StateDict,
    state::{Data, Mean, Named, ParamState, Round},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// What a file contains: the share of one rank.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Share {
    /// The same in all files of a checkpoint, and in no others.
    id: u64,
    ranks: usize,
    rank: usize,
    params: Vec<Piece>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Piece {
    name: String,
    shape: Vec<usize>,
    /// The elements in row-major order.
    start: usize,
    end: usize,
}

impl Share {
    fn new(id: u64, layout: &Layout, ranks: usize, rank: usize) -> Self {
        let pieces = layout.params.iter().map(|param| Piece {
            name: param.name.clone(),
            shape: param.shape.clone(),
            start: param.range(rank).start,
            end: param.range(rank).end,
        });
        Share {
            id,
            ranks,
            rank,
            params: pieces.collect(),
        }
    }
}

/// A directory with checkpoints of all ranks: a folder for each of them, with files of
/// [`Checkpoints`].
///
/// A checkpoint is whole if the files of all ranks are there, intact and of one number of ranks, so
/// that a program that is killed while it saves leaves the one before.
#[derive(Clone, Debug)]
pub struct Saved {
    dir: PathBuf,
}

/// A checkpoint of all ranks in one piece, for a program with one process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Assembled<A: Number> {
    /// The step number.
    pub step: u64,
    /// The parameters, sorted by name.
    pub params: Vec<(String, ArrayD<A>)>,
    /// The state of the optimizer, as one process would have it.
    pub state: StateDict,
}

impl Saved {
    /// Opens a directory, which need not exist.
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        Saved { dir: dir.into() }
    }

    /// Returns the folder of a rank, whose files are ordinary checkpoints.
    pub fn folder(&self, rank: usize) -> PathBuf {
        self.dir.join(format!("rank-{rank:05}"))
    }

    /// The steps of the files of rank 0, the latest first.
    fn steps(&self) -> Result<Vec<u64>, Error> {
        let folder = self.folder(0);
        if self.dir.exists() && !self.dir.is_dir() {
            let path = self.dir.display();
            return Err(Error::Foreign(format!("{path} is not a directory")));
        }
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut steps = Checkpoints::open(folder, 1)?.steps()?;
        steps.reverse();
        Ok(steps)
    }

    fn load(&self, step: u64, rank: usize) -> Result<(Share, Checkpoint<'static>), Error> {
        // The name of the file is that of `Checkpoints`, which would create the folder.
        let folder = self.folder(rank);
        if !folder.exists() {
            return Err(Error::Foreign(format!("{} is missing", folder.display())));
        }
        let checkpoint = Checkpoints::open(folder, 1)?.load(step)?;
        let share: Share = serde_json::from_slice(checkpoint.bytes("share")?)
            .map_err(|error| Error::Foreign(format!("section `share`: {error}")))?;
        if share.rank == rank {
            Ok((share, checkpoint))
        } else {
            Err(Error::Foreign(format!(
                "rank {rank} has the file of rank {}",
                share.rank
            )))
        }
    }

    /// Puts the latest whole checkpoint together, in one process and without MPI. `None` if there
    /// are no files.
    ///
    /// # Errors
    ///
    /// The error of the latest checkpoint, if none is whole.
    pub fn assemble<A: Number>(&self) -> Result<Option<Assembled<A>>, Error> {
        self.latest(|step| {
            let (share, _) = self.load(step, 0)?;
            let params = share
                .params
                .into_iter()
                .map(|piece| (piece.name, piece.shape));
            self.restore(step, &Layout::undivided(params.collect()), 0)
        })
    }

    /// The result of the latest step for which `restore` succeeds.
    fn latest<T>(&self, restore: impl Fn(u64) -> Result<T, Error>) -> Result<Option<T>, Error> {
        let mut first = None;
        for step in self.steps()? {
            match restore(step) {
                Ok(restored) => return Ok(Some(restored)),
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.map_or(Ok(None), Err)
    }

    /// All parameters, and the state of the elements that a rank owns.
    fn restore<A: Number>(
        &self,
        step: u64,
        layout: &Layout,
        rank: usize,
    ) -> Result<Assembled<A>, Error> {
        let mut params: Vec<Vec<A>> = layout
            .params
            .iter()
            .map(|param| vec![A::ZERO; param.len()])
            .collect();
        let mut shards = Shards::default();
        let (mut base, mut ranks, mut id) = (None::<StateDict>, 1, 0);
        let mut from = 0;
        while from < ranks {
            let (share, mut checkpoint) = self.load(step, from)?;
            if from == 0 {
                (ranks, id) = (share.ranks, share.id);
            } else if share.id != id {
                let problem = format!("the files of step {step} are of several checkpoints");
                return Err(Error::Foreign(problem));
            } else if share.ranks != ranks {
                let problem = format!("step {step} is of {ranks} ranks, and of {}", share.ranks);
                return Err(Error::Foreign(problem));
            }
            let known = layout
                .params
                .iter()
                .map(|param| (&param.name, &param.shape));
            if !share
                .params
                .iter()
                .map(|piece| (&piece.name, &piece.shape))
                .eq(known)
            {
                return Err(Error::Foreign(
                    "names or shapes of parameters differ".into(),
                ));
            }
            for (piece, to) in share.params.iter().zip(&mut params) {
                if piece.start < piece.end {
                    let own: ArrayD<A> = checkpoint.take(&format!("param/{}", piece.name))?;
                    let place = to.get_mut(piece.start..piece.end);
                    match place.filter(|place| place.len() == own.len()) {
                        Some(place) => place.iter_mut().zip(own).for_each(|(to, x)| *to = x),
                        None => return Err(wrong_size(&piece.name)),
                    }
                }
            }
            let mut state = checkpoint.take_state("optimizer")?;
            shards.add::<A>(&mut state, &share, layout, rank)?;
            let steps = base.as_ref().map_or(0, |base| base.steps).max(state.steps);
            let base = base.get_or_insert(state);
            base.steps = steps;
            from += 1;
        }
        let mut state = base.ok_or_else(|| Error::Foreign("it has no rank".into()))?;
        shards.finish::<A>(&mut state, layout, rank)?;
        let arrays = layout.params.iter().zip(params);
        let arrays = arrays.map(|(param, memory)| {
            let array = ArrayD::from_shape_vec(IxDyn(&param.shape), memory);
            Ok((
                param.name.clone(),
                array.map_err(|_| wrong_size(&param.name))?,
            ))
        });
        Ok(Assembled {
            step,
            params: arrays.collect::<Result<_, Error>>()?,
            state,
        })
    }
}

fn wrong_size(name: &str) -> Error {
    Error::Foreign(format!("an array of `{name}` has another size"))
}

/// The state of parameters that is put together from several files.
#[derive(Default)]
struct Shards {
    params: BTreeMap<String, Shard<ParamState>>,
    means: BTreeMap<String, Shard<Mean>>,
}

/// The state of a parameter, with new arrays as bytes of its elements.
struct Shard<T> {
    of: T,
    arrays: BTreeMap<String, Vec<u64>>,
}

impl Shards {
    /// Adds what a file has of the elements that a rank owns.
    fn add<A: Number>(
        &mut self,
        state: &mut StateDict,
        share: &Share,
        layout: &Layout,
        rank: usize,
    ) -> Result<(), Error> {
        let place = |name: &str| {
            let i = layout.find(name).ok_or_else(|| wrong_size(name))?;
            let (piece, own) = (&share.params[i], layout.params[i].range(rank));
            Ok::<_, Error>((piece.start..piece.end, own))
        };
        for mut param in state.params.drain(..) {
            let (from, to) = place(&param.name)?;
            let is_on = layout
                .find(&param.name)
                .is_some_and(|i| layout.params[i].is_on(rank));
            if !is_on || overlap(&from, &to).is_empty() && !to.is_empty() {
                continue;
            }
            let arrays = std::mem::take(&mut param.arrays);
            let shard = self
                .params
                .entry(param.name.clone())
                .or_insert_with(|| Shard {
                    of: param,
                    arrays: BTreeMap::new(),
                });
            for Named { name, data } in arrays {
                copy::<A>(&data, &from, &to, shard.arrays.entry(name).or_default())?;
            }
        }
        for mean in state
            .accumulation
            .iter_mut()
            .flat_map(|round| round.means.drain(..))
        {
            let (from, to) = place(&mean.name)?;
            if overlap(&from, &to).is_empty() && !to.is_empty() {
                continue;
            }
            let (name, data) = (mean.name.clone(), mean.data.clone());
            let shard = self.means.entry(name).or_insert_with(|| Shard {
                of: mean,
                arrays: BTreeMap::new(),
            });
            copy::<A>(
                &data,
                &from,
                &to,
                shard.arrays.entry(String::new()).or_default(),
            )?;
        }
        Ok(())
    }

    fn finish<A: Number>(
        self,
        state: &mut StateDict,
        layout: &Layout,
        rank: usize,
    ) -> Result<(), Error> {
        let array = |name: &str, words: Vec<u64>| -> Result<Data<'static>, Error> {
            let param = layout.find(name).map(|i| &layout.params[i]);
            let param = param.ok_or_else(|| wrong_size(name))?;
            let own = crate::number::elements::<A>(&words, param.range(rank).len());
            let array = ArrayD::from_shape_vec(IxDyn(&param.shape_on(rank)), own.to_vec());
            Ok(array.map_err(|_| wrong_size(name))?.into())
        };
        for (name, Shard { mut of, arrays }) in self.params {
            let param = layout.find(&name).map(|i| &layout.params[i]);
            of.shape = param.map(|param| param.shape_on(rank)).unwrap_or_default();
            (of.order, of.reversed) = ((0..=u8::MAX).take(of.shape.len()).collect(), Vec::new());
            for (of_array, words) in arrays {
                let data = array(&name, words)?;
                of.arrays.push(Named {
                    name: of_array,
                    data,
                });
            }
            state.params.push(of);
        }
        if let Some(Round { means, .. }) = &mut state.accumulation {
            for (name, Shard { mut of, arrays }) in self.means {
                for words in arrays.into_values() {
                    of.data = array(&name, words)?;
                }
                means.push(of);
            }
        }
        Ok(())
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

/// Copies the elements that both ranges contain: of an array with the elements `from` to one with
/// the elements `to`.
fn copy<A: Number>(
    data: &Data<'_>,
    from: &Range<usize>,
    to: &Range<usize>,
    words: &mut Vec<u64>,
) -> Result<(), Error> {
    let other = || Error::Foreign("an array has another element type or size".into());
    let array = data
        .view::<A>()
        .filter(|array| array.len() == from.len())
        .ok_or_else(other)?;
    words.resize(crate::number::words_for::<A>(to.len()), 0);
    let shared = overlap(from, to);
    let out = crate::number::elements_mut::<A>(words, to.len());
    let out = &mut out[shared.start - to.start..][..shared.len()];
    let elements = array.iter().skip(shared.start - from.start);
    out.iter_mut().zip(elements).for_each(|(out, &x)| *out = x);
    Ok(())
}

/// What saving and loading are called in errors.
const SAVING: &str = "saving a checkpoint";
const LOADING: &str = "loading a checkpoint";

impl<A: Number> Distributed<'_, A> {
    /// Saves the parameters and the state of all ranks to a directory that all of them see: each
    /// rank writes its share, and one more than `keep` checkpoints at most are kept. In
    /// [`Mode::Replicated`] rank 0 writes everything.
    ///
    /// ```no_run
    /// # fn f(
    /// #     mut optimizer: ndarray_optim_mpi::Distributed<'_, f32>,
    /// #     mut model: ndarray::Array2<f32>,
    /// # ) -> Result<(), ndarray_optim_mpi::Error> {
    /// let first = optimizer.load("checkpoints", &mut model)?.map_or(0, |step| step + 1);
    /// for step in first..1000 {
    ///     // ...
    ///     if step % 100 == 0 {
    ///         optimizer.save("checkpoints", step, 2, &model)?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OnRank`] if a rank cannot write its file, or those of the connection.
    pub fn save(
        &mut self,
        dir: impl AsRef<Path>,
        step: u64,
        keep: usize,
        model: &(impl NamedArrays<A> + ?Sized),
    ) -> Result<(), Error> {
        self.usable()?;
        let saved = self.save_all(dir.as_ref(), step, keep, model);
        self.noted(saved)
    }

    fn save_all(
        &self,
        dir: &Path,
        step: u64,
        keep: usize,
        model: &(impl NamedArrays<A> + ?Sized),
    ) -> Result<(), Error> {
        let ranks = self.ranks();
        same(ranks, &format!("step: {step}\nkeep: {keep}"), SAVING)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let own = vec![now.map_or(0, |time| time.as_nanos() as u64)];
        let id = ranks.all_gather(own, SAVING)?[0].first().copied();
        let saved = self.save_share(dir, id.unwrap_or_default(), step, keep, model);
        agree(ranks, saved.err(), SAVING)
    }

    fn save_share(
        &self,
        dir: &Path,
        id: u64,
        step: u64,
        keep: usize,
        model: &(impl NamedArrays<A> + ?Sized),
    ) -> Result<(), String> {
        let (whole, rank, ranks) = (self.undivided(), self.ranks().rank(), self.ranks().size());
        let (layout, rank, ranks) = match self.config().mode {
            Mode::Sharded => (self.layout(), rank, ranks),
            Mode::Replicated if rank == 0 => (&whole, 0, 1),
            Mode::Replicated => return Ok(()),
        };
        let mut values = vec![Vec::new(); layout.params.len()];
        if let Some(problem) = copy_owned(layout, Some(rank), model, &mut values) {
            return Err(problem);
        }
        let share = serde_json::to_vec(&Share::new(id, layout, ranks, rank));
        let share = share.map_err(|error| error.to_string())?;
        let mut checkpoint = Checkpoint::new(step).section("share", share);
        for (param, values) in layout.params.iter().zip(values) {
            if !values.is_empty() {
                let name = format!("param/{}", param.name);
                checkpoint = checkpoint.section(name, ndarray::Array1::from(values));
            }
        }
        // The one before stays until all ranks have saved this one.
        let save = || {
            let checkpoint = checkpoint.state("optimizer", self.optimizer().state_view())?;
            let folder = Saved::open(dir).folder(rank);
            Checkpoints::open(folder, keep.saturating_add(1).max(2))?.save(&checkpoint)
        };
        save().map(|_| ()).map_err(|error| error.to_string())
    }

    /// Loads the latest whole checkpoint of a directory, saved by any number of ranks in either
    /// mode, and returns its step; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::OnRank`] if there are files but no whole checkpoint, or it is not one of this model
    /// and this optimizer; [`Error::Differs`] if ranks do not see the same files; or those of the
    /// connection.
    pub fn load(
        &mut self,
        dir: impl AsRef<Path>,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
    ) -> Result<Option<u64>, Error> {
        self.usable()?;
        let (saved, whole) = (Saved::open(dir.as_ref()), self.undivided());
        let (layout, rank) = match self.config().mode {
            Mode::Sharded => (self.layout(), self.ranks().rank()),
            Mode::Replicated => (&whole, 0),
        };
        let restored = saved.latest(|step| saved.restore::<A>(step, layout, rank));
        let (restored, mut problem) = match restored {
            Ok(restored) => (restored, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut names = BTreeSet::new();
        model.visit(&mut |name, array| {
            names.insert((named(&name).to_owned(), array.shape().to_vec()));
        });
        let known = layout
            .params
            .iter()
            .map(|param| (&param.name, &param.shape));
        if problem.is_none() && !names.iter().map(|(name, shape)| (name, shape)).eq(known) {
            problem =
                Some("names or shapes of the model differ from those of the optimizer".into());
        }
        if let Some(restored) = &restored {
            let differences = self.optimizer().differences(&restored.state.view());
            let first = differences.first().map(|difference| difference.to_string());
            problem = problem.or(first);
        }
        agree(self.ranks(), problem, LOADING)?;
        let step = restored.as_ref().map(|restored| restored.step);
        same(
            self.ranks(),
            &format!("the latest whole checkpoint: {step:?}"),
            LOADING,
        )?;
        let Some(restored) = restored else {
            return Ok(None);
        };
        self.optimizer_mut().load_state_dict(restored.state)?;
        let params: BTreeMap<_, _> = restored.params.into_iter().collect();
        model.visit_mut(&mut |name, mut array| {
            if let Some(loaded) = params.get(named(&name)) {
                array.assign(loaded);
            }
        });
        Ok(step)
    }

    fn undivided(&self) -> Layout {
        let params = self.layout().params.iter();
        let params = params.map(|param| (param.name.clone(), param.shape.clone()));
        Layout::undivided(params.collect())
    }
}
