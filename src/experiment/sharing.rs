//! Which experiments of a request run side by side, in the same waves.

use super::alike::alike;
use super::group::Group;
use super::job::{Job, Looked};
use super::resume::Found;
use crate::device::DeviceInfo;
use crate::error::{Error, Result};

/// Names of a group that are told before the rest is counted.
const NAMED: usize = 3;

/// `jobs`, by number, in groups that fit the device: those that are alike run together, where as many rounds are behind
/// them; those that are done, and those that fill a wave, are alone. Each group is tried, so that its faults come to light
/// before the first one's work.
///
/// # Errors
/// Whatever stands in the way of one of them.
pub(super) fn groups(jobs: &[Job<'_>], numbers: &[usize]) -> Result<Vec<Vec<usize>>> {
    let looked = numbers.iter().map(|i| Ok((*i, jobs[*i].look(&|_| ())?))).collect::<Result<Vec<_>>>()?;
    let Some(first) = numbers.first() else { return Ok(Vec::new()) };
    let groups = by_shape(jobs[*first].device.info(), jobs, &looked);
    drop(looked);
    let mut fitting = Vec::new();
    for group in groups {
        fit(jobs, group, &mut fitting)?;
    }
    Ok(fitting)
}

/// The jobs that were looked at, in groups of those that may run together: those with a checkpoint of their first models are
/// gone on with, and those without one begin.
fn by_shape(info: &DeviceInfo, jobs: &[Job<'_>], looked: &[(usize, Looked)]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<&(usize, Looked)>> = Vec::new();
    for one in looked {
        let (number, own) = (one.0, &one.1);
        let joins = |group: &&mut Vec<&(usize, Looked)>| {
            let (other, of) = group[0];
            let done = [own, of].iter().any(|looked| matches!(looked.found, Found::Finished));
            !done
                && own.round() == of.round()
                && alike(info, &own.network, jobs[*other].experiment, jobs[number].experiment)
        };
        match groups.iter_mut().find(joins) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups.into_iter().map(|group| group.into_iter().map(|(number, _)| *number).collect()).collect()
}

/// Adds a group to those that fit, in halves where its models do not fit side by side; and on a GPU, where its clients are
/// more than a wave: one that is full has nothing to gain, and what a round keeps of every client is not to grow for it.
/// Waves of the CPU engine are as small as its caches.
fn fit(jobs: &[Job<'_>], group: Vec<usize>, fitting: &mut Vec<Vec<usize>>) -> Result<()> {
    let begun = Group::new(group.iter().map(|i| jobs[*i].clone()).collect()).begin(&|_| ());
    let fits = match &begun {
        Ok(begun) => jobs[group[0]].device.info().kind == "cpu" || begun.plan().waves == 1,
        Err(Error::TooLarge { .. }) => false,
        Err(_) => true,
    };
    if fits || group.len() == 1 {
        drop(begun?);
        fitting.push(group);
        return Ok(());
    }
    drop(begun);
    let (first, second) = group.split_at(group.len().div_ceil(2));
    fit(jobs, first.to_vec(), fitting)?;
    fit(jobs, second.to_vec(), fitting)
}

/// What to tell of each group of several.
pub(super) fn told(jobs: &[Job<'_>], groups: &[Vec<usize>]) -> Vec<String> {
    let line = |group: &Vec<usize>| {
        let names: Vec<&str> = group.iter().take(NAMED).map(|i| jobs[*i].label).collect();
        let more = if group.len() > NAMED { format!(" and {} more", group.len() - NAMED) } else { String::new() };
        format!("waves: {} experiments share them: {}{more}", group.len(), names.join(", "))
    };
    groups.iter().filter(|group| group.len() > 1).map(line).collect()
}
