//! The memory limit: a loop with the traffic of the step and almost no arithmetic, over one block of
//! memory even where a case has many arrays. The limit of a row is the fastest of its partitions.
//! Where parameters and gradients are strided, it moves their cache lines.
use super::*;
use crate::{
    case::{Layout, Threads, numbers},
    common::{limit_of_one_moment, limit_of_two_moments},
};
use rayon::prelude::*;

#[derive(Clone, Copy, PartialEq)]
enum Partition {
    Whole,
    /// A contiguous part for each thread; the caller takes the first.
    Parts,
    /// Small chunks that the threads of rayon's pool take in turn.
    Chunks,
}

/// Elements of a small chunk.
const CHUNK: usize = 1 << 15;

pub fn all() -> Vec<Box<dyn Peer>> {
    let partitions = [Partition::Whole, Partition::Parts, Partition::Chunks];
    partitions
        .map(|partition| Box::new(Limit(partition)) as _)
        .into()
}

struct Limit(Partition);

impl Peer for Limit {
    fn name(&self) -> &'static str {
        match self.0 {
            Partition::Whole => "limit, one thread",
            Partition::Parts => "limit, a part for each thread",
            Partition::Chunks => "limit, small chunks",
        }
    }

    fn prepare(&mut self, case: &Case) -> Result<Box<dyn Run>, Skip> {
        if self.0 != Partition::Whole && case.threads == Threads::One {
            return Err("for several threads only".into());
        }
        Ok(by_dtype!(new(case, self.0)))
    }
}

struct Block<A> {
    partition: Partition,
    two_moments: bool,
    p: Vec<A>,
    g: Vec<A>,
    m: Vec<A>,
    v: Vec<A>,
}

fn new<A: Element>(case: &Case, partition: Partition) -> Box<dyn Run> {
    let n = case.elements();
    let width = if case.layout == Layout::Strided { 2 } else { 1 };
    let (p, g) = numbers(0, n * width);
    Box::new(Block::<A> {
        partition,
        two_moments: case.algorithm.moments() == 2,
        p,
        g,
        m: vec![A::ZERO; n],
        v: vec![A::ZERO; n],
    })
}

/// A part of parameter, gradient and moments. The first two may be longer.
type Piece<'a, A> = (((&'a mut [A], &'a [A]), &'a mut [A]), &'a mut [A]);

/// Moves a piece through the processor.
fn pass<A: Element>(two_moments: bool, (((p, g), m), v): Piece<'_, A>) {
    let each = |p: &mut [A], g: &[A], m: &mut [A], v: &mut [A]| match two_moments {
        true => limit_of_two_moments(p, g, m, v),
        false => limit_of_one_moment(p, g, m),
    };
    if p.len() == m.len() {
        return each(p, g, m, v);
    }
    // Blocks that stay in the first-level cache.
    const BLOCK: usize = 512;
    let blocks = p.chunks_mut(2 * BLOCK).zip(g.chunks(2 * BLOCK));
    let moments = m.chunks_mut(BLOCK).zip(v.chunks_mut(BLOCK));
    for ((p, g), (m, v)) in blocks.zip(moments) {
        let (p, rest) = p.split_at_mut(m.len());
        each(p, g, m, v);
        for (p, &g) in rest.iter_mut().zip(&g[m.len()..]) {
            *p += g;
        }
    }
}

impl<A: Element> Step for Block<A> {
    fn step(&mut self) -> Result<(), Skip> {
        let two_moments = self.two_moments;
        let (p, g, m, v) = (&mut self.p, &self.g, &mut self.m, &mut self.v);
        let width = p.len() / m.len();
        match self.partition {
            Partition::Whole => pass(two_moments, (((p, g), m), v)),
            Partition::Parts => {
                let len = m.len().div_ceil(rayon::current_num_threads());
                let mut parts = p
                    .chunks_mut(len * width)
                    .zip(g.chunks(len * width))
                    .zip(m.chunks_mut(len))
                    .zip(v.chunks_mut(len));
                rayon::in_place_scope(|scope| {
                    let first = parts.next();
                    parts.for_each(|part| scope.spawn(move |_| pass(two_moments, part)));
                    first.into_iter().for_each(|part| pass(two_moments, part));
                });
            }
            Partition::Chunks => p
                .par_chunks_mut(CHUNK * width)
                .zip(g.par_chunks(CHUNK * width))
                .zip(m.par_chunks_mut(CHUNK))
                .zip(v.par_chunks_mut(CHUNK))
                .for_each(|chunk| pass(two_moments, chunk)),
        }
        Ok(())
    }

    /// It computes nothing that could be compared.
    fn ends(&mut self) -> Result<Vec<f64>, Skip> {
        Ok(vec![])
    }
}
