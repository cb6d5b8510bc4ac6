//! The operators that move elements without changing them, and those that compute shapes.

use super::evaluate::{axis_of, length};
use super::operator::Operator;
use super::tensor::{RANK_MAX, Tensor};

/// Computes the output of such an operator.
///
/// # Errors
/// If the inputs don't fit the operator, or if the output is too large.
pub(super) fn rearranged(
    operator: &Operator,
    inputs: &[Option<&Tensor>],
    values_max: usize,
) -> Result<Tensor, String> {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let x = input(0).ok_or("its input 0 is missing")?;
    let list = |index: usize| {
        let tensor = input(index).ok_or_else(|| format!("its input {index} is missing"))?;
        tensor.as_integers()
    };
    let axes = |axes: &Option<Vec<i64>>| match (axes, input(1)) {
        (Some(axes), _) => Ok(Some(axes.clone())),
        (None, Some(axes)) => axes.as_integers().map(Some),
        (None, None) => Ok(None),
    };
    match operator {
        Operator::Flatten { axis } => {
            let axis =
                if *axis == x.shape.len() as i64 { x.shape.len() } else { axis_of(*axis, x.shape.len())? };
            let sides = [&x.shape[..axis], &x.shape[axis..]].map(|part| part.iter().product());
            Ok(Tensor { shape: sides.to_vec(), ..x.clone() })
        }
        Operator::Reshape { copies_zero } => {
            let shape = target_shape(&x.shape, &list(1)?, *copies_zero)?;
            Ok(Tensor { shape, ..x.clone() })
        }
        Operator::Transpose { perm } => transposed(x, perm.as_deref()),
        Operator::Squeeze { axes: own } => squeezed(x, axes(own)?),
        Operator::Unsqueeze { axes: own } => unsqueezed(x, &axes(own)?.ok_or("its axes are missing")?),
        Operator::Shape => Ok(Tensor::integers(x.shape.iter().map(|&side| side as f64).collect())),
        Operator::Gather { axis } => gathered(x, input(1).ok_or("its input 1 is missing")?, *axis),
        Operator::Slice => {
            let given = |index: usize| input(index).map(|_| list(index)).transpose();
            sliced(x, &list(1)?, &list(2)?, given(3)?, given(4)?)
        }
        Operator::Concat { axis } => joined(inputs, *axis, values_max),
        _ => Err("this operator is not supported".to_owned()),
    }
}

/// The shape that a reshape asks for. −1 is what the others leave, and 0 copies the side at its place.
///
/// # Errors
/// If the number of elements would change.
pub(super) fn target_shape(from: &[usize], to: &[i64], copies_zero: bool) -> Result<Vec<usize>, String> {
    let misfit = || format!("{from:?} can't be reshaped to {to:?}");
    let side = |(axis, &side): (usize, &i64)| match side {
        -1 => Some(1),
        0 if copies_zero => from.get(axis).copied(),
        side => usize::try_from(side).ok(),
    };
    let mut shape: Vec<usize> = to.iter().enumerate().map(side).collect::<Option<_>>().ok_or_else(misfit)?;
    let all = length(from, usize::MAX)?;
    let known = length(&shape, usize::MAX)?;
    if let Some(free) = to.iter().position(|&side| side == -1) {
        shape[free] = all.checked_div(known).ok_or_else(misfit)?;
    }
    let free = to.iter().filter(|&&side| side == -1).count();
    if free <= 1 && length(&shape, usize::MAX)? == all { Ok(shape) } else { Err(misfit()) }
}

fn transposed(x: &Tensor, perm: Option<&[i64]>) -> Result<Tensor, String> {
    let rank = x.shape.len();
    let order = permutation(perm, rank)?;
    let steps = |shape: &[usize]| {
        let mut steps = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            steps[axis - 1] = steps[axis] * shape[axis];
        }
        steps
    };
    let from = steps(&x.shape);
    let shape: Vec<usize> = order.iter().map(|&axis| x.shape[axis]).collect();
    let to = steps(&shape);
    let index = |place: usize| {
        let along = |axis: usize| place / to[axis].max(1) % shape[axis].max(1) * from[order[axis]];
        (0..rank).map(along).sum::<usize>()
    };
    let values = (0..x.len()).map(|place| x.values[index(place)]).collect();
    Ok(Tensor { is_integer: x.is_integer, ..Tensor::new(shape, values) })
}

/// The order of the axes after a transposition, by default the reverse.
///
/// # Errors
/// If it is no permutation of the axes.
pub(super) fn permutation(perm: Option<&[i64]>, rank: usize) -> Result<Vec<usize>, String> {
    let order = match perm {
        None => (0..rank).rev().collect(),
        Some(perm) => perm.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<usize>, _>>()?,
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted.iter().copied().eq(0..rank) {
        Ok(order)
    } else {
        Err(format!("{perm:?} does not order {rank} axes"))
    }
}

/// Removes these axes, or all of one element.
fn squeezed(x: &Tensor, axes: Option<Vec<i64>>) -> Result<Tensor, String> {
    let rank = x.shape.len();
    let axes = match axes {
        Some(axes) if axes.len() > RANK_MAX => return Err(format!("it removes {} axes", axes.len())),
        Some(axes) => axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<usize>, _>>()?,
        None => (0..rank).filter(|&axis| x.shape[axis] == 1).collect(),
    };
    if axes.iter().any(|&axis| x.shape[axis] != 1) {
        return Err(format!("an axis of {:?} has more than one element", x.shape));
    }
    let kept = x.shape.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    Ok(Tensor { shape: kept.map(|(_, &side)| side).collect(), ..x.clone() })
}

/// Inserts axes of one element at these places of the result.
fn unsqueezed(x: &Tensor, axes: &[i64]) -> Result<Tensor, String> {
    let rank = x.shape.len() + axes.len();
    if rank > RANK_MAX {
        return Err(format!("a tensor of {rank} axes is not supported"));
    }
    let axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<usize>, _>>()?;
    let mut sides = x.shape.iter().copied();
    let shape: Vec<usize> =
        (0..rank).filter_map(|axis| if axes.contains(&axis) { Some(1) } else { sides.next() }).collect();
    if shape.len() != rank {
        Err("an axis is inserted twice".to_owned())
    } else {
        Ok(Tensor { shape, ..x.clone() })
    }
}

/// The elements of a list at these places. Only lists are supported, which is what a shape is.
fn gathered(x: &Tensor, places: &Tensor, axis: i64) -> Result<Tensor, String> {
    if x.shape.len() != 1 || axis_of(axis, 1)? != 0 {
        return Err(format!("only elements of a list are gathered, not of {:?}", x.shape));
    }
    let value = |place: i64| axis_of(place, x.len()).map(|place| x.values[place]);
    let values = places.as_integers()?.into_iter().map(value).collect::<Result<_, _>>()?;
    Ok(Tensor { is_integer: x.is_integer, ..Tensor::new(places.shape.clone(), values) })
}

/// A part of a list. Only lists are supported, which is what a shape is.
fn sliced(
    x: &Tensor,
    starts: &[i64],
    ends: &[i64],
    axes: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
) -> Result<Tensor, String> {
    let is_list = x.shape.len() == 1 && axes.is_none_or(|axes| matches!(axes[..], [0 | -1]));
    let (&[start], &[end], true) = (starts, ends, is_list && steps.is_none_or(|steps| steps == [1])) else {
        return Err(format!("only a list is sliced, in steps of 1, not {:?}", x.shape));
    };
    let length = x.len() as i64;
    let place = |place: i64| if place < 0 { (place + length).max(0) } else { place.min(length) } as usize;
    let values = x.values.get(place(start)..place(end)).unwrap_or_default().to_vec();
    Ok(Tensor { is_integer: x.is_integer, ..Tensor::new(vec![values.len()], values) })
}

/// Lists one after the other. Only lists are supported, which is what a shape is.
fn joined(inputs: &[Option<&Tensor>], axis: i64, values_max: usize) -> Result<Tensor, String> {
    let parts = inputs.iter().flatten().filter(|part| part.shape.len() == 1);
    if parts.clone().count() != inputs.len() || axis_of(axis, 1)? != 0 {
        return Err("only lists are joined".to_owned());
    }
    let all: usize = parts.clone().map(|part| part.len()).sum();
    length(&[all], values_max)?;
    let values = parts.flat_map(|part| part.values.iter().copied()).collect();
    Ok(Tensor {
        is_integer: inputs.iter().flatten().all(|part| part.is_integer),
        ..Tensor::new(vec![all], values)
    })
}
