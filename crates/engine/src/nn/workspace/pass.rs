//! The forward and backward pass in segments, between which the groups synchronise.

use super::{StepLoss, Workspace};
use crate::nn::group::{Chunk, Group, Pass};
use crate::nn::{Batch, Float, Loss, Network, ThreadPool};

impl<T: Float> Workspace<T> {
    /// The forward pass with the weights packed last. If `backward`, also the backward pass, up to the terms of the
    /// gradients.
    pub(in crate::nn) fn pass(
        &mut self,
        network: &Network<T>,
        loss: &Loss,
        batch: Batch<T>,
        backward: bool,
        pool: &ThreadPool,
    ) -> StepLoss {
        self.begin(network, &batch, backward, pool);
        let last = self.plan.segments.len() - 1;
        for segment in 0..last {
            let (pass, groups) = self.pass_of(network, loss, &batch, true);
            forward_to_norm(&pass, groups, segment, pool);
            self.operations[self.plan.segments[segment + 1].start].settle(network);
        }
        let (pass, groups) = self.pass_of(network, loss, &batch, true);
        last_segment(&pass, groups, backward, pool);
        if backward {
            for segment in (0..last).rev() {
                self.operations[self.plan.segments[segment + 1].start].settle_gradient(network);
                let (pass, groups) = self.pass_of(network, loss, &batch, true);
                backward_from_norm(&pass, groups, segment, pool);
            }
        }
        self.result()
    }

    /// Divides the rows evenly among the groups, and begins the pass of each operation.
    pub(super) fn begin(
        &mut self,
        network: &Network<T>,
        batch: &Batch<T>,
        backward: bool,
        pool: &ThreadPool,
    ) {
        let rows = batch.rows;
        let each = rows.len().div_ceil(self.groups.len());
        for (index, group) in self.groups.iter_mut().enumerate() {
            let first = (index * each).min(rows.len());
            group.take(first, &rows[first..(first + each).min(rows.len())]);
        }
        self.operations.iter_mut().for_each(|operation| operation.begin(network, batch, backward, pool));
    }

    /// The data that the groups read in a pass, and the groups.
    pub(super) fn pass_of<'a>(
        &'a mut self,
        network: &'a Network<T>,
        loss: &'a Loss,
        batch: &'a Batch<'a, T>,
        is_training: bool,
    ) -> (Pass<'a, T>, &'a mut [Group<T>]) {
        let Self { plan, operations, groups, is_watching, .. } = self;
        let is_watching = *is_watching;
        (Pass { plan, operations, network, loss, batch, is_training, is_watching }, groups)
    }

    pub(super) fn result(&self) -> StepLoss {
        self.groups.iter().fold(StepLoss::default(), |sum, group| StepLoss {
            loss_sum: sum.loss_sum + group.result().loss_sum,
            correct: sum.correct + group.result().correct,
        })
    }
}

/// The forward pass through a segment. Also sums each group's moments for the `batch_norm` of the next segment.
fn forward_to_norm<T: Float>(pass: &Pass<T>, groups: &mut [Group<T>], segment: usize, pool: &ThreadPool) {
    let (operations, next) = (&pass.plan.segments[segment], pass.plan.segments[segment + 1].start);
    pool.for_each(groups, |group| {
        group.for_each_chunk(pass.plan.chunk_rows, |group, chunk| {
            if segment == 0 {
                group.load(pass, chunk);
            }
            group.forward(pass, operations.clone(), chunk);
            group.measure_norm(pass, next, chunk);
        });
    });
}

/// The forward pass through the last segment and the loss. If `backward`, also the backward pass through this segment.
/// Each chunk takes both passes before the next chunk begins.
fn last_segment<T: Float>(pass: &Pass<T>, groups: &mut [Group<T>], backward: bool, pool: &ThreadPool) {
    let last = pass.plan.segments.len() - 1;
    let operations = &pass.plan.segments[last];
    pool.for_each(groups, |group| {
        group.for_each_chunk(pass.plan.chunk_rows, |group, chunk| {
            if last == 0 {
                group.load(pass, chunk);
            }
            group.forward(pass, operations.clone(), chunk);
            group.measure(pass, chunk, backward);
            if backward {
                backward_to_norm(pass, group, last, chunk);
            }
        });
        if backward {
            group.end_backward(pass, operations.clone());
        }
    });
}

/// The backward pass through the `batch_norm` after a segment, whose sums must be complete, and through the segment.
fn backward_from_norm<T: Float>(pass: &Pass<T>, groups: &mut [Group<T>], segment: usize, pool: &ThreadPool) {
    let norm = pass.plan.segments[segment + 1].start;
    pool.for_each(groups, |group| {
        group.for_each_chunk(pass.plan.chunk_rows, |group, chunk| {
            group.backward(pass, norm..norm + 1, chunk);
            backward_to_norm(pass, group, segment, chunk);
        });
        group.end_backward(pass, pass.plan.segments[segment].clone());
    });
}

/// The backward pass through a segment, except for the `batch_norm` that it begins with. Adds to the sums of this
/// `batch_norm` instead.
fn backward_to_norm<T: Float>(pass: &Pass<T>, group: &mut Group<T>, segment: usize, chunk: Chunk) {
    let operations = pass.plan.segments[segment].clone();
    if segment == 0 {
        group.backward(pass, operations, chunk);
    } else {
        group.backward(pass, operations.start + 1..operations.end, chunk);
        group.measure_gradient(pass, operations.start, chunk);
    }
}
