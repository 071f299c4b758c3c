use super::*;
use crate::config::EdgeUnit;
use crate::config::presets;
use crate::device::Cpu;
use crate::model::{Input, LayerSpec, Network, SpecKind, chain};

#[test]
fn words_are_those_of_the_buffers() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let layer = |name: &str, kind, relu| LayerSpec { name: name.into(), kind, relu };
    let conv = SpecKind::Conv { channels: 40, kernel: 3, padding: 1, pool: 2 };
    let hidden = layer("hidden", SpecKind::Linear { features: 32 }, true);
    let specs = [layer("conv", conv, true), hidden, layer("fc", SpecKind::Linear { features: 10 }, false)];
    let input = Input { channels: 1, height: 8, width: 8 };
    let network = Network::new(chain(&specs, input, 10).unwrap(), input, 10);
    let masks = MaskLayout::new(&cpu, &network.layout).unwrap();
    let paper = presets::get("paper-iid").unwrap().load(&[]).unwrap().variants.remove(0).experiment;
    let mut circuits = paper.circuits.unwrap();
    let pair = |i: usize| Pair { replicate: i / 3, client: i % 3, class: 4, member: i, alone: false };
    let pairs: Vec<Pair> = (0..6).map(pair).collect();
    for unit in [EdgeUnit::Channel, EdgeUnit::Position] {
        let edges = EdgeLayout::new(&cpu, &network, &masks, unit).unwrap();
        let sizes =
            Layouts { masks: &masks, edges: &edges, gate_words: network.layout.gate_words, classes: network.classes };
        for (random, controls) in [(0, &[][..]), (700, &Control::ALL[..])] {
            circuits.controls.random = random;
            let new = RoundBuffers::new(&cpu, pairs.clone(), &pairs, 2, &circuits, controls, &sizes).unwrap();
            let RoundBuffers { gates, tallies, alive, families, controls: counts, sets, overlaps, totals, .. } = &new;
            let own = [gates, alive, &sets.masks, &sets.edges].into_iter().chain(tallies).chain(overlaps).chain(totals);
            let views = families.iter().flat_map(Counts::views).chain(counts.iter().flat_map(ControlCounts::views));
            let words: Vec<usize> = own.map(Buffer::words).chain(views.map(|view| view.words)).collect();
            let before = sets.masks.words() + sets.edges.words();
            let want = (words.iter().sum::<usize>() + before, *words.iter().max().unwrap());
            assert_eq!(RoundBuffers::words(&pairs, 2, &circuits, controls.len(), &sizes), want);
        }
    }
}
