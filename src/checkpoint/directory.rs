//! Directories of checkpoints, and the atomic creation of their files.
use super::{Checkpoint, CheckpointError, Problem, format};
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, TryLockError},
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind},
    path::{self, Path, PathBuf},
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
    /// Opens a directory, and creates it and its parents if they do not exist. A relative path
    /// stays that of this directory if the program changes its working directory later.
    /// [`Checkpoints::save`] keeps the `keep` latest checkpoints, at least one.
    ///
    /// # Errors
    ///
    /// [`Problem::Io`] if the directory cannot be created.
    pub fn open(dir: impl Into<PathBuf>, keep: usize) -> Result<Self, CheckpointError> {
        let dir = dir.into();
        let open = || {
            let dir = path::absolute(or_current(&dir))?;
            create_directories(&dir, sync_directory)?;
            Ok(dir)
        };
        match open() {
            Ok(dir) => Ok(Checkpoints {
                dir,
                keep: keep.max(1),
            }),
            Err(error) => Err(Problem::Io(error).at(dir)),
        }
    }

    /// Returns the absolute path of the directory.
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
        let mut steps: Vec<u64> = self
            .names()?
            .iter()
            .filter_map(|name| step_of(name))
            .collect();
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
        write_beside(checkpoint, &path).map_err(|problem| problem.at(&path))?;
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
        names(&self.dir).map_err(|error| Problem::Io(error).at(&self.dir))
    }

    /// Removes old checkpoints after one of `step` has been saved, and abandoned temporary files.
    fn clean(&self, step: u64) -> Result<(), CheckpointError> {
        let names = self.names()?;
        let mut steps: Vec<u64> = names
            .iter()
            .filter_map(|name| step_of(name))
            .filter(|&other| other <= step)
            .collect();
        steps.sort_unstable();
        if steps.len() > self.keep {
            self.remove_old(&steps);
        }
        remove_abandoned(&self.dir, &names, |stem| step_of(stem.as_ref()).is_some());
        Ok(())
    }

    fn remove_old(&self, steps: &[u64]) {
        let mut kept = 0;
        for path in steps.iter().rev().map(|&step| self.path(step)) {
            if kept == self.keep {
                // Devices and pipes are not ours. Another handle may already have removed it.
                if fs::symlink_metadata(&path).is_ok_and(|at| at.is_file() || at.is_symlink()) {
                    let _ = fs::remove_file(path);
                }
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
fn step_of(name: &OsStr) -> Option<u64> {
    let name = name.to_str()?;
    let step = name
        .strip_prefix("step-")?
        .strip_suffix(".ckpt")?
        .parse()
        .ok()?;
    (file_name(step) == name).then_some(step)
}

/// The names in a directory.
fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

fn looks_whole(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    Ok(metadata.is_file() && format::looks_whole(File::open(path)?, metadata.len()))
}

// Temporary files.

/// Separates the start of the name from what is unique to the writer.
const TEMPORARY: &str = ".tmp-";
/// The most bytes of a name that a temporary name begins with: the whole is at most 255 bytes,
/// which is all that common file systems allow.
const STEM: usize = 255 - TEMPORARY.len() - "4294967295-0123456789abcdef".len();

/// The start of the temporary names for a file of this name.
fn stem_of(name: &OsStr) -> String {
    let mut stem = name.to_string_lossy().into_owned();
    let end = (0..=STEM).rev().find(|&end| stem.is_char_boundary(end));
    stem.truncate(end.unwrap_or(0));
    stem
}

/// The stem of a temporary name; `None` if [`temporary`] would not create this name.
fn temporary_stem(name: &OsStr) -> Option<&str> {
    let (stem, writer) = name.to_str()?.rsplit_once(TEMPORARY)?;
    let (process, random) = writer.split_once('-')?;
    let digits = |part: &str, radix| part.chars().all(|digit| digit.is_digit(radix));
    let ours =
        !process.is_empty() && digits(process, 10) && random.len() == 16 && digits(random, 16);
    ours.then_some(stem)
}

/// Removes the temporary files in `dir` whose writers are gone, if `ours` accepts their stems.
fn remove_abandoned(dir: &Path, names: &[OsString], ours: impl Fn(&str) -> bool) {
    for name in names {
        if temporary_stem(name).is_some_and(&ours) {
            // What cannot be removed stays for the next save.
            let _ = remove_if_abandoned(&dir.join(name));
        }
    }
}

/// Removes a temporary file unless its writer is alive: a writer holds a lock on its file, which
/// the operating system releases when the process ends.
fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    // Opening a pipe would wait for a reader.
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(());
    }
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

/// Creates and locks a temporary file next to `path`, for the current user only if it replaces a
/// file.
fn temporary(path: &Path, replaces: bool) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?;
    let stem = stem_of(name);
    loop {
        // The process id is for humans; it is not unique where containers share a directory.
        let random = RandomState::new().hash_one(path);
        let name = format!("{stem}{TEMPORARY}{}-{random:016x}", process::id());
        let temporary = path.with_file_name(name);
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if replaces {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        #[cfg(not(unix))]
        let _ = replaces;
        let file = match options.open(&temporary) {
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

/// Gives a new file the mode of the file that it replaces, and its owner and group as far as this
/// user may.
#[cfg(unix)]
fn keep_owner_and_mode(file: &File, replaced: &Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    let own = |user| fchown(file, user, Some(replaced.gid()));
    let _ = own(Some(replaced.uid())).or_else(|_| own(None));
    // The mode comes last, because a new owner clears parts of it.
    let _ = file.set_permissions(replaced.permissions());
}

#[cfg(not(unix))]
fn keep_owner_and_mode(_: &File, _: &Metadata) {}

/// Follows links to the file that they name, which need not exist.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else {
            return Ok(path);
        };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Err(io::Error::other("too many levels of links"))
}

/// Saves a checkpoint, and removes the temporary files of earlier saves that were killed.
pub(super) fn save(checkpoint: &Checkpoint<'_>, path: &Path) -> Result<(), Problem> {
    let path = write_beside(checkpoint, path)?;
    if let (Some(dir), Some(name)) = (path.parent().map(or_current), path.file_name()) {
        let own = stem_of(name);
        // The checkpoint is saved, even if the directory cannot be listed.
        let names = names(dir).unwrap_or_default();
        remove_abandoned(dir, &names, |stem| stem == own);
    }
    Ok(())
}

/// Writes a checkpoint to a temporary file and renames it. Returns the path of the file, which is
/// another one than `path` if that is a link.
fn write_beside(checkpoint: &Checkpoint<'_>, path: &Path) -> Result<PathBuf, Problem> {
    let path = follow_links(path)?;
    let replaced = match fs::metadata(&path) {
        Ok(replaced) if replaced.is_file() => Some(replaced),
        Ok(_) => return Err(Problem::NotAFile),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let (temporary, file) = temporary(&path, replaced.is_some())?;
    let write = || -> Result<(), Problem> {
        format::write(checkpoint, &file)?;
        if let Some(replaced) = &replaced {
            keep_owner_and_mode(&file, replaced);
        }
        // Contents before the rename: otherwise a power loss could leave an empty file under the
        // final name.
        file.sync_all()?;
        Ok(fs::rename(&temporary, &path)?)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    path.parent().map_or(Ok(()), sync_directory)?;
    Ok(path)
}

// Directories.

/// Creates a directory and its parents, and calls `sync` with each directory that has a new entry.
fn create_directories(dir: &Path, sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let new: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.is_dir()).collect();
    if !new.is_empty() {
        fs::create_dir_all(dir)?;
    }
    let parents = new.iter().rev().filter_map(|dir| dir.parent());
    parents.into_iter().try_for_each(sync)
}

/// The current directory for an empty path, which is the parent of a bare file name.
fn or_current(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    }
}

/// Flushes the entries of a directory to disk.
fn sync_directory(dir: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(()); // Other systems do not allow it, and do not need it.
    }
    match File::open(or_current(dir))?.sync_all() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_new_directory_is_flushed_to_disk() {
        let base = std::env::temp_dir().join(format!("ndarray-optim-new-{}", process::id()));
        let mut synced = Vec::new();
        let mut create = |dir: &str| {
            synced.clear();
            create_directories(&base.join(dir), |dir| {
                synced.push(dir.strip_prefix(base.parent().unwrap()).unwrap().to_owned());
                Ok(())
            })
            .unwrap();
            synced.clone()
        };
        let base_name = PathBuf::from(base.file_name().unwrap());
        let first = [PathBuf::new(), base_name.clone(), base_name.join("x")];
        assert_eq!(create("x/y"), first);
        assert_eq!(create("x/z"), [base_name.join("x")]);
        assert!(create("x/z").is_empty());
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn temporary_names_fit_and_belong_to_their_file() {
        let long = [
            "a".repeat(255),
            "ä".repeat(127),
            "step-00000001.ckpt".into(),
        ];
        for name in long.map(OsString::from) {
            let stem = stem_of(&name);
            let temporary = format!("{stem}{TEMPORARY}{}-{:016x}", u32::MAX, 1);
            assert!(temporary.len() <= 255 && temporary.len() + 4 > name.len());
            assert_eq!(temporary_stem(temporary.as_ref()), Some(&*stem));
        }
        for foreign in [
            "step-00000001.ckpt.tmp-",
            "a.tmp-1",
            "a.tmp--0123456789abcdef",
            "a.tmp-1-0123456789abcde",
            "a.tmp-1-0123456789abcdeg",
            "a.tmp-x-0123456789abcdef",
        ] {
            assert_eq!(temporary_stem(foreign.as_ref()), None, "{foreign}");
        }
    }
}
