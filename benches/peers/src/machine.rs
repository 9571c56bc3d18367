//! The machine that measures.
use ndarray_optim::{InstructionSet, instruction_set};
use std::{fs, thread};

/// Environment variables that hold torch and jax to the instruction set of this crate, which
/// `NDARRAY_OPTIM_INSTRUCTION_SET` can make lower than that of the machine.
pub fn forced_instruction_set() -> Vec<(&'static str, &'static str)> {
    let (torch, jax) = match instruction_set() {
        InstructionSet::Baseline => ("default", "--xla_cpu_max_isa=SSE4_2"),
        InstructionSet::Avx2 => ("avx2", "--xla_cpu_max_isa=AVX2"),
        _ => return vec![],
    };
    match cfg!(target_arch = "x86_64") {
        true => vec![("ATEN_CPU_CAPABILITY", torch), ("XLA_FLAGS", jax)],
        false => vec![],
    }
}

/// Processor, number of cores, caches and instruction set, in words.
pub fn describe() -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = file("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |line| {
        line.trim_start_matches(['\t', ' ', ':'])
    });
    let caches: Vec<String> = (0..8)
        .filter_map(|i| {
            let of = |name: &str| {
                let path = format!("/sys/devices/system/cpu/cpu0/cache/index{i}/{name}");
                fs::read_to_string(path)
                    .ok()
                    .map(|text| text.trim().to_owned())
            };
            let (level, kind, size) = (of("level")?, of("type")?, of("size")?);
            (kind != "Instruction").then(|| format!("L{level} {}", size_in_words(&size)))
        })
        .collect();
    let caches = match caches.is_empty() {
        true => "unknown caches".into(),
        false => caches.join(", "),
    };
    format!(
        "{model}, {} cores, {caches}, {}; this crate, torch and jax use {}",
        cores(),
        std::env::consts::OS,
        instruction_set()
    )
}

/// A size such as `2048K` as the system writes it.
fn size_in_words(size: &str) -> String {
    match size
        .strip_suffix('K')
        .and_then(|number| number.parse::<usize>().ok())
    {
        Some(number) if number % 1024 == 0 => format!("{} MiB", number / 1024),
        Some(number) => format!("{number} KiB"),
        None => size.into(),
    }
}

pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Memory that is free, in bytes, as far as the system tells.
pub fn available_memory() -> usize {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kilobytes.map_or(usize::MAX, |kilobytes| kilobytes * 1024)
}
