//! Directories of checkpoints, and how a file appears in one.
use super::{Checkpoint, CheckpointError, Problem, format};
use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

/// A directory that keeps the newest checkpoints of a run, as files `step-00000042.ckpt`.
///
/// Any number of handles and processes may use one directory at the same time.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    keep: usize,
}

/// The newest checkpoint that is whole.
#[derive(Debug)]
#[non_exhaustive]
pub struct Latest {
    /// The checkpoint.
    pub checkpoint: Checkpoint<'static>,
    /// What is wrong with each file that would have been newer, the newest first. It is left where it is.
    pub skipped: Vec<CheckpointError>,
}

impl Checkpoints {
    /// Opens a directory, which is created if it is missing. [`Checkpoints::save`] keeps the newest `keep`, at least one.
    ///
    /// # Errors
    ///
    /// [`Problem::Io`].
    pub fn open(dir: impl Into<PathBuf>, keep: usize) -> Result<Self, CheckpointError> {
        let dir = dir.into();
        let open = || {
            if !dir.is_dir() {
                fs::create_dir_all(&dir)?;
                dir.parent().map_or(Ok(()), sync_directory)?;
            }
            Ok(())
        };
        match open() {
            Ok(()) => Ok(Checkpoints { dir, keep: keep.max(1) }),
            Err(error) => Err(Problem::Io(error).at(dir)),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the checkpoint of a step is, or would be.
    pub fn path(&self, step: u64) -> PathBuf {
        self.dir.join(file_name(step))
    }

    /// The steps that there are files of, whole or not, the oldest first.
    ///
    /// # Errors
    ///
    /// [`Problem::Io`].
    pub fn steps(&self) -> Result<Vec<u64>, CheckpointError> {
        let mut steps: Vec<u64> = self.names()?.iter().filter_map(step_of).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Saves a checkpoint and returns its path; when it returns, the checkpoint is on the disk. One of the same step is replaced.
    ///
    /// The file is written beside, under a temporary name, and gets its own when all of it is on the disk: whatever happens,
    /// a name `step-*.ckpt` belongs to a whole checkpoint.
    ///
    /// Then, of the files up to this step, those older than the newest `keep` are removed. Files of later steps are not touched,
    /// they belong to someone else. Files that have lost their end or their header do not count among the `keep`. Temporary files
    /// that no living process writes are removed too. What cannot be removed now is left for the next time.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::save`].
    pub fn save(&self, checkpoint: &Checkpoint<'_>) -> Result<PathBuf, CheckpointError> {
        let path = self.path(checkpoint.step());
        checkpoint.save(&path)?;
        // The checkpoint is safe, whatever becomes of the old ones.
        let _ = self.clean(checkpoint.step());
        Ok(path)
    }

    /// Loads the checkpoint of a step.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::load`].
    pub fn load(&self, step: u64) -> Result<Checkpoint<'static>, CheckpointError> {
        Checkpoint::load(self.path(step))
    }

    /// Loads the newest checkpoint that is whole; `None` if there is no checkpoint at all.
    ///
    /// # Errors
    ///
    /// [`Problem::Io`] if the directory cannot be read. If there are checkpoints and none of them is whole, what is wrong with
    /// the newest: a run should not begin anew without anyone noticing.
    pub fn latest(&self) -> Result<Option<Latest>, CheckpointError> {
        let mut attempts = 0;
        'list: loop {
            attempts += 1;
            let mut skipped = Vec::new();
            for step in self.steps()?.into_iter().rev() {
                match self.load(step) {
                    Ok(checkpoint) => return Ok(Some(Latest { checkpoint, skipped })),
                    // Another handle has written a newer one and removed this one since it was listed. No writer is as fast as
                    // to do that every time: then it is a link to nowhere.
                    Err(CheckpointError { problem: Problem::Io(error), .. })
                        if error.kind() == ErrorKind::NotFound && attempts < 100 =>
                    {
                        continue 'list;
                    }
                    Err(error) => skipped.push(error),
                }
            }
            return match skipped.into_iter().next() {
                Some(error) => Err(error),
                None => Ok(None),
            };
        }
    }

    fn names(&self) -> Result<Vec<OsString>, CheckpointError> {
        let names = || fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        names().map_err(|error| Problem::Io(error).at(&self.dir))
    }

    /// Removes what is too old after a checkpoint of `step` has been saved, and what writers that are dead have left.
    fn clean(&self, step: u64) -> Result<(), CheckpointError> {
        let names = self.names()?;
        let mut steps: Vec<u64> = names.iter().filter_map(step_of).filter(|&other| other <= step).collect();
        steps.sort_unstable();
        if steps.len() > self.keep {
            self.remove_old(&steps);
        }
        for path in names.iter().filter(|name| is_temporary(name)).map(|name| self.dir.join(name)) {
            let _ = remove_if_abandoned(&path);
        }
        Ok(())
    }

    fn remove_old(&self, steps: &[u64]) {
        let mut kept = 0;
        for path in steps.iter().rev().map(|&step| self.path(step)) {
            if kept == self.keep {
                // It may have gone already: another handle does the same.
                let _ = fs::remove_file(path);
            } else if looks_whole(&path).unwrap_or(false) {
                kept += 1;
            }
        }
    }
}

fn file_name(step: u64) -> String {
    format!("step-{step:08}.ckpt")
}

/// The step of a file name, if it is exactly the one that a step has.
fn step_of(name: &OsString) -> Option<u64> {
    let name = name.to_str()?;
    let step = name.strip_prefix("step-")?.strip_suffix(".ckpt")?.parse().ok()?;
    (file_name(step) == name).then_some(step)
}

fn is_temporary(name: &OsString) -> bool {
    let name = name.to_str().and_then(|name| name.rsplit_once(TEMPORARY));
    name.is_some_and(|(name, _)| step_of(&name.into()).is_some())
}

/// Between the name of a file and what tells its writers apart.
const TEMPORARY: &str = ".tmp-";

fn looks_whole(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    Ok(metadata.is_file() && format::looks_whole(File::open(path)?, metadata.len()))
}

/// A writer holds a lock on its temporary file, which ends with the writer however it ends.
fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    let abandoned = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        // No locks on this file system: nobody writes one file for an hour without touching it.
        Err(TryLockError::Error(_)) => {
            file.metadata()?.modified()?.elapsed().is_ok_and(|age| age > Duration::from_secs(3600))
        }
    };
    if abandoned { fs::remove_file(path) } else { Ok(()) }
}

/// A new file beside `path`, locked.
fn temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        // The number of the process is for people; it is not enough where containers share a directory.
        let random = RandomState::new().hash_one(path);
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{TEMPORARY}{}-{random:016x}", process::id()));
        let temporary = PathBuf::from(name);
        let file = match File::options().write(true).create_new(true).open(&temporary) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            file => file?,
        };
        // Where there are no locks it goes without.
        let _ = file.lock();
        // Before the lock it looked abandoned, and may have been removed.
        if fs::exists(&temporary)? {
            return Ok((temporary, file));
        }
    }
}

pub(super) fn write_beside(checkpoint: &Checkpoint<'_>, path: &Path) -> Result<(), Problem> {
    let (temporary, file) = temporary(path)?;
    let write = || {
        format::write(checkpoint, &file)?;
        // The contents before the name: the other way round a loss of power could leave the name with nothing behind it.
        file.sync_all()?;
        Ok(fs::rename(&temporary, path)?)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| Ok(path.parent().map_or(Ok(()), sync_directory)?))
}

/// Has the names in a directory on the disk too.
fn sync_directory(dir: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(()); // Elsewhere directories cannot be opened, and need not be.
    }
    // The parent of a relative path.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    match File::open(dir)?.sync_all() {
        // Some network file systems have no such thing.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}
