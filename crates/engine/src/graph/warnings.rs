use std::collections::BTreeMap;

use super::node::{Node, Op};
use super::number::plain;
use super::numerical::NoDifference;
use super::paths::GraphPath;
use super::{PATH_NODES_MAX, PATHS_MAX, made_from, operands, reaching};

/// The caveats about a result, without repetitions.
pub(super) fn warnings(
    nodes: &[Node],
    output: usize,
    differences: &BTreeMap<String, Result<f64, NoDifference>>,
) -> Vec<String> {
    let reaches = reaching(nodes, output);
    let varies = made_from(nodes, |node| node.op == Op::Input);
    let mut warnings = Vec::new();
    for node in nodes {
        let warning = match &node.name {
            Some(name) if !reaches[node.id] => Some(unused(node.op, name)),
            _ if reaches[node.id] && varies[node.id] => at_kink(nodes, node).map(str::to_owned),
            _ => None,
        };
        warnings.extend(warning.filter(|warning| !warnings.contains(warning)));
    }
    for (name, difference) in differences {
        let why = match difference {
            Ok(_) => continue,
            Err(NoDifference::Kink) => "a relu, max or min has a kink there or close by",
            Err(NoDifference::Undefined) => "close by, the expression has no finite value",
            Err(NoDifference::Unclear) => "the expression is too steep or too flat for a difference",
        };
        warnings.push(format!("no numerical derivative with respect to {name}: {why}"));
    }
    warnings
}

/// A warning for each input whose paths are not listed.
pub(super) fn unlisted_paths(
    paths: &BTreeMap<String, Vec<GraphPath>>,
    counts: &BTreeMap<String, f64>,
) -> impl Iterator<Item = String> {
    let names = counts.iter().filter(|&(name, &count)| count > 0.0 && paths[name].is_empty());
    names.map(|(name, &count)| {
        let why = if count > PATHS_MAX as f64 {
            format!("at most {PATHS_MAX} of an input are")
        } else {
            format!("all lists together may have {PATH_NODES_MAX} nodes")
        };
        format!("the paths from {name} are {} and not listed: {why}", plain(count))
    })
}

fn unused(op: Op, name: &str) -> String {
    match op {
        Op::Input => format!("the input {name} is not used: its gradient is 0"),
        _ => format!("{name} is bound but not used"),
    }
}

fn at_kink(nodes: &[Node], node: &Node) -> Option<&'static str> {
    let x = operands(nodes, node);
    let ties = || x.iter().filter(|&&x| x == node.value).count() > 1;
    match node.op {
        Op::Relu if x[0] == 0.0 => {
            Some("the derivative of relu at 0 is taken as 0, as frameworks do; some texts take 1")
        }
        Op::Max if ties() => Some(
            "the largest operands of max are equal: they share its derivative evenly, as in PyTorch's maximum",
        ),
        Op::Min if ties() => Some(
            "the smallest operands of min are equal: they share its derivative evenly, as in PyTorch's minimum",
        ),
        _ => None,
    }
}
