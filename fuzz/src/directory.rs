//! Directories of checkpoints, and whatever else can lie in them.
use crate::trace;
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::array;
use ndarray_optim::{Checkpoint, Checkpoints, checkpoint::Problem};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process,
    sync::LazyLock,
};

/// Steps whose names have 1 to 20 digits.
const STEPS: [u64; 8] = [0, 1, 2, 9, 99_999_999, 100_000_000, 1 << 60, u64::MAX];

/// Names that are almost those of checkpoints, or of their temporary files.
const NAMES: [&str; 12] = [
    "notes.txt",
    "step-1.ckpt",
    "step-00000001.ckpt~",
    "step-000000001.ckpt",
    "step--0000001.ckpt",
    "step-+0000001.ckpt",
    "step-99999999999999999999.ckpt",
    "step-00000001.CKPT",
    "step-00000001.ckpt.tmp",
    "step-1.ckpt.tmp-1-0123456789abcdef",
    ".step-00000001.ckpt",
    "model.bin",
];

/// Entries as they should be found.
#[derive(Clone, Debug, PartialEq)]
enum Entry {
    /// A file with these bytes.
    File(Vec<u8>),
    /// A temporary file whose writer has ended.
    Abandoned(Vec<u8>),
    /// A temporary file with a lock, and the lock.
    Locked(Vec<u8>),
    /// Anything else: how it looks.
    Other(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Directory,
    Pipe,
    Dangling,
    Loop,
}

struct Run {
    dir: PathBuf,
    checkpoints: Checkpoints,
    keep: usize,
    /// What the directory has to contain.
    entries: BTreeMap<String, Entry>,
    /// The open files of `Entry::Locked`.
    locks: Vec<File>,
    count: u64,
}

/// Removed with everything in it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn directory(bytes: &[u8]) {
    // In memory where possible: every save waits until its file is on disk.
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        root.join(format!("ndarray-optim-fuzz-{}", process::id()))
    });
    let scratch = Scratch(ROOT.clone());
    let _ = fs::remove_dir_all(&scratch.0);
    let _ = run(&scratch.0, &mut Unstructured::new(bytes));
}

fn run(root: &Path, u: &mut Unstructured<'_>) -> Result<()> {
    let dir = match u.int_in_range(0..=2)? {
        0 => root.join("a/b/c"),
        1 => root.join("."),
        _ => root.join("checkpoints"),
    };
    let keep = u.int_in_range(0..=3)?;
    let checkpoints = Checkpoints::open(&dir, keep).expect("a new directory");
    let mut run = Run {
        dir,
        checkpoints,
        keep: keep.max(1),
        entries: BTreeMap::new(),
        locks: Vec::new(),
        count: 0,
    };
    for _ in 0..20 {
        match u.int_in_range(0..=9)? {
            0..=3 => run.save(u)?,
            4 => run.save_beside(u)?,
            5 | 6 => run.damage(u)?,
            7 => run.temporary(u)?,
            8 => run.odd(u)?,
            _ => run.checkpoints = Checkpoints::open(&run.dir, run.keep).expect("it exists"),
        }
        trace(|| format!("{:#?}", run.entries.keys()));
        run.check();
    }
    Ok(())
}

fn step(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(if u.ratio(2, 3)? {
        u.int_in_range(1..=6)?
    } else {
        *u.choose(&STEPS)?
    })
}

fn file_name(step: u64) -> String {
    format!("step-{step:08}.ckpt")
}

fn step_of(name: &str) -> Option<u64> {
    let step = name
        .strip_prefix("step-")?
        .strip_suffix(".ckpt")?
        .parse()
        .ok()?;
    (file_name(step) == name).then_some(step)
}

fn is_whole(entry: &Entry) -> bool {
    matches!(entry, Entry::File(bytes) if Checkpoint::from_bytes(bytes).is_ok())
}

impl Run {
    /// A checkpoint with contents that no other one has.
    fn new_checkpoint(&mut self, step: u64) -> Checkpoint<'static> {
        self.count += 1;
        Checkpoint::new(step)
            .section("count", self.count.to_le_bytes())
            .section("w", array![1.0_f32, f32::NAN, self.count as f32])
    }

    fn save(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let step = step(u)?;
        let mut checkpoint = self.new_checkpoint(step);
        if u.ratio(1, 16)? {
            checkpoint = checkpoint.section("w", [0; 4]);
        }
        let name = file_name(step);
        let mode = self.mode(&name);
        let saved = self.checkpoints.save(&checkpoint);
        trace(|| format!("save {step}: {saved:?}"));
        match saved {
            Ok(path) => {
                assert_eq!(path, self.checkpoints.path(step));
                self.same_mode(&name, mode);
                let bytes = checkpoint.to_bytes().expect("it was saved");
                self.entries.insert(name, Entry::File(bytes));
                self.clean(step);
            }
            Err(error) => {
                // Nothing has changed: see `check`.
                let right = match error.problem {
                    Problem::DuplicateSection { .. } => checkpoint.to_bytes().is_err(),
                    _ => matches!(self.entries.get(&name), Some(Entry::Other(_))),
                };
                assert!(right, "{error}");
            }
        }
        Ok(())
    }

    /// The mode of a file.
    fn mode(&self, name: &str) -> Option<u32> {
        let metadata = fs::symlink_metadata(self.dir.join(name)).ok()?;
        Some(metadata.permissions().mode())
    }

    /// A file that was replaced must keep its mode.
    fn same_mode(&self, name: &str, mode: Option<u32>) {
        assert!(
            mode.is_none_or(|mode| self.mode(name) == Some(mode)),
            "`{name}`"
        );
    }

    /// Removes the temporary files of writers that have ended.
    fn remove_abandoned(&mut self, ours: impl Fn(&str) -> bool) {
        self.entries.retain(|name, entry| {
            let of = name.split_once(".tmp-").map_or("", |(of, _)| of);
            !matches!(entry, Entry::Abandoned(_)) || !ours(of)
        });
    }

    /// What a save of this step has to remove.
    fn clean(&mut self, step: u64) {
        self.remove_abandoned(|of| step_of(of).is_some());
        let mut steps: Vec<u64> = self
            .entries
            .keys()
            .filter_map(|name| step_of(name))
            .collect();
        steps.sort_unstable();
        let mut kept = 0;
        for step in steps.into_iter().rev().filter(|&other| other <= step) {
            let name = file_name(step);
            let entry = &self.entries[&name];
            if kept >= self.keep {
                let stays = [Kind::Directory, Kind::Pipe].map(Entry::Other);
                if !stays.contains(entry) {
                    self.entries.remove(&name);
                }
            } else if counts(entry) {
                kept += 1;
            }
        }
    }

    /// A file under a name of its own, over whatever is there.
    fn save_beside(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let checkpoint = self.new_checkpoint(7);
        let long = "n".repeat(u.int_in_range(200..=255)?);
        let name = if bool::arbitrary(u)? {
            "model.bin"
        } else {
            &long
        };
        let (path, mode) = (self.dir.join(name), self.mode(name));
        let saved = checkpoint.save(&path);
        trace(|| format!("save {name}: {saved:?}"));
        match saved {
            Ok(()) => {
                let loaded = Checkpoint::load(&path).expect("it was saved");
                let bytes = checkpoint.to_bytes().expect("it was saved");
                assert!(loaded.to_bytes().is_ok_and(|found| found == bytes));
                self.same_mode(name, mode);
                self.entries.insert(name.into(), Entry::File(bytes));
                self.remove_abandoned(|of| of == name);
            }
            Err(error) => assert!(
                matches!(self.entries.get(name), Some(Entry::Other(_))),
                "{error}"
            ),
        }
        Ok(())
    }

    /// Shortens or lengthens a file, flips a bit in it, or swaps it with another.
    fn damage(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let files: Vec<String> = (self.entries.iter())
            .filter(|(_, entry)| matches!(entry, Entry::File(_)))
            .map(|(name, _)| name.clone())
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        let name = u.choose(&files)?;
        let Some(Entry::File(bytes)) = self.entries.get_mut(name) else {
            return Ok(());
        };
        match u.int_in_range(0..=5)? {
            5 => {
                let mode = fs::Permissions::from_mode(*u.choose(&[0o600, 0o640, 0o644])?);
                fs::set_permissions(self.dir.join(name), mode).expect("a file");
                return Ok(());
            }
            0 => bytes.truncate(u.int_in_range(0..=bytes.len())?),
            1 => bytes.push(u8::arbitrary(u)?),
            2 if !bytes.is_empty() => {
                let at = u.choose_index(bytes.len())?;
                bytes[at] ^= 1 << u.int_in_range(0..=7)?;
            }
            // As after a write that was cut: the header comes last.
            3 => bytes.iter_mut().take(44).for_each(|byte| *byte = 0),
            _ => {
                fs::remove_file(self.dir.join(name)).expect("a file");
                self.entries.remove(name);
                return Ok(());
            }
        }
        fs::write(self.dir.join(name), &bytes).expect("a file");
        Ok(())
    }

    /// Leaves a temporary file, as of a writer that was killed or still runs.
    fn temporary(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut bytes = self.new_checkpoint(1).to_bytes().expect("it is valid");
        bytes.truncate(u.int_in_range(0..=bytes.len())?);
        let random = u64::arbitrary(u)?;
        let name = format!(
            "{}.tmp-{}-{random:016x}",
            file_name(step(u)?),
            u16::arbitrary(u)?
        );
        if self.entries.contains_key(&name) {
            return Ok(());
        }
        let path = self.dir.join(&name);
        fs::write(&path, &bytes).expect("a new file");
        let entry = match u.int_in_range(0..=3)? {
            0 => {
                let file = File::options().write(true).open(&path).expect("a file");
                file.lock().expect("a file of its own");
                self.locks.push(file);
                Entry::Locked(bytes)
            }
            1 => {
                fs::remove_file(&path).expect("a file");
                self.other(u, &path)?
            }
            _ => Entry::Abandoned(bytes),
        };
        self.entries.insert(name, entry);
        Ok(())
    }

    /// Something else than a checkpoint, also under the name of one.
    fn odd(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let name = if bool::arbitrary(u)? {
            file_name(step(u)?)
        } else {
            (*u.choose(&NAMES)?).into()
        };
        let path = self.dir.join(&name);
        if self.entries.contains_key(&name) {
            return Ok(());
        }
        let entry = if u.ratio(1, 3)? {
            let bytes = if bool::arbitrary(u)? {
                self.new_checkpoint(3).to_bytes().expect("it is valid")
            } else {
                b"text".to_vec()
            };
            fs::write(&path, &bytes).expect("a new file");
            Entry::File(bytes)
        } else {
            self.other(u, &path)?
        };
        self.entries.insert(name, entry);
        Ok(())
    }

    fn other(&self, u: &mut Unstructured<'_>, path: &Path) -> Result<Entry> {
        let kind = *u.choose(&[Kind::Directory, Kind::Pipe, Kind::Dangling, Kind::Loop])?;
        match kind {
            Kind::Directory => {
                fs::create_dir(path).expect("a new directory");
                fs::write(path.join("kept"), "text").expect("a new file");
            }
            Kind::Pipe => {
                mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a new pipe");
            }
            Kind::Dangling => symlink(self.dir.join("nowhere/file"), path).expect("a new link"),
            Kind::Loop => symlink(path, path).expect("a new link"),
        }
        Ok(Entry::Other(kind))
    }

    /// The directory must contain what it should, and be read so.
    fn check(&self) {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).expect("a directory") {
            let entry = entry.expect("an entry");
            found.insert(entry.file_name().into_string().expect("UTF-8"), entry);
        }
        let names: Vec<_> = found.keys().collect();
        assert_eq!(names, self.entries.keys().collect::<Vec<_>>());
        for (name, expected) in &self.entries {
            let kind = found[name].file_type().expect("a type");
            let path = found[name].path();
            match expected {
                Entry::File(bytes) | Entry::Abandoned(bytes) | Entry::Locked(bytes) => {
                    assert!(kind.is_file());
                    assert!(fs::read(path).expect("a file") == *bytes, "`{name}`");
                }
                Entry::Other(Kind::Directory) => assert!(path.join("kept").is_file()),
                Entry::Other(Kind::Pipe) => assert!(!kind.is_file() && !kind.is_symlink()),
                Entry::Other(_) => assert!(kind.is_symlink()),
            }
        }
        let mut steps: Vec<u64> = self
            .entries
            .keys()
            .filter_map(|name| step_of(name))
            .collect();
        steps.sort_unstable();
        assert_eq!(self.checkpoints.steps().expect("a directory"), steps);
        for &step in &steps {
            let entry = &self.entries[&file_name(step)];
            match (self.checkpoints.load(step), entry) {
                (Ok(loaded), Entry::File(bytes)) => {
                    assert!(loaded.to_bytes().is_ok_and(|found| found == *bytes));
                }
                (Ok(_), _) => panic!("{entry:?} was loaded"),
                (Err(error), _) => assert!(!is_whole(entry), "{error}"),
            }
        }
        let whole = |step: &&u64| is_whole(&self.entries[&file_name(**step)]);
        let newest = steps.iter().rev().find(whole);
        match (self.checkpoints.latest(), newest) {
            (Ok(Some(latest)), Some(newest)) => {
                let path = self.checkpoints.path(*newest);
                assert_eq!(latest.checkpoint.path(), Some(&*path));
                let newer = steps.iter().filter(|&step| step > newest).count();
                assert_eq!(latest.skipped.len(), newer);
            }
            (Ok(None), None) => assert!(steps.is_empty()),
            (Err(_), None) => assert!(!steps.is_empty()),
            (found, newest) => panic!("{found:?}, and {newest:?} is the newest"),
        }
    }
}

/// Whether an entry counts as one of those to keep: with a header that fits its length.
fn counts(entry: &Entry) -> bool {
    let Entry::File(bytes) = entry else {
        return false;
    };
    match Checkpoint::from_bytes(bytes) {
        Ok(_) => true,
        Err(error) => matches!(error.problem, Problem::SectionChecksum { .. }),
    }
}
