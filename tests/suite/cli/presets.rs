//! `fedcircuit presets`: what there is, and what it takes on this device.

use std::fs;

use super::Desk;

/// The list as JSON, with the caches of `desk` alone.
fn list(desk: &Desk, more: &[&str]) -> Vec<serde_json::Value> {
    let mut command = desk.command(env!("CARGO_BIN_EXE_fedcircuit"));
    command.env("FEDCIRCUIT_CACHE", desk.path("cache")).args(["presets", "--device", "cpu", "--json"]).args(more);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn estimates_are_finite_ordered_and_remembered() {
    let desk = Desk::new();
    let unknown = list(&desk, &["--no-measure"]);
    assert!(unknown.iter().all(|preset| preset["seconds"].is_null()));
    let measured = list(&desk, &[]);
    let find = |list: &[serde_json::Value], name: &str, key: &str| {
        let preset = list.iter().find(|preset| preset["name"] == name).unwrap();
        preset[key].as_f64().unwrap_or_else(|| panic!("{name} {key}: {preset}"))
    };
    let seconds = |name| find(&measured, name, "seconds");
    for preset in &measured {
        let seconds = preset["seconds"].as_f64().unwrap();
        assert!(seconds.is_finite() && seconds > 0.0, "{preset}");
        assert!(preset["bytes"].as_u64().unwrap() > 10 << 20, "{preset}");
        assert!(preset["source"].as_str().unwrap().contains("arXiv"), "{preset}");
    }
    assert!(seconds("quickstart") < seconds("paper-3-classes"));
    assert!(seconds("paper-1-class") < seconds("paper-2-classes"));
    assert!(seconds("paper-3-classes") < seconds("paper-3-classes-long"));
    assert!(seconds("paper-2-classes") < seconds("sparsity-x-learning-rate"));
    assert!(seconds("mcmahan-2nn") < seconds("mcmahan-cnn"));
    assert_eq!(find(&measured, "quickstart", "federations"), 2.0);
    assert_eq!(find(&measured, "paper-sparsity", "federations"), 15.0);
    assert_eq!(find(&measured, "mcmahan-cnn", "clients"), 10.0);
    // Remembered to the bit, so that nothing was measured again.
    assert_eq!(list(&desk, &[]), measured);
    assert_eq!(list(&desk, &["--no-measure"]), measured);
    // What is remembered and broken is measured again.
    for entry in fs::read_dir(desk.path("cache")).unwrap() {
        fs::write(entry.unwrap().path(), "{").unwrap();
    }
    assert!(list(&desk, &["--no-measure"]).iter().all(|preset| preset["seconds"].is_null()));

    // Flags of the list, which nothing is listed for.
    assert_eq!(desk.fedcircuit(&["presets", "--json", "show", "quickstart"]).code, Some(2));
    let text = desk.fedcircuit(&["presets", "--device", "cpu", "--no-measure"]);
    assert!(text.code == Some(0) && text.out.starts_with("device: CPU engine"), "{text:?}");
    assert!(text.out.contains("times are estimates") && text.out.contains("2 federations of 3 clients, 5 rounds"));
}
