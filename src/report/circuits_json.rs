//! `circuits.json` in the layout of the paper's own code, so that its scripts read our runs. Percentages, unlike
//! everywhere else.

use serde::{Serialize, Serializer};

use super::records::{CircuitRecord, Edges, ModelSide, as_map};

/// The members of one round, as they stand between the braces of the file: `"round_1": {...}`.
pub fn round_member(round: usize, circuits: &[CircuitRecord]) -> serde_json::Result<String> {
    let side = |model| {
        let mut of_side: Vec<&CircuitRecord> = circuits.iter().filter(|circuit| circuit.model == model).collect();
        of_side.sort_by_key(|circuit| (circuit.client, circuit.class));
        Clients(of_side)
    };
    let value = Round { clients_local_model: side(ModelSide::Local), clients_global_model: side(ModelSide::Global) };
    Ok(format!("\"round_{round}\": {}", serde_json::to_string(&value)?))
}

#[derive(Serialize)]
struct Round<'a> {
    clients_local_model: Clients<'a>,
    clients_global_model: Clients<'a>,
}

/// Circuits of one model, sorted by client and class.
struct Clients<'a>(Vec<&'a CircuitRecord>);

impl Serialize for Clients<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let clients = self.0.chunk_by(|a, b| a.client == b.client);
        serializer.collect_map(clients.map(|classes| (format!("client_{}", classes[0].client), Classes(classes))))
    }
}

struct Classes<'a>(&'a [&'a CircuitRecord]);

impl Serialize for Classes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = |circuit: &CircuitRecord| format!("{} - {}", circuit.class, circuit.class_name);
        serializer.collect_map(self.0.iter().map(|circuit| (name(circuit), Circuit::new(circuit))))
    }
}

#[derive(Serialize)]
struct Circuit<'a> {
    #[serde(serialize_with = "as_map")]
    active_nodes: &'a [(String, Vec<u32>)],
    #[serde(serialize_with = "as_map")]
    connectivity: Vec<(&'a str, Layer<'a>)>,
    metrics: Metrics,
}

impl<'a> Circuit<'a> {
    fn new(circuit: &'a CircuitRecord) -> Self {
        Self {
            active_nodes: &circuit.active_nodes,
            connectivity: circuit.connectivity.iter().map(|(name, edges)| (name.as_str(), Layer(edges))).collect(),
            metrics: Metrics {
                accuracy: percent(circuit.sufficiency),
                necessity: percent(circuit.necessity),
                local_mask_on_global_weights_acc: circuit.cross.map(percent),
            },
        }
    }
}

struct Layer<'a>(&'a Edges);

impl Serialize for Layer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_map(self.0, serializer)
    }
}

#[derive(Serialize)]
struct Metrics {
    accuracy: f64,
    necessity: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_mask_on_global_weights_acc: Option<f64>,
}

/// Rounded in the tenth place, where a fraction times 100 shows only the rounding of the fraction.
fn percent(fraction: f64) -> f64 {
    (fraction * 1e12).round() / 1e10
}

#[cfg(test)]
mod tests {
    use super::super::records::sample_circuit;
    use super::*;

    fn circuit(model: ModelSide, client: usize, class: u32, name: &str) -> CircuitRecord {
        CircuitRecord {
            model,
            client,
            class,
            class_name: name.into(),
            active_nodes: vec![("conv1".into(), vec![3, 11]), ("conv2".into(), vec![])],
            connectivity: vec![("conv1".into(), vec![(3, vec![0]), (11, vec![0])]), ("conv2".into(), vec![])],
            sufficiency: 0.57,
            necessity: f64::NAN,
            cross: (model == ModelSide::Global).then_some(1.0),
            ..sample_circuit()
        }
    }

    #[test]
    fn the_layout_is_the_papers_and_numbers_sort_as_numbers() {
        let circuits = [
            circuit(ModelSide::Global, 2, 0, "zero"),
            circuit(ModelSide::Local, 10, 0, "zero"),
            circuit(ModelSide::Local, 2, 10, "ten"),
            circuit(ModelSide::Local, 2, 9, "nine"),
        ];
        let local = r#"{"active_nodes":{"conv1":[3,11],"conv2":[]},"connectivity":{"conv1":{"3":[0],"11":[0]},"conv2":{}},"metrics":{"accuracy":57.0,"necessity":null}}"#;
        let global = local.replace("null", "null,\"local_mask_on_global_weights_acc\":100.0");
        let expected = format!(
            r#""round_1": {{"clients_local_model":{{"client_2":{{"9 - nine":{local},"10 - ten":{local}}},"client_10":{{"0 - zero":{local}}}}},"clients_global_model":{{"client_2":{{"0 - zero":{global}}}}}}}"#
        );
        assert_eq!(round_member(1, &circuits).unwrap(), expected);
    }
}
