//! Checkpoint files and directories on unusual file systems.
use super::child;
use ndarray::Array1;
use ndarray_optim::{Checkpoint, Checkpoints, checkpoint::Problem};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

/// An empty directory of this name.
fn directory(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("edges-{name}"));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn at(step: u64) -> Checkpoint<'static> {
    Checkpoint::new(step).section("step", step.to_le_bytes())
}

/// Names in a directory, in order.
fn names(dir: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| name(entry.unwrap()))
        .collect();
    names.sort();
    names
}

#[test]
fn a_name_of_255_bytes_can_be_saved() {
    let dir = directory("long");
    // 255 units in UTF-16 too, which other systems count.
    for name in ["n".repeat(255), "n".repeat(241) + ".tmp-checkpoint"] {
        let path = dir.join(&name[..255]);
        at(1).save(&path).unwrap();
        at(2).save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap().step(), 2);
    }
    assert_eq!(names(&dir).len(), 2);
}

#[cfg(unix)]
#[test]
fn a_name_of_255_bytes_in_other_scripts_can_be_saved() {
    use std::os::unix::ffi::OsStrExt;
    let dir = directory("scripts");
    let not_utf8 = [b"\xff".repeat(200), b"a".repeat(55)].concat();
    let names = [
        ("ä".repeat(127) + "a").into_bytes(),
        "日本".repeat(42).into(),
        not_utf8,
    ];
    for name in names {
        let path = dir.join(std::ffi::OsStr::from_bytes(&name));
        // Some file systems have Unicode names only.
        let Ok(()) = fs::write(&path, b"") else {
            continue;
        };
        at(3).save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap().step(), 3);
    }
}

#[test]
fn a_relative_directory_stays_the_one_that_was_opened() {
    if let Some(dir) = child::directory() {
        env::set_current_dir(&dir).unwrap();
        let relative = Checkpoints::open("run/checkpoints", 2).unwrap();
        let here = Checkpoints::open("", 2).unwrap();
        fs::create_dir("elsewhere").unwrap();
        env::set_current_dir("elsewhere").unwrap();
        relative.save(&at(1)).unwrap();
        here.save(&at(2)).unwrap();
        assert_eq!(relative.latest().unwrap().unwrap().checkpoint.step(), 1);
        assert!(relative.dir().is_absolute());
        return;
    }
    let dir = directory("relative");
    let output = child::start(
        "directories::a_relative_directory_stays_the_one_that_was_opened",
        &dir,
    )
    .output()
    .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names(&dir), ["elsewhere", "run", "step-00000002.ckpt"]);
    assert_eq!(names(&dir.join("run/checkpoints")), ["step-00000001.ckpt"]);
    assert!(names(&dir.join("elsewhere")).is_empty());
}

#[test]
fn a_save_over_a_directory_is_refused() {
    let dir = directory("over-directory");
    fs::create_dir(dir.join("model.bin")).unwrap();
    for path in [dir.join("model.bin"), dir.join("model.bin/.."), dir.clone()] {
        let error = at(1).save(&path).unwrap_err();
        assert!(matches!(error.problem, Problem::NotAFile), "{error}");
        assert_eq!(error.path, Some(path));
    }
    let error = at(1).save("").unwrap_err();
    assert!(matches!(error.problem, Problem::Io(_)), "{error}");
    assert_eq!(names(&dir), ["model.bin"]);
}

/// A process that saves a large file again and again until it is killed.
struct Killed(Child);

impl Killed {
    fn start(dir: &Path) -> Self {
        Killed(
            child::start("directories::save_until_killed", dir)
                .spawn()
                .unwrap(),
        )
    }

    fn is_running(&mut self) {
        assert!(self.0.try_wait().unwrap().is_none());
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn save_until_killed() {
    if let Some(dir) = child::directory() {
        let large = Array1::<f64>::zeros(2_000_000);
        loop {
            let checkpoint = Checkpoint::new(1).section("large", &large);
            checkpoint.save(dir.join("model.bin")).unwrap();
        }
    }
}

#[test]
fn killed_saves_of_one_file_leave_nothing_after_the_next_save() {
    let dir = directory("killed");
    // These belong to others.
    let others = [
        "model.bin.tmp-notes",
        "model.bin2",
        "other.bin.tmp-1-0123456789abcdef",
    ];
    others
        .iter()
        .for_each(|name| fs::write(dir.join(name), b"mine").unwrap());
    // Each save removes what the one before it left, so they are collected by hand.
    let mut left = Vec::new();
    for kill in 0..5 {
        let mut process = Killed::start(&dir);
        let own = format!("model.bin.tmp-{}-", process.id());
        let temporary = loop {
            process.is_running();
            let mut all = names(&dir).into_iter();
            if let Some(name) = all.find(|name| name.starts_with(&own)) {
                break name;
            }
        };
        drop(process);
        // It may have been renamed before the kill.
        if fs::rename(dir.join(&temporary), dir.join(format!("kept{kill}"))).is_ok() {
            left.push((format!("kept{kill}"), temporary));
        }
    }
    assert!(!left.is_empty(), "no kill has met a save");
    for (kept, temporary) in &left {
        fs::rename(dir.join(kept), dir.join(temporary)).unwrap();
    }
    // Another process is still writing this one.
    let alive = "model.bin.tmp-4711-0123456789abcdef";
    let lock = fs::File::create(dir.join(alive)).unwrap();
    lock.lock().unwrap();
    at(7).save(dir.join("model.bin")).unwrap();
    let mut expected = vec!["model.bin", alive];
    expected.extend(others);
    expected.sort_unstable();
    assert_eq!(names(&dir), expected);
    drop(lock);
    at(8).save(dir.join("model.bin")).unwrap();
    assert!(!dir.join(alive).exists());
    assert_eq!(Checkpoint::load(dir.join("model.bin")).unwrap().step(), 8);
}

#[cfg(unix)]
mod unix {
    use super::*;
    use ndarray_optim::CheckpointError;
    use std::{
        os::unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink},
            net::UnixListener,
        },
        sync::mpsc,
        thread,
        time::Duration,
    };

    fn make_pipe(path: &Path) {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    /// Runs something that must not wait for anybody.
    fn at_once<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = mpsc::channel();
        thread::spawn(move || send.send(work()));
        let done = receive.recv_timeout(Duration::from_secs(60));
        done.expect("it waits for ever")
    }

    fn is_not_a_file<T: std::fmt::Debug>(result: Result<T, CheckpointError>) -> bool {
        matches!(result.unwrap_err().problem, Problem::NotAFile)
    }

    #[test]
    fn a_pipe_at_the_name_of_a_temporary_file_does_not_stop_a_save() {
        let dir = directory("pipe");
        for name in ["step-00000001.ckpt", "model.bin"] {
            let temporary = |k| dir.join(format!("{name}.tmp-{k}-0123456789abcdef"));
            make_pipe(&temporary(1));
            fs::create_dir(temporary(2)).unwrap();
            symlink("nowhere", temporary(3)).unwrap();
            symlink(dir.join("mine"), temporary(4)).unwrap();
        }
        // The path of a socket has at most 100 bytes or so.
        let here = env::temp_dir().join(format!("ndarray-optim-{}", std::process::id()));
        let socket = UnixListener::bind(&here);
        let moved = dir.join("model.bin.tmp-5-0123456789abcdef");
        let moved = socket.is_ok() && fs::rename(&here, moved).is_ok();
        fs::write(dir.join("mine"), b"mine").unwrap();
        let before = names(&dir);
        at_once({
            let dir = dir.clone();
            move || {
                Checkpoints::open(&dir, 2).unwrap().save(&at(2)).unwrap();
                at(1).save(dir.join("model.bin")).unwrap();
            }
        });
        // They were never files of ours.
        let mut expected = [
            before,
            vec!["model.bin".into(), "step-00000002.ckpt".into()],
        ]
        .concat();
        expected.sort();
        assert_eq!(names(&dir), expected);
        assert_eq!(fs::read(dir.join("mine")).unwrap(), b"mine");
        if !moved {
            let _ = fs::remove_file(here);
        }
    }

    #[test]
    fn a_save_over_a_pipe_a_socket_or_a_device_is_refused_as_a_load_is() {
        let dir = directory("devices");
        make_pipe(&dir.join("pipe"));
        let mut paths = vec![dir.join("pipe")];
        let here = env::temp_dir().join(format!("ndarray-optim-over-{}", std::process::id()));
        let socket = UnixListener::bind(&here);
        if socket.is_ok() {
            paths.push(here.clone());
        }
        // The node of /dev/full; only root can make one, and not in every container.
        let node = dir.join("full");
        let made = Command::new("mknod")
            .arg(&node)
            .args(["c", "1", "7"])
            .output();
        if made.is_ok_and(|made| made.status.success()) {
            paths.push(node);
        } else {
            println!("no device: this user cannot make one");
        }
        for (i, path) in paths.clone().into_iter().enumerate() {
            let link = dir.join(format!("link{i}"));
            symlink(path, &link).unwrap();
            paths.push(link);
        }
        for path in paths {
            let kind = fs::metadata(&path).unwrap().file_type();
            let link = fs::symlink_metadata(&path).unwrap().is_symlink();
            let (saved, loaded) = at_once({
                let path = path.clone();
                move || (at(1).save(&path), Checkpoint::load(&path))
            });
            assert!(is_not_a_file(saved) && is_not_a_file(loaded), "{path:?}");
            assert_eq!(fs::metadata(&path).unwrap().file_type(), kind);
            assert_eq!(fs::symlink_metadata(&path).unwrap().is_symlink(), link);
        }
        let _ = fs::remove_file(here);
    }

    #[test]
    fn pipes_at_names_of_checkpoints_are_skipped_and_stay() {
        let dir = directory("step-pipes");
        let checkpoints = Checkpoints::open(&dir, 1).unwrap();
        make_pipe(&checkpoints.path(1));
        make_pipe(&checkpoints.path(9));
        at_once(move || {
            checkpoints.save(&at(2)).unwrap();
            checkpoints.save(&at(3)).unwrap();
            assert!(is_not_a_file(checkpoints.save(&at(9))));
            let latest = checkpoints.latest().unwrap().unwrap();
            assert_eq!((latest.checkpoint.step(), latest.skipped.len()), (3, 1));
        });
        let pipe = |name: &str| fs::metadata(dir.join(name)).unwrap().file_type().is_fifo();
        assert!(pipe("step-00000001.ckpt") && pipe("step-00000009.ckpt"));
        assert_eq!(names(&dir).len(), 3);
    }

    #[test]
    fn a_file_keeps_its_mode_and_its_owner() {
        let path = directory("mode").join("model.bin");
        at(1).save(&path).unwrap();
        let default = fs::metadata(&path).unwrap().mode();
        let plain = path.with_file_name("plain");
        fs::write(&plain, b"").unwrap();
        assert_eq!(default, fs::metadata(&plain).unwrap().mode());
        for mode in [0o600, 0o640, 0o664, 0o400, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            at(2).save(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        }
        if chown(&path, Some(12_345), Some(54_321)).is_err() {
            println!("no other owner: this user cannot set one");
            return;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        at(3).save(&path).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o7777),
            (12_345, 54_321, 0o640)
        );
        assert_eq!(Checkpoint::load(&path).unwrap().step(), 3);
    }

    #[test]
    fn a_private_file_is_private_while_it_is_written() {
        let dir = directory("private");
        let path = dir.join("model.bin");
        at(1).save(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut process = Killed::start(&dir);
        let mut seen = 0;
        while seen < 3 {
            process.is_running();
            for name in names(&dir) {
                // It may be gone already.
                if let Ok(found) = fs::metadata(dir.join(&name)) {
                    assert_eq!(found.mode() & 0o7777, 0o600, "{name}");
                    seen += usize::from(name.contains(".tmp-"));
                }
            }
        }
    }

    #[test]
    fn a_save_to_a_link_replaces_the_file_that_it_names() {
        let dir = directory("links");
        let (link, relative, dangling) = (dir.join("a"), dir.join("b"), dir.join("c"));
        let disk = dir.join("disk");
        fs::create_dir(&disk).unwrap();
        at(1).save(disk.join("model.bin")).unwrap();
        symlink(disk.join("model.bin"), &link).unwrap();
        symlink("a", &relative).unwrap();
        symlink("disk/new.bin", &dangling).unwrap();
        at(2).save(&link).unwrap();
        assert_eq!(Checkpoint::load(disk.join("model.bin")).unwrap().step(), 2);
        at(3).save(&relative).unwrap();
        assert_eq!(Checkpoint::load(disk.join("model.bin")).unwrap().step(), 3);
        at(4).save(&dangling).unwrap();
        assert_eq!(Checkpoint::load(disk.join("new.bin")).unwrap().step(), 4);
        assert_eq!(names(&dir), ["a", "b", "c", "disk"]);
        assert_eq!(names(&disk), ["model.bin", "new.bin"]);
        for link in [link, relative, dangling] {
            assert!(fs::symlink_metadata(link).unwrap().is_symlink());
        }
        symlink("self", dir.join("self")).unwrap();
        let error = at(5).save(dir.join("self")).unwrap_err();
        assert!(matches!(error.problem, Problem::Io(_)), "{error}");
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        if let Some(dir) = child::directory() {
            let large = Array1::<f64>::zeros(100_000);
            let large = Checkpoint::new(2).section("large", &large);
            let error = large.save(dir.join("model.bin")).unwrap_err();
            assert!(matches!(error.problem, Problem::Io(_)), "{error}");
            let checkpoints = Checkpoints::open(&dir, 2).unwrap();
            checkpoints.save(&large).unwrap_err();
            return;
        }
        let dir = directory("full");
        at(1).save(dir.join("model.bin")).unwrap();
        let test = child::start(
            "directories::unix::a_full_disk_leaves_the_old_file_and_nothing_else",
            &dir,
        );
        // Files of more than some kilobytes cannot be written; the signal is ignored, so that it is
        // an error as on a full disk.
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 200 && exec \"$@\"", "sh"])
            .arg(test.get_program())
            .args(test.get_args())
            .envs(
                test.get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(names(&dir), ["model.bin"]);
        assert_eq!(Checkpoint::load(dir.join("model.bin")).unwrap().step(), 1);
    }
}
