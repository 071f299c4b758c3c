//! Tests: how the reader refuses what is not accepted.

use super::*;

pub(super) const BASE: &str =
    "name = \"a\"\n[data]\nsource = \"digits\"\n[partition]\nkind = \"iid\"\nnum_clients = 5\n";

pub(super) fn read(text: &str, sets: &[&str]) -> Result<Experiment> {
    let overrides: Vec<Override> = sets.iter().map(|set| Override::parse(set).unwrap()).collect();
    Ok(load(text, "a.toml", &overrides)?.variants.remove(0).experiment)
}

/// The message for `BASE` with one key set.
pub(super) fn refusal(set: &str) -> String {
    match read(BASE, &[set]) {
        Ok(_) => panic!("{set} was accepted"),
        Err(error) => {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        }
    }
}

#[test]
fn refusals_name_the_key_the_value_and_what_is_accepted() {
    for (set, says, accepted) in [
        ("rounds=0", "rounds: the number 0 is not accepted", "from 1 to 1000000"),
        ("rounds=-1", "rounds: the number -1", "from 1 to 1000000"),
        ("rounds=10.0", "rounds: the number 10.0", "a whole number"),
        ("rounds=ten", "rounds: the text \"ten\"", "a whole number"),
        ("rounds=99999999999", "rounds: the number 99999999999", "every round adds a line"),
        ("seed=-1", "seed: the number -1", "from 0"),
        ("name=a/b", "name: \"a/b\" cannot name a folder", "letters, digits"),
        ("name=..", "name: \"..\" cannot name a folder", "not starting with a point"),
        ("name=3", "name: the number 3", "a name"),
        ("data=3", "data: the number 3", "[data]"),
        ("data.source=mnits", "data.source: the text \"mnits\"", "did you mean mnist? accepted: \"mnist\", \"digits\""),
        ("data.fallback=mnist", "data.fallback: the text \"mnist\"", "\"digits\""),
        ("data.train_examples=0", "data.train_examples: the number 0", "from 1"),
        ("data.test_examples=1e3", "data.test_examples: the number 1000", "a whole number"),
        ("partition.num_clients=0", "partition.num_clients: the number 0", "from 1 to 1000000"),
        ("partition.num_clients=5000000", "partition.num_clients: the number 5000000", "at least one example"),
        ("partition.alpha=0.5", "partition.alpha: unknown key", "[partition] with kind = \"iid\": kind, num_clients"),
        ("partition.kind=irichlet", "partition.kind: the text \"irichlet\"", "did you mean dirichlet?"),
        ("partition.kind=outer_dirichlet", "partition.kind", "\"inner_dirichlet\", \"by_class\""),
        ("partition={kind=\"inner_dirichlet\",num_clients=3}", "partition.alpha: is missing", "concentration"),
        ("partition={kind=\"dirichlet\",num_clients=3}", "partition.alpha: is missing", "concentration"),
        ("partition={kind=\"dirichlet\",num_clients=3,alpha=nan}", "partition.alpha: the number nan", "above 0"),
        ("partition={kind=\"dirichlet\",num_clients=3,alpha=0}", "partition.alpha: the number 0", "above 0"),
        ("partition={kind=\"by_class\"}", "partition.classes: is missing", "one list of classes a client"),
        ("partition={kind=\"by_class\",classes=[]}", "partition.classes: names no client", "[[0, 1, 2]"),
        ("partition={kind=\"by_class\",classes=[0,1]}", "partition.classes[0]: the number 0", "one list of classes"),
        ("partition={kind=\"by_class\",classes=[[0],[]]}", "partition.classes[1]: is an empty list", "[0, 1, 2]"),
        ("partition={kind=\"by_class\",classes=[[0,10]]}", "partition.classes[0]: the number 10", "from 0 to 9"),
        ("partition={kind=\"by_class\",classes=[[4,4]]}", "partition.classes[0]: names class 4 twice", "once"),
        ("partition={kind=\"pathological\",num_clients=3,classes_per_client=11}", "classes_per_client", "from 1 to 10"),
        ("partition={kind=\"shards\",num_clients=3,shards_per_client=2}", "partition.shard_size: is missing", "from 1"),
        ("partition={kind=\"bootstrap\",num_clients=3}", "partition.examples_per_client: is missing", "from 1"),
        (
            "partition={kind=\"bootstrap\",num_clients=3,examples_per_client=2,alpha=nan}",
            "partition.alpha: the number nan",
            "above 0",
        ),
        ("cohort.clients_per_round=0", "cohort.clients_per_round: the number 0", "from 1"),
        ("cohort.clients_per_round=6", "cohort.clients_per_round: 6 clients cannot be drawn from 5", "from 1 to 5"),
        ("cohort.fraction_train=0", "cohort.fraction_train: the number 0", "above 0, at most 1"),
        ("cohort.fraction_train=nan", "cohort.fraction_train: the number nan", "above 0, at most 1"),
        (
            "cohort={fraction_train=0.5,clients_per_round=2}",
            "is given beside cohort.clients_per_round",
            "one of the two",
        ),
        ("cohort.sampling=weigthed", "cohort.sampling: the text \"weigthed\"", "did you mean weighted?"),
        ("cohort.dropout_rate=1", "cohort.dropout_rate: the number 1", "below 1"),
        ("cohort.dropout_rate=nan", "cohort.dropout_rate: the number nan", "below 1"),
        ("cohort.partial_epochs=1.5", "cohort.partial_epochs: the number 1.5", "from 0 to 1"),
        ("cohort.stragglers=0.5", "cohort.stragglers: unknown key", "accepted in [cohort]: clients_per_round"),
        ("model.preset=simple_cnn", "model.preset: the text \"simple_cnn\"", "did you mean simple-cnn?"),
        ("training.local_epochs=0", "training.local_epochs: the number 0", "from 1"),
        ("training.batch_size=0", "training.batch_size: the number 0", "from 1 to 65536"),
        ("training.optimizer=adamw", "training.optimizer: the text \"adamw\"", "did you mean adam?"),
        ("training.lr=nan", "training.lr: the number nan", "above 0"),
        ("training.lr=inf", "training.lr: the number inf", "at most 1000"),
        ("training.lr=-0.1", "training.lr: the number -0.1", "above 0"),
        ("training.lr=1e-60", "training.lr: the number 1e-60", "above 0"),
        ("training.lr=-1e308", "training.lr: the number -1e308", "above 0"),
        ("training.lr=fast", "training.lr: the text \"fast\"", "a number above 0"),
        ("training.momentum=0.9", "training.momentum: unknown key", "optimizer = \"adam\""),
        ("training={optimizer=\"sgd\",momentum=1}", "training.momentum: the number 1", "below 1"),
        ("training={optimizer=\"sgd\",weight_decay=-1}", "training.weight_decay: the number -1", "from 0"),
        ("sparsity.target=1", "sparsity.target: the number 1", "below 1"),
        ("sparsity.target=-0.5", "sparsity.target: the number -0.5", "from 0"),
        ("sparsity.anneal=1.5", "sparsity.anneal: the number 1.5", "from 0 to 1"),
        ("sparsity.min_alive=-1", "sparsity.min_alive: the number -1", "from 0"),
        ("strategy.kind=fedprox", "strategy.kind: the text \"fedprox\"", "\"fedavg\""),
        ("strategy.weighting=uniforn", "strategy.weighting: the text \"uniforn\"", "did you mean uniform?"),
        ("circuits.classes=own", "circuits.classes: the text \"own\"", "did you mean owned?"),
        ("circuits.classes=[]", "circuits.classes: is an empty list", "a list of classes"),
        ("circuits.classes=[12]", "circuits.classes: the number 12", "from 0 to 9"),
        ("circuits.method=gate", "circuits.method: the text \"gate\"", "\"gates\""),
        ("circuits.steps=0", "circuits.steps: the number 0", "from 1"),
        ("circuits.l0=-1", "circuits.l0: the number -1", "from 0"),
        ("circuits.ablation=means", "circuits.ablation: the text \"means\"", "did you mean mean?"),
        ("circuits.clients=0", "circuits.clients: the number 0", "\"all\", a number of clients"),
        ("circuits.clients=every", "circuits.clients: the text \"every\"", "\"all\", a number of clients"),
        ("circuits.clients=[1,1]", "circuits.clients: names client 1 twice", "each client once"),
        ("circuits.clients=[-1]", "circuits.clients: the number -1", "clients from 0"),
        ("circuits.every=0", "circuits.every: the number 0", "from 1"),
        ("circuits.seed=-1", "circuits.seed: the number -1", "from 0"),
        ("circuits.size=1.5", "circuits.size: the number 1.5", "at most 1"),
        ("circuits.size=0.5", "circuits.size: does nothing with circuits.method = \"gates\"", "\"attribution\""),
        ("circuits.size=all", "circuits.size: the text \"all\"", "\"gates\""),
        ("circuits.measures.removals=-1", "circuits.measures.removals: the number -1", "from 0"),
        ("circuits.measures.images=0", "circuits.measures.images: the number 0", "from 1"),
        ("circuits.measures.curve=[0.5,0.1]", "circuits.measures.curve: is no such list", "ascending"),
        ("circuits.measures.curve=[0,1]", "circuits.measures.curve: is no such list", "above 0"),
        ("circuits.controls.every=0", "circuits.controls.every: the number 0", "from 1"),
        ("circuits.controls.shuffeld=true", "circuits.controls.shuffeld: unknown key", "did you mean shuffled?"),
        ("circuits.diagnosis.iou=2", "circuits.diagnosis.iou: the number 2", "from 0 to 1"),
        ("circuits.edges=positions", "circuits.edges: the text \"positions\"", "did you mean position?"),
        ("circuits.analyses=patching", "circuits.analyses: the text \"patching\"", "a list of \"patching\""),
        ("circuits.analyses=[\"pathing\"]", "circuits.analyses: the text \"pathing\"", "did you mean patching?"),
        ("circuits.analyses=[\"cascade\",\"cascade\"]", "names \"cascade\" twice", "each name once"),
        ("device.memory=2", "device.memory: the number 2", "\"2GiB\""),
        ("device.memory=lots", "device.memory: the text \"lots\"", "\"2GiB\""),
        ("device.max_wave=0", "device.max_wave: the number 0", "from 1"),
        ("device.threads=5000", "device.threads: the number 5000", "from 1 to 1024"),
        ("output.save_clients=yes", "output.save_clients: the text \"yes\"", "true or false"),
        ("output.tensorboard=1", "output.tensorboard: the number 1", "true or false"),
        ("output.save_every=-3", "output.save_every: the number -3", "from 0"),
        ("output.checkpoint_every=0", "output.checkpoint_every: the number 0", "from 1"),
        ("rouns=3", "rouns: unknown key", "did you mean rounds? accepted in the experiment: name, seed"),
        ("sparsity.traget=0.5", "sparsity.traget: unknown key", "did you mean target? accepted in [sparsity]"),
        ("training.learning_rate=1", "training.learning_rate: unknown key", "lr"),
    ] {
        let message = refusal(set);
        assert!(
            message.starts_with("--set ") && message.contains(says) && message.contains(accepted),
            "{set}: {message}"
        );
    }
}

#[test]
fn layers_out_of_range_are_refused_where_they_stand() {
    let linear = "{kind=\"linear\",features=10}";
    for (layers, says, accepted) in [
        ("[]".to_string(), "model.layers: has 0 layers", "1 to 64 layers"),
        ("[3]".into(), "model.layers[0]: the number 3", "kind = \"conv\""),
        (format!("[{{channels=3}}, {linear}]"), "model.layers[0].kind: is missing", "\"conv\", \"linear\""),
        (format!("[{{kind=\"cnov\"}}, {linear}]"), "model.layers[0].kind: the text", "did you mean conv?"),
        (format!("[{{kind=\"conv\"}}, {linear}]"), "model.layers[0].channels: is missing", "output channels"),
        (conv("channels=0"), "model.layers[0].channels: the number 0", "from 1 to 4096"),
        (conv("channels=9,kernel=4"), "model.layers[0].kernel: the number 4", "3 or 5"),
        (conv("channels=9,kernel=7"), "model.layers[0].kernel: the number 7", "3 or 5"),
        (conv("channels=9,padding=3"), "model.layers[0].padding: the number 3", "from 0 to 2"),
        (conv("channels=9,pool=3"), "model.layers[0].pool: the number 3", "from 1 to 2"),
        (conv("channels=9,stride=2"), "model.layers[0].stride: unknown key", "kernel, padding, pool"),
        (conv("channels=9,activation=\"gelu\""), "model.layers[0].activation: the text \"gelu\"", "\"relu\", \"none\""),
        (conv("channels=9,name=\"a.b\""), "model.layers[0].name: \"a.b\"", "letters, digits and _"),
        (conv("channels=9,name=\"all\""), "model.layers[0].name: \"all\" is taken", "overlap.csv"),
        (conv("channels=9,name=\"fc\""), "model.layers[1].name: \"fc\" names an earlier layer", "once"),
        (format!("[{linear}, {{kind=\"conv\",channels=3}}, {linear}]"), "model.layers[1]: is a convolution", "first"),
        ("[{kind=\"conv\",channels=3}]".into(), "model.layers[0]: is a convolution", "a linear one"),
        ("[{kind=\"linear\",features=10,activation=\"relu\"}]".into(), "model.layers[0].activation", "\"none\""),
        (wide(65_536), "model.layers[0].features: the number 65536", "from 1 to 65535"),
    ] {
        let message = refusal(&format!("model.layers={layers}"));
        assert!(message.contains(says) && message.contains(accepted), "{layers}: {message}");
    }
    read(BASE, &[&format!("model.layers={}", wide(65_535))]).unwrap();
    let both = refusal(&format!("model={{preset=\"simple-cnn\",layers=[{linear}]}}"));
    assert!(both.contains("model.layers: is given beside model.preset"), "{both}");
}

/// One hidden layer of so many units.
fn wide(features: usize) -> String {
    format!("[{{kind=\"linear\",features={features}}}, {{kind=\"linear\",features=10}}]")
}

/// One convolution with `keys` before the last layer.
pub(super) fn conv(keys: &str) -> String {
    format!("[{{kind=\"conv\",{keys}}}, {{kind=\"linear\",features=10}}]")
}

#[test]
fn messages_say_whether_the_file_or_the_command_line_is_at_fault() {
    let message = |text: &str, sets: &[&str]| read(text, sets).unwrap_err().to_string();
    let wrong = format!("rounds = 0\n{BASE}");
    assert!(message(&wrong, &["seed=1"]).starts_with("a.toml: rounds: the number 0"));
    assert!(message(BASE, &["rounds=0"]).starts_with("--set rounds: the number 0"));
    assert!(message(BASE, &["trainng.lr=3"]).starts_with("--set trainng: unknown key\n  did you mean training?"));
    assert!(message("name = ", &[]).starts_with("a.toml: is not valid TOML: TOML parse error at line 1"));
    assert!(message("", &[]).starts_with("a.toml: name: is missing"));
    assert!(message("name = \"a\"", &[]).contains("data: is missing"));
    assert!(message("nam = \"a\"", &[]).contains("nam: unknown key\n  did you mean name?"));
    assert!(message(&BASE.replace("[partition]", "[partiton]"), &[]).contains("did you mean partition?"));
    assert!(message("name = \"a\"\n[data]\nsource = \"digits\"", &[]).contains("partition: is missing"));
    assert!(message(&format!("rounds = 3\n{BASE}"), &["rounds.max=3"]).contains("rounds.max: rounds is not a section"));
}

#[test]
fn comparisons_that_cannot_be_told_apart_or_do_nothing_are_refused() {
    for (entry, says) in [
        ("compare = 3\n", "compare: the number 3"),
        ("compare = []\n", "compare: has 0 entries"),
        ("compare = [{ set = {} }]\n", "compare[0].name: is missing"),
        ("compare = [{ name = \"a/b\", set = {} }]\n", "compare[0].name: \"a/b\" cannot name a folder"),
        ("compare = [{ name = \"seed_1\", set = {} }]\n", "compare[0].name: \"seed_1\" is what a folder of"),
        ("compare = [{ name = \"Plots\", set = {} }]\n", "compare[0].name: \"Plots\" is what a folder of"),
        ("compare = [{ name = \"comparison\", set = {} }]\n", "is what a folder of the run's own is called"),
        ("compare = [{ name = \"a\" }]\n", "compare[0].set: is missing"),
        ("compare = [{ name = \"a\", sets = {} }]\n", "compare[0].sets: unknown key\n  did you mean set?"),
        ("compare = [{ name = \"a\", set = {}, x = 1 }]\n", "compare[0].x: unknown key"),
        ("compare = [{ name = \"a\", set = { name = \"b\" } }]\n", "compare[0].set.name: cannot differ"),
        (
            "compare = [{ name = \"a\", set = { seed = 1, seeds = [2, 3] } }]\n",
            "compare[0].set.seeds: is a list, and seed",
        ),
        ("compare = [{ name = \"a\", set = {} }, { name = \"A\", set = {} }]\n", "\"A\" names two variants"),
        ("compare = [{ name = \"a\", set = { rouns = 1 } }]\n", "rouns: unknown key"),
        (
            "compare = [{ name = \"a\", set = {} }, { name = \"b\", set = { \"device.threads\" = 1 } }]\n",
            "device.threads: differs between variants",
        ),
    ] {
        let message = read(&format!("{entry}{BASE}"), &[]).unwrap_err().to_string();
        assert!(message.contains(says), "{entry}: {message}");
    }
}

#[test]
fn partial_work_needs_more_than_one_epoch() {
    let cohort = "cohort.partial_epochs=0.5";
    let message = read(BASE, &[cohort, "training.local_epochs=1"]).unwrap_err().to_string();
    assert!(message.contains("cohort.partial_epochs: does nothing with training.local_epochs = 1"), "{message}");
    read(BASE, &[cohort, "training.local_epochs=2"]).unwrap();
}

#[test]
fn first_weights_are_of_a_file_that_has_a_name() {
    let message = read(BASE, &["model.init=\"\""]).unwrap_err().to_string();
    assert!(message.contains("model.init: is an empty text") && message.contains("a safetensors file"), "{message}");
}
