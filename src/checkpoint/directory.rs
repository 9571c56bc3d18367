//! Directories of checkpoints, and the atomic creation of their files.
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

/// A directory with the latest checkpoints of a run, in files such as `step-00000042.ckpt`.
///
/// Any number of handles and processes may use the same directory concurrently.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    keep: usize,
}

/// The latest intact checkpoint of a directory.
#[derive(Debug)]
#[non_exhaustive]
pub struct Latest {
    /// The checkpoint.
    pub checkpoint: Checkpoint<'static>,
    /// The errors of the newer files, newest first. The files are left in place.
    pub skipped: Vec<CheckpointError>,
}

impl Checkpoints {
    /// Opens a directory, and creates it if it does not exist. [`Checkpoints::save`] keeps the
    /// `keep` latest checkpoints, at least one.
    ///
    /// # Errors
    ///
    /// [`Problem::Io`] if the directory cannot be created.
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
            Ok(()) => Ok(Checkpoints {
                dir,
                keep: keep.max(1),
            }),
            Err(error) => Err(Problem::Io(error).at(dir)),
        }
    }

    /// Returns the path of the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of the checkpoint of a step, whether or not it exists.
    pub fn path(&self, step: u64) -> PathBuf {
        self.dir.join(file_name(step))
    }

    /// Returns the steps of all checkpoint files in ascending order, intact or not.
    ///
    /// # Errors
    ///
    /// [`Problem::Io`] if the directory cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>, CheckpointError> {
        let mut steps: Vec<u64> = self.names()?.iter().filter_map(step_of).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Saves a checkpoint and returns its path. The checkpoint is on disk when this function
    /// returns. A checkpoint of the same step is replaced.
    ///
    /// The file is written under a temporary name in the same directory and renamed once all of it
    /// is on disk: whatever happens, the name `step-*.ckpt` refers to a complete checkpoint.
    ///
    /// Afterwards, of the files up to this step, all but the `keep` latest are removed. Files of
    /// later steps are not touched, because they belong to another run. Truncated files and files
    /// with a damaged header do not count towards `keep`. Temporary files of processes that no
    /// longer run are removed too. Files that cannot be removed are left for the next save.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::save`].
    pub fn save(&self, checkpoint: &Checkpoint<'_>) -> Result<PathBuf, CheckpointError> {
        let path = self.path(checkpoint.step());
        checkpoint.save(&path)?;
        // The checkpoint is saved, even if old ones cannot be removed.
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

    /// Loads the latest intact checkpoint; `None` if there is no checkpoint at all.
    ///
    /// # Errors
    ///
    /// [`Problem::Io`] if the directory cannot be read. If there are checkpoints but none of them
    /// is intact, the error of the latest one: a run should not silently start from scratch.
    pub fn latest(&self) -> Result<Option<Latest>, CheckpointError> {
        let mut attempts = 0;
        'list: loop {
            attempts += 1;
            let mut skipped = Vec::new();
            for step in self.steps()?.into_iter().rev() {
                match self.load(step) {
                    Ok(checkpoint) => {
                        return Ok(Some(Latest {
                            checkpoint,
                            skipped,
                        }));
                    }
                    // Another handle has saved a newer checkpoint and removed this one since the
                    // listing. If it happens every time, it is a dangling link instead.
                    Err(CheckpointError {
                        problem: Problem::Io(error),
                        ..
                    }) if error.kind() == ErrorKind::NotFound && attempts < 100 => {
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
        let names = || {
            fs::read_dir(&self.dir)?
                .map(|entry| Ok(entry?.file_name()))
                .collect::<io::Result<Vec<_>>>()
        };
        names().map_err(|error| Problem::Io(error).at(&self.dir))
    }

    /// Removes old checkpoints after one of `step` has been saved, and abandoned temporary files.
    fn clean(&self, step: u64) -> Result<(), CheckpointError> {
        let names = self.names()?;
        let mut steps: Vec<u64> = names
            .iter()
            .filter_map(step_of)
            .filter(|&other| other <= step)
            .collect();
        steps.sort_unstable();
        if steps.len() > self.keep {
            self.remove_old(&steps);
        }
        for path in names
            .iter()
            .filter(|name| is_temporary(name))
            .map(|name| self.dir.join(name))
        {
            let _ = remove_if_abandoned(&path);
        }
        Ok(())
    }

    fn remove_old(&self, steps: &[u64]) {
        let mut kept = 0;
        for path in steps.iter().rev().map(|&step| self.path(step)) {
            if kept == self.keep {
                // Another handle may already have removed it.
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

/// Parses the step of a file name; `None` if [`file_name`] would not give this name.
fn step_of(name: &OsString) -> Option<u64> {
    let name = name.to_str()?;
    let step = name
        .strip_prefix("step-")?
        .strip_suffix(".ckpt")?
        .parse()
        .ok()?;
    (file_name(step) == name).then_some(step)
}

fn is_temporary(name: &OsString) -> bool {
    let name = name.to_str().and_then(|name| name.rsplit_once(TEMPORARY));
    name.is_some_and(|(name, _)| step_of(&name.into()).is_some())
}

/// Separates the name of the checkpoint from the suffix that is unique to the writer.
const TEMPORARY: &str = ".tmp-";

fn looks_whole(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    Ok(metadata.is_file() && format::looks_whole(File::open(path)?, metadata.len()))
}

/// Removes a temporary file unless its writer is alive: a writer holds a lock on its file, which
/// the operating system releases when the process ends.
fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    let abandoned = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        // The file system has no locks: a live writer modifies its file more often than once an
        // hour.
        Err(TryLockError::Error(_)) => file
            .metadata()?
            .modified()?
            .elapsed()
            .is_ok_and(|age| age > Duration::from_secs(3600)),
    };
    if abandoned {
        fs::remove_file(path)
    } else {
        Ok(())
    }
}

/// Creates and locks a temporary file next to `path`.
fn temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        // The process id is for humans; it is not unique where containers share a directory.
        let random = RandomState::new().hash_one(path);
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{TEMPORARY}{}-{random:016x}", process::id()));
        let temporary = PathBuf::from(name);
        let file = match File::options()
            .write(true)
            .create_new(true)
            .open(&temporary)
        {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            file => file?,
        };
        // Not all file systems have locks.
        let _ = file.lock();
        // Before it was locked it looked abandoned, so another process may have removed it.
        if fs::exists(&temporary)? {
            return Ok((temporary, file));
        }
    }
}

pub(super) fn write_beside(checkpoint: &Checkpoint<'_>, path: &Path) -> Result<(), Problem> {
    let (temporary, file) = temporary(path)?;
    let write = || {
        format::write(checkpoint, &file)?;
        // Contents before the rename: otherwise a power loss could leave an empty file under the
        // final name.
        file.sync_all()?;
        Ok(fs::rename(&temporary, path)?)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| Ok(path.parent().map_or(Ok(()), sync_directory)?))
}

/// Flushes the entries of a directory to disk.
fn sync_directory(dir: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(()); // Other systems do not allow it, and do not need it.
    }
    // The parent of a bare file name is an empty path.
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    match File::open(dir)?.sync_all() {
        // Some network file systems do not support it.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}
